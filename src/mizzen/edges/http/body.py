"""A body that arrives in pieces: fed by a protocol, read once by one reader, with flow control in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

BUFFER = 64 * 1024
"""Bytes waiting for their reader at which the connection stops reading; asyncio's own high-water mark."""


def _nothing() -> None:
    return


class BodyStream:
    """An async iterator over the pieces of a body.

    ``pause`` and ``resume`` stop and start the connection's reading, ``wanted`` is called before the reader first
    waits, ``dropped`` once when the reader gives up before the end.
    """

    __slots__ = (
        "__weakref__", "_dropped", "_error", "_loop", "_pause", "_paused", "_pieces", "_resume", "_size", "_waiter", "_wanted",
        "ended",
    )  # fmt: skip

    def __init__(
        self,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        wanted: Callable[[], None] = _nothing,
        dropped: Callable[[], None] = _nothing,
    ) -> None:
        self.ended = False
        """Whether the last byte has arrived (not: has been read)."""
        self._loop = asyncio.get_running_loop()
        self._pause = pause
        self._resume = resume
        self._wanted = wanted
        self._dropped: Callable[[], None] | None = dropped
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece from the wire; dropped when nobody reads any more."""
        if self._dropped is None:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > BUFFER and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def end(self) -> None:
        """The last byte has arrived."""
        self.ended = True
        self._read_on()  # what follows on the connection is not this body's, however much of it is unread
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The body will not come to its end; what has arrived is still read first."""
        if not self.ended and self._error is None:
            self._error = error
            self._read_on()
            self._wake()

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._resume()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.ended or self._dropped is None:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("two readers wait for the same body")
            self._wanted()
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if not self._pieces:
            self._read_on()
        return piece

    async def aclose(self) -> None:
        """Give up what has not been read; safe to call twice."""
        dropped, self._dropped = self._dropped, None
        self._pieces.clear()
        if dropped is not None and not self.ended and self._error is None:
            dropped()
        self._read_on()
        self._wake()

    def __del__(self) -> None:
        # A reader that forgot to close must not leave a paused connection behind; garbage is collected in any thread.
        if not self.ended and self._error is None and self._dropped is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._dropped)

    def __repr__(self) -> str:
        state = "failed" if self._error else "complete" if self.ended else "arriving"
        return f"<BodyStream {state}, {self._size} bytes unread>"
