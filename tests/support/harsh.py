"""Servers and callers for tests that mean harm: raw bytes, resets, many connections, and a count of what is left over."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from loops import LOOPS, Run, runner_of

from mizzen.edges.http import Limits, Server
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

PATIENCE = 20.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""

FINAL = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)")


def on_loop(name: str) -> Run:
    """Runs a coroutine on that event loop."""
    return runner_of(LOOPS[name])


class Harm:
    """A running server, what reached its handler, and what its hooks were told."""

    def __init__(self) -> None:
        self.port = 0
        self.server: Server
        self.seen: list[tuple[str, str, bytes]] = []
        """Method, target and body of each request that was handled."""
        self.settled: list[int | None] = []
        self.errors: list[BaseException] = []

    async def talk(self, data: bytes, *, pieces: int = 0) -> bytes:
        """Send, in pieces of that size where one is given, and read until the server closes or falls silent after the end."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                if pieces:
                    for at in range(0, len(data), pieces):
                        writer.write(data[at : at + pieces])
                        await asyncio.sleep(0)
                else:
                    writer.write(data)
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()


@asynccontextmanager
async def serving(handler: Handler | None = None, *, limits: Limits | None = None, **options: Any) -> AsyncIterator[Harm]:
    """A server that leaves nothing behind: no connection, no task, no descriptor; else the test fails."""
    harm = Harm()

    async def record(request: Request) -> Response:
        body = await request.read()
        harm.seen.append((request.method, request.path + (f"?{request.query}" if request.query else ""), body))
        return Response(200, b"ok")

    harm.server = Server(
        handler or record,
        limits=limits or Limits(),
        clock=time.monotonic,
        refuse=lambda status, detail, request: Response(status, detail.encode("utf-8", "replace")),
        sent=lambda request, response, sent: harm.settled.append(response.status if response else None),
        on_error=lambda request, error: harm.errors.append(error),
        **options,
    )
    tasks = len(asyncio.all_tasks())
    listener = await asyncio.get_running_loop().create_server(harm.server.protocol, "127.0.0.1", 0, backlog=4096)
    harm.port = listener.sockets[0].getsockname()[1]
    _, first = await asyncio.open_connection("127.0.0.1", harm.port)  # a loop opens some descriptors when it first needs them
    await until(lambda: harm.server.connections)
    first.close()
    await first.wait_closed()
    await until(lambda: not harm.server.connections)
    files = descriptors()
    try:
        yield harm
        await harm.server.drain(0)
        await until(lambda: not harm.server.connections)
        assert harm.server.in_flight == 0
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: descriptors() <= files)
    finally:
        listener.close()
        await harm.server.drain(0)


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/dev/fd").iterdir()))


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is plain state of what is tested
            await asyncio.sleep(0.001)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of a clean close."""
    line = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def in_time(waited: Awaitable[Any]) -> Any:
    """What comes of it, if it comes at all."""
    async with asyncio.timeout(PATIENCE):
        return await waited
