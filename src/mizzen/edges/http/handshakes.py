"""Handshakes: a server's connections that are not open yet, counted, bounded and ended with the server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from .framing import peer_name
from .tls import TlsConnection

log = logging.getLogger("mizzen.tls")


class Handshakes:
    """Puts TLS between accepted sockets and a server's connections.

    ``context`` gives the one for a new connection; ``room`` says whether another one may begin, ``within`` how many
    seconds it has.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], *, room: Callable[[], bool], within: float) -> None:
        self.failed = 0
        """Handshakes that came to nothing so far."""
        self._context = context
        self._room = room
        self._within = within
        self._pending: set[TlsConnection] = set()

    def __len__(self) -> int:
        return len(self._pending)

    def before(self, connection: asyncio.Protocol) -> asyncio.Protocol:
        """The protocol of an accepted socket, which connects ``connection`` once the handshake succeeded."""
        return TlsConnection(connection, self._context(), name=None, done=self._settle, admit=self._admit, within=self._within)

    def abort(self) -> None:
        """End them all: nobody in a handshake has asked for anything yet."""
        for line in list(self._pending):
            line.abort()

    def _admit(self, line: TlsConnection) -> bool:
        room = self._room()
        self._pending.add(line)
        return room

    def _settle(self, line: TlsConnection, error: BaseException | None) -> None:
        self._pending.discard(line)
        if error is None:
            return
        self.failed += 1
        if log.isEnabledFor(logging.DEBUG):
            # scanners, probes that only connect, and callers without our certificate authority: never worth a traceback
            whom = peer_name(line.get_extra_info("peername")) or "a caller"
            log.debug("the TLS handshake with %s failed: %s", whom, error)

    def __repr__(self) -> str:
        return f"<Handshakes {len(self._pending)} under way, {self.failed} failed>"
