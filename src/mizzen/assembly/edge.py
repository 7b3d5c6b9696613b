"""The server's edge: context, deadline, admission, routing, metrics, access log and error mapping in one frame.

It is fused because each request pays for every frame; what only changes control flow stays a layer of the route.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from mizzen.rules.limit import Limit
from mizzen.rules.router import Route, Table
from mizzen.words.alarm import Alarm, Finder
from mizzen.words.clock import Clock
from mizzen.words.context import TRACE_ID, Context, enter, receive
from mizzen.words.errors import Answer, NotFound
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response
from mizzen.words.outcome import REJECTED

from .answering import answer_for, answer_late, refusal, rejection

UNMATCHED = "unmatched"
"""The route of whatever no route matches: no label ever carries a raw path."""
GRACE = 0.005
"""Seconds that the handler's timer lets pass after the deadline, so that a call that runs into the same deadline
is settled by its own timer first and counted for what it is."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_OURS = frozenset({REJECTED.encode(), TRACE_ID, b"date", b"connection", b"keep-alive", b"transfer-encoding"})
"""Fields that only the server itself says: a handler may hand on the whole answer of a peer, or raise one with its
headers, and a caller that reads ``x-rejected`` sends its request again."""


class Leaf(NamedTuple):
    """What a matched route leads to."""

    route: Route
    handler: Handler
    streams: bool
    timeout: float
    probe: bool
    """A question of the platform: answered in every state and never shed."""
    name: str
    """Method and template, as people say it."""


class Observer(Protocol):
    """Told of every answer, once, when its last byte was handed over."""

    def __call__(self, request: Request, method: str, route: str, status: int, seconds: float, sent: int) -> None: ...


class Edge:
    """Answers every request of one service; the protocol calls it in the request's own task."""

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
        self._finder = Finder()
        self.refusing: str | None = None
        """The state that refuses requests, ``starting`` or ``draining``; None while they are served."""

    async def answer(self, request: Request) -> Response:
        """Answer one request, whatever happens; only the cancellation of its task passes through."""
        request.started = now = self.clock()
        context = request.context
        if context is None:
            context = request.context = receive(request.headers, clock=self.clock, now=now)
        enter(context)
        alarm = timer = None
        try:
            found = self.table.match(request.method, request.path)
            if found is None:
                response = self._turned_away(context) or self._unmatched(request)
            else:
                leaf, request.params = found
                request.route = leaf.route.template
                context.route = leaf.name
                refused = None if leaf.probe else self._refuse(request, context, now)
                if refused is not None:
                    response = refused
                else:
                    ends = now + leaf.timeout
                    if context.deadline is None or ends < context.deadline:
                        context.deadline = ends
                    task = self._finder.task()
                    alarm = Alarm(task)
                    timer = task.get_loop().call_later(context.deadline - now + GRACE, alarm)
                    response = await leaf.handler(request)
                    if alarm.rang:  # the handler answers all the same: nothing that follows is cancelled any more
                        task.uncancel()
                    _strip(response)
                    if not isinstance(response.body, bytes):
                        context.deadline = None  # it was until the head: calls for the body have their own timeouts
        except (Exception, asyncio.CancelledError) as error:  # every failure of a handler becomes an answer here
            if alarm is not None and alarm.explains():
                response = answer_late(request, error, self.clock() - now)
            elif isinstance(error, asyncio.CancelledError) and (alarm is None or alarm.task.cancelling()):
                raise  # from outside: nobody waits for the answer
            else:
                response = answer_for(request, error)
            _strip(response)
        finally:
            if timer is not None:
                timer.cancel()
        response.headers.raw.append((TRACE_ID, context.trace_id.encode()))
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
        response.headers.raw.append((TRACE_ID, context.trace_id.encode()))
        return response

    def sent(self, request: Request, response: Response | None, sent: int) -> None:
        """Settle a request whose answer is out, or whose caller went away (no response: counted as 499, as nginx does)."""
        if request.admitted:
            request.admitted = False
            self.limit.leave()
        if request.context is None:
            request.context = receive(request.headers, clock=self.clock)
        seconds = self.clock() - request.started if request.started else 0.0
        method = request.method if request.method in _METHODS else "_OTHER"
        self._observe(request, method, request.route or UNMATCHED, response.status if response else 499, seconds, sent)

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

    def _turned_away(self, context: Context) -> Response | None:
        state = self.refusing
        return None if state is None else rejection(state, f"this instance is {state}", context.trace_id)

    def _refuse(self, request: Request, context: Context, now: float) -> Response | None:
        if self.refusing is not None:
            return self._turned_away(context)
        if not self.limit.enter():
            detail = f"{self.limit.maximum} requests are in flight here already"
            return rejection("shed", detail, context.trace_id)
        request.admitted = True
        if context.deadline is not None and context.deadline <= now:
            return rejection("expired", "the caller's deadline had passed on arrival", context.trace_id, status=504)
        return None

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


def _strip(response: Response) -> None:
    raw = response.headers.raw
    for name, _ in raw:
        if name in _OURS:
            response.headers.raw = [field for field in raw if field[0] not in _OURS]
            return
