"""Interleaved rounds: in each, every contestant does every scenario once, so that a machine's drift is the same for all."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from arrivals import Latency, arrive
from machine import Cores
from programs import Server
from saturation import saturate
from scenarios import SERVICES, Scenario

LOADED = 0.7
"""Share of saturation at which latency is measured."""
WARM_UP = 1.0
"""Seconds before the first round, for each contestant and path."""


class Sample(NamedTuple):
    """One contestant in one scenario in one round."""

    rps: float
    cpu_us: float | None
    """CPU of the server under test per request, in microseconds; None where it cannot be read."""
    resident_mb: float | None
    failed: int
    latency: Latency | None = None
    """At 70 % of the contestant's own saturation in this round."""
    same_rate: Latency | None = None
    """At 70 % of the saturation of the slower of Mizzen and Go."""

    @property
    def cost(self) -> float | None:
        """CPU per request; without it the time a saturated core takes for one, which is close. None of what failed."""
        if self.failed:
            return None
        return self.cpu_us if self.cpu_us is not None else 1e6 / self.rps

    @property
    def p99(self) -> float | None:
        """99th percentile at 70 % of saturation, in ms; None where it was not measured or something failed."""
        return None if self.failed or self.latency is None or self.latency.failed else self.latency.p99_ms


Samples = dict[str, dict[str, list[Sample]]]
"""By scenario and contestant, one for each round."""


class Plan(NamedTuple):
    """How long, how often, from where."""

    rounds: int
    seconds: float
    cores: Cores
    generator: Path | None
    """The built open loop; None for asyncio's."""
    shared: bool = False
    """Whether the core of the load has other work in it: the called service."""


def measure(scenarios: Sequence[Scenario], running: Mapping[str, Server], plan: Plan) -> Samples:
    """All scenarios by all contestants that can do them."""
    samples: Samples = {scenario.name: {name: [] for name in _able(scenario, running)} for scenario in scenarios}
    for scenario in {(each.method, each.path): each for each in scenarios}.values():
        agree(scenario, running)
        for name in _able(scenario, running):
            _saturated(scenario, running[name], plan, WARM_UP)
    for number in range(plan.rounds):
        for scenario in scenarios:
            names = _able(scenario, running)
            names = names[number % len(names) :] + names[: number % len(names)]  # nobody is always the first
            taken = {name: _saturated(scenario, running[name], plan, plan.seconds * scenario.weight) for name in names}
            if scenario.arrivals and plan.cores.load is not None:
                for name in (name for name in names if name in SERVICES):
                    taken[name] = _arrived(scenario, running[name], taken, plan, name)
            for name in names:
                samples[scenario.name][name].append(taken[name])
    return samples


def _able(scenario: Scenario, running: Mapping[str, Server]) -> list[str]:
    return [name for name in scenario.contestants if name in running]


def agree(scenario: Scenario, running: Mapping[str, Server]) -> None:
    """All answer the same: whatever is compared must be the same work."""
    answers = {}
    for name in _able(scenario, running):
        request = urllib.request.Request(running[name].url + scenario.path, method=scenario.method)
        if scenario.body:
            request.data = scenario.body.encode()
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                body, kind = answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{name} answers {error.code} to {scenario.method} {scenario.path}") from error
        whole = json.dumps(json.loads(body), sort_keys=True) if kind == "application/json" else body.hex()
        answers[name] = (answer.status, kind, whole)
    if len(set(answers.values())) > 1:
        told = {name: (status, kind, whole[:200]) for name, (status, kind, whole) in answers.items()}
        raise RuntimeError(f"the contestants do not answer {scenario.method} {scenario.path} alike: {told}")


def _saturated(scenario: Scenario, server: Server, plan: Plan, seconds: float) -> Sample:
    before = server.cpu()
    seen = saturate(
        server.address, scenario.path, seconds=seconds, connections=scenario.connections, core=plan.cores.load,
        method=scenario.method, body=scenario.body,
    )  # fmt: skip
    after = server.cpu()
    server.settle()
    if not seen.requests:
        return Sample(0.0, None, server.resident(), max(1, seen.failed))
    cpu = None if before is None or after is None else (after - before) / seen.requests * 1e6
    return Sample(seen.requests / seen.seconds, cpu, server.resident(), seen.failed)


def _arrived(scenario: Scenario, server: Server, taken: Mapping[str, Sample], plan: Plan, name: str) -> Sample:
    """Nothing is asked of a server that failed already: one that refuses quickly looks fast."""
    sample = taken[name]
    if sample.failed:
        return sample
    sample = sample._replace(latency=_latency(scenario, server, LOADED * sample.rps, plan))
    if scenario.p99 and name in ("mizzen", "go") and "go" in taken:
        slower = min(taken["mizzen"].rps, taken["go"].rps)
        sample = sample._replace(same_rate=_latency(scenario, server, LOADED * slower, plan))
    return sample


def _latency(scenario: Scenario, server: Server, rate: float, plan: Plan) -> Latency:
    seen = arrive(
        plan.generator, server.address, scenario.path, rate=rate, seconds=max(1.0, plan.seconds * scenario.weight),
        connections=scenario.connections, core=plan.cores.load, shared=plan.shared,
    )  # fmt: skip
    server.settle()
    return seen
