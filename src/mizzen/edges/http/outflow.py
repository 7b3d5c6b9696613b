"""Outflow: the answers of one connection on their way out, at the pace of the caller who reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

from mizzen.words.alarm import Alarm
from mizzen.words.message import FAIR, Response
from mizzen.words.sse import PING, is_coded, is_events

from .writing import LARGE, LAST_CHUNK, Head, chunk


class Outflow:
    """Writes answers; a stream waits whenever the caller does not read.

    ``progress`` is called for whatever of a stream is handed over.
    """

    __slots__ = (
        "_alarm", "_between", "_chunked", "_coded", "_loop", "_progress", "_room", "blocked", "sent", "streaming", "transport",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, progress: Callable[[], None]) -> None:
        self._loop = loop
        self._progress = progress
        self._room: asyncio.Future[None] | None = None
        self._alarm: Alarm | None = None  # ends a stream of events
        self._chunked = self._coded = False
        self._between = True  # whether a stream stands between two lines: a comment inside of one would be taken for data
        self.transport: asyncio.Transport
        self.blocked = False
        """Whether the caller does not read."""
        self.streaming = False
        """Whether pieces of a body are under way."""
        self.sent = 0
        """Bytes of body handed over for the latest answer."""

    def unblock(self) -> None:
        """The caller reads again."""
        self.blocked = False
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def write(self, head: Head, body: bytes) -> None:
        """Hand over a whole answer."""
        data, _, _, _, empty = head
        if empty:
            self.sent = 0
            self.transport.write(data)
            return
        self.sent = size = len(body)
        if size < LARGE:
            self.transport.write(data)  # which has the body at its end
        else:
            # Not writelines: up to Python 3.12.8 and 3.13.1 asyncio's says nothing of a full buffer (CVE-2024-12254).
            self.transport.write(data)
            self.transport.write(body)

    @property
    def eventful(self) -> bool:
        """Whether a stream of server-sent events is under way, which has no end of its own."""
        return self._alarm is not None

    def ping(self) -> None:
        """Show that a stream of events lives although nothing happens, where that can be said without breaking it."""
        if self._between and not self._coded:
            self.transport.write(chunk(PING) if self._chunked else PING)

    def finish(self) -> None:
        """End a stream of events as if its source had come to its end: its reader connects again, to somebody else."""
        if self._alarm is not None and not self._alarm.rang:
            self._alarm()

    async def stream(self, head: Head, response: Response, *, over: bool) -> None:
        """Hand over an answer piece by piece; ``ValueError`` when it is not as long as it says.

        Events go on until their source ends or :meth:`finish` is called, which counts as called when they are ``over``.
        """
        body = cast("AsyncIterator[bytes]", response.body)
        if head[2] is None and is_events(response):
            self._coded = is_coded(response)
            await self._events(head, body, over)
        else:
            await self._pieces(head, body)

    async def _events(self, head: Head, body: AsyncIterator[bytes], over: bool) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream runs in a task only")
        self._alarm = alarm = Alarm(task)
        self._chunked = head[3]
        if over:
            alarm()
        try:
            await self._pieces(head, body)
        except asyncio.CancelledError:
            if not alarm.explains():
                raise
            if self._chunked and not self.transport.is_closing():
                self.transport.write(LAST_CHUNK)
        else:
            await alarm.take_back()
        finally:
            self._alarm = None

    async def _pieces(self, head: Head, body: AsyncIterator[bytes]) -> None:
        data, _, length, chunked, empty = head
        transport = self.transport
        self.sent = turn = 0
        transport.write(data)
        if empty:
            return
        self.streaming = self._between = True
        self._progress()
        async for piece in body:
            size = len(piece)
            if not size:
                continue
            self.sent += size
            turn += size
            if length is not None and self.sent > length:
                raise ValueError(f"the body is longer than its content-length of {length} bytes")
            if transport.is_closing():
                return
            self._between = piece.endswith(b"\n")
            self._progress()  # before the write, which may find that the caller does not read: then its time counts
            transport.write(chunk(piece) if chunked else piece)
            if self.blocked:
                self._room = self._loop.create_future()
                await self._room
            elif turn > FAIR:
                turn = 0
                await asyncio.sleep(0)
        if length is not None and self.sent < length:
            raise ValueError(f"the body has {self.sent} bytes, its content-length says {length}")
        if chunked:
            transport.write(LAST_CHUNK)
