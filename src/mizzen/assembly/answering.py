"""What an exception becomes on the wire: problem+json that says what is wrong and leaks nothing."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from mizzen.words.clock import format_duration
from mizzen.words.errors import PROBLEM_TYPE, Answer, CallError, DeadlinePassed, PeerError, Problem
from mizzen.words.message import Request, Response
from mizzen.words.outcome import REJECTED, SHOULD_RETRY, classify
from mizzen.words.statuses import PHRASES

log = logging.getLogger("mizzen.server")
_encode = msgspec.json.Encoder().encode


def problem_response(problem: Problem) -> Response:
    """A problem as the answer it stands for."""
    return Response.of(problem.status, _encode(problem), [(b"content-type", PROBLEM_TYPE.encode())])


def refusal(status: int, detail: str, trace_id: str) -> Response:
    """An answer given without a handler."""
    return problem_response(Problem("about:blank", PHRASES[status], status, detail, trace_id))


def rejection(reason: str, detail: str, trace_id: str, *, status: int = 503) -> Response:
    """An answer given before any work; ``reason`` tells a Mizzen caller where else to go."""
    response = refusal(status, detail, trace_id)
    response.headers.raw.append((REJECTED.encode(), reason.encode()))
    if reason == "shed":
        response.headers.raw.append((b"retry-after", b"0"))
    return response


def answer_for(request: Request, error: BaseException) -> Response:
    """The answer to a request whose handler raised."""
    trace_id = request.context.trace_id if request.context else ""
    fact = _fact(error)
    try:
        if isinstance(fact, Answer):
            return _said(fact, trace_id)
        if isinstance(fact, CallError):
            return _for_call(fact, trace_id)
    except Exception as defect:  # it cannot be written down, such as a header with a line break
        error = defect
    log.error("%s %s failed: %s", request.method, request.route or request.path, type(error).__name__, exc_info=error)
    return refusal(500, "an unexpected error; the trace id finds it in the log", trace_id)


def answer_late(request: Request, error: BaseException, seconds: float) -> Response:
    """The answer to a request whose handler was ended by the deadline, ``seconds`` after it began.

    An answer that the handler gave on its way out stands; anything else that it raised then is only logged.
    """
    if isinstance(_fact(error), Answer | CallError):
        return answer_for(request, error)
    if not isinstance(error, asyncio.CancelledError):
        what = f"{request.method} {request.route}"
        log.warning("%s raised %s when its deadline ended it", what, type(error).__name__, exc_info=error)
    return answer_for(request, DeadlinePassed(f"no answer within the request's deadline ({format_duration(seconds)})"))


def _said(answer: Answer, trace_id: str) -> Response:
    response = problem_response(answer.problem(trace_id))
    if answer.status >= 500 and _of_call(answer):
        response.headers.raw.append((SHOULD_RETRY.encode(), b"false"))
    for name, value in answer.headers.items():
        response.headers.set(name, value)
    return response


def _of_call(error: BaseException) -> bool:
    """Whether a failed call led to it, which this tier has retried already: the handler only said so in its own words."""
    seen: set[int] = set()  # an exception may be its own cause
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, CallError):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def _for_call(error: CallError, trace_id: str) -> Response:
    outcome = error.outcome or classify(Request("", ""), error)
    response = refusal(outcome.status, f"{error.peer or 'a dependency'} is unavailable: {error.detail}", trace_id)
    # This tier has retried already: a caller that retried again would multiply the load of an outage.
    response.headers.raw.append((SHOULD_RETRY.encode(), b"false"))
    if outcome.throttled and isinstance(error, PeerError) and "retry-after" in error.headers:
        response.headers.set("retry-after", error.headers["retry-after"])
    return response


def _fact(error: BaseException) -> BaseException:
    """The one fact inside a group: a handler that calls two peers in a TaskGroup fails with a group of one or two."""
    while isinstance(error, BaseExceptionGroup):
        facts = [each for each in error.exceptions if isinstance(_fact(each), Answer | CallError)]
        if len(facts) != len(error.exceptions):
            return error
        error = facts[0]
    return error
