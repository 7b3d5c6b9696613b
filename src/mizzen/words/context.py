"""The context that travels with every request: trace, deadline and baggage, and the headers that carry them."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar

from .clock import Clock, monotonic
from .message import Headers

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
TIMEOUT = b"x-request-timeout-ms"
TIMEOUT_ENVOY = b"x-envoy-expected-rq-timeout-ms"
TRACE_ID = b"x-trace-id"

LONGEST_TIMEOUT = 86_400.0
"""Seconds; a caller's claim beyond a day is cut to it, so that a huge number cannot overflow a timer."""

_CARRIED = frozenset({TRACEPARENT, TRACESTATE, TIMEOUT, TIMEOUT_ENVOY})

# https://www.w3.org/TR/trace-context/#traceparent-header: version ff, all-zero ids and more fields in version 00 are invalid
_TRACEPARENT = re.compile(r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


class Context:
    """Trace id, span id and deadline of the work under way."""

    __slots__ = ("baggage", "clock", "deadline", "flags", "parent_id", "route", "span_id", "trace_id", "tracestate")

    def __init__(
        self,
        trace_id: str = "",
        *,
        parent_id: str = "",
        flags: str = "01",
        tracestate: str = "",
        deadline: float | None = None,
        clock: Clock = monotonic,
        baggage: str = "",
    ) -> None:
        self.trace_id = trace_id or f"{random.getrandbits(128) or 1:032x}"
        self.span_id = f"{random.getrandbits(64) or 1:016x}"
        self.parent_id = parent_id
        self.flags = flags
        self.tracestate = tracestate
        self.deadline = deadline
        """When the caller stops waiting, in seconds on ``clock``; None without one."""
        self.clock = clock
        self.baggage = baggage
        self.route = ""
        """What the work is for, such as ``GET /orders/{id}``; empty outside of a request."""

    def remaining(self) -> float | None:
        """Seconds until the deadline, negative once it has passed; None without one."""
        return None if self.deadline is None else self.deadline - self.clock()

    def child(self) -> Context:
        """The context of a call made on behalf of this one: same trace, same deadline, a span of its own."""
        return Context(
            self.trace_id,
            parent_id=self.span_id,
            flags=self.flags,
            tracestate=self.tracestate,
            deadline=self.deadline,
            clock=self.clock,
            baggage=self.baggage,
        )

    def __repr__(self) -> str:
        left = self.remaining()
        return f"<Context trace {self.trace_id}{'' if left is None else f', {left:.3f}s left'}>"


_current: ContextVar[Context | None] = ContextVar("mizzen_context", default=None)


def current() -> Context | None:
    """The context of the request that this code works for; None outside of one."""
    return _current.get()


def enter(context: Context | None) -> None:
    """Make ``context`` the current one of this task; tasks and threads started from here inherit it."""
    _current.set(context)


def receive(headers: Headers, *, clock: Clock = monotonic, now: float | None = None) -> Context:
    """The context that a caller's headers carry; whatever is absent or malformed is made anew."""
    parent = timeout = state = baggage = None
    for name, value in headers.raw:  # one pass: this is on the path of every request
        if name == TRACEPARENT:
            parent = value
        elif name == TIMEOUT or (name == TIMEOUT_ENVOY and timeout is None):
            timeout = value
        elif name == TRACESTATE:
            state = value if state is None else state + b"," + value
        elif name == b"baggage":
            baggage = value
    deadline = None
    if timeout is not None and timeout.isdigit():
        left = min(int(timeout[:12]) / 1000, LONGEST_TIMEOUT)
        deadline = (clock() if now is None else now) + left
    context = Context(deadline=deadline, clock=clock) if parent is None else _continued(parent, state, deadline, clock)
    if baggage is not None:
        context.baggage = baggage.decode("latin-1")
    return context


def _continued(parent: bytes, state: bytes | None, deadline: float | None, clock: Clock) -> Context:
    match = _TRACEPARENT.fullmatch(parent.decode("latin-1"))
    if match is None:
        return Context(deadline=deadline, clock=clock)
    trace_id, parent_id, flags = match.groups()
    tracestate = "" if state is None else state.decode("latin-1")
    return Context(trace_id, parent_id=parent_id, flags=flags, tracestate=tracestate, deadline=deadline, clock=clock)


def send(context: Context, headers: Headers, *, left: float) -> None:
    """Add the headers that carry ``context`` to a peer which has ``left`` seconds for its answer; they replace others."""
    raw = headers.raw
    if raw:  # such as all the headers of a request that is handed on
        raw[:] = [field for field in raw if field[0] not in _CARRIED and not (context.baggage and field[0] == b"baggage")]
    raw.append((TRACEPARENT, f"00-{context.trace_id}-{context.span_id}-{context.flags}".encode()))
    if context.tracestate:
        raw.append((TRACESTATE, context.tracestate.encode("latin-1")))
    if context.baggage:
        raw.append((b"baggage", context.baggage.encode("latin-1")))
    raw.append(timeout_field(left))


def timeout_field(left: float) -> tuple[bytes, bytes]:
    """The field that gives a peer ``left`` seconds; never 0, which would say that nobody waits."""
    return TIMEOUT, b"%d" % max(1, int(left * 1000))
