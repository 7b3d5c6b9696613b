"""The client's transport: one pool of connections to one address, itself a handler."""

from __future__ import annotations

import asyncio
import random as _random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mizzen.words.clock import Clock, Random
from mizzen.words.errors import ConnectFailed, ConnectionLost
from mizzen.words.message import Request, Response

from .connection import ClientConnection
from .limits import PoolLimits
from .writing import request_head

if TYPE_CHECKING:
    from .securing import Tls

Connector = Callable[
    [Callable[[], asyncio.Protocol], str, int, "Tls | None"],
    Awaitable[tuple[asyncio.Transport, asyncio.Protocol]],
]
"""Opens a connection for a protocol to host and port; ``OSError`` when it cannot."""


async def connect(
    factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: Tls | None
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    """The connector of real sockets, on whatever event loop runs."""
    loop = asyncio.get_running_loop()
    if tls is None:
        return await loop.create_connection(factory, host, port)
    from .securing import secured

    return await secured(lambda line: loop.create_connection(line, host, port), factory, tls, host)


class Pool:
    """Connections to one address, the latest used first; ``send`` is a handler.

    Raises `ConnectFailed` when no connection can be had and `ConnectionLost` when one ends before its answer does.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: Tls | None = None,
        connect: Connector = connect,
        limits: PoolLimits,
        clock: Clock,
        peer: str,
        random: Random = _random.random,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits
        self.peer = peer
        """Name of the called service, for errors."""
        self.closed = False
        self._tls = tls
        self._connect = connect
        self._clock = clock
        self._random = random
        shown = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii") if not host.isascii() else host
        shown = shown.removesuffix(".")  # of a whole name; it is for whoever looks it up, not for whom it leads to
        self.address = f"{shown}:{port}"
        on_unix = host.startswith("/")
        if on_unix:  # what is there has no name that a server could want to know
            shown, self.address = "localhost", f"unix:{host}"
        usual = on_unix or port == (80 if tls is None else 443)
        self._host_line = f"host: {shown if usual else self.address}\r\n".encode("ascii")
        self._idle: deque[ClientConnection] = deque()
        self._open: set[ClientConnection] = set()
        self._promised = 0  # places of connections that are gone, on their way to who waits for them
        self._turns: deque[asyncio.Future[ClientConnection | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, request: Request) -> Response:
        """Send a request on an idle connection or a new one; the answer is whole unless the request asks to stream it."""
        head = request_head(request, self._host_line)
        connection = self._take(request) or await self._open_connection()
        waiter = connection.ask(request, head)
        try:
            return await waiter
        except BaseException:
            await connection.leave(waiter)
            raise

    def _take(self, request: Request) -> ClientConnection | None:
        idle = self._idle
        if not idle:
            return None
        now = self._clock()
        limits = self.limits
        call = request.call
        if call is not None and len(call.tried) > 1 and call.tried[-1] in call.tried[:-1]:
            return None  # the same address again: behind a virtual one only a new connection leads to another instance
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if (
                now - connection.idle_since < limits.idle
                and now < connection.expires
                and not connection.stale()  # also what a peer said unasked would be taken for the answer
            ):
                return connection
            connection.close()
        return None

    async def _open_connection(self) -> ClientConnection:
        limits = self.limits
        if len(self._open) + self._promised >= limits.connections:
            given = await self._turn()
            if given is not None:
                return given
        loop = asyncio.get_running_loop()
        made = ClientConnection(self, loop)
        self._open.add(made)
        try:
            await self._connect(lambda: made, self.host, self.port, self._tls)
        except BaseException as error:
            self.forget(made)
            if not isinstance(error, OSError | UnicodeError):  # OpenSSL's errors are OSErrors
                raise
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConnectFailed(f"cannot connect to {self.address}: {reason}", peer=self.peer) from error
        spread = limits.spread * (2 * self._random() - 1) if limits.spread else 0.0
        made.expires = self._clock() + limits.age * (1 + spread)
        return made

    async def _turn(self) -> ClientConnection | None:
        """Wait, with every connection busy, for one that is done; None for the place of one that is gone."""
        turn: asyncio.Future[ClientConnection | None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            given = await turn
        except BaseException:  # nobody wants it any more
            if turn.cancelled():  # and in the line still, unless somebody came by it meanwhile
                self._turns = deque(other for other in self._turns if other is not turn)
            elif turn.exception() is not None:
                pass
            elif (late := turn.result()) is None:
                self._promised -= 1
                self._vacate()
            elif not late.closed:
                self.release(late)
            raise
        if given is None:
            self._promised -= 1
        return given

    def _vacate(self) -> None:
        """A place is free: for whoever waits longest."""
        turn = self._next_turn()
        if turn is not None:
            self._promised += 1
            turn.set_result(None)

    def _next_turn(self) -> asyncio.Future[ClientConnection | None] | None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                return turn
        return None

    def release(self, connection: ClientConnection) -> None:
        """Take back a connection whose answer came to its end."""
        if self.closed:
            connection.close()
            return
        now = connection.idle_since = self._clock()
        if now >= connection.expires:
            connection.close()
            return
        if self._turns and (turn := self._next_turn()) is not None:
            turn.set_result(connection)
            return
        self._idle.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.limits.idle, self._reap)

    def forget(self, connection: ClientConnection) -> None:
        """Strike off a connection that is gone."""
        if connection in self._open:
            self._open.discard(connection)
            self._vacate()
        if connection in self._idle:
            self._idle.remove(connection)

    def _reap(self) -> None:
        """Close what was idle for too long; the oldest stand on the left."""
        self._timer = None
        idle, oldest = self._idle, self._clock() - self.limits.idle
        while idle and (idle[0].closed or idle[0].idle_since <= oldest):
            idle.popleft().close()
        if idle:
            delay = max(idle[0].idle_since - oldest, 0.001)
            self._timer = asyncio.get_running_loop().call_later(delay, self._reap)

    def close(self) -> None:
        """Close idle connections at once and busy ones when their answer is complete; what is sent later is not kept.

        Whoever waits for a connection is sent elsewhere: nobody comes to an instance that was withdrawn meanwhile.
        """
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.popleft().close()
        while (turn := self._next_turn()) is not None:
            reason = f"{self.address} was withdrawn before a connection to it was free"
            turn.set_exception(ConnectionLost(reason, peer=self.peer, idle=True, sent=False))

    def describe(self) -> dict[str, Any]:
        """The pool's state as plain values."""
        idle = sum(not connection.closed for connection in self._idle)
        busy = sum(connection.busy for connection in self._open)
        waiting = sum(not turn.done() for turn in self._turns)
        return {"address": self.address, "idle": idle, "busy": busy, "waiting": waiting, "closed": self.closed}

    def __repr__(self) -> str:
        state = self.describe()
        return f"<Pool {self.address}, {state['idle']} idle, {state['busy']} busy{', closed' if self.closed else ''}>"
