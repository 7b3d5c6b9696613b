"""The network as the assembly uses it: connect and listen, on sockets or in a test's memory."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from mizzen.words.errors import StartError

from .listening import BACKLOG, Accepting
from .unix import bind_unix, identity_of, path_of, remove

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

Lookup = Callable[[str, int], Awaitable[list[tuple[Any, ...]]]]
"""The addresses of a name, as ``getaddrinfo`` gives them."""

SOCKET_MODE = 0o660
"""Who may connect to a Unix socket: its owner and its group, such as that of the proxy in front."""


class Listener(Protocol):
    """A bound address that accepts connections until it is closed."""

    port: int
    """0 on a Unix socket, which has none."""

    def close(self) -> None:
        """Stop at once; whoever waits to be accepted is reset."""

    async def drain(self) -> None:
        """Stop, and lose nobody who has come so far."""


class Network(Protocol):
    """Where connections come from and go to."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: Tls | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]: ...
    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener: ...


class _Socket:
    def __init__(self, accepting: Accepting, port: int, path: str = "") -> None:
        self._accepting = accepting
        self._path = path
        self._identity = identity_of(path) if path else (0, 0)
        self.port = port

    def close(self) -> None:
        self._remove()
        self._accepting.close()

    async def drain(self) -> None:
        self._remove()
        await self._accepting.drain()

    def _remove(self) -> None:
        if self._path:
            remove(self._path, self._identity)


class SocketNetwork:
    """The real network. A host that is ``unix:/path``, or just the path, is a Unix socket; its port says nothing."""

    def __init__(self, *, socket_mode: int = SOCKET_MODE, lookup: Lookup | None = None) -> None:
        self._socket_mode = socket_mode
        self._lookup = lookup

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: Tls | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a connection; happy eyeballs where a name has several addresses. ``OSError`` when there is none to be had.

        Cancelled, it leaves nothing open.
        """
        if tls is None:
            return await self._open(host, port, factory)
        from mizzen.edges.http import secured

        return await secured(partial(self._open, host, port), factory, tls, host)

    async def _open(
        self, host: str, port: int, factory: Callable[[], asyncio.Protocol]
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        loop = asyncio.get_running_loop()
        path = path_of(host)
        if path is not None:
            return await loop.create_unix_connection(factory, path)
        if not 0 < port < 65536:  # such as a registry may say: what is left of its 16 bits is another port
            raise OSError(errno.EADDRNOTAVAIL, f"{port} is no port")
        if _is_address(host):
            return await loop.create_connection(factory, host, port)
        if self._lookup is None:
            from .lookups import Lookups

            self._lookup = Lookups()
        addresses = await self._lookup(host, port)
        if len(addresses) == 1:
            return await loop.create_connection(factory, *addresses[0][4][:2], family=addresses[0][0])
        from .eyeballs import connect_first

        connected = await connect_first(addresses)
        try:
            return await loop.create_connection(factory, sock=connected)
        except BaseException:
            connected.close()
            raise

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Bind and accept; a port or a path in use is an error that names who holds it."""
        loop = asyncio.get_running_loop()
        path = path_of(host)
        if path is not None:
            bound = bind_unix(path, mode=self._socket_mode, backlog=BACKLOG)
            server = await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG)
            return _Socket(Accepting(server, bound, factory), 0, path)
        bound = bind(host, port)
        server = await loop.create_server(factory, sock=bound, backlog=BACKLOG)
        return _Socket(Accepting(server, bound, factory), bound.getsockname()[1])


def _is_address(host: str) -> bool:
    """No name has a colon, and none consists of numbers alone (RFC 1123 §2.1)."""
    return ":" in host or host.replace(".", "").isdigit()


def bind(host: str, port: int) -> socket.socket:
    """A bound, not yet listening socket; ``StartError`` names who holds a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            from .ports import describe_holder

            holder = describe_holder(port)
            raise StartError(f"port {port} is in use by {holder}", fix="stop it, or choose another with --port") from None
        raise StartError(f"cannot bind {host}:{port}: {error.strerror or error}", fix="choose another host or --port") from None
    bound.setblocking(False)
    return bound
