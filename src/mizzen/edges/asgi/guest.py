"""Guest: an app with one request in its hands, from its scope to the end of what it does behind its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mizzen.words.message import Request, Response

from .reply import CallerGone, Reply
from .types import App, Scope

LEAVE = 1.0
"""Seconds for an app to heed that its caller left before it is cancelled, as handlers are: nobody waits for its work."""

_LEAVING = ("ClientDisconnect", "WebSocketDisconnect")  # what Starlette makes of http.disconnect and its like

log = logging.getLogger("mizzen.server")


class Guest:
    """One request, and the app's task that answers it."""

    __slots__ = ("_cancelled", "_loop", "_request", "_timer", "reply", "task")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.task: asyncio.Task[None]
        self.reply = Reply(loop, over=self._over, dropped=self._dropped)
        self._loop = loop
        self._request = request
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, app: App, scope: Scope) -> asyncio.Task[None]:
        """Let the app begin, in a task of its own: it may go on after its answer."""
        self.task = task = self._loop.create_task(self._run(app, scope))
        return task

    @property
    def owes(self) -> bool:
        """Whether ending it now would lose what its caller was promised."""
        return False

    def response(self) -> Response:
        """The answer, once ``reply.begun`` is done."""
        return self.reply.response()

    def leave(self, *, at_once: bool = False) -> None:
        """Nobody waits for the answer any more: the app is told, and cancelled if it does not heed that."""
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

    def _call_off(self) -> None:
        """It is not cancelled any more, or has ended."""
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self, app: App, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError as error:
            if not self._cancelled:
                defect = RuntimeError("the app was cancelled from inside")
                defect.__cause__ = error
                self._failed(defect, scope)
        except Exception as error:  # whatever an app raises is its own end, and nobody else's
            self._failed(error, scope)
        else:
            self._returned()
        finally:
            self._call_off()

    # -- what differs ----------------------------------------------------------------------------------------------

    def _returned(self) -> None:
        """The app has returned."""
        raise NotImplementedError

    def _failed(self, error: Exception, scope: Scope) -> None:
        """The app has raised, or was cancelled by itself."""
        raise NotImplementedError

    async def _receive(self) -> dict[str, Any]:
        raise NotImplementedError

    async def _send(self, message: Any) -> None:
        raise NotImplementedError

    def _over(self) -> None:
        """The reply is complete, or its caller gone."""
        raise NotImplementedError

    def _dropped(self) -> None:
        """The reply was begun and is not read."""
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
