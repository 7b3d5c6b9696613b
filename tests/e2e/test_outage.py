"""Losing the registry never loses traffic, and what comes and goes is seen in time: real registries, real processes.

`make test-servers` has the registry away for 30 s; ``MIZZEN_OUTAGE=300`` makes it five minutes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from enclosed import ENCLOSED, INSIDE, run_enclosed
from fleet import Fleet, Process, ask, until
from servers.stages import STAGES, Stage
from steady import Steady

pytestmark = [pytest.mark.servers, pytest.mark.wire]

OUTAGE = float(os.environ.get("MIZZEN_OUTAGE", "30"))
"""Seconds without the registry."""
RATE = 500.0
BEAT = 5.0 * 1.1
"""Seconds between two heartbeats, with their jitter."""
MARGIN = 1.5
"""Seconds for starting to listen and for a busy machine, on top of what is promised."""


@pytest.fixture(params=[stage for stage in STAGES if (stage.host == INSIDE) == ENCLOSED], ids=lambda stage: stage.name)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A registry with nobody in it."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with request.param(folder) as stage:
        yield stage


@pytest.fixture
def fleet(tmp_path: Path, stage: Stage) -> Iterator[Fleet]:
    with Fleet(tmp_path, host=stage.host) as fleet:
        yield fleet


def started(fleet: Fleet, stage: Stage, service: str) -> Process:
    """One more instance of a service, serving and known to the registry."""
    process = fleet.start(service, settings={**stage.environ, f"MIZZEN__SERVICES__{service.upper()}__STOP__LINGER": "1s"})
    process.ready()
    stage.announce(service, process.port)
    until(lambda: process.port in stage.ports(service), f"{stage.name} knows {service} on {process.port}")
    return process


def system(fleet: Fleet, stage: Stage) -> tuple[list[Process], Process]:
    """Three instances of user, and order, which calls them."""
    users = [started(fleet, stage, "user") for _ in range(3)]
    order = started(fleet, stage, "order")
    until(lambda: len({ask(f"{order.url}/orders/1").json()["user"]["pid"] for _ in range(20)}) == 3, "order calls all three")
    return users, order


def peer_of(order: Process) -> dict[str, Any]:
    """What order says of its peer."""
    found: dict[str, Any] = ask(f"{order.url}/health").json()["discovery"]["user"]
    return found


def test_an_outage_of_the_registry_costs_no_request(fleet: Fleet, stage: Stage) -> None:
    """Under load the registry is killed, loses its state and comes back: no request fails, and all are registered again
    under the same ids within one heartbeat."""
    if not stage.can_be_lost:
        pytest.skip(f"{stage.name}: nothing of ours is registered there")
    users, order = system(fleet, stage)
    before = stage.ids("user") | stage.ids("order")
    assert len(before) == 4
    with Steady(f"{order.url}/orders/1", rate=RATE, most=OUTAGE + 120) as load:
        until(lambda: len(load.sent) > RATE, "the load flows")
        stage.lose()
        lost = time.monotonic()
        until(lambda: time.monotonic() > lost + OUTAGE, "the outage is over", OUTAGE + 5)
        stage.bring_back()
        back = time.monotonic()
        until(lambda: stage.ids("user") | stage.ids("order") == before, "all are registered again")
        took = time.monotonic() - back
        more = len(load.sent) + 2 * RATE
        until(lambda: len(load.sent) > more, "the load flows on")
    assert load.failures == []
    assert took <= BEAT + MARGIN, f"registered again after {took:.1f}s"
    assert peer_of(order)["instances"] == 3
    assert {sent.said["user"]["pid"] for sent in load.since(lost)} == {user.popen.pid for user in users}
    assert load.rate > 0.9 * RATE
    print(f"{stage.name}: {len(load.sent)} requests at {load.rate:.0f}/s, {OUTAGE:g}s away, back in {took:.2f}s")


def test_a_new_instance_gets_traffic_within_a_second(fleet: Fleet, stage: Stage) -> None:
    """From the moment that the registry gives it out, the first call to a new instance is less than 1 s away."""
    _, order = system(fleet, stage)
    with Steady(f"{order.url}/orders/1", rate=RATE / 5) as load:
        new = started(fleet, stage, "user")
        known = time.monotonic()
        until(lambda: any(sent.said["user"]["pid"] == new.popen.pid for sent in load.since(0.0)), "it gets a call")
    first = next(sent for sent in load.since(0.0) if sent.said["user"]["pid"] == new.popen.pid)
    assert first.begun - known < 1.0
    assert load.failures == []


def test_a_withdrawn_instance_gets_no_traffic(fleet: Fleet, stage: Stage) -> None:
    """100 ms after one of three is withdrawn it gets no call any more, and no request fails."""
    users, order = system(fleet, stage)
    leaving = users[1]
    with Steady(f"{order.url}/orders/1", rate=RATE / 5) as load:
        until(lambda: len(load.sent) > 50, "the load flows")
        stage.withdraw("user", leaving.port)  # where the service does not say it itself
        leaving.signal(signal.SIGTERM)
        until(lambda: leaving.port not in stage.ports("user"), "it is withdrawn")
        gone = time.monotonic()
        until(lambda: len(load.since(gone)) > 50, "the load flows on")
        assert leaving.popen.wait(20) == 0
    late = [sent for sent in load.since(gone + 0.1) if sent.said["user"]["pid"] == leaving.popen.pid]
    assert late == []
    assert load.failures == []


def test_a_killed_instance_costs_no_request(fleet: Fleet, stage: Stage) -> None:
    """SIGKILL to one of three: every request, which is idempotent, is answered by the others."""
    users, order = system(fleet, stage)
    with Steady(f"{order.url}/orders/1", rate=RATE / 2) as load:
        until(lambda: len(load.sent) > 100, "the load flows")
        users[0].signal(signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: len(load.since(killed)) > RATE, "the load flows on")
    assert load.failures == []
    assert users[0].popen.pid not in {sent.said["user"]["pid"] for sent in load.since(killed + 1.0)}


@pytest.mark.skipif(ENCLOSED, reason="this is that run")
def test_in_a_network_of_its_own() -> None:
    """The same holds for EndpointSlices, in a network namespace: the API server takes no endpoint on loopback."""
    run_enclosed(__file__, expected=3)
