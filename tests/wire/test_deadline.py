"""Deadlines between real processes: they cross every hop, and nobody works on for a caller that has left."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, Process, ask, until

pytestmark = pytest.mark.wire

SLOW = "/slow/30"
"""Takes thirty seconds when nobody ends it."""
PROMPT = 3.0
"""Seconds: far from both 50 ms and 30 s, since the machine may be busy."""


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    """`order`, and `user` that it calls and that can be slow; both allow a handler a minute."""
    with Fleet(tmp_path) as fleet:
        user = fleet.start("user", settings={"MIZZEN__SERVICES__USER__LIMITS__HANDLER": "60s"}).ready()
        settings = {
            "MIZZEN__SERVICES__ORDER__LIMITS__HANDLER": "60s",
            "MIZZEN__SERVICES__ORDER__CLIENTS__USER__TIMEOUT": "60s",
            "MIZZEN__DISCOVERY__URL": f"static:user=127.0.0.1:{user.port}",
        }
        order = fleet.start("order", settings=settings).ready()
        assert ask(order.url + "/orders/1").status == 200
        yield order, user


def seen(user: Process) -> dict[str, Any]:
    """What reached `user`, as it counts itself."""
    found: dict[str, Any] = ask(user.url + "/seen").json()
    return found


@pytest.mark.parametrize("field", ["x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms"])
def test_a_deadline_ends_the_whole_chain(chain: tuple[Process, Process], field: str) -> None:
    """50 ms into a slow chain: 504 at once, the peer was told what is left, and its handler is cancelled."""
    order, user = chain

    def reached() -> bool:
        """On a machine so busy that no time is left for the call, the peer is rightly not asked: then again."""
        answer = ask(order.url + SLOW, headers={field: "50"})
        assert (answer.status, answer.headers["content-type"]) == (504, "application/problem+json")
        assert answer.json()["trace_id"] == answer.headers["x-trace-id"]
        assert "deadline" in answer.json()["detail"]
        assert 0.04 < answer.seconds < PROMPT
        return bool(seen(user)["remaining_ms"])

    until(reached, "a request reaches the peer in time")
    until(lambda: seen(user)["cancelled"] >= 1, "the peer's handler is cancelled")
    assert 0 < seen(user)["remaining_ms"] <= 50


def test_a_deadline_that_left_no_time_is_not_the_peers_fault(chain: tuple[Process, Process]) -> None:
    """Callers in a hurry open no breaker: it stays closed after more of their failures than it takes."""
    order, _ = chain
    for _ in range(8):
        assert ask(order.url + SLOW, headers={"x-request-timeout-ms": "50"}).status == 504
    assert ask(order.url + "/orders/1").status == 200
    assert ask(order.url + "/health").json()["checks"]["user"]["ok"] is True


def test_a_deadline_that_has_passed_is_refused_on_arrival(chain: tuple[Process, Process]) -> None:
    """A request whose caller has stopped waiting is a 504 before any work, and says that it was none."""
    _, user = chain
    answer = ask(user.url + "/slow/30", headers={"x-request-timeout-ms": "0"})
    assert (answer.status, answer.headers["x-rejected"]) == (504, "expired")
    assert "passed on arrival" in answer.json()["detail"]
    assert seen(user) == {"posts": 0, "cancelled": 0, "remaining_ms": 0}


def test_a_longer_deadline_does_not_extend_the_services_own(tmp_path: Path) -> None:
    """A caller that would wait for an hour is answered when the service's own limit for handlers ends."""
    with Fleet(tmp_path) as fleet:
        user = fleet.start("user", settings={"MIZZEN__SERVICES__USER__LIMITS__HANDLER": "100ms"}).ready()
        answer = ask(user.url + SLOW, headers={"x-request-timeout-ms": "3600000"})
        assert answer.status == 504
        assert 0.09 < answer.seconds < PROMPT
        assert seen(user)["cancelled"] == 1
        assert seen(user)["remaining_ms"] <= 100


def test_a_caller_that_leaves_ends_the_whole_chain(chain: tuple[Process, Process]) -> None:
    """When the caller closes its connection, the handlers of both services are cancelled."""
    order, user = chain
    with socket.create_connection(("127.0.0.1", order.port)) as caller:
        caller.sendall(b"GET /slow/30 HTTP/1.1\r\nhost: order\r\n\r\n")
        until(lambda: seen(user)["remaining_ms"], "the peer's handler runs")
        assert seen(user)["cancelled"] == 0
    until(lambda: seen(user)["cancelled"] == 1, "the peer's handler is cancelled")

    def gone() -> bool:
        lines = [line for process in (order, user) for line in process.lines() if line.get("route") == "/slow/{seconds}"]
        return [line["status"] for line in lines] == [499, 499]

    until(gone, "both count the caller as gone")
    assert re.search(rb"\nhttp_server_active_requests 1\n", ask(order.url + "/metrics").body)
