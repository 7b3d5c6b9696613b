"""A streamed answer on its way to another server: its progress, its fairness, and events that have no end of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from mizzen.words.alarm import Alarm
from mizzen.words.message import FAIR
from mizzen.words.sse import PING, PING_EVERY

Tell = Callable[[dict[str, Any]], Awaitable[None]]


class Stream:
    """Hands pieces over by ``tell``, in ``task``; ``progress`` seconds without one end it, unless they are events."""

    __slots__ = ("_alarm", "_between", "_limit", "_loop", "_progress", "_task", "_tell", "sent")

    def __init__(self, tell: Tell, task: asyncio.Task[Any], progress: float) -> None:
        self.sent = 0
        """Bytes handed over so far."""
        self._tell = tell
        self._task = task
        self._loop = task.get_loop()
        self._progress = progress
        self._limit = asyncio.timeout(progress)
        self._alarm: Alarm | None = None
        self._between = True  # whether it stands between two lines: a comment inside of one would be taken for data

    async def pieces(self, body: AsyncIterator[bytes], length: int | None) -> None:
        """All of a body but its end; whatever is raised makes the server break the answer off, which tells the caller."""
        turn = 0
        try:
            async with self._limit:
                async for piece in body:
                    if not piece:
                        continue
                    self.sent += len(piece)
                    turn += len(piece)
                    if length is not None and self.sent > length:
                        raise ValueError(f"the body is longer than its content-length of {length} bytes")
                    self._between = piece.endswith(b"\n")
                    await self._hand_over(piece)
                    if turn > FAIR:
                        turn = 0
                        await asyncio.sleep(0)
        except TimeoutError:
            if self._limit.expired():
                raise TimeoutError(f"a streamed answer made no progress in {self._progress:g}s") from None
            raise
        if length is not None and self.sent < length:
            raise ValueError(f"the body has {self.sent} bytes, its content-length says {length}")

    async def events(self, body: AsyncIterator[bytes], *, over: bool, pings: bool) -> None:
        """Events until their source ends or :meth:`finish` is called, which counts as called when they are ``over``.

        ``pings`` is whether comments may stand between them.
        """
        self._alarm = alarm = Alarm(self._task)
        pinging = self._loop.create_task(self._ping(pings), name="ping-events")
        if over:
            alarm()
        try:
            await self.pieces(body, None)
        except asyncio.CancelledError:
            if not alarm.explains():
                raise
        else:
            await alarm.take_back()
        finally:
            self._alarm = None
            pinging.cancel()

    def finish(self) -> None:
        """End events as if their source had come to its end: their reader connects again, to somebody else."""
        if self._alarm is not None and not self._alarm.rang:
            self._alarm()

    async def _ping(self, pings: bool) -> None:
        """Show that a stream of events lives although nothing happens; a task of its own, since the source has the other."""
        try:
            while True:
                await asyncio.sleep(PING_EVERY)
                if pings and self._between:
                    await self._hand_over(PING)
                else:
                    self._progressed()
        except Exception:  # the caller is gone, which the stream's own task meets as well
            return

    async def _hand_over(self, piece: bytes) -> None:
        await self._tell({"type": "http.response.body", "body": piece, "more_body": True})
        self._progressed()

    def _progressed(self) -> None:
        if not self._limit.expired():
            self._limit.reschedule(self._loop.time() + self._progress)
