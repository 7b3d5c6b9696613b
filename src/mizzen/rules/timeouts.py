"""Timeouts: no call without an end, and no attempt that takes the time of the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mizzen.words.alarm import Alarms
from mizzen.words.clock import Clock, format_duration
from mizzen.words.context import timeout_field
from mizzen.words.errors import CallError, CallTimeout, NoInstances
from mizzen.words.handler import Handler, Layer
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import NO_INSTANCES, Classifier, Outcome, Verdict, classify

CALL_TIMEOUT = 2.0
"""Seconds for a whole call, retries included: a user waits about that long, and a pool that waits longer fills up
(the article's default; Kratos and go-zero have the same)."""


class Picker(Protocol):
    """Chooses the endpoint of an attempt, and learns what came of it (``rules.balance.Balancer`` is one)."""

    def pick(self, request: Request, now: float) -> Any: ...
    def done(self, endpoint: Any, verdict: Verdict, seconds: float, now: float, ticket: int) -> None: ...


def out_of_time(request: Request, call: Call) -> CallTimeout:
    """The error of a call that had no time left when it began: nothing was spent on it."""
    error = _timed_out(request, call, 0.0, begun=False)
    error.outcome = call.outcome = classify(request, error)
    return error


def attempt(
    picker: Picker, judge: Classifier, clock: Clock, *, observe: Callable[[Request, Outcome, float], None] | None = None
) -> Layer:
    """Give an attempt its endpoint (``call.endpoint``) and its time, and say what it came to in ``call.outcome``.

    The time is all that is left when no other attempt can follow, else half of it: one hung instance cannot eat the
    whole call. The peer is told in the last field of the request, which is there for that. However the attempt ends,
    the endpoint is judged by its outcome, and ``observe`` is told of it with its seconds. Raises :class:`NoInstances`
    and :class:`CallTimeout`; a caller's cancellation stays one.
    """

    alarms = Alarms(clock)

    def layer(following: Handler) -> Handler:
        async def send(request: Request) -> Response:
            call = request.call
            assert call is not None  # the client's edge gives every request its call
            began = clock()
            try:
                endpoint = picker.pick(request, began)
            except NoInstances as error:
                error.outcome = call.outcome = NO_INSTANCES
                raise
            ticket = endpoint.picks
            call.endpoint = endpoint
            call.tried.append(endpoint.id)
            share = call.deadline - began if call.last else (call.deadline - began) / 2
            alarm = alarms.at(began + share)
            outcome = None
            try:
                if share <= 0:
                    raise _timed_out(request, call, share)
                request.headers.raw[-1] = timeout_field(share)
                response = await following(request)
                alarms.off(alarm)
                if alarm.rang:  # somebody below caught the cancellation and answered nevertheless
                    alarm.task.uncancel()
                call.outcome = outcome = judge(request, response)
                return response
            except BaseException as error:
                alarms.off(alarm)
                alarms.rest()
                if alarm.explains():
                    late = _timed_out(request, call, share)
                    late.outcome = call.outcome = outcome = judge(request, late)
                    raise late from error
                call.outcome = outcome = judge(request, error)
                if isinstance(error, CallError):
                    error.outcome = outcome
                raise
            finally:
                now = clock()
                picker.done(endpoint, Verdict.NEUTRAL if outcome is None else outcome.ejection, now - began, now, ticket)
                if observe is not None and outcome is not None:
                    observe(request, outcome, now - began)

        return send

    return layer


def _timed_out(request: Request, call: Call, share: float, *, begun: bool = True) -> CallTimeout:
    peer = request.peer or "the peer"
    what = f"{request.method} {request.route or request.path}"
    whole = call.deadline - call.started
    if call.inherited and (call.last or not begun):
        short = whole < call.timeout / 2
        why = f"the deadline of the request it was made for; {format_duration(max(0.0, whole))} were left for it"
        text = f"{peer} did not answer {what} before {why}" if begun else f"{what} was not sent to {peer}: no time before {why}"
        return CallTimeout(text, peer=request.peer, limit="deadline", short=short)
    if not begun:
        return CallTimeout(f"{what} was not sent to {peer}: no time is left of its own", peer=request.peer, limit="call")
    if call.last:
        text = f"{peer} did not answer {what} within the {format_duration(call.timeout)} of this call"
        return CallTimeout(text, peer=request.peer, limit="call")
    who = call.tried[-1] if call.tried else peer
    text = f"{who} did not answer {what} within {format_duration(max(0.0, share))}, half of what the call had left"
    return CallTimeout(text, peer=request.peer, limit="attempt")
