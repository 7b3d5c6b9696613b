"""What a large system costs the embedded registry and a process that watches all of it: 1,000 services of ten instances.

A real Consul agent lets one address hold 200 connections, and each watch holds one: this many can be watched here only.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import programs
from programs import OUT, Server

SERVICES, EACH = 1_000, 10
FEW = 10
"""Services that are watched beside the thousand, and that change in both: what one change costs must not tell the two apart."""
CHANGES = 4
"""Changes of each of those: within the burst that the resolver lets through, so that none of them waits for its turn."""
CONNECTIONS = 16
"""Connections over which instances register and beat."""
REST = 3.0
"""Seconds over which the CPU at rest is taken."""
LIMIT = 60.0
"""Seconds for any of it; the whole takes about 30."""


class Cost(NamedTuple):
    """Of one thing, done many times."""

    wall_us: float
    cpu_us: float | None
    """Of the registry."""


class Watched(NamedTuple):
    """One process that watches so many services."""

    services: int
    first_s: float
    """From its first request until it has a snapshot of every service."""
    errors: int
    """Reads that failed until then."""
    first_cpu_s: tuple[float | None, float | None]
    """Of registry and watcher."""
    resident_mb: tuple[float | None, float | None]
    rest: tuple[float | None, float | None]
    """Shares of a core while nothing changes, in percent."""
    change_cpu_us: tuple[float | None, float | None]
    """Of one changed instance."""
    change_ms: float
    """From asking for the change until the watcher has the new set; the median."""


class Discovery(NamedTuple):
    registered: Cost
    beat: Cost
    empty_mb: float | None
    full_mb: float | None
    few: Watched
    all: Watched


def measure(core: int | None, other: int | None) -> Discovery:
    """The registry on ``core``, the watcher on ``other``; ``RuntimeError`` when it does not come to an end."""
    port = programs.free_port()
    command = [str(Path(sys.executable).parent / "mizzen"), "registry", "--port", str(port)]
    registry = Server("registry", command, port, core=core)
    try:
        registry.wait("/v1/status/leader")
        empty = registry.resident()
        instances = [(f"service-{service:04}", number) for service in range(SERVICES) for number in range(EACH)]
        registered = _cost(registry, [_registration(*each) for each in instances])
        beat = _cost(registry, [("PUT", f"/v1/agent/check/pass/{name}-{number}", b"") for name, number in instances])
        few, everything = (_watch(registry, other, count) for count in (FEW, SERVICES))
        return Discovery(registered, beat, empty, few.resident_mb[0], few, everything)
    finally:
        registry.stop()


Question = tuple[str, str, bytes]


def _registration(name: str, number: int) -> Question:
    id = f"{name}-{number}"
    body = {
        "ID": id,
        "Name": name,
        "Address": f"10.0.{number}.{number + 1}",
        "Port": 8101,
        "Meta": {"boot": f"{number:032x}", "scheme": "http", "version": "1.4.2", "zone": "eu-1a"},
        "Weights": {"Passing": 1, "Warning": 1},
        "Checks": [
            {"CheckID": id, "Name": "heartbeat", "TTL": "1h", "Status": "passing", "DeregisterCriticalServiceAfter": "2h"}
        ],
    }
    return "PUT", "/v1/agent/service/register", json.dumps(body).encode()


def _cost(registry: Server, questions: list[Question]) -> Cost:
    registry.settle()
    before, began = registry.running(), time.monotonic()
    asyncio.run(asyncio.wait_for(_ask_all(registry, questions), LIMIT))
    wall = time.monotonic() - began
    return Cost(wall / len(questions) * 1e6, _each(before, registry.running(), len(questions)))


async def _ask_all(registry: Server, questions: list[Question]) -> None:
    rest = iter(questions)

    async def some() -> None:
        host, _, port = registry.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for method, path, body in rest:
                head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                if not answer.startswith(b"HTTP/1.1 200") or b"content-length: 0" not in answer:
                    raise RuntimeError(f"{method} {path} is {answer!r}")
        finally:
            writer.close()

    await asyncio.gather(*(some() for _ in range(CONNECTIONS)))


def _watch(registry: Server, core: int | None, count: int) -> Watched:
    names = [f"service-{number:04}" for number in range(count)]
    out = OUT / f"watching-{count}.jsonl"
    out.unlink(missing_ok=True)
    registry.settle()
    before = registry.running()
    script = str(Path(__file__).parent / "watching.py")
    command = [sys.executable, script, f"consul://{registry.address}", str(out), *names]
    watcher = Server(f"watching-{count}", command, 0, core=core)
    try:
        lines = _lines(out, watcher)
        first = next(lines)
        first_cpu = _part(before, registry.running()), watcher.running()
        for each in (registry, watcher):
            each.settle()
        rest = _rest(registry, watcher)
        taken, used = _change(registry, watcher, lines)
        resident = registry.resident(), watcher.resident()
        return Watched(
            count, first["first_s"], first["errors"], first_cpu, resident, rest, used, statistics.median(taken) * 1000
        )
    finally:
        watcher.stop()


def _change(
    registry: Server, watcher: Server, lines: Iterator[dict[str, Any]]
) -> tuple[list[float], tuple[float | None, float | None]]:
    """Let one instance fail and pass again, service by service; how long each took, and the CPU of one."""
    taken = []
    connection = http.client.HTTPConnection(registry.address, timeout=LIMIT)
    with contextlib.closing(connection):
        connection.connect()
        before = [each.running() for each in (registry, watcher)]
        for number in range(FEW * CHANGES):
            name = f"service-{number % FEW:04}"
            fails = number // FEW % 2 == 0
            began = time.monotonic()
            connection.request("PUT", f"/v1/agent/check/{'fail' if fails else 'pass'}/{name}-0")
            connection.getresponse().read()
            told = next(lines)
            if (told["service"], told["instances"]) != (name, EACH - fails):
                raise RuntimeError(f"{name} changed, and the watcher says {told}")
            taken.append(told["at"] - began)
        after = [each.running() for each in (registry, watcher)]
    spent = [_each(a, b, FEW * CHANGES) for a, b in zip(before, after, strict=True)]
    return taken, (spent[0], spent[1])


def _lines(out: Path, watcher: Server) -> Iterator[dict[str, Any]]:
    """What the watcher tells, as it tells it."""
    seen = 0
    while True:
        ends = time.monotonic() + LIMIT
        while True:
            with contextlib.suppress(FileNotFoundError):
                told = out.read_text().splitlines(keepends=True)
                if len(told) > seen and told[seen].endswith("\n"):
                    break
            if watcher.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"{watcher.name} ended, or said nothing in {LIMIT:g} s: see bench/out/{watcher.name}.err")
            time.sleep(0.002)
        yield json.loads(told[seen])
        seen += 1


def _rest(registry: Server, watcher: Server) -> tuple[float | None, float | None]:
    before = [each.running() for each in (registry, watcher)]
    time.sleep(REST)
    parts = [_part(a, each.running()) for a, each in zip(before, (registry, watcher), strict=True)]
    shares = [None if part is None else part / REST * 100 for part in parts]
    return shares[0], shares[1]


def _part(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _each(before: float | None, after: float | None, count: int) -> float | None:
    part = _part(before, after)
    return None if part is None else part / count * 1e6
