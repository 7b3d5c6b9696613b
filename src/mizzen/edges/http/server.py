"""The server: what its connections share, and how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mizzen.words.clock import Clock
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

from .limits import Limits
from .protocol import ServerConnection
from .writing import date_line

if TYPE_CHECKING:  # whoever serves without TLS need not load it
    import ssl

    from .handshakes import Handshakes

HEARING = 1.0
"""Seconds for the first request of a connection whose caller got it just before it could get none: round trips, the
handshake of TLS, and a caller that does not get to run at once. Some connect long before they ask: those are not waited for."""
LOOK_EVERY = 0.01
"""Seconds between looks for such connections, at the end only: a future for each would be a price that every request pays."""
CUT_GRACE = 1.0
"""Seconds for cancelled handlers to clean up, so that what they use is not closed under them."""

Refuse = Callable[[int, str, Request | None], Response]
"""Makes the answer to a request that is not handed to the handler: status, detail, and as much of it as could be read."""

Sent = Callable[[Request, Response | None, int], None]
"""Told once per request when its answer's last byte was handed over, with the bytes of body sent; no answer means that
the caller was gone before its head."""

OnError = Callable[[Request | None, BaseException], None]
"""Told of what only a defect can cause: a handler that raised, a body that failed after its head was sent."""


class Server:
    """Answers HTTP/1.1 and 1.0 on every connection that ``protocol`` is called for.

    ``streams`` says whether a request's body is handed over as it arrives, ``max_body`` how many bytes of it are read;
    both are asked only of requests that have one. ``at_once`` answers whole requests that need no waiting, so that they
    take no task; None from it leaves one to ``handler``. ``wall`` is a wall clock for the ``date`` field, left out
    without it. With ``tls``, which gives the context for a new connection, it answers HTTPS only.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits,
        clock: Clock,
        refuse: Refuse,
        sent: Sent | None = None,
        at_once: Callable[[Request], Response | None] | None = None,
        streams: Callable[[Request], bool] | None = None,
        max_body: Callable[[Request], int] | None = None,
        on_error: OnError | None = None,
        wall: Clock | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.handler = handler
        self.at_once = at_once
        self.limits = limits
        self.clock = clock
        self.streams = streams
        self.max_body = max_body
        self.in_flight = 0
        """Requests whose handler runs, or whose answer is being streamed."""
        self.closing = False
        """Whether every answer closes its connection."""
        self.draining = False
        """Whether idle connections are closed at once."""
        self._refuse = refuse
        self._sent = sent
        self._on_error = on_error
        self._wall = wall
        self.dated = wall is not None
        """Whether answers carry their date."""
        self._date = b""
        self._date_until = float("-inf")
        self._open: set[ServerConnection] = set()
        self._empty: asyncio.Future[None] | None = None
        self._handshakes: Handshakes | None = None
        if tls is not None:
            from .handshakes import Handshakes

            self._handshakes = Handshakes(
                tls,
                room=lambda: not self.draining and self.connections < limits.connections,
                within=limits.header_read,  # what comes before a head may take as long as a head
            )

    @property
    def connections(self) -> int:
        """Open connections, idle ones, those that shake hands and those whose cancelled handler cleans up included."""
        return len(self._open) + (len(self._handshakes) if self._handshakes is not None else 0)

    def protocol(self) -> asyncio.Protocol:
        """A connection's protocol: hand this method to ``loop.create_server`` or its like."""
        connection = ServerConnection(self, asyncio.get_running_loop())
        return connection if self._handshakes is None else self._handshakes.before(connection)

    def linger(self) -> None:
        """From now on every answer says that it is the last one of its connection; idle connections stay open."""
        self.closing = True

    async def hear_out(self, within: float = HEARING) -> bool:
        """Wait, at most a moment, until no request is on its way: none is begun, and every connection has had its first one.

        The caller has closed its listener before, and still answers. False when there was nothing to wait for.
        """
        self.closing = True
        ends = self.clock() + min(within, HEARING)
        waited = False
        while self.clock() < ends and (self._handshakes or any(each.awaited for each in self._open)):
            waited = True
            await asyncio.sleep(LOOK_EVERY)
        return waited

    async def drain(self, seconds: float) -> int:
        """Close idle connections at once and let what is under way finish; the requests cut off after ``seconds``.

        A handler that cleans up after its caller left is waited for as well, and is not counted.
        The caller has closed its listener before. Safe to call again, also after a cancellation.
        """
        self.closing = self.draining = True
        if self._handshakes is not None:
            self._handshakes.abort()
        for connection in list(self._open):
            connection.close_if_idle()
        if self._open and seconds > 0:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._empty}, timeout=seconds)
            self._empty = None
        tasks = {connection.task for connection in self._open if connection.task is not None}
        cut = sum(connection.cut() for connection in list(self._open))
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_GRACE)
        if self._open:
            await asyncio.sleep(0)  # transports tell of their end in the loop's next turn
        return cut

    def describe(self) -> dict[str, Any]:
        """The server's state as plain values."""
        state = "draining" if self.draining else "lingering" if self.closing else "serving"
        told = {"state": state, "connections": self.connections, "in_flight": self.in_flight}
        if self._handshakes is not None:
            told["handshakes"] = {"under_way": len(self._handshakes), "failed": self._handshakes.failed}
        return told

    def __repr__(self) -> str:
        return f"<Server {self.describe()['state']}, {self.connections} connections, {self.in_flight} in flight>"

    # -- for its connections ---------------------------------------------------------------------------------------

    def join(self, connection: ServerConnection) -> bool:
        """Count a connection in; whether it is within the limit."""
        self._open.add(connection)
        return self.connections <= self.limits.connections

    def leave(self, connection: ServerConnection) -> None:
        """Count a connection out."""
        self._open.discard(connection)
        if not self._open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def date(self, now: float | None = None) -> bytes:
        """The ``date`` line, made once a second; empty without a wall clock. ``now`` saves a look at the clock."""
        if self._wall is None:
            return b""
        if now is None:
            now = self.clock()
        if now >= self._date_until:
            wall = self._wall()
            self._date = date_line(wall)
            self._date_until = now + 1 - wall % 1
        return self._date

    def refusal(self, status: int, detail: str, request: Request) -> Response:
        """The answer to a request that is refused; a bare one if even making it fails."""
        try:
            response = self._refuse(status, detail, request)
        except Exception as error:  # the caller must still be told, and the connection closed
            self.report(request, error)
            return Response(status)
        if not isinstance(response.body, bytes):
            self.report(request, TypeError("a refusal has a whole body"))
            return Response(status)
        return response

    def settle(self, request: Request, response: Response | None, sent: int) -> None:
        """Tell that a request is done with."""
        if self._sent is not None:
            try:
                self._sent(request, response, sent)
            except Exception as error:  # whoever counts must not break the connection
                self.report(request, error)

    def report(self, request: Request | None, error: BaseException) -> None:
        """Tell of a defect; to the event loop's exception handler when nobody else wants to know."""
        if self._on_error is not None:
            self._on_error(request, error)
            return
        message = f"{request.method} {request.path} failed" if request is not None else "a connection failed"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
