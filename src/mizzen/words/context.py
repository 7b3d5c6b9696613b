"""The context that travels with every request: trace, deadline and baggage, and the headers that carry them."""

from __future__ import annotations

from contextvars import ContextVar
from random import getrandbits

from .clock import Clock, monotonic
from .lazy import pattern
from .message import Headers

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
TIMEOUT = b"x-request-timeout-ms"
TIMEOUT_ENVOY = b"x-envoy-expected-rq-timeout-ms"
TRACE_ID = b"x-trace-id"

LONGEST_TIMEOUT = 86_400.0
"""Seconds; a caller's claim beyond a day is cut to it, so that a huge number cannot overflow a timer."""

_NEVER_ZERO = 1 << 64
"""A bit that is always set in the half of a trace id that is a span id as well: nothing but zeros would be invalid."""
_CARRIED = frozenset({TRACEPARENT, TRACESTATE, TIMEOUT, TIMEOUT_ENVOY})
_RECEIVED = _CARRIED | {b"baggage"}
_NO_TIMEOUT = (TIMEOUT, b"1")

# https://www.w3.org/TR/trace-context/#traceparent-header: version ff, all-zero ids and more fields in version 00 are invalid
_TRACEPARENT = pattern(r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


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
        if trace_id:
            self.trace_id = trace_id
            self.span_id = (getrandbits(64) | 1).to_bytes(8, "big").hex()
        else:
            self.trace_id = trace_id = (getrandbits(128) | _NEVER_ZERO).to_bytes(16, "big").hex()
            self.span_id = trace_id[:16]  # unique where it has to be, in its trace; a number less for each request
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


_new = Context.__new__

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
        if name in _RECEIVED:
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
    if parent is None:  # slots set directly, to the same values as by the constructor: this is the usual request
        context = _new(Context)
        context.trace_id = trace_id = (getrandbits(128) | _NEVER_ZERO).to_bytes(16, "big").hex()
        context.span_id = trace_id[:16]
        context.parent_id = context.tracestate = context.baggage = context.route = ""
        context.flags = "01"
        context.deadline = deadline
        context.clock = clock
    else:
        context = _continued(parent, state, deadline, clock)
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


def carry(parent: Context | None, raw: list[tuple[bytes, bytes]]) -> None:
    """Add the fields of a call made on behalf of ``parent``, in a span of its own, or of one that begins a trace.

    They replace others of these names. The last says how long the peer has, and is set anew by each attempt.
    """
    baggage = "" if parent is None else parent.baggage
    if raw:  # such as all the headers of a request that is handed on
        raw[:] = [field for field in raw if field[0] not in _CARRIED and not (baggage and field[0] == b"baggage")]
    span = (getrandbits(64) | 1).to_bytes(8, "big").hex()
    if parent is None:
        trace = (getrandbits(128) | _NEVER_ZERO).to_bytes(16, "big").hex()
        raw.append((TRACEPARENT, f"00-{trace}-{span}-01".encode()))
    else:
        raw.append((TRACEPARENT, f"00-{parent.trace_id}-{span}-{parent.flags}".encode()))
        if parent.tracestate:
            raw.append((TRACESTATE, parent.tracestate.encode("latin-1")))
        if baggage:
            raw.append((b"baggage", baggage.encode("latin-1")))
    raw.append(_NO_TIMEOUT)


def timeout_field(left: float) -> tuple[bytes, bytes]:
    """The field that gives a peer ``left`` seconds; never 0, which would say that nobody waits."""
    return TIMEOUT, b"%d" % max(1, int(left * 1000))
