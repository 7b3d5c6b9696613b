"""Lines: a stream of JSON lines, read with a limit on how long it may say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mizzen.words.errors import ConnectionLost, PeerError
from mizzen.words.message import Body, Response

from .answers import PEER

MOST = 16 * 1024 * 1024
"""Bytes of one line: etcd cuts what it sends at 1.5 MB (``fragment``), and base64 adds a third."""


class Lines:
    """The complete lines of one answer, as they arrive."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._pieces = _pieces(response.body)
        self._rest = bytearray()
        self._reading: asyncio.Task[bytes] | None = None

    async def next(self, seconds: float) -> list[bytes] | None:
        """Every line that is complete, once there is one; None after ``seconds`` without. ``CallError`` at the end."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while True:
            # a task of its own, since a read that is cancelled could lose what it had already taken
            task = self._reading = self._reading or loop.create_task(self._read(), name="etcd-watch-read")
            await asyncio.wait({task}, timeout=max(0.0, ends - loop.time()))
            if not task.done():
                return None
            self._reading = None
            *lines, rest = (self._rest + task.result()).split(b"\n")
            self._rest = rest
            if found := [bytes(line) for line in lines if line.strip()]:
                return found
            if len(rest) > MOST:
                raise PeerError(f"etcd sent a line of more than {MOST} bytes", peer=PEER)

    async def _read(self) -> bytes:
        async for piece in self._pieces:
            return piece
        raise ConnectionLost("etcd ended the watch", peer=PEER)

    async def close(self) -> None:
        """Give the connection up."""
        task, self._reading = self._reading, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._response.close()


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _pieces(body: Body) -> AsyncIterator[bytes]:
    return _whole(body) if isinstance(body, bytes) else body
