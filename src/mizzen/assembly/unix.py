"""Unix sockets: how they are written, and how one is bound where a dead process left its own."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mizzen.words.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "unix:"
"""What a host begins with that is the path of a socket: ``unix:/run/order.sock``."""
LONGEST = 103
"""Bytes of a path, without its final NUL: macOS gives a socket's address 104, Linux 108."""


def path_of(host: str) -> str | None:
    """The path of a host that is a Unix socket; None for a name or an address."""
    if host.startswith(MARK):
        return host.removeprefix(MARK)
    return host if host.startswith("/") else None


def shown_address(host: str, port: int) -> str:
    """Where something listens, as people say it."""
    return host if path_of(host) is not None else f"{host}:{port}"


def bind_unix(path: str, *, mode: int, backlog: int) -> socket.socket:
    """A listening socket at ``path``, open to whom ``mode`` says; replaces the one of a process that is dead.

    ``StartError`` names who listens there already, or why it cannot be made.
    """
    if len(os.fsencode(path)) > LONGEST:
        raise StartError(
            f"{path} is too long for a Unix socket: {len(os.fsencode(path))} bytes of {LONGEST}", fix="choose a shorter path"
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone(path.rpartition("/")[0] or "/"):
            _make_room(path)
            bound.bind(path)
            os.chmod(path, mode)  # noqa: PTH101  # before anybody can connect: it does not listen yet
            bound.listen(backlog)  # in here, or the next who looks would take it for a dead one
    except OSError as error:
        bound.close()
        raise StartError(
            f"cannot listen on {MARK}{path}: {error.strerror or error}", fix="choose a path in a folder that exists and is ours"
        ) from None
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the socket file, unless it is another life's by now."""
    with suppress(OSError):
        if identity_of(path) == identity:
            os.unlink(path)  # noqa: PTH108  # a start does without pathlib


def identity_of(path: str) -> tuple[int, int]:
    """What tells the file at ``path`` from a later one of that name."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _make_room(path: str) -> None:
    """Remove a socket on which nobody listens; ``StartError`` when somebody does, or when it is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} exists and is no socket", fix="remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code in (errno.ECONNREFUSED, errno.ENOENT):
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108  # a start does without pathlib
    elif code in (0, errno.EAGAIN, errno.EINPROGRESS):
        from .ports import describe_socket_holder

        holder = describe_socket_holder(path)
        raise StartError(f"{MARK}{path} is in use by {holder}", fix="stop it, or choose another path with --host unix:PATH")
    else:
        raise OSError(code, os.strerror(code))


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Nobody else of us looks or binds in that folder meanwhile: two that start at once would each remove the other's."""
    import fcntl

    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: then they may race
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
