"""What a status or an error means to retry, breaker, ejection and our own answer: the one table.

The rows stand in order of precedence; ``classify`` returns the first that matches. The table is fixed in the
design's "What an outcome means"; a client may bring a classifier of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

import msgspec

from .errors import BreakerOpen, CallError, CallTimeout, ConnectFailed, ConnectionLost, NoInstances, PeerError
from .message import Request, Response

REJECTED = "x-rejected"
"""Marks an answer that was given before any work: ``shed``, ``starting``, ``draining`` or ``expired``."""
SHOULD_RETRY = "x-should-retry"
"""``false`` marks an answer whose cause a lower tier has retried already."""


class Resend(Enum):
    """Whether the request may be sent again after this outcome."""

    NEVER = "never"
    IDEMPOTENT = "idempotent"
    ANY = "any"


class Verdict(Enum):
    """What an outcome counts as, to the breaker or to the ejection of one endpoint."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    PENALISED = "penalised"
    """Neutral, but the endpoint looks slow to the pick for a while."""
    LEAVING = "leaving"
    """Out of the pick at once, without blame."""


class Outcome(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    resend: Resend
    breaker: Verdict
    ejection: Verdict
    status: int
    """Our own answer when nobody catches the error."""
    free: bool = False
    """Sent again at once and without drawing on the retry budget."""
    throttled: bool = False
    """Sent again only after a ``Retry-After`` that fits."""

    def resendable(self, *, idempotent: bool) -> bool:
        """Whether a request of that kind may be sent again."""
        return self.resend is Resend.ANY or (self.resend is Resend.IDEMPOTENT and idempotent)


_never, _idempotent, _any = Resend.NEVER, Resend.IDEMPOTENT, Resend.ANY
_ok, _fail, _none = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL

OK = Outcome("ok", _never, _ok, _ok, 200)
EXPIRED = Outcome("expired", _never, _none, _none, 504)
LEAVING = Outcome("leaving", _any, _none, Verdict.LEAVING, 503)
SHED = Outcome("shed", _any, _fail, Verdict.PENALISED, 503)
REDIRECT = Outcome("redirect", _never, _ok, _ok, 502)
THROTTLED = Outcome("throttled", _idempotent, _none, _none, 503, throttled=True)
CLIENT_ERROR = Outcome("client_error", _never, _ok, _ok, 502)
FINAL = Outcome("final", _never, _fail, _none, 503)
UNAVAILABLE = Outcome("unavailable", _idempotent, _fail, _fail, 503)
SERVER_ERROR = Outcome("server_error", _never, _fail, _fail, 502)
REFUSED = Outcome("refused", _any, _fail, _fail, 503)
CLOSED_UNSENT = Outcome("closed_unsent", _any, _none, _none, 503, free=True)
CLOSED_IDLE = Outcome("closed_idle", _idempotent, _none, _none, 503, free=True)
LOST = Outcome("lost", _idempotent, _fail, _fail, 503)
TIMEOUT = Outcome("timeout", _idempotent, _fail, _fail, 503)
DEADLINE_SHORT = Outcome("deadline_short", _never, _none, _none, 504)
DEADLINE = Outcome("deadline", _never, _fail, _fail, 504)
CANCELLED = Outcome("cancelled", _never, _none, _none, 503)
BREAKER_OPEN = Outcome("breaker_open", _never, _none, _none, 503)
NO_INSTANCES = Outcome("no_instances", _never, _none, _none, 503)
MISFIT = Outcome("misfit", _never, _ok, _ok, 502)
"""The peer answered as expected, but its body does not fit what the caller asked for."""
UNKNOWN = Outcome("unknown", _never, _fail, _none, 502)
"""An exception that no part of the stack accounts for: a defect, never sent again."""

TABLE = (
    OK, REDIRECT, CLIENT_ERROR, THROTTLED, SHED, LEAVING, EXPIRED, FINAL, UNAVAILABLE, SERVER_ERROR, REFUSED,
    CLOSED_UNSENT, CLOSED_IDLE, LOST, TIMEOUT, DEADLINE_SHORT, DEADLINE, CANCELLED, BREAKER_OPEN, NO_INSTANCES,
    MISFIT, UNKNOWN,
)  # fmt: skip

Classifier = Callable[[Request, Response | BaseException], Outcome]
"""What an answer or an error means; replaceable per client."""

_REJECTIONS = {"shed": SHED, "starting": LEAVING, "draining": LEAVING, "expired": EXPIRED}


def classify(request: Request, result: Response | BaseException) -> Outcome:
    """The row of the table that an attempt's answer or error falls into."""
    if isinstance(result, Response):
        status = result.status
        if 200 <= status < 300 or (request.call is not None and status in request.call.declared):
            return OK
        return _by_status(status, result)
    return _by_error(result)


def _by_status(status: int, response: Response) -> Outcome:
    if status < 400:
        return REDIRECT
    headers = response.headers
    rejection = _REJECTIONS.get(headers.get(REJECTED, "") or "")
    if rejection is not None and status >= 500:
        return rejection
    if status == 429:
        return THROTTLED
    if status < 500:
        return CLIENT_ERROR
    if headers.get(SHOULD_RETRY) == "false":
        return FINAL
    return UNAVAILABLE if status in (502, 503, 504) else SERVER_ERROR


def _by_error(error: BaseException) -> Outcome:
    match error:
        case ConnectFailed():
            return REFUSED
        case ConnectionLost(idle=True):
            return CLOSED_IDLE if error.sent else CLOSED_UNSENT
        case ConnectionLost(sent=False):  # no handler can have seen it
            return REFUSED
        case ConnectionLost():
            return LOST
        case CallTimeout(limit="deadline"):
            return DEADLINE_SHORT if error.short else DEADLINE
        case CallTimeout():
            return TIMEOUT
        case BreakerOpen():
            return BREAKER_OPEN
        case NoInstances():
            return NO_INSTANCES
        case PeerError():
            return MISFIT
        case CallError():  # a kind that only a test's fake or a user's own layer raises
            return FINAL
        case asyncio.CancelledError():
            return CANCELLED
    return UNKNOWN
