"""The parts of the bench: each starts what it needs, measures, prints what it saw and adds its ratios to the table."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import client as calls
import discovery as registry
import idle
import machine
import programs
import rounds
import scenarios
import slow
import start
from figures import Budget, Ratio, ratios, spread, table
from rounds import Plan, Sample, Samples
from scenarios import Scenario


class Contestants(NamedTuple):
    """Who is there besides Mizzen."""

    go: Path | None
    """The built reference."""
    peer_python: Path | None
    """The Python that has FastAPI and uvicorn."""

    @contextlib.contextmanager
    def run(self, service: str, core: int | None, user_url: str = "", **settings: str) -> Iterator[dict[str, programs.Server]]:
        """Every contestant's ``service``, all of them up; ``settings`` are Mizzen's own."""
        running: dict[str, programs.Server] = {}
        key = f"MIZZEN__SERVICES__{service.upper()}__"
        own = {key + name: value for name, value in settings.items()}
        try:
            running["mizzen"] = programs.mizzen(service, core=core, user_url=user_url, settings=own)
            if self.go is not None:
                running["go"] = programs.go(self.go, core=core, user_url=user_url)
            if self.peer_python is not None:
                running["fastapi"] = programs.fastapi(self.peer_python, core=core, user_url=user_url)
                if service == "user":
                    running["uvicorn"] = programs.uvicorn(self.peer_python, core=core)
            for server in running.values():
                server.wait("/users/1" if service == "user" else "/orders/1")
            yield running
        finally:
            for server in running.values():
                server.stop()


class Bench(NamedTuple):
    """What a part is given, and where its results go."""

    plan: Plan
    contestants: Contestants
    ratios: list[Ratio]
    results: dict[str, object]


def server(bench: Bench) -> None:
    """A served request with everything on."""
    with bench.contestants.run("user", bench.plan.cores.server) as running:
        _report(bench, scenarios.SERVER, rounds.measure(scenarios.SERVER, running, bench.plan))


def hop(bench: Bench) -> None:
    """A request that calls another service; CPU is that of the calling one alone."""
    cores = bench.plan.cores
    peer = programs.mizzen("user", core=cores.load, name="peer")
    try:
        peer.wait("/users/1")
        with bench.contestants.run("order", cores.server, peer.url) as running:
            _report(bench, scenarios.HOP, rounds.measure(scenarios.HOP, running, bench.plan._replace(shared=True)))
    finally:
        peer.stop()


def client(bench: Bench) -> None:
    """A call with everything on, beside a bare aiohttp client."""
    cores = bench.plan.cores
    peer = programs.mizzen("user", core=cores.load, name="peer")
    try:
        peer.wait("/users/1")
        seen = calls.measure_client(peer.url + "/users/1", rounds=bench.plan.rounds, core=cores.server)
    finally:
        peer.stop()
    print(f"\nclient call, {calls.CALLERS} callers")
    rows = [(name, spread(cost.cpu_us).text(1), f"{statistics.median(cost.rps):,.0f}") for name, cost in seen.costs.items()]
    print(table(("", "CPU µs/call", "calls/s"), rows))
    pairs = ratios(seen.costs["mizzen"].cpu_us, seen.costs["aiohttp"].cpu_us)
    bench.ratios.append(Ratio("CPU: client call, 32 callers", "bare aiohttp", pairs, scenarios.CLIENT_CALL))
    bench.results["client"] = {name: cost._asdict() for name, cost in seen.costs.items()}


def start_up(bench: Bench) -> None:
    """`mizzen run` to the first 200."""
    seen = start.measure_start(rounds=3 * bench.plan.rounds)
    print("\nstart to the first 200, or to the exit of the bare line")
    rows = []
    for name, taken in seen._asdict().items():
        walls, used = spread(each.wall * 1000 for each in taken), spread(each.cpu * 1000 for each in taken)
        rows.append((name, walls.text(0), used.text(0)))
    print(table(("", "ms", "CPU ms"), rows))
    wall = ratios([each.wall for each in seen.mizzen], [each.wall for each in seen.bare])
    cpu = ratios([each.cpu for each in seen.mizzen], [each.cpu for each in seen.bare])
    bench.ratios.append(Ratio("start to the first 200", "bare python", wall, scenarios.FIRST_200))
    bench.ratios.append(Ratio("CPU of that start", "bare python", cpu))
    bench.results["start"] = seen._asdict()


def memory(bench: Bench) -> None:
    """Resident memory of a small service."""
    seen = start.measure_memory()
    if seen is None:
        print("\nmemory is not told here: there is no /proc/PID/smaps_rollup")
        bench.ratios.append(Ratio("resident memory", "MB", (), scenarios.RESIDENT_MB))
        return
    print("\nmemory of the user service")
    rows = []
    for name, taken in (("idle", seen.idle), ("after 10,000 requests on 32 connections", seen.worked)):
        rows.append((name, *(f"{size / 1e6:.1f}" for size in taken)))
    print(table(("MB", "resident", "proportional", "private"), rows))
    bench.ratios.append(
        Ratio("resident memory, after 10,000 requests", "MB", (seen.worked.resident / 1e6,), scenarios.RESIDENT_MB, " MB")
    )
    bench.results["memory"] = seen._asdict()


def idle_connections(bench: Bench) -> None:
    """What 10,000 connections cost on which nothing happens."""
    count = idle.CONNECTIONS
    if (allowed := machine.open_files(count + 200)) < count + 200:
        count = allowed - 200
        print(f"\nonly {count:,} idle connections: this system lets a process open {allowed:,} files (ulimit -n)")
    cores = bench.plan.cores
    seen: dict[str, idle.Idle] = {}
    with bench.contestants.run("user", cores.server, LIMITS__CONNECTIONS=str(count + 100)) as running:
        for name in scenarios.SERVICES:
            if name in running:
                seen[name] = idle.measure(running[name], "/users/1", count)
    print(f"\n{count:,} idle connections")
    rows = [
        (name, *(_number(value, digits) for value, digits in zip(each[1:], (0, 2, 2), strict=True)))
        for name, each in seen.items()
    ]
    print(table(("", "bytes each", "CPU % before", "CPU % at rest"), rows))
    for name in [name for name in seen if name != "mizzen"]:
        pair = ratios([seen["mizzen"].bytes_each], [seen[name].bytes_each])
        bench.ratios.append(Ratio("memory of an idle connection", _named(name), pair))
    bench.results["idle"] = {name: each._asdict() for name, each in seen.items()}


def promises(bench: Bench) -> None:
    """How fast a deadline ends a slow chain, and how fast probes answer at saturation."""
    cores = bench.plan.cores
    peer = programs.mizzen("user", core=cores.load, name="peer")
    try:
        peer.wait("/users/1")
        print("\ndeadlines and probes")
        outcomes = slow.measure(peer.url, core=cores.server, other=cores.load)
    finally:
        peer.stop()
    print(table(("of Mizzen", "time"), [(name, outcome.text) for name, outcome in outcomes.items()], left=2))
    bench.results["slow"] = {name: outcome.numbers for name, outcome in outcomes.items()}


def discovery(bench: Bench) -> None:
    """1,000 services of ten instances in the embedded registry, and a process that watches all of them."""
    cores = bench.plan.cores
    seen = registry.measure(cores.server, cores.load)
    print(f"\n{registry.SERVICES:,} services of {registry.EACH} instances in the embedded registry")
    rows = [
        (name, f"{each.wall_us:,.0f}", _number(each.cpu_us, 0))
        for name, each in (("registration", seen.registered), ("heartbeat without news", seen.beat))
    ]
    print(table((f"{registry.CONNECTIONS} connections", "µs each", "CPU µs each"), rows))
    print(f"  memory of the registry: {_number(seen.empty_mb, 0)} MB empty, {_number(seen.full_mb, 0)} MB full")
    rows = []
    for each in (seen.few, seen.all):
        print(
            f"  {each.services:,} watched: all there after {each.first_s:.2f} s, {each.errors} reads failed;"
            f" a changed instance is known after {each.change_ms:.1f} ms"
        )
        for index, who in enumerate(("registry", "watcher")):
            pairs = ((each.first_cpu_s, 2), (each.resident_mb, 0), (each.rest, 2), (each.change_cpu_us, 0))
            rows.append((f"{each.services:,} watched", who, *(_number(pair[index], digits) for pair, digits in pairs)))
    print(table(("", "", "CPU s until all", "MB", "CPU % at rest", "CPU µs/change"), rows, left=2))
    for index, who in enumerate(("registry", "watcher")):
        pair = ratios([seen.all.change_cpu_us[index]], [seen.few.change_cpu_us[index]])
        what = f"CPU of one change, {who} with {registry.SERVICES:,} services watched"
        bench.ratios.append(Ratio(what, f"with {registry.FEW}", pair, scenarios.ONE_CHANGE))
    bench.results["discovery"] = {
        name: part._asdict() if isinstance(part, tuple) else part for name, part in seen._asdict().items()
    }


def _report(bench: Bench, asked: Sequence[Scenario], samples: Samples) -> None:
    for scenario in asked:
        title = f"{scenario.title}, {_connections(scenario)}"
        own = samples[scenario.name]
        print(f"\n{title} ({scenario.method} {scenario.path})")
        print(_detail(own))
        others = [name for name in own if name != "mizzen"]
        mine = own["mizzen"]
        for name in _with_missing(others, scenario.cpu):
            theirs = own.get(name, [])
            pairs = ratios([each.cost for each in mine], [each.cost for each in theirs]) if theirs else ()
            bench.ratios.append(Ratio(f"CPU: {title}", _named(name), pairs, scenario.cpu.get(name)))
        measured = [name for name in others if any(each.latency for each in own[name])]
        for name in _with_missing(measured, scenario.p99):
            theirs = own.get(name, [])
            pairs = ratios([each.p99 for each in mine], [each.p99 for each in theirs]) if theirs else ()
            note = "the generator was late" if _doubtful(mine) or _doubtful(theirs) else ""
            bench.ratios.append(Ratio(f"p99 at 70 %: {title}", _named(name), pairs, scenario.p99.get(name), note=note))
        if any(each.same_rate for each in mine):
            pairs = ratios([_same(each) for each in mine], [_same(each) for each in own["go"]])
            bench.ratios.append(Ratio(f"p99 at the same rate: {title}", "go", pairs))
        bench.results[scenario.name] = {name: [_plain(each) for each in taken] for name, taken in own.items()}


def _with_missing(there: Sequence[str], budgets: dict[str, Budget]) -> list[str]:
    """Those who are there, and those against whom there is a budget that could not be measured."""
    return [*there, *(name for name in budgets if name not in there)]


def _detail(own: dict[str, list[Sample]]) -> str:
    head = ["", "CPU µs/request", "requests/s", "MB", "failed", "at rate/s", "p50 ms", "p99 ms", "p99.9 ms"]
    rows = []
    for name, taken in own.items():
        costs = [each.cost for each in taken if each.cost is not None]
        resident = [each.resident_mb for each in taken if each.resident_mb is not None]
        row = [name, spread(costs).text(1) if costs else "–", f"{statistics.median(each.rps for each in taken):,.0f}"]
        row += [f"{statistics.median(resident):.0f}" if resident else "–", f"{sum(each.failed for each in taken) or '–'}"]
        seen = [each.latency for each in taken if each.latency is not None]
        if seen:
            row.append(f"{statistics.median(each.asked_rps for each in seen):,.0f}")
            row.append(f"{statistics.median(each.p50_ms for each in seen):.2f}")
            row.append(spread(each.p99_ms for each in seen).text())
            row.append(spread(each.p999_ms for each in seen).text())
        else:
            row += ["", "", "", ""]
        rows.append(row)
    shown = len(head) if any(row[5] for row in rows) else 5
    return table(head[:shown], [row[:shown] for row in rows])


def _same(sample: Sample) -> float | None:
    return None if sample.same_rate is None or sample.same_rate.failed else sample.same_rate.p99_ms


def _doubtful(taken: Sequence[Sample]) -> bool:
    """Whether the generator was late in more than half of the rounds."""
    seen = [each.latency.doubtful for each in taken if each.latency is not None]
    return sum(seen) * 2 > len(seen)


def _plain(sample: Sample) -> dict[str, object]:
    kept = sample._asdict()
    for name in ("latency", "same_rate"):
        kept[name] = None if kept[name] is None else kept[name]._asdict()
    return kept


def _connections(scenario: Scenario) -> str:
    return f"{scenario.connections:,} connection{'' if scenario.connections == 1 else 's'}"


def _named(contestant: str) -> str:
    return "bare uvicorn" if contestant == "uvicorn" else contestant


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
