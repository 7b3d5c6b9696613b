"""The platform's questions: what each is answered in every state."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mizzen.assembly.probes import METRICS_TYPE, PATHS, Probes, State
from mizzen.edges.telemetry import Metrics
from mizzen.rules.health import Check, Health
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response


def failing() -> None:
    raise OSError("away")


class Site:
    """Probes of an instance whose state, checks and discovery the test chooses."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.health = Health(clock=lambda: 0.0, sleep=asyncio.sleep)
        self.metrics = Metrics()
        self.probes = Probes(
            state=lambda: self.state,
            health=self.health,
            waiting=lambda: ["Store: connection refused"],
            about={"service": "order", "version": "1.2.3", "instance": "order-10.0.0.1-8102"},
            metrics=self.metrics,
            discovery=lambda: {"user": {"state": "fresh"}},
        )

    async def ask(self, path: str) -> tuple[int, Any]:
        handlers: dict[str, Handler] = {route.template: handler for route, handler in self.probes.routes()}
        response = await handlers[path](Request("GET", path))
        assert isinstance(response.body, bytes)
        return response.status, json.loads(response.body)


def ask(path: str, state: State, *checks: Check) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        site = Site(state)
        for check in checks:
            site.health.add(check)
        await site.health.refresh(force=True)
        return await site.ask(path)

    return asyncio.run(main())


OK = Check("Store", lambda: None, required=True)
OPTIONAL_DOWN = Check("user", failing, required=False)
REQUIRED_DOWN = Check("Store", failing, required=True)

TABLE = [
    (State.STARTING, 200, 503, 503),
    (State.SERVING, 200, 200, 200),
    (State.LINGERING, 200, 503, 503),
    (State.DRAINING, 200, 503, 503),
    (State.CLOSED, 200, 503, 503),
]


@pytest.mark.parametrize(("state", "live", "ready", "health"), TABLE)
def test_the_states_of_the_design(state: State, live: int, ready: int, health: int) -> None:
    """/live is always 200; /ready and /health are 200 only while serving, in the design's table of states."""
    assert [ask(path, state, OK)[0] for path in ("/live", "/ready", "/health")] == [live, ready, health]


def test_every_state_is_in_the_table() -> None:
    """No state was added without saying what the probes answer in it."""
    assert [row[0] for row in TABLE] == list(State)


@pytest.mark.parametrize(
    ("check", "health", "status"), [(OK, 200, "ok"), (OPTIONAL_DOWN, 200, "degraded"), (REQUIRED_DOWN, 503, "unavailable")]
)
def test_health_follows_required_dependencies_and_ready_follows_none(check: Check, health: int, status: str) -> None:
    """A shared dependency that is down takes no instance out of its balancer: only /health says so, where it is required."""
    code, body = ask("/health", State.SERVING, check)
    assert (code, body["status"]) == (health, status)
    assert body["checks"][check.name]["ok"] is (check is OK)
    assert ask("/ready", State.SERVING, check)[0] == 200
    assert ask("/live", State.SERVING, check)[0] == 200


def test_a_start_says_what_it_waits_for() -> None:
    """While starting, /ready and /health name what is not there yet; afterwards they do not."""
    for path in ("/ready", "/health"):
        assert ask(path, State.STARTING)[1]["waiting_for"] == ["Store: connection refused"]
        assert "waiting_for" not in ask(path, State.SERVING)[1]


def test_health_says_who_and_where() -> None:
    """The body names the instance, its state, every check, and what discovery knows of each peer."""
    _, body = ask("/health", State.SERVING, OK, OPTIONAL_DOWN)
    assert {"service", "version", "instance", "state", "status", "checks", "discovery"} == set(body)
    assert (body["instance"], body["state"]) == ("order-10.0.0.1-8102", "serving")
    assert body["discovery"] == {"user": {"state": "fresh"}}
    assert set(body["checks"]["user"]) == {"ok", "required", "detail", "age_s", "took_ms"}


@pytest.mark.parametrize("state", [State.LINGERING, State.DRAINING, State.CLOSED])
def test_health_on_the_way_out_is_unavailable_whatever_the_checks_say(state: State) -> None:
    """A registry that looks at /health takes a stopping instance out even if its dependencies are fine."""
    code, body = ask("/health", state, OK)
    assert (code, body["status"], body["state"]) == (503, "unavailable", state.value)


def test_the_bodies_of_live_and_ready() -> None:
    """Both say the state in words."""
    assert ask("/live", State.DRAINING)[1] == {"status": "live", "state": "draining"}
    assert ask("/ready", State.SERVING)[1] == {"status": "ready", "state": "serving"}
    assert ask("/ready", State.DRAINING)[1] == {"status": "not ready", "state": "draining"}


def test_metrics_are_prometheus_text() -> None:
    """The page has the content type that a scraper asks for, in every state."""

    async def main() -> Response:
        site = Site(State.STARTING)
        site.metrics.counter("things_total", "Things.").labels().inc(3)
        return await site.probes.metrics(Request("GET", "/metrics"))

    response = asyncio.run(main())
    assert (response.status, response.headers.get("content-type")) == (200, METRICS_TYPE)
    assert isinstance(response.body, bytes)
    assert b"things_total 3" in response.body


def test_asking_does_no_work() -> None:
    """/health shows results that are there already: asking it runs no check."""
    runs: list[int] = []

    async def main() -> None:
        site = Site(State.SERVING)
        site.health.add(Check("Store", lambda: runs.append(1)))
        for path in ("/live", "/ready", "/health"):
            await site.ask(path)

    asyncio.run(main())
    assert runs == []


def test_the_probes_are_routes_like_any_other() -> None:
    """They go through the edge as GET routes, so that they are counted there."""
    routes = [route for route, _ in Site(State.SERVING).probes.routes()]
    assert [str(route) for route in routes] == [f"GET {path}" for path in PATHS]
    assert PATHS == ("/live", "/ready", "/health", "/metrics")
