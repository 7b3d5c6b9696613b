"""Outward: our handler as the HTTP side of an ASGI application, under a server that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from mizzen.words.errors import Answer, BadRequest
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response
from mizzen.words.sse import is_coded, is_events

from .outward_body import Body
from .outward_messages import announces_body, answer_fields, request_of
from .outward_stream import Stream
from .types import Receive, Scope, Send

WATCH_AFTER = 0.02
"""Seconds that a request runs before anybody looks whether its caller is still there: most are answered by then, and
take neither the task nor the look."""


class Backend(Protocol):
    """What requests are answered by and counted at: our server, whose listening another one does."""

    handler: Handler
    at_once: Callable[[Request], Response | None] | None
    streams: Callable[[Request], bool] | None
    max_body: Callable[[Request], int] | None
    in_flight: int
    closing: bool
    draining: bool

    def join(self, connection: Any, /) -> bool: ...
    def leave(self, connection: Any, /) -> None: ...
    def refusal(self, status: int, detail: str, request: Request, /) -> Response: ...
    def settle(self, request: Request, response: Response | None, sent: int, /) -> None: ...
    def report(self, request: Request | None, error: BaseException, /) -> None: ...


class Gone(Exception):
    """Nobody is there to be answered any more."""


class Outward:
    """Answers the HTTP scopes of one server by ``backend``.

    ``body`` is the most bytes of a body where the backend does not say, ``progress`` the seconds without a byte moving
    after which a body is given up, in either direction.
    """

    def __init__(self, backend: Backend, *, body: int, progress: float) -> None:
        self.backend = backend
        self.body = body
        self.progress = progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        task = asyncio.current_task()
        if task is None or not _is_real(task):
            await asyncio.get_running_loop().create_task(self(scope, receive, send))
            return
        exchange = Exchange(self, scope, receive, send, task)
        within = self.backend.join(exchange)
        try:
            await exchange.run(within)
        finally:
            self.backend.leave(exchange)


class Exchange:
    """One request and its answer; for the backend it is what a connection is for our own server."""

    __slots__ = (
        "_backend", "_body", "_old", "_over", "_owner", "_receive", "_request", "_scope", "_send", "_sent", "_stream",
        "_timer", "_watcher", "gone", "task",
    )  # fmt: skip

    def __init__(self, owner: Outward, scope: Scope, receive: Receive, send: Send, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.gone = False
        """Whether the caller went away, or the exchange was cut: nobody is answered, and the task is cancelled, once."""
        self._owner = owner
        self._backend = owner.backend
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request = request_of(scope)
        self._old = scope.get("http_version", "1.1")[:1] == "1"
        self._body: Body | None = None
        self._over = False  # whether the caller may go away now: its answer is complete
        self._sent = 0
        self._stream: Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, within: bool) -> None:
        """Read, answer, count; ``within`` is whether there is room for this one."""
        refused = await self._read() if within else (503, "too many requests are open here already")
        if self.gone:
            return
        if refused is not None:
            await self._finish(self._backend.refusal(*refused, self._request))
        else:
            await self._serve()

    async def _serve(self) -> None:
        self._backend.in_flight += 1
        response: Response | None = None
        out = False
        try:
            response = await self._respond()
            if not self.gone:
                out = True
                await self._deliver(response)
        except Gone:
            pass
        except asyncio.CancelledError:
            if not self.gone:  # by the server, such as at the end of its patience with a stop
                raise
        finally:
            self._unwatch()
            try:
                if response is not None and (response._on_close is not None or not isinstance(response.body, bytes)):
                    await self._end(response)
            finally:
                self._backend.in_flight -= 1
                self._backend.settle(self._request, response if out else None, self._sent)
                if self.gone:
                    self.task.uncancel()

    # -- the request -----------------------------------------------------------------------------------------------

    async def _read(self) -> tuple[int, str] | None:
        """Give the request its body; status and reason when it is refused for it."""
        request, backend = self._request, self._backend
        follows, length = announces_body(self._scope, request)
        if not follows:
            return None
        most = self._owner.body if backend.max_body is None else backend.max_body(request)
        if length is not None and length > most:
            return 413, f"a body of {length} bytes is over the limit of {most} bytes"
        patience = self._owner.progress
        if backend.streams is not None and backend.streams(request):
            self._body = request.body = Body(
                self._receive, most=most, patience=patience, ended=self._watch_later, left=self._left
            )
            return None
        body = Body(self._receive, most=most, patience=patience)
        try:
            request.body = await body.whole()
        except BadRequest:
            self.gone = True
        except Answer as error:
            return error.status, error.detail
        return None

    # -- the answer ------------------------------------------------------------------------------------------------

    async def _respond(self) -> Response:
        backend, request = self._backend, self._request
        try:
            if self._body is None:
                response = None if backend.at_once is None else backend.at_once(request)
                if response is not None:
                    return response
                self._watch_later()
            return await backend.handler(request)
        except Exception as error:  # a handler that answers must not raise: a defect, told to whoever watches
            backend.report(request, error)
            return Response(500)

    async def _deliver(self, response: Response) -> None:
        request = self._request
        try:
            fields, length, empty = answer_fields(response, request.method, last=self._old and self._backend.closing)
        except ValueError as error:
            self._backend.report(request, error)
            await self._end(response)
            response.status, response.body = 500, b""
            fields, length, empty = answer_fields(Response(500), request.method, last=False)
        body = response.body
        if isinstance(body, bytes) or empty:
            self._unwatch()
        await self._tell({"type": "http.response.start", "status": response.status, "headers": fields})
        if empty:
            await self._tell({"type": "http.response.body", "body": b""})
        elif isinstance(body, bytes):
            self._sent = len(body)
            await self._tell({"type": "http.response.body", "body": body})
        else:
            await self._pass_on(response, body, length)

    async def _pass_on(self, response: Response, body: AsyncIterator[bytes], length: int | None) -> None:
        self._stream = stream = Stream(self._tell, self.task, self._owner.progress)
        try:
            if length is None and is_events(response):
                await stream.events(body, over=self._backend.draining, pings=not is_coded(response))
            else:
                await stream.pieces(body, length)
        finally:
            self._sent = stream.sent
        self._unwatch()
        await self._tell({"type": "http.response.body", "body": b""})

    async def _finish(self, response: Response) -> None:
        """Send an answer that no handler gave."""
        out = False
        try:
            await self._deliver(response)
            out = True
        except Gone:
            pass
        finally:
            self._backend.settle(self._request, response if out else None, self._sent)

    async def _tell(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError:  # what ASGI 2.4 raises when the caller is gone
            raise Gone from None

    async def _end(self, response: Response) -> None:
        try:
            await response.close()
        except Exception as error:  # the answer is out, or will never be: there is nothing left to change
            self._backend.report(self._request, error)

    # -- the caller ------------------------------------------------------------------------------------------------

    def _watch_later(self) -> None:
        """Look for the caller's leaving in a while; not before its body has ended, whose pieces a look would take."""
        if self._timer is None and not self._over:
            self._timer = self.task.get_loop().call_later(WATCH_AFTER, self._watch)

    def _watch(self) -> None:
        self._watcher = self.task.get_loop().create_task(self._look(), name="watch-caller")

    async def _look(self) -> None:
        try:
            while (await self._receive())["type"] == "http.request":
                pass
        except Exception as error:  # the server's: without its word nobody can tell
            self._backend.report(self._request, error)
        else:
            self._left()

    def _unwatch(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _left(self) -> None:
        """Nobody waits for an answer any more: what is under way is cancelled, once."""
        if not self.gone and not self._over:
            self.gone = True
            self.task.cancel()

    # -- for the backend -------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """An exchange is always under way: there is none without a request."""
        return True

    def close_if_idle(self) -> None:
        """End what has no end of its own; nothing else is idle here."""
        if self._stream is not None:
            self._stream.finish()

    def cut(self) -> bool:
        """End at once; whether a request was under way."""
        busy = not self._over
        self._left()
        return busy


def _is_real(task: asyncio.Task[Any]) -> bool:
    """Whether a task can be cancelled and timed: Granian has an imitation that cannot (``--task-impl rust``)."""
    try:
        task.get_loop()
    except RuntimeError:
        return False
    return True
