"""The sockets that dnspython asks through, on whatever loop runs: closed in every case, and told at once when nobody listens.

dnspython's own go through transports of the loop. On uvloop, those of a question that is cancelled while it begins stay
open, and its datagram sockets are not connected, so that a name server which is down is waited for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, Self, TypeVar

import dns.exception
import dns.inet

T = TypeVar("T")


class Sockets:
    """What dnspython calls a backend (``dns.asyncbackend.Backend``), for questions over UDP and TCP."""

    def datagram_connection_required(self) -> bool:
        return True

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> Line:
        """A socket that is connected to ``destination``, an address and a port; ``timeout`` in seconds."""
        target = dns.inet.low_level_address_tuple(destination, af)
        line = socket.socket(af, socktype, proto)
        try:
            line.setblocking(False)
            if socktype == socket.SOCK_DGRAM:
                line.connect(target)
            else:
                await _limited(asyncio.get_running_loop().sock_connect(line, target), timeout)
            return Line(line)
        except BaseException:
            line.close()
            raise

    async def sleep(self, interval: float) -> None:
        await asyncio.sleep(interval)


class Line:
    """A connected socket as dnspython uses one. Of datagrams the kernel drops what comes from anybody else."""

    def __init__(self, line: socket.socket) -> None:
        self.family = line.family
        self._line = line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._line.close()

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        await self.sendall(what, timeout)
        return len(what)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        return await self.recv(size, timeout), self._line.getpeername()

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        await _limited(asyncio.get_running_loop().sock_sendall(self._line, what), timeout)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        return await _limited(asyncio.get_running_loop().sock_recv(self._line, size), timeout)


async def _limited(awaitable: Awaitable[T], timeout: float | None) -> T:
    try:
        async with asyncio.timeout(timeout):
            return await awaitable
    except TimeoutError:
        raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]  # its own
