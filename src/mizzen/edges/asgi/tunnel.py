"""Tunnel: a connection that speaks WebSocket: flow control both ways, keepalive, and the ways in which it ends."""

from __future__ import annotations

import asyncio
from collections import deque

from mizzen.words.upgrade import Lost, Successor

from .frames import Closed, Frames, Pinged
from .reply import CallerGone

BUFFER = 64 * 1024
"""Bytes of messages that wait for the app before the connection is no longer read; asyncio's own high-water mark."""
EACH = 64
"""Bytes that a message counts for beside its content: about what one costs in memory, however little is in it."""
PING_EVERY = 20.0
"""Seconds between looks at whether the peer is still there: below the idle limits of common proxies (60 s), and the
habit of WebSocket servers. A peer that has shown no life by the next look is given up."""
CLOSE_WAIT = 5.0
"""Seconds for the peer to answer a Close, and to read what is on its way: a graceful end must not wait for a dead one."""

GOING = 1012
"""The close code of a server that restarts (IANA's registry): callers of a rolling restart come back at once."""
LOST, NOBODY = 1006, 1011
"""Close codes for a connection that broke (never sent), and for a failure of ours or of the keepalive."""


class Tunnel(Successor):
    """One open WebSocket; ``next`` and ``send`` are the app's side of it."""

    __slots__ = ("_blocked", "_closed", "_closing", "_frames", "_heard", "_held", "_loop", "_messages", "_room", "_size",
                 "_timer", "_unsent", "_waiter", "gone", "opened")  # fmt: skip

    def __init__(self, frames: Frames, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._frames = frames
        self._loop = loop
        self._messages: deque[str | bytes] = deque()
        self._size = 0
        self._closed: Closed | None = None  # how it ended, for the app
        self._closing = False  # our Close is out: nothing more is sent, and nothing but the peer's is awaited
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done once it speaks on its connection, or never will."""
        self.gone = False
        """Whether the connection is no more."""
        self._heard = True  # whether the peer has shown life since the last look
        self._held = False  # whether we do not read, since the app does not
        self._blocked = False  # whether the peer does not read
        self._unsent = 0
        self._room: list[asyncio.Future[None]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport, lost: Lost) -> None:
        super().begin(transport, lost)
        self._timer = self._loop.call_later(PING_EVERY, self._look)
        self.opened.set_result(None)

    def never(self) -> None:
        """There is no connection to speak on, or no longer."""
        self.gone = True
        self._tell(Closed(LOST, ""))
        if not self.opened.done():
            self.opened.set_result(None)

    # -- the app's side --------------------------------------------------------------------------------------------

    async def next(self) -> str | bytes | Closed:
        """The next message; how it ended, once there is no other."""
        while not self._messages:
            if self._closed is not None:
                return self._closed
            if self._waiter is not None:
                raise RuntimeError("two tasks wait for the next message of the same WebSocket")
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        message = self._messages.popleft()
        self._size -= len(message) + EACH
        if self._held and not self._messages:
            self._held = False
            self._read_on()
        return message

    async def send(self, data: str | bytes) -> None:
        """Send a message; returns once the connection takes another. ``CallerGone`` when nobody is there."""
        if self._closed is not None or self._closing:
            raise CallerGone
        self.transport.write(self._frames.message(data))
        self.sent += len(data)
        if self._blocked:
            room = self._loop.create_future()
            self._room.append(room)
            await room

    def close(self, code: int, reason: str = "") -> None:
        """Say that it ends, and end once the peer has said so too; does nothing the second time."""
        self._end(Closed(code, reason, ours=True))

    def leave(self) -> None:
        self.close(GOING, "the server restarts")

    # -- the transport's side --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = True
        for event in self._frames.feed(data):
            if isinstance(event, Pinged):
                if pong := self._frames.pong(event.payload):
                    self.transport.write(pong)
            elif not isinstance(event, Closed):
                self._take(event)
            elif event.ours:
                self._end(event)
                if self.transport.can_write_eof():  # its Close would not be understood any more: this it sees at once
                    self.transport.write_eof()
            else:
                self._answer_close(event)

    def _take(self, message: str | bytes) -> None:
        if self._closed is not None:
            return
        self._messages.append(message)
        self._size += len(message) + EACH
        self._wake()
        if self._size > BUFFER and not self._held:
            self._held = True
            self.transport.pause_reading()

    def _answer_close(self, closed: Closed) -> None:
        self._tell(closed)
        if not self._closing:
            self._closing = True
            self.transport.write(self._frames.close(closed.code, closed.reason))
        self.transport.close()
        self._watch(CLOSE_WAIT)

    def eof_received(self) -> None:
        return  # the transport closes, and says so

    def pause_writing(self) -> None:
        self._blocked = True
        self._unsent = self.transport.get_write_buffer_size()
        if not self.transport.is_closing():
            self.transport.pause_reading()  # pings and closes make us write: whoever does not read is not listened to

    def resume_writing(self) -> None:
        self._blocked = False
        self._let_on()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._tell(Closed(LOST, ""))
        self._let_on()
        super().connection_lost(exc)

    def _read_on(self) -> None:
        if not (self._held or self._blocked or self.transport.is_closing()):
            self._heard = True  # it may have spoken while nobody listened
            self.transport.resume_reading()

    # -- its end ---------------------------------------------------------------------------------------------------

    def _end(self, closed: Closed) -> None:
        if self._closing or self.transport.is_closing():
            self._tell(closed)
            return
        frame = self._frames.close(closed.code, closed.reason)  # raises for a code that no frame can have
        self._tell(closed)
        self._closing = True
        self._held = False
        self.transport.write(frame)
        self._read_on()  # for the peer's Close; what else it sends is dropped
        self._watch(CLOSE_WAIT)

    def _tell(self, closed: Closed) -> None:
        if self._closed is None:
            self._closed = closed
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _let_on(self) -> None:
        room, self._room = self._room, []
        for each in room:
            if not each.done():
                each.set_result(None)

    def _watch(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self.gone else self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """The peer's time is up, or it is time to ask after it."""
        unsent = self.transport.get_write_buffer_size()
        if self._closing:
            self.transport.abort()
        elif self._blocked and unsent >= self._unsent:
            self._tell(Closed(NOBODY, "the peer does not read"))
            self.transport.abort()
        elif self._blocked or self._held:
            self._unsent = unsent
            self._watch(PING_EVERY)
        elif self._heard:
            self._heard = False
            self.transport.write(self._frames.ping())
            self._watch(PING_EVERY)
        else:
            self.close(NOBODY, "no answer to a ping")

    def __repr__(self) -> str:
        state = "gone" if self.gone else "closing" if self._closing else "open"
        return f"<Tunnel {state}, {len(self._messages)} messages wait>"
