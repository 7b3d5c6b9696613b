"""The server's edge: context, deadline, admission, routing, metrics, access log and error mapping in one frame.

It is fused because each request pays for every frame; what only changes control flow stays a layer of the route.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from contextvars import copy_context
from typing import Protocol

from msgspec import Struct

from mizzen.rules.binding import ByHand
from mizzen.rules.limit import Limit
from mizzen.rules.router import Route, Table
from mizzen.words.alarm import Alarms
from mizzen.words.clock import Clock
from mizzen.words.context import TRACE_ID, Context, enter, receive
from mizzen.words.errors import Answer, NotFound
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response
from mizzen.words.outcome import REJECTED

from .answering import answer_for, answer_late, refusal, rejection

GRACE = 0.005
"""Seconds that the handler's timer lets pass after the deadline, so that a call that runs into the same deadline
is settled by its own timer first and counted for what it is."""
_OURS = frozenset({REJECTED.encode(), TRACE_ID, b"date", b"connection", b"keep-alive", b"transfer-encoding"})
"""Fields that only the server itself says: a handler may hand on the whole answer of a peer, or raise one with its
headers, and a caller that reads ``x-rejected`` sends its request again."""


class Leaf(Struct, frozen=True):
    """What a matched route leads to."""

    route: Route
    handler: Handler
    streams: bool
    timeout: float
    probe: bool
    """A question of the platform: answered in every state and never shed."""
    name: str
    """Method and template, as people say it."""
    by_hand: ByHand | None = None
    """The same without a task and without a timer, where the handler cannot wait for anything."""


class Observer(Protocol):
    """Told of every answer, once, when its last byte was handed over."""

    def __call__(self, request: Request, status: int, seconds: float, sent: int, /) -> None: ...


class Edge:
    """Answers every request of one service: at once where it can, else in the request's own task."""

    def __init__(
        self,
        table: Table[Leaf],
        *,
        limit: Limit,
        max_body: int,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self.table = table
        self.limit = limit
        self.clock = clock
        self._max_body = max_body
        self._observe = observe
        self._alarms = Alarms(clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stand_in: asyncio.Task[None] | None = None
        self.refusing: str | None = None
        """The state that refuses requests, ``starting`` or ``draining``; None while they are served."""

    def at_once(self, request: Request) -> Response | None:
        """The answer to a request that needs no waiting, whatever happens; None for one that takes a task."""
        response = self._find(request)
        if response is None:
            if request.leaf.by_hand is None:
                self._admit(request)
                return None
            # What the handler sets in a context is its own, as it would be in a task.
            response = copy_context().run(self._by_hand, request)
        return _signed(response, request.context)

    async def answer(self, request: Request) -> Response:
        """Answer one request, whatever happens; only the cancellation of its task passes through."""
        if request.leaf is None:
            response = self._find(request)
            if response is not None:
                return _signed(response, request.context)
            self._admit(request)
        context: Context = request.context  # type: ignore[assignment]  # given together with the leaf
        enter(context)
        alarm = self._alarms.at(context.deadline + GRACE)  # type: ignore[operator]  # the same
        try:
            response = await request.leaf.handler(request)
            if alarm.rang:  # the handler answers all the same: nothing that follows is cancelled any more
                alarm.task.uncancel()
            _strip(response)
            if not isinstance(response.body, bytes):
                context.deadline = None  # it was until the head: calls for the body have their own timeouts
        except (Exception, asyncio.CancelledError) as error:  # every failure of a handler becomes an answer here
            if alarm.explains():
                response = answer_late(request, error, self.clock() - request.started)
            elif isinstance(error, asyncio.CancelledError) and alarm.task.cancelling():
                raise  # from outside: nobody waits for the answer
            else:
                response = answer_for(request, error)
            _strip(response)
        finally:
            self._alarms.off(alarm)
        return _signed(response, context)

    def _find(self, request: Request) -> Response | None:
        """Give a request its context, its leaf and its deadline; or the answer, where there is no leaf for it now."""
        request.started = now = self.clock()
        context = request.context
        if context is None:
            context = request.context = receive(request.headers, clock=self.clock, now=now)
        try:
            found = self.table.match(request.method, request.path)
            if found is None:
                return self._unmatched(request) if self.refusing is None else self._refuse(context)
        except Answer as error:
            return answer_for(request, error)
        leaf, request.params = found
        request.route = leaf.route.template
        context.route = leaf.name
        limit, deadline = self.limit, context.deadline
        full = limit.count >= limit.maximum
        if (full or self.refusing is not None or (deadline is not None and deadline <= now)) and not leaf.probe:
            return self._refuse(context)
        request.leaf = leaf
        ends = now + leaf.timeout
        if deadline is None or ends < deadline:
            context.deadline = ends
        return None

    def _by_hand(self, request: Request) -> Response:
        """Run a handler that cannot wait, without a task: that alone is a fifth of what a request costs."""
        enter(request.context)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
            self._stand_in = loop.create_task(_nothing(), name="handlers that cannot wait")
        # What the handler calls may ask which task it is in, only to find out that it is inside asyncio.
        stand_in = self._stand_in
        try:
            _enter_task(loop, stand_in)  # type: ignore[arg-type]  # there since the loop is known
        except RuntimeError:  # whoever feeds the protocol is in one
            stand_in = None
        try:
            response: Response = request.leaf.by_hand(request)
            if not isinstance(response.body, bytes):
                request.context.deadline = None  # type: ignore[union-attr]  # given together with the leaf
                self._admit(request)  # what is whole is out before anybody else could come
        except BaseException as error:  # the parser below us would swallow it, and the request never be settled
            response = answer_for(request, error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                loop.call_soon(_raise, error)  # it ends the process, as it does from a task
        finally:
            if stand_in is not None:
                _leave_task(loop, stand_in)
        _strip(response)
        return response

    def refuse(self, status: int, detail: str, request: Request | None) -> Response:
        """Answer for the protocol, which found that a request cannot be read."""
        if request is None:
            context = Context(clock=self.clock)
        else:
            context = request.context = request.context or receive(request.headers, clock=self.clock)
        if status == 503:  # too many connections: no work was done, so the caller may go elsewhere with any method
            response = rejection("shed", detail, context.trace_id)
        else:
            response = refusal(status, detail, context.trace_id)
        return _signed(response, context)

    def sent(self, request: Request, response: Response | None, sent: int) -> None:
        """Settle a request whose answer is out, or whose caller went away (no response: counted as 499, as nginx does)."""
        if request.admitted:
            request.admitted = False
            self.limit.leave()
        if request.context is None:
            request.context = receive(request.headers, clock=self.clock)
        seconds = self.clock() - request.started if request.started else 0.0
        self._observe(request, 499 if response is None else response.status, seconds, sent)

    def streams(self, request: Request) -> bool:
        """Whether the route takes its body as it arrives."""
        leaf = self._leaf(request)
        return leaf is not None and leaf.streams

    def max_body(self, request: Request) -> int:
        """The most bytes of body that the request's route reads."""
        leaf = self._leaf(request)
        return self._max_body if leaf is None or leaf.route.max_body is None else leaf.route.max_body

    def _leaf(self, request: Request) -> Leaf | None:
        try:
            found = self.table.match(request.method, request.path)
        except Answer:
            return None
        return None if found is None else found[0]

    def _refuse(self, context: Context) -> Response:
        if self.refusing is not None:
            return rejection(self.refusing, f"this instance is {self.refusing}", context.trace_id)
        if not self.limit.enter():
            detail = f"{self.limit.maximum} requests are in flight here already"
            return rejection("shed", detail, context.trace_id)
        self.limit.leave()
        return rejection("expired", "the caller's deadline had passed on arrival", context.trace_id, status=504)

    def _admit(self, request: Request) -> None:
        """Take the place of a request that will be in flight; there is one, since it was not refused."""
        if not request.leaf.probe:
            request.admitted = self.limit.enter()

    def _unmatched(self, request: Request) -> Response:
        allowed = self.table.methods(request.path)
        if not allowed:
            return answer_for(request, NotFound(f"no such path: {request.path[:200]}"))
        headers = {"allow": ", ".join(allowed)}
        if request.method == "OPTIONS":
            return Response(204, headers=headers)
        detail = f"{request.path[:200]} has {headers['allow']}, not {request.method}"
        response = refusal(405, detail, request.context.trace_id if request.context else "")
        response.headers.set("allow", headers["allow"])
        return response


async def _nothing() -> None:
    """Be a task to be found by whoever looks for one."""


def _raise(error: BaseException) -> None:
    raise error


def _signed(response: Response, context: Context | None) -> Response:
    response.headers.raw.append((TRACE_ID, context.trace_id.encode()))  # type: ignore[union-attr]  # what is answered has one
    return response


def _strip(response: Response) -> None:
    raw = response.headers.raw
    for name, _ in raw:
        if name in _OURS:
            response.headers.raw = [field for field in raw if field[0] not in _OURS]
            return
