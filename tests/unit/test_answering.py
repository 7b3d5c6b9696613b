"""What an exception becomes on the wire."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from mizzen.assembly.answering import answer_for, answer_late, refusal, rejection
from mizzen.words import errors
from mizzen.words.context import Context
from mizzen.words.errors import (
    Answer,
    BreakerOpen,
    CallError,
    CallTimeout,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    DeadlinePassed,
    Fault,
    Invalid,
    NoInstances,
    NotFound,
    PeerError,
    TooManyRequests,
    Unavailable,
)
from mizzen.words.message import Request, Response
from mizzen.words.outcome import TABLE, THROTTLED, Outcome

TRACE = "0af7651916cd43dd8448eb211c80319c"


def request() -> Request:
    made = Request("GET", "/users/7", context=Context(TRACE))
    made.route = "/users/{id}"
    return made


def said(response: Response) -> Any:
    assert response.headers.get("content-type") == "application/problem+json"
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def every_answer() -> list[type[Answer]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Answer) and kind is not Answer
    ]


@pytest.mark.parametrize("kind", every_answer())
def test_an_answer_is_a_problem_with_its_own_status(kind: type[Answer]) -> None:
    """What a handler says to its caller goes out with its status, its words and the trace id."""
    response = answer_for(request(), kind("because"))
    problem = said(response)
    assert response.status == problem["status"] == kind.status
    assert (problem["detail"], problem["trace_id"], problem["type"]) == ("because", TRACE, "about:blank")
    assert problem["title"]
    assert "errors" not in problem
    assert "x-should-retry" not in response.headers


def test_every_field_at_fault_is_named() -> None:
    """A 422 lists each field with its path and what was expected there."""
    problem = said(
        answer_for(request(), Invalid("two fields", errors=[Fault("body.a", "missing"), Fault("query.b", "expected int")]))
    )
    assert problem["errors"] == [{"path": "body.a", "reason": "missing"}, {"path": "query.b", "reason": "expected int"}]


def test_an_answer_may_bring_headers_a_type_and_a_title() -> None:
    """What an answer says of itself beyond its status is kept."""
    error = TooManyRequests("slower", headers={"Retry-After": "3"}, type="https://shop.example/slow", title="Slow down")
    response = answer_for(request(), error)
    assert response.headers.get("retry-after") == "3"
    assert (said(response)["type"], said(response)["title"]) == ("https://shop.example/slow", "Slow down")


def test_without_a_context_there_is_no_trace_id() -> None:
    """A request that was refused before it had a context is answered all the same."""
    assert said(answer_for(Request("GET", "/"), NotFound()))["trace_id"] == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PeerError("the body is no User", peer="user", status=200), 502),
        (BreakerOpen("not sent", peer="user"), 503),
        (NoInstances("nobody", peer="user"), 503),
        (CallTimeout("late", peer="user", limit="call"), 503),
        (CallTimeout("late", peer="user", limit="deadline"), 504),
        (ConnectFailed("refused", peer="user"), 503),
        (ConnectionLost("gone", peer="user"), 503),
        (CallError("odd", peer="user"), 503),
    ],
)
def test_a_failed_call_is_never_our_callers_fault(error: CallError, status: int) -> None:
    """What nobody caught becomes 502, 503 or 504, names the peer, and says that retrying above is no use."""
    response = answer_for(request(), error)
    assert response.status == status
    assert said(response)["detail"] == f"user is unavailable: {error.detail}"
    assert response.headers.get("x-should-retry") == "false"


@pytest.mark.parametrize("outcome", [row for row in TABLE if row.status >= 500], ids=lambda row: row.name)
def test_the_outcome_of_a_call_decides_our_answer(outcome: Outcome) -> None:
    """An error that was classified is answered by its row of the table."""
    error = PeerError("no", peer="user", status=404)
    error.outcome = outcome
    response = answer_for(request(), error)
    assert (response.status, response.headers.get("x-should-retry")) == (outcome.status, "false")


def test_a_peers_retry_after_is_handed_on() -> None:
    """A 429 of a peer becomes our 503 with the peer's Retry-After; other failures do not hand theirs on."""
    error = PeerError("slow", peer="user", status=429, headers={"retry-after": "7"})
    assert answer_for(request(), error).headers.get("retry-after") is None
    error.outcome = THROTTLED
    response = answer_for(request(), error)
    assert (response.status, response.headers.get("retry-after")) == (503, "7")


def test_an_error_without_a_peer_names_a_dependency() -> None:
    """A call error that a test's fake raises without a peer reads well too."""
    assert said(answer_for(request(), ConnectFailed("refused")))["detail"] == "a dependency is unavailable: refused"


def _raised(make: Callable[[], BaseException], how: str) -> BaseException:
    try:
        try:
            raise ConnectFailed("refused", peer="user")
        except CallError as failure:
            if how == "from":
                raise make() from failure
            if how == "from none":
                raise make() from None
            raise make()  # noqa: B904  # as a handler may write it
    except Answer as error:
        return error


@pytest.mark.parametrize("how", ["from", "from none", "plain"])
def test_a_failed_call_in_the_handlers_own_words_is_not_retried_above(how: str) -> None:
    """Unavailable raised because of a failed call says that its cause was retried already."""
    response = answer_for(request(), _raised(lambda: Unavailable("users are away"), how))
    assert (response.status, response.headers.get("x-should-retry")) == (503, "false")
    assert said(response)["detail"] == "users are away"


def test_what_is_the_callers_to_mend_says_nothing_of_retries() -> None:
    """A 4xx that a failed call led to is an answer like any other."""
    response = answer_for(request(), _raised(lambda: Conflict("no such user"), "from"))
    assert (response.status, response.headers.get("x-should-retry")) == (409, None)


def test_an_error_that_is_its_own_cause_is_answered() -> None:
    """A circle of causes does not hang the answer."""
    error = Unavailable("away")
    error.__cause__ = error
    assert answer_for(request(), error).headers.get("x-should-retry") is None


def test_an_unexpected_error_leaks_nothing_and_is_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    """A defect is a 500 without a word of its own; the log has the traceback."""
    try:
        raise RuntimeError("password=hunter2")
    except RuntimeError as error:
        response = answer_for(request(), error)
    assert response.status == 500
    assert isinstance(response.body, bytes)
    assert b"hunter2" not in response.body
    assert b"RuntimeError" not in response.body
    assert said(response)["detail"] == "an unexpected error; the trace id finds it in the log"
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "GET /users/{id} failed: RuntimeError")
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


class Teapot(Answer):
    status = 499  # no phrase in the standard library


NO_TEXT: Any = object()


@pytest.mark.parametrize(
    "error", [NotFound("x", headers={"bad name": "x"}), NotFound("x", headers={"x": "a\r\nb"}), NotFound(NO_TEXT)]
)
def test_an_answer_that_cannot_be_written_is_a_logged_500(error: Answer, caplog: pytest.LogCaptureFixture) -> None:
    """A header that would break the message apart, or a detail that is no text, is a defect of the handler."""
    assert answer_for(request(), error).status == 500
    assert len(caplog.records) == 1


def test_a_status_that_has_no_phrase_is_answered() -> None:
    """An answer of the user's own may have a status that HTTP does not name."""
    response = answer_for(request(), Teapot("short and stout"))
    assert (response.status, said(response)["title"]) == (499, "")


def test_a_group_of_one_fact_is_that_fact() -> None:
    """A handler that fails inside a TaskGroup fails with what went wrong there."""
    assert answer_for(request(), ExceptionGroup("tasks", [NotFound("no user 7")])).status == 404
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [ConnectFailed("refused", peer="user")])])
    assert answer_for(request(), nested).status == 503


def test_a_group_of_facts_is_the_first_of_them() -> None:
    """Two calls that failed at once are answered by the first failure."""
    group = ExceptionGroup("tasks", [ConnectFailed("refused", peer="user"), NotFound("no stock")])
    assert said(answer_for(request(), group))["detail"] == "user is unavailable: refused"


def test_a_group_with_a_defect_in_it_is_a_500() -> None:
    """A defect beside a fact is not hidden by it."""
    group = ExceptionGroup("tasks", [NotFound("no user 7"), ExceptionGroup("inner", [RuntimeError("defect")])])
    assert answer_for(request(), group).status == 500


def test_a_handler_ended_by_its_deadline_is_a_504() -> None:
    """Nobody else explains the end: the deadline does, with the time that it gave."""
    response = answer_late(request(), asyncio.CancelledError(), 0.25)
    assert response.status == 504
    assert said(response)["detail"] == "no answer within the request's deadline (250ms)"


def test_what_a_handler_answers_on_its_way_out_stands() -> None:
    """A handler may turn the end of its time into an answer of its own."""
    assert answer_late(request(), NotFound("gave up"), 0.25).status == 404
    assert (
        answer_late(request(), CallTimeout("late", peer="user", limit="deadline"), 0.25).headers.get("x-should-retry")
        == "false"
    )


def test_a_defect_on_the_way_out_is_logged_behind_a_504(caplog: pytest.LogCaptureFixture) -> None:
    """A handler whose cleaning up fails after its deadline is answered 504, and the log has the failure."""
    assert answer_late(request(), RuntimeError("cleaning up"), 0.25).status == 504
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "GET /users/{id} raised RuntimeError when its deadline ended it",
    )


@pytest.mark.parametrize("reason", ["shed", "starting", "draining", "expired"])
def test_a_rejection_says_that_no_work_was_done(reason: str) -> None:
    """A refusal before any work carries the word that lets a caller go elsewhere; only a shed one says when to return."""
    response = rejection(reason, "no", TRACE)
    assert (response.status, response.headers.get("x-rejected")) == (503, reason)
    assert response.headers.get("retry-after") == ("0" if reason == "shed" else None)
    assert said(response)["trace_id"] == TRACE


def test_a_refusal_is_a_problem() -> None:
    """What the protocol refuses is told in the same form as everything else."""
    response = refusal(413, "too much", TRACE)
    assert response.status == 413
    assert said(response)["title"] == "Content Too Large" or said(response)["title"] == "Request Entity Too Large"


def test_the_deadline_has_an_answer_of_its_own() -> None:
    """A handler that finds its time used up may say so itself."""
    assert answer_for(request(), DeadlinePassed("later")).status == 504
