"""Exchange: one HTTP request in the hands of an app, from its scope to the end of its background tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mizzen.words.errors import Answer
from mizzen.words.message import Request

from .guest import Guest, comes_of_leaving
from .types import Scope

DISCARD = 60.0
"""Seconds for an app to make a body that is not sent (to HEAD); as long as a body may stand still."""

log = logging.getLogger("mizzen.server")


class Exchange(Guest):
    """One request, and the app's task that answers it."""

    __slots__ = ("_body", "_name", "_waiters")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop, name: Callable[[Request, Scope], None]) -> None:
        """``name`` calls a request by what its scope says of it."""
        super().__init__(request, loop)
        self._name = name
        self._body: Any = request.body
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def owes(self) -> bool:
        """Whether ending it now would lose work that its caller was promised: its answer is out, its task is not done."""
        return self.reply.complete

    def leave(self, *, at_once: bool = False) -> None:
        """Nobody waits for the answer any more: the app is told, and cancelled if it does not heed that."""
        begun = self.reply.begun
        if not self.reply.gone and begun.done() and not begun.cancelled() and (error := begun.exception()) is not None:
            self._log("failed as its caller left", error)  # whoever waited for it does no more
        super().leave(at_once=at_once)

    # -- the app's side --------------------------------------------------------------------------------------------

    def _returned(self) -> None:
        reply = self.reply
        if not reply.complete:
            what = "before its answer was complete" if reply.status else "without an answer"
            reply.fail(RuntimeError(f"the app returned {what}"))

    def _failed(self, error: Exception, scope: Scope) -> None:
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
            self._call_off()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _dropped(self) -> None:
        if self._request.method == "HEAD" or self.reply.status in (204, 304):
            self.reply.discard()
            self._cancel_in(DISCARD)
        else:
            super()._dropped()
