"""Reply: what an app sends as its answer, as a response whose body flows no faster than its caller reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from mizzen.words.message import Response

from .fields import read_fields

BUFFER = 64 * 1024
"""Bytes of an answer that wait for the connection before the app's ``send`` waits as well; asyncio's own high-water mark."""


class CallerGone(OSError):
    """Raised by ``send`` when nobody is there to be answered any more, as ASGI 2.4 has it."""

    def __init__(self) -> None:
        super().__init__("the caller went away")


class Reply:
    """The answer of one app to one request; an async iterator over its body where that comes in pieces.

    ``begun`` is done when there is a head to send, or an error instead. ``over`` is called once, when the app may no
    longer be asked for anything: its answer is complete, or nobody wants it.
    """

    __slots__ = ("_error", "_head", "_loop", "_more", "_over", "_pieces", "_room", "_size", "begun", "bodyless", "complete",
                 "dropped", "gone", "headers", "status")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, *, over: Callable[[], None], dropped: Callable[[], None]) -> None:
        self._loop = loop
        self.begun: asyncio.Future[None] = loop.create_future()
        self.status = 0
        self.headers: list[tuple[bytes, bytes]]
        self.complete = False
        """Whether the app has sent the last of it."""
        self.gone = False
        """Whether nobody is there to be answered."""
        self.bodyless = False
        """Whether a body is not sent, whatever the app says: to HEAD."""
        self.dropped = dropped
        """Called once when whoever sends the answer gave it up before its end."""
        self._over = over
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._error: BaseException | None = None
        self._more: asyncio.Future[None] | None = None  # the connection waits for a piece
        self._room: asyncio.Future[None] | None = None  # the app waits until pieces are taken

    # -- the app's side --------------------------------------------------------------------------------------------

    def start(self, message: Any) -> None:
        """Take the head of the answer; ``RuntimeError`` or ``ValueError`` for one that cannot be."""
        if self.gone:
            raise CallerGone
        if self.status:
            raise RuntimeError("the app began its answer twice")
        status = message["status"]
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"{status!r} is not the status of an answer")
        self.headers = read_fields(message.get("headers", ()))
        self.status = int(status)
        if not self.begun.done():
            self.begun.set_result(None)

    async def body(self, message: Any) -> None:
        """Take a piece of the body; returns once there is room for another."""
        if self.gone:
            raise CallerGone
        if not self.status or self.complete:
            raise RuntimeError("the app sent a body " + ("after its end" if self.complete else "before a status"))
        piece = message.get("body", b"")
        if piece and not self.bodyless:
            self._pieces.append(piece if piece.__class__ is bytes else bytes(piece))
            self._size += len(piece)
            self._wake()
        if not message.get("more_body", False):
            self.complete = True
            self._wake()
            self._over()
        elif self._size > BUFFER:
            if self._room is None:
                self._room = self._loop.create_future()
            await self._room
            if self.gone:
                raise CallerGone
        elif self.bodyless:
            await asyncio.sleep(0)  # an endless one must not keep everybody else from their turn

    def fail(self, error: BaseException) -> bool:
        """The app will not complete its answer; whether anybody is told by this."""
        if self.gone:
            return False
        if not self.begun.done():
            self.begun.set_exception(error)
        elif self.complete:
            return False
        else:
            self._error = error
            self._wake()
        return True

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if not self.gone and not self.complete:
            self.gone = True
            self._let_on()
            self._over()

    # -- the connection's side -------------------------------------------------------------------------------------

    def response(self) -> Response:
        """The answer, once ``begun`` is done; whole where all of it is there by now."""
        if self._error is not None:  # before anything of it was sent: the caller can still be told properly
            raise self._error
        if self.complete:
            pieces = self._pieces
            body = b"" if not pieces else pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return Response.of(self.status, body, self.headers)
        return Response.of(self.status, self, self.headers)

    def __aiter__(self) -> Reply:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.complete or self.gone:
                raise StopAsyncIteration
            self._more = more = self._loop.create_future()
            await more
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        self._let_on()
        return data

    async def aclose(self) -> None:
        """The connection takes no more of it; safe to call twice."""
        if not self.complete and self._error is None and not self.gone:
            self.dropped()

    def discard(self) -> None:
        """Take what the app still sends, and drop it: the answer has no body, but its making may matter."""
        self.bodyless = True
        self._pieces.clear()
        self._size = 0
        self._let_on()

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None and not more.done():
            more.set_result(None)

    def _let_on(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
