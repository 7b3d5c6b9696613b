"""Observing: every answer, call and attempt is counted once, under labels that are few."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from typing import Any

import pytest

from mizzen.assembly.client import Client
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.peers import Peer
from mizzen.edges.resolvers import NoneResolver
from mizzen.rules.config import ClientConfig
from mizzen.rules.discovery import Instance
from mizzen.rules.events import BudgetExhausted
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.context import Context
from mizzen.words.message import Request
from mizzen.words.outcome import OK, REFUSED, classify


def page(telemetry: Telemetry) -> str:
    return telemetry.metrics.render().decode()


def samples(telemetry: Telemetry, name: str) -> dict[str, float]:
    """The values of one sample name by their labels as text."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", page(telemetry), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


class FakeLogs:
    """Takes access lines, and has dropped some."""

    class Outlet:
        dropped = 3

    def __init__(self) -> None:
        self.outlet = self.Outlet()
        self.lines: list[tuple[Any, ...]] = []

    def access(self, *line: Any) -> None:
        self.lines.append(line)


def peer_of(telemetry: Telemetry, clock: Any) -> Peer:
    return Peer(
        Client("user", required=False, timeout=None, retries=None, classify=classify),
        ClientConfig(),
        NoneResolver(),
        backend="none:",
        network=MemoryNetwork(),
        telemetry=telemetry,
        clock=clock,
        random=random.random,
    )


def test_an_answer_is_counted_by_method_route_and_status() -> None:
    """One observation per answer; the path is in no label."""
    telemetry = Telemetry("order", version="1.2.3")
    request = Request("GET", "/orders/4711", context=Context())
    request.route = "/orders/{id}"
    for status in (200, 200, 404):
        telemetry.observe(request, status, 0.02, 10)
    labels = 'http_request_method="GET",http_route="/orders/{id}",http_response_status_code='
    counts = samples(telemetry, "http_server_request_duration_seconds_count")
    assert counts == {f'{labels}"200"': 2, f'{labels}"404"': 1}
    assert "4711" not in page(telemetry)


def test_an_answer_is_logged_with_its_path() -> None:
    """The access line has what the label must not have; without a log there is no line and no error."""
    logs = FakeLogs()
    telemetry = Telemetry("order", version="1.2.3", logs=logs)  # type: ignore[arg-type]
    request = Request("PURGE", "/orders/4711", context=Context("0af7651916cd43dd8448eb211c80319c"), peer="10.0.0.9:5000")
    telemetry.observe(request, 405, 0.02, 10)
    assert logs.lines == [(request, 405, 0.02, 10)]
    counts = samples(telemetry, "http_server_request_duration_seconds_count")
    assert counts == {'http_request_method="_OTHER",http_route="unmatched",http_response_status_code="405"': 1}
    assert samples(telemetry, "mizzen_log_lines_dropped_total") == {"": 3}
    assert "process_cpu_seconds_total" in page(telemetry)


def test_calls_attempts_and_retries_are_counted_apart() -> None:
    """A call with two attempts is one call, two attempts and one retry."""
    telemetry = Telemetry("order", version="1.2.3")
    request = Request("GET", "/users/7", peer="user")
    telemetry.attempt(request, REFUSED, 0.001)
    telemetry.retried("user", REFUSED.name)
    telemetry.attempt(request, OK, 0.01)
    telemetry.call("user", OK.name, 0.04)
    attempts = samples(telemetry, "http_client_request_duration_seconds_count")
    assert attempts == {
        'peer="user",http_request_method="GET",outcome="refused"': 1,
        'peer="user",http_request_method="GET",outcome="ok"': 1,
    }
    assert samples(telemetry, "mizzen_retries_total") == {'peer="user",outcome="refused"': 1}
    assert samples(telemetry, "mizzen_call_duration_seconds_count") == {'peer="user",outcome="ok"': 1}


def test_a_peer_is_on_the_page_before_anything_happened_to_it() -> None:
    """Breaker, budget and endpoints of a declared peer are series from the start; the snapshot's age once there is one."""

    async def main() -> None:
        telemetry = Telemetry("order", version="1.2.3")
        clock = asyncio.get_running_loop().time
        peer = peer_of(telemetry, clock)
        assert samples(telemetry, "mizzen_breaker_state") == {
            'peer="user",state="closed"': 1, 'peer="user",state="open"': 0, 'peer="user",state="half_open"': 0,
        }  # fmt: skip
        assert samples(telemetry, "mizzen_retry_budget_balance") == {'peer="user"': 100}
        assert samples(telemetry, "mizzen_endpoints") == {
            f'peer="user",status="{status}"': 0 for status in ("ready", "ejected", "trial", "leaving")
        }
        assert samples(telemetry, "mizzen_snapshot_age_seconds") == {}
        peer.store.snapshot([Instance("user-1", "user", "10.0.0.7", 80), Instance("user-2", "user", "10.0.0.8", 80)])
        await asyncio.sleep(7)
        assert samples(telemetry, "mizzen_endpoints")['peer="user",status="ready"'] == 2
        assert samples(telemetry, "mizzen_snapshot_age_seconds") == {'peer="user"': 7}

    run(main())


def test_what_is_known_of_a_peer_is_on_the_page() -> None:
    """The state of its instances as one of four series, and how often they were read, could not be read, and were kept."""

    async def main() -> None:
        telemetry = Telemetry("order", version="1.2.3")
        store = peer_of(telemetry, asyncio.get_running_loop().time).store

        def shown() -> tuple[str, list[float]]:
            states = samples(telemetry, "mizzen_snapshot_state")
            assert len(states) == 4
            [state] = [labels for labels, value in states.items() if value]
            counts = [samples(telemetry, f"mizzen_snapshot_{what}_total") for what in ("reads", "errors", "holds")]
            return state.partition("state=")[2].strip('"'), [count['peer="user"'] for count in counts]

        assert shown() == ("never", [0, 0, 0])
        instances = [Instance(f"user-{n}", "user", "10.0.0.7", n) for n in (80, 81)]
        store.snapshot(instances)
        assert shown() == ("fresh", [1, 0, 0])
        store.error(OSError("refused"))
        assert shown() == ("stale", [1, 1, 0])
        store.snapshot(())
        assert shown() == ("held", [2, 1, 1])

    run(main())


def test_the_active_requests_are_asked_for() -> None:
    """The gauge shows what the server counts when somebody looks."""
    telemetry = Telemetry("order", version="1.2.3")
    active = [3]
    telemetry.active(lambda: active[0])
    assert samples(telemetry, "http_server_active_requests") == {"": 3}
    active[0] = 4
    assert samples(telemetry, "http_server_active_requests") == {"": 4}


def test_the_build_is_labelled() -> None:
    """A scraper learns which version of what runs on which Python."""
    [labels] = samples(Telemetry("order", version="1.2.3"), "mizzen_build_info")
    assert labels.startswith('version="1.2.3",service="order",python="3.')


def test_events_are_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """What happens to a peer is a log line under its own logger; a failed hook does not keep it from the others."""
    telemetry = Telemetry("order", version="1.2.3")
    with caplog.at_level(logging.INFO):
        telemetry.emit(BudgetExhausted("user"))
    [record] = caplog.records
    assert (record.name, record.levelno) == ("mizzen.retry", logging.WARNING)
    assert record.__dict__["peer"] == "user"


def test_the_state_of_a_breaker_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    """The gauge moves with the breaker, and the log says what it affects."""

    async def main() -> None:
        telemetry = Telemetry("order", version="1.2.3")
        peer = peer_of(telemetry, asyncio.get_running_loop().time)
        for _ in range(5):
            token = peer.breaker.enter(0.0)
            assert token is not None
            peer.breaker.settle(token, REFUSED.breaker, 0.0, REFUSED.name)
        states = samples(telemetry, "mizzen_breaker_state")
        assert states['peer="user",state="open"'] == 1
        assert states['peer="user",state="closed"'] == 0

    run(main())
    assert caplog.messages[0].startswith("breaker user OPEN for 30s: 5 calls failed (5 refused); next trial ")
