"""Load without wrk and Go: both loops in asyncio, slower than what they replace and measured by their own lateness.

Run as a program by ``saturation`` and ``arrivals``; prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable

from figures import share

PATIENCE = 5.0
"""Seconds for answers after the last request was due."""
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Connection(asyncio.Protocol):
    """Sends one request at a time; knows only answers with a Content-Length, as all measured ones have."""

    def __init__(self, answered: Callable[[Connection, bool], None]) -> None:
        self.answered = answered
        self.due = self.freed = 0.0
        self.busy = False
        self.broken = False
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: bytes) -> None:
        """Ask; ``answered`` is called with the answer."""
        self.busy = True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        length = None if end < 0 else _LENGTH.search(self._data, 0, end)
        if length is None or len(self._data) < end + 4 + int(length.group(1)):
            return
        ok = self._data.startswith(b"HTTP/1.1 2")
        self._data.clear()
        self.busy = False
        self.answered(self, ok)

    def connection_lost(self, error: Exception | None) -> None:
        self.broken = True


async def connect(address: str, count: int, answered: Callable[[Connection, bool], None]) -> list[Connection]:
    """So many connections."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: Connection(answered), host, int(port)))[1] for _ in range(count)]


async def saturate(address: str, request: bytes, seconds: float, count: int) -> dict[str, float]:
    """Every connection asks again as soon as it is answered."""
    requests = failed = 0
    began = time.perf_counter()

    def answered(connection: Connection, ok: bool) -> None:
        nonlocal requests, failed
        requests += 1
        failed += not ok
        if time.perf_counter() - began < seconds:
            connection.send(request)

    connections = await connect(address, count, answered)
    began = time.perf_counter()
    for connection in connections:
        connection.send(request)
    while any(connection.busy and not connection.broken for connection in connections):
        await asyncio.sleep(0.01)
        if time.perf_counter() - began > seconds + PATIENCE:
            break
    took = time.perf_counter() - began
    for connection in connections:
        failed += connection.busy
        connection.transport.abort()
    return {"requests": requests, "seconds": took, "failed": failed}


async def arrive(address: str, request: bytes, rate: float, seconds: float, count: int) -> dict[str, float]:
    """Requests are due at a fixed rate; latency counts from when they were."""
    free: deque[Connection] = deque()
    latencies: list[float] = []
    lags: list[float] = []
    failed = sent = 0
    total = max(1, int(rate * seconds))

    def answered(connection: Connection, ok: bool) -> None:
        nonlocal failed
        connection.freed = time.perf_counter() - began
        latencies.append(connection.freed - connection.due)
        failed += not ok
        free.append(connection)

    connections = await connect(address, count, answered)
    free.extend(connections)
    began = time.perf_counter()
    while len(latencies) < total:
        now = time.perf_counter() - began
        if now > seconds + PATIENCE or any(connection.broken for connection in connections):
            break
        while sent < total and free and sent / rate <= now:
            connection = free.popleft()
            connection.due = sent / rate
            lags.append(now - max(connection.due, connection.freed))
            connection.send(request)
            sent += 1
            now = time.perf_counter() - began
        await asyncio.sleep(0)  # a turn of the loop reads what is there; sleeping until the next is due comes too late
    for connection in connections:
        connection.transport.abort()
    in_ms = [seconds * 1000 for seconds in latencies]
    return {
        "asked_rps": rate, "answered": len(latencies), "failed": failed + total - len(latencies),
        "p50_ms": share(in_ms, 0.5), "p99_ms": share(in_ms, 0.99), "p999_ms": share(in_ms, 0.999), "max_ms": share(in_ms, 1),
        "lag_p99_ms": share(lags, 0.99) * 1000,
    }  # fmt: skip


def main() -> int:
    """One load by the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body", default="")
    parser.add_argument("--rate", type=float, help="requests per second; without it, as many as are answered")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, required=True)
    options = parser.parse_args()
    body = options.body.encode()
    fields = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    request = f"{options.method} {options.path} HTTP/1.1\r\nhost: {options.address}\r\n{fields}\r\n".encode() + body
    if options.rate is None:
        seen = asyncio.run(saturate(options.address, request, options.seconds, options.connections))
    else:
        seen = asyncio.run(arrive(options.address, request, options.rate, options.seconds, options.connections))
    print(json.dumps(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
