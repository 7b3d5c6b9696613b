"""Events: each says its sentence and gives its fields."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mizzen.edges.telemetry import Metrics, declare_peer, log_hook, metrics_hook, tell
from mizzen.rules import events
from mizzen.rules.breaker import Change
from mizzen.rules.events import Event

EVENTS: list[tuple[Event, str, str]] = [
    (events.StateChanged("order", "serving", "every required check has passed", 1.2), "info",
     "serving after 1.2s: every required check has passed"),
    (events.StateChanged("order", "starting"), "info", "starting"),
    (events.StepTaken("open OrderStore", 0.012, 30.0, ""), "info", "open OrderStore in 12ms"),
    (events.StepTaken("first checks", 0.5, None, "3 checks"), "info", "first checks in 500ms: 3 checks"),
    (events.StepTaken("close OrderStore", 4.0, 5.0), "warning",
     "close OrderStore in 4s, more than half of its limit of 5s"),
    (events.CheckChanged("OrderStore", True, True), "info", "check OrderStore passes"),
    (events.CheckChanged("OrderStore", False, True, "OSError: gone"), "warning",
     "check OrderStore fails: OSError: gone; /health is 503 until it passes"),
    (events.CheckChanged("cache", False, False, "OSError: gone"), "warning",
     "check cache fails: OSError: gone; optional, /health stays 200"),
    (events.LinesDropped(1), "warning", "dropped 1 log line: the reader of stdout stalled"),
    (events.LinesDropped(17), "warning", "dropped 17 log lines: the reader of stdout stalled"),
    (events.BreakerChanged("user", "open", {"refused": 4, "timeout": 1}, 30.0, "14:02:41Z", ("GET /orders/{id}",)), "warning",
     "breaker user OPEN for 30s: 5 calls failed (4 refused, 1 timeout); next trial 14:02:41Z; affects GET /orders/{id}"),
    (events.BreakerChanged("user", "open", {"server_error": 1}, 5.0), "warning",
     "breaker user OPEN for 5s: 1 call failed (1 server error)"),
    (events.BreakerChanged("user", "half_open"), "info",
     "breaker user half-open: the next call is the trial, all others are refused until it is answered"),
    (events.BreakerChanged("user", "closed"), "info", "breaker user closed: the trial succeeded, all calls go out again"),
    (events.Ejected("user", "user-10.0.3.7-8101", 5, 5.0), "warning",
     ("user-10.0.3.7-8101 of user ejected for 5s: 5 attempts in a row failed; "
      "the other instances take its calls, then one trial decides")),
    (events.Readmitted("user", "user-10.0.3.7-8101"), "info", "user-10.0.3.7-8101 of user readmitted: it gets calls again"),
    (events.BudgetExhausted("user"), "warning",
     "retry budget of user spent: failed calls are not sent again until fewer of them fail"),
    (events.RegistryLost("consul", 40.0, {"user": 3, "stock": 2}), "warning",
     "consul lost for 40s: serving the last snapshot (user 3, stock 2); nothing dropped"),
    (events.RegistryLost("consul", 0.0, {}, "ConnectFailed: refused"), "warning",
     "consul lost (ConnectFailed: refused): no call depends on it; trying again"),
    (events.RegistryLost("consul", 0.0, {"user": 0}), "warning",
     "consul lost: no instance of user is known, calls to it fail until the registry is back"),
    (events.RegistryBack("consul", 302.0, "order-10.0.3.8-8102", 1.1, 0), "info",
     "consul back after 5m02s: re-registered order-10.0.3.8-8102 in 1.1s; 0 calls failed"),
    (events.RegistryBack("consul", 3.0, "", 0.0, 1), "info", "consul back after 3s: nothing was forgotten; 1 call failed"),
    (events.RegistryBack("consul", 0.0, "order-1", 0.1, 0), "info",
     "consul had forgotten us: re-registered order-1 in 100ms; 0 calls failed"),
    (events.RegistryBack("consul", 0.0, "order-1", 0.1, 0, "had our entry edited"), "info",
     "consul had our entry edited: re-registered order-1 in 100ms; 0 calls failed"),
    (events.RegistryRefused("consul", "order-1", "403"), "error",
     ("consul refuses order-1: 403; it goes out of the registry with its missed heartbeat; "
      "trying on, with what the token file says at each try")),
    (events.IdTaken("consul", "order-1", "it is b2"), "error",
     "consul has another order-1: it is b2; this one gets no calls until the other is gone"),
    (events.Registered("consul", "order-1", "passing"), "info", "registered order-1 with consul as passing"),
    (events.Withdrawn("consul", "order-1"), "info", "withdrew order-1 from consul"),
    (events.Withdrawn("consul", "order-1", "TimeoutError"), "warning",
     "could not withdraw order-1 from consul: TimeoutError; it stays listed until its heartbeat is missed"),
    (events.SnapshotChanged("user", ("user-2",), ("user-1",), 1), "info", "user has 1 instance (+user-2, -user-1)"),
    (events.SnapshotChanged("user", (), (), 0), "info", "user has 0 instances"),
    (events.SnapshotHeld("user", 5, 0, 30.0), "warning",
     ("user went from 5 instances to 0 in one read: suspect; "
      "the missing ones are kept for 30s, and those that answer for longer, in case the registry lost its memory")),
    (events.SnapshotRecalled("user", "consul://10.0.3.2:8500", 3, 7200.0), "warning",
     ("user has 3 instances as consul://10.0.3.2:8500 had them 2h ago, from disk: "
      "they stand until the registry answers")),
]  # fmt: skip


@pytest.mark.parametrize(("event", "level", "text"), EVENTS, ids=lambda value: type(value).__name__)
def test_sentence(event: Event, level: str, text: str) -> None:
    """An event says what happened, why, and what it touches, at its level."""
    assert (event.level, event.text()) == (level, text)


@pytest.mark.parametrize("event", [event for event, _, _ in EVENTS], ids=lambda event: type(event).__name__)
def test_fields_are_json_and_named(event: Event) -> None:
    """An event's fields can be written as JSON, under its name, and none of them is a log record's own."""
    fields = msgspec.json.decode(msgspec.json.encode(event.fields()))
    assert fields["event"].replace("_", "") == type(event).__name__.lower()
    assert not set(fields) & set(vars(logging.LogRecord("", 0, "", 0, "", (), None)))


def test_an_instance_of_a_peer_is_an_endpoint_in_the_fields() -> None:
    """In a log line ``instance`` is always our own, so a peer's goes by another name."""
    for event in (events.Ejected("user", "user-1", 5, 5.0), events.Readmitted("user", "user-1")):
        assert event.fields()["endpoint"] == "user-1"
        assert "instance" not in event.fields()


def test_a_line_names_ten_of_many_instances() -> None:
    """A service of thousands that is replaced whole fits into one line, which says how many there are."""
    ids = tuple(f"user-10.0.{number // 250}.{number % 250}-8101" for number in range(5000))
    event = events.SnapshotChanged("user", ids, ids[:11], 4989)
    assert event.text().endswith(f"+{ids[9]}, +4990 more, {', '.join(f'-{id}' for id in ids[:10])}, -1 more)")
    assert (event.fields()["added"], event.fields()["removed"], event.fields()["total"]) == (ids[:10], ids[:10], 4989)


def test_breaker_change_becomes_an_event_with_the_time_of_the_trial() -> None:
    """A breaker's own record of its change becomes an event that names the wall time of the next trial, in UTC."""
    change = Change("open", "closed", {"refused": 5}, 30.0)
    event = events.breaker_changed("user", change, ("GET /a",), wall=lambda: 1_700_000_000.0)
    assert event == events.BreakerChanged("user", "open", {"refused": 5}, 30.0, "22:13:50Z", ("GET /a",))
    assert events.breaker_changed("user", Change("closed", "half_open", {}, 0.0)).next_trial == ""


class Seen(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def seen() -> Iterator[Seen]:
    """A handler on the root logger that keeps what is logged from debug up."""
    handler, root = Seen(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def test_log_hook_logs_the_sentence_with_the_fields(seen: Seen) -> None:
    """The log hook gives one record with the event's level, logger, sentence and fields."""
    log_hook()(events.BudgetExhausted("100%s"))
    [record] = seen.records
    assert (record.levelname, record.name) == ("WARNING", "mizzen.retry")
    assert record.getMessage().startswith("retry budget of 100%s spent")
    assert vars(record)["peer"] == "100%s"


def test_log_hook_minds_the_level(seen: Seen) -> None:
    """An event below the level of its logger is not logged."""
    logging.getLogger().setLevel(logging.WARNING)
    log_hook()(events.Registered("consul", "order-1", "passing"))
    assert seen.records == []


def values(metrics: Metrics, name: str) -> dict[str, str]:
    """The samples of a metric on the page, by their labels."""
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith(f"{name}{{")]
    return dict(line.removeprefix(name).split(" ") for line in lines)


def test_metrics_hook_follows_state_and_breaker() -> None:
    """The state entered last is 1 and all others are 0, for the service and for each breaker."""
    metrics = Metrics()
    hook = metrics_hook(metrics)
    declare_peer(metrics, "user")
    assert values(metrics, "mizzen_breaker_state")['{peer="user",state="closed"}'] == "1"
    hook(events.BreakerChanged("user", "open"))
    hook(events.StateChanged("order", "starting"))
    hook(events.StateChanged("order", "serving"))
    assert values(metrics, "mizzen_breaker_state") == {
        '{peer="user",state="closed"}': "0", '{peer="user",state="open"}': "1", '{peer="user",state="half_open"}': "0",
    }  # fmt: skip
    assert [labels for labels, value in values(metrics, "mizzen_state").items() if value == "1"] == ['{state="serving"}']


def test_one_failing_hook_does_not_keep_events_from_the_others(seen: Seen) -> None:
    """A hook that raises is logged, and the hooks after it are told all the same."""
    told: list[Any] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no")

    tell([broken, told.append])(events.BudgetExhausted("user"))
    assert told == [events.BudgetExhausted("user")]
    assert "a hook failed" in seen.records[0].getMessage()
