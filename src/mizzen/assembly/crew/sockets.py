"""Sockets: what a crew listens on. Its supervisor owns them, so that no worker's death loses a waiting connection.

On Linux each worker has a socket of its own on the same port (``SO_REUSEPORT``), and the kernel spreads connections over
them by a hash. Measured with four workers against one socket that all of them wait on: keep-alive connections came out as
51, 60, 69, 77 instead of 1, 10, 38, 208 (of 256), and of 8 no worker was left with none instead of one or two; the
99th percentile was a third, since whoever wakes first from a shared socket empties its queue. The price is that the
kernel goes on handing connections to the socket of a worker that is dead or hangs: the supervisor therefore lets another
one accept on it meanwhile, and its replacement gets the same socket back.

Elsewhere (macOS gives all connections to the socket that was bound last), for Unix sockets and for the admin port, whose
few connections need no spreading, there is one socket for all.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mizzen.assembly.listening import BACKLOG, Accepting
from mizzen.assembly.network import SOCKET_MODE, bind
from mizzen.assembly.unix import bind_unix, identity_of, path_of, remove

SPREADS = sys.platform.startswith("linux") and hasattr(socket, "SO_REUSEPORT")
"""Whether the kernel spreads connections over sockets of one port."""


class Sockets:
    """The listening sockets of a crew; ``StartError`` names who holds a port that is taken."""

    def __init__(
        self, host: str, port: int, *, admin_port: int | None, workers: int, mode: int = SOCKET_MODE, spread: bool = SPREADS
    ) -> None:
        self.port = port
        self.service: list[socket.socket] = []
        self.admin: socket.socket | None = None
        self._path = path_of(host)
        self._identity = (0, 0)
        try:
            if self._path is not None:
                self.service.append(bind_unix(self._path, mode=mode, backlog=BACKLOG))
                self._identity = identity_of(self._path)
                self.port = 0
            else:
                self._bind(host, port, workers if spread else 1)
            if admin_port is not None:
                self.admin = bind(host, admin_port)
                self.admin.listen(BACKLOG)
        except BaseException:
            self.close()
            raise

    def all(self) -> list[socket.socket]:
        """Every one that is open."""
        return [*self.service, *([] if self.admin is None else [self.admin])]

    def close_service(self) -> None:
        """Let go of the service's sockets; they refuse connections once no worker accepts on them either."""
        if self._path is not None and self.service:
            remove(self._path, self._identity)
        for each in self.service:
            each.close()
        self.service = []

    def close(self) -> None:
        """Let go of all of them."""
        self.close_service()
        if self.admin is not None:
            self.admin.close()
            self.admin = None

    def _bind(self, host: str, port: int, count: int) -> None:
        # The first one is bound alone: with the option set, a second crew on this port would quietly share its load.
        first = bind(host, port)
        self.service.append(first)
        self.port = port = first.getsockname()[1]
        if count > 1:
            with suppress(OSError):  # not to be had: then the others cannot be bound either
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.listen(BACKLOG)  # before anything else is bound: a port on which nobody listens can be bound twice
        try:
            for _ in range(count - 1):
                another = socket.socket(first.family, socket.SOCK_STREAM)
                self.service.append(another)
                another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                another.bind((host, port))
                another.setblocking(False)
                another.listen(BACKLOG)
        except OSError:  # a kernel or a sandbox that has not got it: one socket for all serves as well
            for each in self.service[1:]:
                each.close()
            self.service = [first]


async def accept_on(shared: socket.socket, factory: Callable[[], asyncio.Protocol]) -> Accepting:
    """Accept connections on a listening socket that others have as well; it ends for this process alone."""
    loop = asyncio.get_running_loop()
    own = shared.dup()  # a server closes what it is given
    if shared.family == socket.AF_UNIX:
        more: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        try:
            server = await loop.create_unix_server(factory, sock=own, backlog=BACKLOG, **more)
        except TypeError:  # a loop that has not got the option removes no socket either
            server = await loop.create_unix_server(factory, sock=own, backlog=BACKLOG)
    else:
        server = await loop.create_server(factory, sock=own, backlog=BACKLOG)
    return Accepting(server, own, factory)
