"""The client: what one call costs with everything on, beside a bare aiohttp client, in one process and in turns.

    python bench/client.py http://127.0.0.1:8101/users/1

The aiohttp client does nothing but get, read and decode: no deadline for it, no retry, breaker, trace or metric.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

CALLERS = 32
"""Calls under way at any time, as in the other scenarios."""
CALLS = 16_000
"""Calls per contestant and round: about a second of aiohttp."""

Call = Callable[[], Awaitable[object]]


class Cost(NamedTuple):
    """What one call cost one contestant, round by round."""

    cpu_us: list[float]
    """CPU in user and kernel per call, in microseconds."""
    rps: list[float]


class Result(NamedTuple):
    """One measurement of all contestants."""

    costs: dict[str, Cost]
    ratio: float
    """CPU of a Mizzen call as a multiple of bare aiohttp's: the median of the rounds' ratios."""


def measure_client(url: str, *, rounds: int, core: int | None = None, calls: int = CALLS) -> Result:
    """Measure calls to ``url``, which answers with the contest's user, from a process of its own, pinned to ``core``."""
    pin = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    command = [sys.executable, str(Path(__file__)), url, "--rounds", str(rounds), "--calls", str(calls), "--json"]
    output = subprocess.run([*pin, *command], check=True, capture_output=True, text=True).stdout
    costs = {name: Cost(*numbers) for name, numbers in json.loads(output).items()}
    pairs = zip(costs["mizzen"].cpu_us, costs["aiohttp"].cpu_us, strict=True)
    return Result(costs, statistics.median(mine / theirs for mine, theirs in pairs))


async def _mizzen(url: str, ends: list[Callable[[], Awaitable[None]]]) -> Call:
    """A client as a service has it, on the way that the runtime makes for it."""
    from msgspec import Struct

    from mizzen import Service
    from mizzen.assembly.network import SocketNetwork
    from mizzen.assembly.observing import Telemetry
    from mizzen.assembly.peers import Peer
    from mizzen.edges.resolvers import StaticResolver
    from mizzen.rules.config import ClientConfig
    from mizzen.words.clock import monotonic
    from mizzen.words.context import Context, enter

    class User(Struct):
        id: str
        name: str

    split = urlsplit(url)
    path, _, last = split.path.rpartition("/")
    template = path + "/{id}"
    client = Service("order").client("user")
    peer = Peer(
        client,
        ClientConfig(),
        StaticResolver({"user": [f"http://{split.netloc}"]}),
        backend="static",
        network=SocketNetwork(),
        telemetry=Telemetry("order", version="bench"),
        clock=monotonic,
        random=random.random,
    )
    client.line = peer
    peer.start()
    await peer.known()
    ends.append(peer.stop)
    context = Context(deadline=monotonic() + 3600.0)  # of the request that the call is made for
    context.route = "GET /orders/{id}"
    enter(context)

    async def call() -> object:
        return await client.get(template, path={"id": last}, into=User)

    return call


async def _aiohttp(url: str, ends: list[Callable[[], Awaitable[None]]]) -> Call:
    import aiohttp
    import msgspec

    class User(msgspec.Struct):
        id: str
        name: str

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    ends.append(session.close)
    decode = msgspec.json.Decoder(User).decode

    async def call() -> object:
        async with session.get(url) as response:
            return decode(await response.read())

    return call


CONTESTANTS = {"mizzen": _mizzen, "aiohttp": _aiohttp}


async def _run(url: str, names: list[str], rounds: int, calls: int) -> dict[str, Cost]:
    ends: list[Callable[[], Awaitable[None]]] = []
    contestants = {name: await CONTESTANTS[name](url, ends) for name in names}
    costs = {name: Cost([], []) for name in names}
    try:
        for call in contestants.values():
            await _round(call, calls // 8)
        for _ in range(rounds):
            for name, call in contestants.items():
                gc.collect()
                began, used = time.perf_counter(), _cpu()
                await _round(call, calls)
                costs[name].cpu_us.append((_cpu() - used) / calls * 1e6)
                costs[name].rps.append(calls / (time.perf_counter() - began))
    finally:
        for end in ends:
            await end()
    return costs


async def _round(call: Call, calls: int) -> None:
    async def caller() -> None:
        for _ in range(calls // CALLERS):
            await call()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--only", choices=CONTESTANTS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [options.only] if options.only else list(CONTESTANTS)
    try:
        import uvloop
    except ImportError:
        make = asyncio.new_event_loop
    else:
        make = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make) as runner:
        costs = runner.run(_run(options.url, names, options.rounds, options.calls))
    if options.json:
        print(json.dumps(costs))
        return 0
    for name, cost in costs.items():
        spread = f"({min(cost.cpu_us):.1f}-{max(cost.cpu_us):.1f})"
        print(f"{name:<9}{statistics.median(cost.cpu_us):>8.1f} us/call  {spread:<16}{statistics.median(cost.rps):>9,.0f}/s")
    if len(costs) > 1:
        pairs = zip(costs["mizzen"].cpu_us, costs["aiohttp"].cpu_us, strict=True)
        print(f"ratio    {statistics.median(mine / theirs for mine, theirs in pairs):>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
