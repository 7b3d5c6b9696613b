"""Gate: a worker's network, whose listening is on the supervisor's sockets, as far as these are assigned to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from mizzen.assembly.listening import Accepting
from mizzen.assembly.network import SOCKET_MODE, Listener, SocketNetwork

from .sockets import accept_on


class Gate:
    """One place to listen: accepts on some of its sockets and, once closed, on none for ever."""

    def __init__(self, port: int, sockets: Sequence[socket.socket], factory: Callable[[], asyncio.Protocol]) -> None:
        self.port = port
        self._sockets = list(sockets)
        self._factory = factory
        self._open: dict[int, Accepting] = {}

    async def accept(self, wanted: Sequence[int]) -> None:
        """Accept on the sockets in these places and on no others."""
        for place in [place for place in self._open if place not in wanted]:
            await self._open.pop(place).drain(queue=False)  # which is another worker's now
        for place in wanted:
            if place not in self._open and place < len(self._sockets):
                opened = await accept_on(self._sockets[place], self._factory)
                if self._sockets:
                    self._open[place] = opened
                else:  # closed meanwhile
                    opened.close()

    def close(self) -> None:
        """Let go of the sockets: with the last process that does, connections are refused."""
        for each in self._take():
            each.close()

    async def drain(self) -> None:
        """The same, and lose nobody who has come so far."""
        await asyncio.gather(*(each.drain() for each in self._take()))

    def _take(self) -> list[Accepting]:
        """What accepts, and has the last of our descriptors."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        taken = list(self._open.values())
        self._open.clear()
        return taken

    def __repr__(self) -> str:
        return f"<Gate :{self.port}, accepts on {sorted(self._open)} of {len(self._sockets)}>"


class CrewNetwork(SocketNetwork):
    """The real network, except that nothing is bound: the supervisor has done that."""

    def __init__(self, *, port: int, sockets: Sequence[int], admin: int | None, socket_mode: int = SOCKET_MODE) -> None:
        super().__init__(socket_mode=socket_mode)
        self._port = port
        self._sockets = [taken(each) for each in sockets]
        self._admin = None if admin is None else taken(admin)
        self.service_gate: Gate | None = None
        self.admin_gate: Gate | None = None

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """A gate that is closed until the supervisor says otherwise."""
        if self.service_gate is None:
            self.service_gate = Gate(self._port, self._sockets, factory)
            return self.service_gate
        self.admin_gate = Gate(port, [] if self._admin is None else [self._admin], factory)
        return self.admin_gate

    async def accept(self, sockets: Sequence[int]) -> None:
        """Accept the service's connections on these sockets; the platform's from the first time on, until all is closed."""
        if self.service_gate is not None:
            await self.service_gate.accept(sockets)
        if self.admin_gate is not None and sockets:
            await self.admin_gate.accept([0])


def taken(descriptor: int) -> socket.socket:
    """The socket of a descriptor that we were started with, which what we start shall not have: it would hold the port."""
    own = socket.socket(fileno=descriptor)
    own.set_inheritable(False)
    return own
