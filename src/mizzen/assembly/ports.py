"""Ports: whether one is taken, and by whom, so that an error can name the culprit."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LONGEST = 80
"""Characters of a command line that an error quotes: enough to recognise it."""
_PROC = Path("/proc")
_LISTENING = "0A"  # Linux, include/net/tcp_states.h: TCP_LISTEN


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens on that port; a port of a closed connection that lingers in TIME_WAIT is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    # macOS lets one address of a port be bound while another process listens on all of them: ask it.
    with socket.socket(family, socket.SOCK_STREAM) as caller:
        caller.settimeout(0.2)
        return caller.connect_ex((host, port)) == 0


def describe_holder(port: int) -> str:
    """Who listens on that TCP port: ``"pid 4711 (python -m mizzen run order)"``, or how to find out."""
    inodes = set(_listening(port))
    if inodes and (holder := _holder(inodes)):
        return f"pid {holder} ({_command(holder)})"
    if inodes:
        return f"another user's process (sudo ss -ltnp sport = :{port} names it)"
    tool = f"ss -ltnp sport = :{port}" if _PROC.is_dir() else f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
    return f"another process ({tool} names it)"


def describe_socket_holder(path: str) -> str:
    """Who has that Unix socket open: ``"pid 4711 (python -m mizzen run order)"``, or how to find out."""
    inodes = set()
    with suppress(OSError):  # Linux's table; none elsewhere
        for line in (_PROC / "net/unix").read_text().splitlines()[1:]:
            columns = line.split(maxsplit=7)
            if len(columns) == 8 and columns[7] == path:
                inodes.add(columns[6])
    if inodes and (holder := _holder(inodes)):
        return f"pid {holder} ({_command(holder)})"
    return f"another process (lsof {path} names it)"


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on the port, by Linux's tables; none elsewhere."""
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _holder(inodes: set[str]) -> int | None:
    """The process that has one of these sockets open and did not get it from its parent, as far as we may look."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    holders = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _has(entry, wanted)]
    # Not one of a supervisor's workers: whoever ends that one gets the next.
    return next((process for process in holders if _parent(process) not in holders), None)


def _has(process: Path, sockets: set[str]) -> bool:
    with suppress(OSError):  # it ended meanwhile, or it is not ours to look at
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in sockets:
                    return True
    return False


def _parent(process: int) -> int:
    try:
        # The fields of `stat` after the program's name, which may hold anything: state, parent, …
        return int((_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _command(process: int) -> str:
    try:
        words = (_PROC / str(process) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone meanwhile"
    words[0] = os.path.basename(words[0])  # noqa: PTH119  # a command's first word need not be a path
    text = " ".join(words).strip() or "unnamed"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
