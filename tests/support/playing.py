"""A peer that the test plays in raw bytes, and a pool that talks to it, on every event loop there is."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from loops import runner_of
from memoryloop import WIRES

from mizzen.edges.http import Pool, PoolLimits, connect

PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""

Script = Callable[["Line"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the event loop of that name, or in memory."""
    runner_of(WIRES[loop])(main)


class Line:
    """The peer's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def gone(self) -> None:
        """Wait until the client's end is closed."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        """End with a reset instead of a clean close."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Site:
    """A peer that follows a script on every connection, and a pool that talks to it."""

    def __init__(self) -> None:
        self.pool: Pool
        self.lines: list[Line] = []


@asynccontextmanager
async def talking(
    script: Script, *, limits: PoolLimits | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Site]:
    """A pool to a peer that follows the script."""
    site = Site()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        line = Line(reader, writer)
        site.lines.append(line)
        try:
            await script(line)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    site.pool = Pool("127.0.0.1", port, tls=None, connect=connect, limits=limits or PoolLimits(), clock=clock, peer="user")
    try:
        yield site
    finally:
        site.pool.close()
        listener.close()
        for line in site.lines:
            line.writer.transport.abort()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=PATIENCE / 10)
            for task in stuck:  # a script that waits for the test, which has failed
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not site.pool._open)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is plain state of what is tested
            await asyncio.sleep(0.001)


async def keep_answering(line: Line) -> None:
    """Answers every request that has no body."""
    try:
        while True:
            await line.head()
            line.send(OK)
    except asyncio.IncompleteReadError:
        pass


def answering(data: bytes, *, close: bool = False) -> Script:
    """Answers the first request with these bytes, then waits for the client, or closes at once."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(data)
        if not close:
            await line.gone()

    return script
