"""Door: answers in place of the workers while none of them serves.

Probes get their answers from the first moment, and requests a 503 that sends them elsewhere at once, instead of waiting
in the queue of a socket on which nobody accepts.
"""

from __future__ import annotations

import asyncio

from mizzen.assembly.listening import Accepting
from mizzen.assembly.running import Running
from mizzen.edges.http import Server

from .sockets import Sockets, accept_on

FINISH = 1.0
"""Seconds for the answers under way when a worker takes over."""


class Door:
    """Open or closed, as often as needed; ``running`` is that of a service without routes, which never starts."""

    def __init__(self, running: Running, sockets: Sockets) -> None:
        self._running = running
        self._sockets = sockets
        self._wanted = False
        self._open: list[Accepting] = []
        self._servers: list[Server] = []
        self._turning: asyncio.Task[None] | None = None

    def set(self, wanted: bool) -> None:
        """Be open from now on, or closed."""
        self._wanted = wanted
        if self._turning is None or self._turning.done():
            self._turning = asyncio.get_running_loop().create_task(self._turn(), name="door")

    async def close(self) -> None:
        """Close it for good."""
        self.set(False)
        if self._turning is not None:
            await asyncio.wait({self._turning})

    async def _turn(self) -> None:
        while self._wanted != bool(self._servers):
            if self._wanted:
                await self._unlock()
            else:
                await self._lock()

    async def _unlock(self) -> None:
        server = self._running.server()
        server.linger()  # each answer is the last on its connection: the next one is a worker's
        self._servers.append(server)
        for each in self._sockets.service:
            self._open.append(await accept_on(each, server.protocol))
        if self._sockets.admin is not None:
            admin = self._running.admin_server()
            admin.linger()
            self._servers.append(admin)
            self._open.append(await accept_on(self._sockets.admin, admin.protocol))

    async def _lock(self) -> None:
        for each in self._open:
            await each.drain(queue=False)  # which waits for the worker that takes over
        self._open.clear()
        servers, self._servers = self._servers, []
        await asyncio.gather(*(_finish(server) for server in servers))

    def __repr__(self) -> str:
        return f"<Door {'open' if self._servers else 'closed'}>"


async def _finish(server: Server) -> None:
    await server.hear_out()
    await server.drain(FINISH)
