"""A caller in raw bytes on the in-memory network: it sees what is on the wire, and reads only when it wants to."""

from __future__ import annotations

import asyncio

from mizzen.testing import TestClient


class Caller(asyncio.Protocol):
    """One connection; ``lost`` is done when it is no more."""

    def __init__(self) -> None:
        self.got = b""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        self._more.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)
        self._more.set()

    async def until(self, end: bytes) -> bytes:
        """Wait for these bytes; fails when the connection ends without them."""
        while end not in self.got:
            assert not self.lost.done(), self.got
            self._more.clear()
            await self._more.wait()
        return self.got


async def dial(http: TestClient, data: bytes = b"", *, host: str = "order") -> Caller:
    """Connect, and send these bytes."""
    _, caller = await http.network.connect(Caller, host, 80)
    assert isinstance(caller, Caller)
    caller.transport.write(data)
    return caller
