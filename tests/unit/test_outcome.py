"""The one table: what an answer or an error means to retry, breaker, ejection and our own answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mizzen.words.errors import BreakerOpen, CallTimeout, ConnectFailed, ConnectionLost, NoInstances, PeerError
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import OK, TABLE, Outcome, Resend, Verdict, classify

NEVER, IDEMPOTENT, ANY = Resend.NEVER, Resend.IDEMPOTENT, Resend.ANY
SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL
PENALISED, LEAVING = Verdict.PENALISED, Verdict.LEAVING


def answer(status: int, **headers: str) -> Response:
    """An answer with headers, ``_`` standing for ``-``."""
    return Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def request(*declared: int) -> Request:
    call = Call(idempotent=True, timeout=2.0, started=0.0, deadline=2.0, declared=frozenset(declared))
    return Request("GET", "/users/7", call=call)


ROWS: list[tuple[str, Response | BaseException, str, Resend, Verdict, Verdict, int]] = [
    ("2xx", answer(200), "ok", NEVER, SUCCESS, SUCCESS, 200),
    ("2xx", answer(204), "ok", NEVER, SUCCESS, SUCCESS, 200),
    ("3xx", answer(302), "redirect", NEVER, SUCCESS, SUCCESS, 502),
    ("4xx", answer(404), "client_error", NEVER, SUCCESS, SUCCESS, 502),
    ("4xx", answer(401), "client_error", NEVER, SUCCESS, SUCCESS, 502),
    ("4xx", answer(408), "client_error", NEVER, SUCCESS, SUCCESS, 502),
    ("429", answer(429), "throttled", IDEMPOTENT, NEUTRAL, NEUTRAL, 503),
    ("shed", answer(503, x_rejected="shed"), "shed", ANY, FAILURE, PENALISED, 503),
    ("starting", answer(503, x_rejected="starting"), "leaving", ANY, NEUTRAL, LEAVING, 503),
    ("draining", answer(503, x_rejected="draining"), "leaving", ANY, NEUTRAL, LEAVING, 503),
    ("expired", answer(504, x_rejected="expired"), "expired", NEVER, NEUTRAL, NEUTRAL, 504),
    ("do not retry", answer(503, x_should_retry="false"), "final", NEVER, FAILURE, NEUTRAL, 503),
    ("do not retry", answer(500, x_should_retry="false"), "final", NEVER, FAILURE, NEUTRAL, 503),
    ("502", answer(502), "unavailable", IDEMPOTENT, FAILURE, FAILURE, 503),
    ("503", answer(503), "unavailable", IDEMPOTENT, FAILURE, FAILURE, 503),
    ("504", answer(504), "unavailable", IDEMPOTENT, FAILURE, FAILURE, 503),
    ("other 5xx", answer(500), "server_error", NEVER, FAILURE, FAILURE, 502),
    ("other 5xx", answer(501), "server_error", NEVER, FAILURE, FAILURE, 502),
    ("refused", ConnectFailed("refused"), "refused", ANY, FAILURE, FAILURE, 503),
    ("stale, sent", ConnectionLost("", idle=True, sent=True), "closed_idle", IDEMPOTENT, NEUTRAL, NEUTRAL, 503),
    ("stale, unsent", ConnectionLost("", idle=True, sent=False), "closed_unsent", ANY, NEUTRAL, NEUTRAL, 503),
    ("fresh, unsent", ConnectionLost("", sent=False), "refused", ANY, FAILURE, FAILURE, 503),
    ("lost or garbled", ConnectionLost("reset"), "lost", IDEMPOTENT, FAILURE, FAILURE, 503),
    ("attempt timeout", CallTimeout("", limit="attempt"), "timeout", IDEMPOTENT, FAILURE, FAILURE, 503),
    ("call timeout", CallTimeout("", limit="call"), "timeout", IDEMPOTENT, FAILURE, FAILURE, 503),
    ("deadline, little", CallTimeout("", limit="deadline", short=True), "deadline_short", NEVER, NEUTRAL, NEUTRAL, 504),
    ("deadline, enough", CallTimeout("", limit="deadline"), "deadline", NEVER, FAILURE, FAILURE, 504),
    ("cancelled", asyncio.CancelledError(), "cancelled", NEVER, NEUTRAL, NEUTRAL, 503),
    ("breaker open", BreakerOpen("open"), "breaker_open", NEVER, NEUTRAL, NEUTRAL, 503),
    ("no instances", NoInstances("none"), "no_instances", NEVER, NEUTRAL, NEUTRAL, 503),
    ("body misfit", PeerError("misfit"), "misfit", NEVER, SUCCESS, SUCCESS, 502),
    ("a defect", ZeroDivisionError(), "unknown", NEVER, FAILURE, NEUTRAL, 502),
]


@pytest.mark.parametrize(
    ("row", "result", "name", "resend", "breaker", "ejection", "status"),
    [pytest.param(*row, id=f"{number}-{row[0].replace(' ', '_')}") for number, row in enumerate(ROWS)],
)
def test_every_row_of_the_table(
    row: str, result: Any, name: str, resend: Resend, breaker: Verdict, ejection: Verdict, status: int
) -> None:
    """Each kind of answer and error has exactly the meaning that the design gives it."""
    outcome = classify(request(), result)
    assert (outcome.name, outcome.resend, outcome.breaker, outcome.ejection, outcome.status) == (
        name,
        resend,
        breaker,
        ejection,
        status,
    )


def test_the_rows_above_are_all_there_are() -> None:
    """No outcome is untested, and names are unique."""
    names = [outcome.name for outcome in TABLE]
    assert len(set(names)) == len(names)
    assert {row[2] for row in ROWS} == set(names)


def test_only_stale_connections_are_sent_again_free_of_charge() -> None:
    """No other outcome escapes the retry budget."""
    assert {outcome.name for outcome in TABLE if outcome.free} == {"closed_idle", "closed_unsent"}


def test_only_429_waits_to_be_told_when() -> None:
    """No other outcome needs a Retry-After to be sent again."""
    assert {outcome.name for outcome in TABLE if outcome.throttled} == {"throttled"}


def test_success_is_never_sent_again() -> None:
    """What the breaker calls a success ends the call."""
    assert all(outcome.resend is NEVER for outcome in TABLE if outcome.breaker is SUCCESS)


@pytest.mark.parametrize("result", [answer(404), answer(302), answer(503), answer(503, x_rejected="shed")])
def test_a_declared_status_is_a_success(result: Response) -> None:
    """The first row wins: what the caller declared is ok, whatever else the answer says."""
    assert classify(request(404, 302, 503), result) is OK


def test_declaring_one_status_leaves_the_others() -> None:
    """A declared 404 says nothing of a 500."""
    assert classify(request(404), answer(500)).name == "server_error"


def test_without_a_call_nothing_is_declared() -> None:
    """A request that no client made is classified all the same."""
    assert classify(Request("GET", "/"), answer(404)).name == "client_error"


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (answer(503, x_rejected="shed", x_should_retry="false"), "shed"),
        (answer(503, x_rejected="draining", x_should_retry="false"), "leaving"),
        (answer(429, x_should_retry="false"), "throttled"),
        (answer(404, x_rejected="shed"), "client_error"),
        (answer(200, x_rejected="shed"), "ok"),
        (answer(503, x_rejected="nonsense"), "unavailable"),
        (answer(503, x_should_retry="true"), "unavailable"),
        (answer(404, x_should_retry="false"), "client_error"),
    ],
)
def test_the_first_row_that_matches_wins(result: Response, name: str) -> None:
    """An answer that fits several rows has the meaning of the uppermost."""
    assert classify(request(), result).name == name


@pytest.mark.parametrize(
    ("resend", "idempotent", "expected"),
    [
        (NEVER, True, False),
        (NEVER, False, False),
        (IDEMPOTENT, True, True),
        (IDEMPOTENT, False, False),
        (ANY, True, True),
        (ANY, False, True),
    ],
)
def test_what_may_be_sent_again(resend: Resend, idempotent: bool, expected: bool) -> None:
    """A POST goes out again only where no handler can have seen it."""
    assert Outcome("any", resend, NEUTRAL, NEUTRAL, 503).resendable(idempotent=idempotent) is expected


def test_outcomes_are_facts() -> None:
    """A row cannot be changed."""
    with pytest.raises(AttributeError):
        OK.status = 500  # type: ignore[misc]
