"""The network as the assembly uses it: connect and listen, on sockets or in a test's memory."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from mizzen.words.errors import StartError

BACKLOG = 2048
"""Connections that may wait to be accepted: a burst after a restart must not be refused."""


class Listener(Protocol):
    """A bound address that accepts connections until it is closed."""

    port: int

    def close(self) -> None: ...


class Network(Protocol):
    """Where connections come from and go to."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]: ...
    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener: ...


class _Sockets:
    def __init__(self, server: asyncio.Server, port: int) -> None:
        self._server = server
        self.port = port

    def close(self) -> None:
        self._server.close()


class SocketNetwork:
    """The real network."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a connection; happy eyeballs where a name has addresses of both families."""
        loop = asyncio.get_running_loop()
        extra: dict[str, Any] = {} if tls is None else {"ssl": tls, "server_hostname": host}
        return await loop.create_connection(factory, host, port, **extra)

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Bind and accept; a port in use is an error that names who holds it."""
        bound = bind(host, port)
        server = await asyncio.get_running_loop().create_server(factory, sock=bound, backlog=BACKLOG)
        return _Sockets(server, bound.getsockname()[1])


def bind(host: str, port: int) -> socket.socket:
    """A bound, not yet listening socket; ``StartError`` names who holds a port that is taken."""
    from .ports import describe_holder

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            holder = describe_holder(port)
            raise StartError(f"port {port} is in use by {holder}", fix="stop it, or choose another with --port") from None
        raise StartError(f"cannot bind {host}:{port}: {error.strerror or error}", fix="choose another host or --port") from None
    bound.setblocking(False)
    return bound
