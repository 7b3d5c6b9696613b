"""What connections cost on which nothing happens: each was asked once and is kept alive."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

from programs import Server
from start import read_memory

CONNECTIONS = 10_000
REST = 3.0
"""Seconds over which the CPU at rest is taken."""
SETTLE = 11.0
"""Seconds from the last request until the rest begins: timers that were set for the head of a request, 10 s, come once."""
BEFORE = 1.0
"""Seconds from the first answer until the rest without connections begins."""

_END = re.compile(rb"\r\n\r\n")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")


class Idle(NamedTuple):
    """What so many idle connections cost one server."""

    connections: int
    bytes_each: float | None
    """Private bytes in user space that one adds; the kernel's own come on top, and are the same for all."""
    rest_before: float | None
    """Share of a core that the server takes without connections, in percent."""
    rest: float | None
    """The same with them."""


def measure(server: Server, path: str, connections: int = CONNECTIONS) -> Idle:
    """Open them one after another, ask once on each, and rest."""
    time.sleep(BEFORE)
    before, empty = _rest(server), _private(server)
    with contextlib.ExitStack() as opened:
        held = []
        for _ in range(connections):
            held.append(opened.enter_context(socket.create_connection(_address(server), timeout=30)))
            ask(held[-1], path)
        time.sleep(SETTLE)
        crowded, rest = _private(server), _rest(server)
        for connection in held[:: max(1, connections // 100)]:
            ask(connection, path)  # they were held, and not dropped in silence
    each = None if empty is None or crowded is None else (crowded - empty) / connections
    return Idle(connections, each, before, rest)


def ask(connection: socket.socket, path: str) -> None:
    """One request and its whole answer; ``RuntimeError`` when it is not a 200."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
    answer = b""
    length = head = None
    while length is None or head is None or len(answer) < head.end() + int(length.group(1)):
        got = connection.recv(65536)
        if not got:
            raise RuntimeError(f"the server closed a connection after {answer!r}")
        answer += got
        head, length = _END.search(answer), _LENGTH.search(answer)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"GET {path} is {answer[:200]!r}")


def _address(server: Server) -> tuple[str, int]:
    host, _, port = server.address.rpartition(":")
    return host, int(port)


def _private(server: Server) -> int | None:
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    return read_memory(server.process.pid).unique


def _rest(server: Server) -> float | None:
    before = server.running()
    time.sleep(REST)
    after = server.running()
    return None if before is None or after is None else (after - before) / REST * 100
