"""A slow line: relays TCP connections, and datagrams, after a delay that a test sets. Runs on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import cast

from ports import free_port

CHUNK = 65_536
PATIENCE = 5.0
"""Seconds for the thread to start and to end."""


class DelayProxy:
    """Listens on loopback and relays to ``host:port``; what is sent either way arrives ``delay`` seconds later."""

    def __init__(self, host: str, port: int, *, udp: bool = False) -> None:
        """``udp`` relays datagrams as well, on the same port, as DNS has it."""
        self.target = (host, port)
        self.address = ("127.0.0.1", free_port())
        self.delay = 0.0
        self._udp = udp
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._links: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="slow line", daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the slow line did not start"

    def close(self) -> None:
        """Cut every connection and end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, *self.address)
        datagrams: asyncio.DatagramTransport | None = None
        if self._udp:
            loop = asyncio.get_running_loop()
            datagrams, _ = await loop.create_datagram_endpoint(lambda: _Front(self), local_addr=self.address)
        self._ready.set()
        await self._end.wait()
        server.close()
        if datagrams is not None:
            datagrams.close()
        for link in tuple(self._links):
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._links.discard(link)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.delay)
        upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
        try:
            ways = {
                asyncio.ensure_future(self._copy(reader, upstream_writer)),
                asyncio.ensure_future(self._copy(upstream_reader, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        finally:
            upstream_writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()


class _Front(asyncio.DatagramProtocol):
    """Takes a client's datagrams and sends each on from a socket of its own, so that the answer finds its way back."""

    def __init__(self, proxy: DelayProxy) -> None:
        self._proxy = proxy
        self._transport: asyncio.DatagramTransport | None = None
        self._sent: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # which Python 3.11's own is by its methods alone

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._sent:
            task.cancel()

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(data, client))
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)

    async def _ask(self, data: bytes, client: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._proxy.delay)
        answer: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Back(answer.set_result), remote_addr=self._proxy.target)
        try:
            transport.sendto(data)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    got = await answer
                    await asyncio.sleep(self._proxy.delay)
                    if self._transport is not None:
                        self._transport.sendto(got, client)
        finally:
            transport.close()


class _Back(asyncio.DatagramProtocol):
    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give = give
        self._given = False

    def datagram_received(self, data: bytes, server: tuple[str, int]) -> None:
        if not self._given:
            self._given = True
            self._give(data)
