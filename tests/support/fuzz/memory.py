"""A connection without a network: what is written is kept, what is to be read is handed over as long as it is wanted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

QUIET = 3
"""Turns of the loop without a byte or a call, after which nothing more will happen."""


class Wire(asyncio.Transport):
    """The transport of a protocol under test."""

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.protocol: Any = protocol
        self.loop = loop
        self.written = bytearray()
        self.waiting: deque[bytes] = deque()
        self.ended = False
        """Whether our side said that it sends no more."""
        self.closing = False
        self.paused = False
        self.events = 0

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Bytes from the other end, in these reads."""
        self.waiting.extend(pieces)
        self._pump()

    def _pump(self) -> None:
        while self.waiting and not self.paused and not self.closing:
            self.protocol.data_received(self.waiting.popleft())
            self.events += 1

    def lose(self) -> None:
        """The other end is gone."""
        self.waiting.clear()
        if not self.closing:
            self.protocol.eof_received()
        if not self.closing:
            self.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.events += 1
        if not self.closing:
            self.written += data

    def writelines(self, list_of_data: Iterable[bytes]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.events += 1
            self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.loop.call_soon(self._pump)

    def is_reading(self) -> bool:
        return not self.paused

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


async def settle(wires: list[Wire]) -> None:
    """Let everything happen that needs no time."""
    before, quiet = -1, 0
    while quiet < QUIET:
        await asyncio.sleep(0)
        events = sum(wire.events for wire in wires)
        quiet = quiet + 1 if events == before else 0
        before = events
