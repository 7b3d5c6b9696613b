"""Exchange: one HTTP request in the hands of an app, from its scope to the end of its background tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mizzen.words.errors import Answer
from mizzen.words.message import Request, Response

from .reply import CallerGone, Reply
from .types import App, Scope

LEAVE = 1.0
"""Seconds for an app to heed ``http.disconnect`` before it is cancelled, as handlers are: nobody waits for its work."""
DISCARD = 60.0
"""Seconds for an app to make a body that is not sent (to HEAD); as long as a body may stand still."""

_LEAVING = ("ClientDisconnect", "WebSocketDisconnect")  # what Starlette makes of http.disconnect and its like

log = logging.getLogger("mizzen.server")


class Exchange:
    """One request, and the app's task that answers it."""

    __slots__ = ("_body", "_cancelled", "_loop", "_name", "_request", "_timer", "_waiters", "reply", "task")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop, name: Callable[[Request, Scope], None]) -> None:
        """``name`` calls a request by what its scope says of it."""
        self.task: asyncio.Task[None]
        self.reply = Reply(loop, over=self._over, dropped=self._dropped)
        self._loop = loop
        self._name = name
        self._request = request
        self._body: Any = request.body
        self._waiters: list[asyncio.Future[None]] = []
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, app: App, scope: Scope) -> asyncio.Task[None]:
        """Let the app begin, in a task of its own: it may go on after its answer."""
        self.task = task = self._loop.create_task(self._run(app, scope))
        return task

    @property
    def owes(self) -> bool:
        """Whether ending it now would lose work that its caller was promised: its answer is out, its task is not done."""
        return self.reply.complete

    def response(self) -> Response:
        """The answer, once ``reply.begun`` is done."""
        return self.reply.response()

    def leave(self, *, at_once: bool = False) -> None:
        """Nobody waits for the answer any more: the app is told, and cancelled if it does not heed that."""
        begun = self.reply.begun
        if not self.reply.gone and begun.done() and not begun.cancelled() and (error := begun.exception()) is not None:
            self._log("failed as its caller left", error)  # whoever waited for it does no more
        self.reply.abandon()
        if at_once:
            self.cancel()
        else:
            self._cancel_in(LEAVE)

    def cancel(self) -> None:
        """End the app's task."""
        if not self.task.done():
            self._cancelled = True
            self.task.cancel()

    def _cancel_in(self, seconds: float) -> None:
        if self._timer is None and not self.task.done():
            self._timer = self._loop.call_later(seconds, self.cancel)

    # -- the app's side --------------------------------------------------------------------------------------------

    async def _run(self, app: App, scope: Scope) -> None:
        reply = self.reply
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError as error:
            if not self._cancelled:
                self._failed(error, scope)
        except Exception as error:  # whatever an app raises is its request's end, and nobody else's
            self._failed(error, scope)
        else:
            if not reply.complete:
                what = "before its answer was complete" if reply.status else "without an answer"
                reply.fail(RuntimeError(f"the app returned {what}"))
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _failed(self, error: BaseException, scope: Scope) -> None:
        if isinstance(error, asyncio.CancelledError):
            defect = RuntimeError("the app was cancelled from inside")
            defect.__cause__ = error
            error = defect
        if self.reply.fail(error):
            return  # told to the handler or to the connection, which log it
        self._name(self._request, scope)
        if self.reply.complete:
            self._log("failed after its answer", error)
        elif not comes_of_leaving(error):
            self._log("failed after its caller left", error)

    def _log(self, what: str, error: BaseException) -> None:
        request = self._request
        log.error("%s %s %s: %s", request.method, request.route or request.path, what, type(error).__name__, exc_info=error)

    async def _receive(self) -> dict[str, Any]:
        reply, body = self.reply, self._body
        if reply.complete or reply.gone:
            return {"type": "http.disconnect"}
        if body is None:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
            return {"type": "http.disconnect"}
        if body.__class__ is bytes:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        try:
            piece = await anext(body)
        except StopAsyncIteration:
            self._body = None
            return {"type": "http.request", "body": b"", "more_body": False}
        except Answer as error:  # over the limit, too slow, cut off: the caller is told that, whatever the app would say
            self._body = None
            reply.fail(error)
            self.leave()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": True}

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            await self.reply.body(message)
        elif kind == "http.response.start":
            self.reply.start(message)
        elif kind != "http.response.trailers":  # which nobody asked for: the extension is not offered
            raise RuntimeError(f"the app sent {kind!r}, which has no place in the answer to an HTTP request")

    # -- the reply's side ------------------------------------------------------------------------------------------

    def _over(self) -> None:
        if self.reply.complete:
            if self._request.context is not None:
                self._request.context.deadline = None  # what the app does from now on keeps nobody waiting
            if self._timer is not None:
                self._timer.cancel()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _dropped(self) -> None:
        if self._request.method == "HEAD" or self.reply.status in (204, 304):
            self.reply.discard()
            self._cancel_in(DISCARD)
        else:
            self.leave()


def comes_of_leaving(error: BaseException) -> bool:
    """Whether it is what an app makes of its caller's leaving, which is nobody's mistake."""
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, CallerGone) or type(each).__name__ in _LEAVING:
            return True
        errors += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            errors += each.exceptions
    return False
