"""Load: wrk where it is installed, else a small generator of our own. Both keep their connections busy, one at a time."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Load(NamedTuple):
    """What a load saw."""

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Answers that were not 2xx, and connections that broke."""


def run(url: str, *, seconds: float, connections: int, core: int | None) -> Load:
    """Put load on ``url`` from a process of its own, pinned to ``core``."""
    pin = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    if shutil.which("wrk"):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
        return _wrk(subprocess.run([*pin, *command], check=True, capture_output=True, text=True).stdout)
    command = [sys.executable, str(Path(__file__)), url, str(seconds), str(connections)]
    return Load(**json.loads(subprocess.run([*pin, *command], check=True, capture_output=True, text=True).stdout))


def tool() -> str:
    """What puts the load on."""
    return "wrk" if shutil.which("wrk") else "own generator (wrk is not installed)"


def _wrk(output: str) -> Load:
    def milliseconds(share: str) -> float:
        value, unit = re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\b", output).groups()  # type: ignore[union-attr]  # wrk always prints it
        return float(value) * _UNITS[unit]

    requests = int(re.search(r"(\d+) requests in", output).group(1))  # type: ignore[union-attr]  # the same
    rps = float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))  # type: ignore[union-attr]  # the same
    failed = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    for line in re.findall(r"Socket errors: (.*)", output):
        failed += sum(int(number) for number in re.findall(r"\d+", line))
    return Load(requests, rps, milliseconds("50"), milliseconds("99"), failed)


class _Connection(asyncio.Protocol):
    """Sends the same request again as soon as its answer is whole; knows only Content-Length, which all servers here send."""

    def __init__(self, request: bytes, ends: float, times: list[float]) -> None:
        self.request = request
        self.ends = ends
        self.times = times
        self.failed = 0
        self.done = asyncio.get_running_loop().create_future()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives no other
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length is None or len(rest) < int(length.group(1)):
            return
        now = time.perf_counter()
        self.times.append(now - self._began)
        self.failed += not head.startswith(b"HTTP/1.1 2")
        self._data = b""
        if now >= self.ends:
            self.transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.failed += time.perf_counter() < self.ends
        self.done.set_result(None)


async def _generate(url: str, seconds: float, connections: int) -> Load:
    host, port, path = re.fullmatch(r"http://([^:/]+):(\d+)(/.*)", url).groups()  # type: ignore[union-attr]  # run() wrote it
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    times: list[float] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    protocols = [_Connection(request, began + seconds, times) for _ in range(connections)]
    for protocol in protocols:
        await loop.create_connection(lambda protocol=protocol: protocol, host, int(port))
    await asyncio.gather(*(protocol.done for protocol in protocols))
    cuts = statistics.quantiles(times, n=100)
    return Load(
        requests=len(times),
        rps=len(times) / (time.perf_counter() - began),
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        failed=sum(protocol.failed for protocol in protocols),
    )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_generate(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))._asdict()))
