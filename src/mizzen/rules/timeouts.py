"""Timeouts: no call without an end, and no attempt that takes the time of the next one."""

from __future__ import annotations

from mizzen.words.alarm import Alarm, Finder
from mizzen.words.clock import Clock, format_duration
from mizzen.words.errors import CallError, CallTimeout
from mizzen.words.handler import Handler, Layer
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import Classifier, classify

CALL_TIMEOUT = 2.0
"""Seconds for a whole call, retries included: a user waits about that long, and a pool that waits longer fills up
(the article's default; Kratos and go-zero have the same)."""


def deadline(clock: Clock) -> Layer:
    """Refuse a call that has no time left, before anything is spent on it; raises :class:`CallTimeout`."""

    def layer(following: Handler) -> Handler:
        async def send(request: Request) -> Response:
            call = request.call
            assert call is not None  # the client's edge gives every request its call
            if clock() < call.deadline:
                return await following(request)
            error = _timed_out(request, call, 0.0, begun=False)
            error.outcome = call.outcome = classify(request, error)
            raise error

        return send

    return layer


def attempt(judge: Classifier, clock: Clock) -> Layer:
    """End an attempt that takes longer than its share, and say what each attempt came to in ``call.outcome``.

    The share is all the time that is left when no other attempt can follow, else half of it: one hung instance
    cannot eat the whole call. Raises :class:`CallTimeout`; a caller's cancellation stays one.
    """

    finder = Finder()

    def layer(following: Handler) -> Handler:
        async def send(request: Request) -> Response:
            call = request.call
            assert call is not None  # the client's edge gives every request its call
            task = finder.task()
            share = call.allowance(clock())
            alarm = Alarm(task)
            timer = task.get_loop().call_later(share, alarm) if share > 0 else None
            try:
                if timer is None:
                    raise _timed_out(request, call, share)
                response = await following(request)
            except BaseException as error:
                if alarm.explains():
                    late = _timed_out(request, call, share)
                    late.outcome = call.outcome = judge(request, late)
                    raise late from error
                call.outcome = outcome = judge(request, error)
                if isinstance(error, CallError):
                    error.outcome = outcome
                raise
            finally:
                if timer is not None:
                    timer.cancel()
            if alarm.rang:  # somebody below caught the cancellation and answered nevertheless
                task.uncancel()
            call.outcome = judge(request, response)
            return response

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
