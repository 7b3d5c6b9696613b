"""The one exception tree. What **we** say to our caller and what happened to **our call** never mix.

::

    MizzenError
    ├── StartError                  something is wrong with a service, found before it serves
    │   └── ConfigError             ... with its configuration
    ├── Answer                      what we say to our caller
    │   ├── BadRequest          400 malformed
    │   ├── Unauthorized        401 who are you
    │   ├── Forbidden           403 you may not
    │   ├── NotFound            404 the resource is absent
    │   ├── MethodNotAllowed    405 the path has other methods
    │   ├── RequestTimeout      408 the caller stopped sending its body
    │   ├── Conflict            409 the state of the resource forbids it
    │   ├── TooLarge            413 the body is over the limit
    │   ├── UnsupportedMedia    415 the body is in a form we do not read
    │   ├── Invalid             422 well-formed but wrong; names every field at fault
    │   ├── TooManyRequests     429 slow down
    │   ├── Unavailable         503 a dependency is unavailable
    │   └── DeadlinePassed      504 no time was left
    └── CallError                   what happened to our call
        ├── PeerError               the peer answered with a status that the caller did not expect
        ├── BreakerOpen             refused here: the peer failed too often just now
        ├── NoInstances             discovery knows no instance of the peer
        ├── CallTimeout             no answer in time
        ├── ConnectFailed           refused, unreachable, name or TLS failure: nothing was sent
        └── ConnectionLost          lost or garbled after something was sent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from .statuses import PHRASES

if TYPE_CHECKING:
    from .outcome import Outcome

PROBLEM_TYPE = "application/problem+json"


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with an input: where, and what was expected there."""

    path: str
    """Such as ``body.items[2].price``, ``query.limit`` or ``path.id``."""
    reason: str


class Problem(msgspec.Struct):
    """An RFC 9457 problem, ours or a peer's."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    trace_id: str = ""
    errors: list[Fault] | msgspec.UnsetType = msgspec.UNSET
    """Every field at fault, for 422; not there otherwise."""


class MizzenError(Exception):
    """The root of every exception that Mizzen raises."""


class StartError(MizzenError):
    """Something is wrong with a service: what, where in the code, and the fix."""

    def __init__(self, what: str, *, where: Sequence[str] = (), fix: str = "") -> None:
        self.what = what
        self.where = tuple(where)
        self.fix = fix
        super().__init__("\n".join([what, *(f"  {line}" for line in where), *([f"  fix: {fix}"] if fix else [])]))


class ConfigError(StartError):
    """A setting is wrong: which, where it came from, what is allowed."""


class Answer(MizzenError):
    """An answer to our caller, raised; each subclass is one status."""

    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        type: str = "about:blank",
        title: str = "",
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.type = type
        self.title = title

    def problem(self, trace_id: str) -> Problem:
        """This answer as an RFC 9457 problem."""
        title = self.title or PHRASES.get(self.status, "")
        return Problem(self.type, title, self.status, self.detail, trace_id, self.errors or msgspec.UNSET)


class BadRequest(Answer):
    status = 400


class Unauthorized(Answer):
    status = 401


class Forbidden(Answer):
    status = 403


class NotFound(Answer):
    status = 404


class MethodNotAllowed(Answer):
    status = 405


class RequestTimeout(Answer):
    status = 408


class Conflict(Answer):
    status = 409


class TooLarge(Answer):
    status = 413


class UnsupportedMedia(Answer):
    status = 415


class Invalid(Answer):
    status = 422


class TooManyRequests(Answer):
    status = 429


class Unavailable(Answer):
    status = 503


class DeadlinePassed(Answer):
    status = 504


class CallError(MizzenError):
    """What happened to our call; ``peer`` is the name of the called service."""

    def __init__(self, detail: str, *, peer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.peer = peer
        self.outcome: Outcome | None = None
        """What it means for retry, breaker, ejection and our own answer; set once classified."""


class PeerError(CallError):
    """The peer answered with a status that the caller did not expect, or with a body that does not fit."""

    def __init__(
        self,
        detail: str,
        *,
        peer: str = "",
        status: int = 0,
        problem: Problem | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = b"",
    ) -> None:
        super().__init__(detail, peer=peer)
        self.status = status
        self.problem = problem
        self.headers = dict(headers or {})
        self.body = body


class BreakerOpen(CallError):
    """Refused here, without a connection: the peer failed too often just now."""

    def __init__(self, detail: str, *, peer: str = "", retry_after: float = 0.0) -> None:
        super().__init__(detail, peer=peer)
        self.retry_after = retry_after
        """Seconds until the next trial."""


class NoInstances(CallError):
    """Discovery knows no instance of the peer; the detail says which backend, its state and its age."""


class CallTimeout(CallError):
    """No answer in time."""

    def __init__(
        self, detail: str, *, peer: str = "", limit: Literal["attempt", "call", "deadline"] = "attempt", short: bool = False
    ) -> None:
        super().__init__(detail, peer=peer)
        self.limit = limit
        """Which time ran out: one attempt's, the call's own, or the deadline of the request we work for."""
        self.short = short
        """Whether that deadline had left this call less than half of its own timeout."""


class ConnectFailed(CallError):
    """Refused, unreachable, name or TLS failure: no byte of the request was sent."""


class ConnectionLost(CallError):
    """The connection ended or spoke nonsense after the request was handed to it."""

    def __init__(self, detail: str, *, peer: str = "", idle: bool = False, sent: bool = True) -> None:
        super().__init__(detail, peer=peer)
        self.idle = idle
        """A kept-alive connection that turned out closed before a byte of the answer."""
        self.sent = sent
        """Whether any byte of the request reached the socket."""
