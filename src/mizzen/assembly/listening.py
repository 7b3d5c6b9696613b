"""Listening: connections are accepted on a socket until this process stops, and nobody who waits in its queue is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

BACKLOG = 2048
"""Connections that may wait to be accepted: a burst after a restart must not be refused."""
TURNS = 3
"""Turns of the loop between an accept and ``connection_made``, at most: asyncio takes two, uvloop one."""


class Accepting:
    """Accepts on a listening socket, by a server of the loop's that was made for it."""

    def __init__(
        self, server: asyncio.AbstractServer, listening: socket.socket, factory: Callable[[], asyncio.Protocol]
    ) -> None:
        self._server = server
        self._listening = listening
        self._factory = factory
        listening.setblocking(False)

    def close(self) -> None:
        """Stop at once. Whoever waits in the queue of a socket that no other process has is reset."""
        with suppress(OSError):
            self._server.close()

    async def drain(self, *, queue: bool = True) -> None:
        """Stop, once every connection that was accepted is made, those that wait in the ``queue`` included."""
        loop = asyncio.get_running_loop()
        making: list[asyncio.Task[object]] = []
        try:
            # asyncio's own loop drops the connections that it is making for a server when that is closed.
            loop.remove_reader(self._listening)
            await _turns()
            if queue:
                making += [loop.create_task(self._make(each)) for each in _waiting(self._listening)]
        finally:
            self.close()
        await _turns()
        if making:
            await asyncio.wait(making)

    async def _make(self, accepted: socket.socket) -> None:
        with suppress(OSError):  # gone already
            await asyncio.get_running_loop().connect_accepted_socket(self._factory, accepted)


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _waiting(listening: socket.socket) -> list[socket.socket]:
    """Everybody in the queue of a listening socket, accepted."""
    found: list[socket.socket] = []
    for _ in range(BACKLOG):
        try:
            each, _ = listening.accept()
        except ConnectionAbortedError:
            continue
        except OSError:  # nobody is left, or no descriptor
            break
        each.setblocking(False)
        found.append(each)
    return found
