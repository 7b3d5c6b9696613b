"""Outflow: the answers of one connection on their way out, at the pace of the caller who reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from .writing import LARGE, LAST_CHUNK, Head, chunk

FAIR = 256 * 1024
"""Bytes of a streamed answer after which other connections get their turn: a source that never waits would not."""


class Outflow:
    """Writes answers; a stream waits whenever the caller does not read.

    ``progress`` is called for whatever of a stream was handed over.
    """

    __slots__ = ("_loop", "_progress", "_room", "blocked", "sent", "streaming", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, progress: Callable[[], None]) -> None:
        self._loop = loop
        self._progress = progress
        self._room: asyncio.Future[None] | None = None
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
            self.transport.writelines((data, body))

    async def stream(self, head: Head, body: AsyncIterator[bytes]) -> None:
        """Hand over an answer piece by piece; ``ValueError`` when it is not as long as it says."""
        data, _, length, chunked, empty = head
        transport = self.transport
        self.sent = turn = 0
        transport.write(data)
        if empty:
            return
        self.streaming = True
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
            transport.write(chunk(piece) if chunked else piece)
            self._progress()
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
