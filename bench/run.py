"""`make bench`: what a request costs in Mizzen, beside FastAPI and Go, measured in one run and printed in one table.

Rounds are interleaved, so that a machine whose speed drifts is the same for all; ratios are taken within a round, and
their median is printed. See README.md for the method.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import load
import servers
import slow

CONNECTIONS = 32
WARM_UP = 1.0


class Sample(NamedTuple):
    """One contestant in one round."""

    cpu_us: float | None
    """CPU of the server under test per request, in microseconds."""
    rps: float
    p50_ms: float
    p99_ms: float


class Budget(NamedTuple):
    """What the design allows: CPU per request as a multiple of a reference's."""

    against: str
    most: float


SCENARIOS: dict[str, tuple[str, str, list[Budget]]] = {
    "server": ("/users/1", "GET /users/1 from a dictionary, everything on", [Budget("go", 1.0), Budget("fastapi", 0.15)]),
    "hop": ("/orders/1", "GET /orders/1, which calls user (CPU of the order service alone)", [Budget("go", 0.8)]),
}


def main() -> int:
    options = _options()
    core, other = _cores()
    started = time.monotonic()
    contestants: dict[str, Callable[[str, str], servers.Server]] = {
        "mizzen": lambda scenario, user: servers.mizzen("order" if scenario == "hop" else "user", core=core, user_url=user),
        "fastapi": lambda _, user: servers.fastapi(options.peer_python, core=core, user_url=user),
    }
    binary = servers.build_go()
    if isinstance(binary, Path):
        contestants["go"] = lambda _, user: servers.go(binary, core=core, user_url=user)
    _print_machine(options, binary)
    results: dict[str, object] = {"python": sys.version.split()[0], "machine": platform.machine(), "rounds": options.rounds}

    peer = servers.mizzen("user", core=other, name="peer")
    try:
        peer.wait("/users/1")
        for scenario, (path, title, budgets) in SCENARIOS.items():
            samples = _measure(scenario, path, contestants, peer.url, options, other)
            print(f"\n{title}")
            _print_table(samples, budgets)
            results[scenario] = {name: [sample._asdict() for sample in own] for name, own in samples.items()}
        print("\ndeadlines and probes")
        for name, outcome in slow.measure(peer.url, core=core, other=other).items():
            print(f"  {name:<62} {outcome.text}")
            results[name] = outcome.numbers
    finally:
        peer.stop()
    (servers.OUT / "last.json").write_text(json.dumps(results, indent=1))
    print(f"\n{time.monotonic() - started:.0f} s; every sample is in bench/out/last.json")
    return 0


def _measure(
    scenario: str,
    path: str,
    contestants: dict[str, Callable[[str, str], servers.Server]],
    user_url: str,
    options: argparse.Namespace,
    other: int | None,
) -> dict[str, list[Sample]]:
    running: dict[str, servers.Server] = {}
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    try:
        bodies = set()
        for name, start in contestants.items():
            running[name] = start(scenario, user_url)
            bodies.add(json.dumps(json.loads(running[name].wait(path)), sort_keys=True))
        if len(bodies) != 1:
            raise RuntimeError(f"the contestants do not answer alike: {bodies}")
        for server in running.values():
            load.run(server.url + path, seconds=WARM_UP, connections=CONNECTIONS, core=other)
        for _ in range(options.rounds):
            for name, server in running.items():
                samples[name].append(_sample(server, path, options.seconds, other))
    finally:
        for server in running.values():
            server.stop()
    return samples


def _sample(server: servers.Server, path: str, seconds: float, other: int | None) -> Sample:
    before = server.cpu()
    seen = load.run(server.url + path, seconds=seconds, connections=CONNECTIONS, core=other)
    after = server.cpu()
    if seen.failed:
        raise RuntimeError(f"{server.name} failed {seen.failed} of {seen.requests} requests: nothing to compare")
    cpu = None if before is None or after is None else (after - before) / seen.requests * 1e6
    return Sample(cpu, seen.rps, seen.p50_ms, seen.p99_ms)


def _print_table(samples: dict[str, list[Sample]], budgets: list[Budget]) -> None:
    head = ("", "CPU us/request", "(spread)", "x mizzen", "requests/s", "p50 ms", "p99 ms")
    print("  {:<9}{:>15}  {:<15}{:>9}{:>12}{:>9}{:>9}".format(*head))
    for name, own in samples.items():
        costs = [_cost(sample) for sample in own]
        ratio = statistics.median(_cost(mine) / _cost(theirs) for mine, theirs in zip(own, samples["mizzen"], strict=True))
        print(
            f"  {name:<9}{statistics.median(costs):>15.1f}  {f'({min(costs):.1f}-{max(costs):.1f})':<15}{ratio:>9.2f}"
            f"{statistics.median(s.rps for s in own):>12,.0f}{statistics.median(s.p50_ms for s in own):>9.2f}"
            f"{statistics.median(s.p99_ms for s in own):>9.2f}"
        )
    for against, most in budgets:
        if against in samples:
            pairs = zip(samples["mizzen"], samples[against], strict=True)
            ratio = statistics.median(_cost(mine) / _cost(theirs) for mine, theirs in pairs)
            print(f"  budget: at most {most} x {against}; is {ratio:.2f}: {'kept' if ratio <= most else 'MISSED'}")


def _cost(sample: Sample) -> float:
    """CPU per request; where that cannot be read, the time a saturated core takes for one, which is close."""
    return sample.cpu_us if sample.cpu_us is not None else 1e6 / sample.rps


def _print_machine(options: argparse.Namespace, binary: Path | str) -> None:
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}; "
        f"{options.rounds} interleaved rounds of {options.seconds:g} s, {CONNECTIONS} connections, load by {load.tool()}"
    )
    if not isinstance(binary, Path):
        print(f"without Go: {binary}")


def _cores() -> tuple[int | None, int | None]:
    """The core of the server under test, and that of everything else; none where there is only one or no pinning."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peer-python",
        type=lambda path: Path(path).absolute(),
        required=True,
        help="the Python of the environment that has FastAPI",
    )
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("BENCH_SECONDS", "3")))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
