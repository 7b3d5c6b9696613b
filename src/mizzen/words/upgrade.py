"""Upgrade: an answer after which its connection speaks another protocol than HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .message import Headers, Response

SWITCHING = 101
"""The status of such an answer (RFC 9110 §15.2.2)."""

Lost = Callable[[Exception | None], None]
"""Told once when a connection is no more, with the error that ended it."""


class Successor(asyncio.Protocol):
    """What speaks on a connection from an :class:`Upgrade` on, and ends it.

    Whoever hands the connection over calls :meth:`begin` once the head of the answer is written. Every callback of the
    transport reaches the successor from then on; it passes ``connection_lost`` on.
    """

    __slots__ = ("lost", "sent", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.lost: Lost
        self.sent = 0
        """Bytes of content sent, for whoever counts."""

    def begin(self, transport: asyncio.Transport, lost: Lost) -> None:
        """Take the connection over; ``lost`` wants to be told of its end."""
        self.transport = transport
        self.lost = lost
        transport.set_protocol(self)

    def leave(self) -> None:
        """End the connection soon, and properly: the server is going away."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(exc)


class Upgrade(Response):
    """The answer 101: ``successor`` speaks on the connection from then on. Its headers are those of the new protocol.

    ``on_close`` tells when the connection is no more, or was never handed over.
    """

    __slots__ = ("successor",)

    def __init__(self, successor: Successor, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(SWITCHING, headers=Headers.of(raw))
        self.successor = successor
