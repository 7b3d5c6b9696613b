"""Frames: bytes of a WebSocket into messages and back, by wsproto; no I/O.

No extension is negotiated: compressed messages could become a thousand times what was received.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

TOO_BIG, GARBLED = 1009, 1002
"""Close codes (RFC 6455 §7.4.1) for a message over the limit, and for what is no WebSocket."""


class Closed(NamedTuple):
    """The end of a WebSocket: the peer's Close, or ours when ``ours`` because of what the peer sent."""

    code: int
    reason: str
    ours: bool = False


class Pinged(NamedTuple):
    """The peer asks whether we are there."""

    payload: bytes


class Frames:
    """One end of a WebSocket, the server's; ``most`` is the most bytes (of text, characters) of a message."""

    def __init__(self, *, most: int) -> None:
        self._connection = Connection(ConnectionType.SERVER)
        self._most = most
        self._gathered: bytearray | None = None  # no list: pieces of one byte would cost many times their size
        self._size = 0
        self._over = False

    def feed(self, data: bytes) -> Iterator[str | bytes | Pinged | Closed]:
        """What comes of received bytes; nothing after a ``Closed``."""
        if self._over:
            return
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                self._size += len(event.data)
                if self._size > self._most:
                    yield self._end(Closed(TOO_BIG, f"a message is over {self._most} bytes", ours=True))
                    return
                message = self._message(event)
                if message is not None:
                    yield message
            elif isinstance(event, Ping):
                yield Pinged(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                garbled = self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)
                # A Close that answers ours leaves the state CLOSED, one of the peer's own REMOTE_CLOSING.
                yield self._end(Closed(int(event.code), event.reason or "", ours=garbled))
                return

    def _message(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        data = event.data if isinstance(event.data, str) else bytes(event.data)
        gathered = self._gathered
        if event.message_finished and gathered is None:  # most come in one
            self._size = 0
            return data
        if gathered is None:
            gathered = self._gathered = bytearray()
        gathered += data.encode() if isinstance(data, str) else data
        if not event.message_finished:
            return None
        self._gathered, self._size = None, 0
        return gathered.decode() if isinstance(data, str) else bytes(gathered)

    def _end(self, closed: Closed) -> Closed:
        self._over = True
        self._gathered = None
        return closed

    def message(self, data: str | bytes) -> bytes:
        """The frame of one message."""
        return self._connection.send(TextMessage(data) if isinstance(data, str) else BytesMessage(data))

    def ping(self) -> bytes:
        """The frame that asks whether the peer is there."""
        return self._connection.send(Ping())

    def pong(self, payload: bytes) -> bytes:
        """The frame that answers a ping; empty once it can no longer be sent."""
        return self._connection.send(Pong(payload)) if self._connection.state is ConnectionState.OPEN else b""

    def close(self, code: int, reason: str = "") -> bytes:
        """The frame that ends the WebSocket, or answers the peer's; empty when one was sent before."""
        if self._connection.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        if code == CloseReason.NO_STATUS_RCVD:  # the peer's had none: so has ours, and wsproto wants it as its own constant
            return self._connection.send(CloseConnection(code=CloseReason.NO_STATUS_RCVD))
        return self._connection.send(CloseConnection(code=code, reason=reason or None))
