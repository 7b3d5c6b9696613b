"""A WebSocket client that waits, on a real socket: the test plays the peer, and sees every frame."""

from __future__ import annotations

import json
import socket
import ssl
from collections import deque
from typing import Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

PATIENCE = 20.0
"""Seconds for what takes none when the machine is quiet."""


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        super().__init__(f"{status}: {body.decode('utf-8', 'replace')}")
        self.status = status
        self.headers = headers
        self.body = body


class Talker:
    """One WebSocket; answers pings and closes by itself unless it is ``rude``."""

    def __init__(
        self,
        port: int,
        path: str,
        *,
        subprotocols: tuple[str, ...] | list[str] = (),
        host: str = "127.0.0.1",
        rude: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.rude = rude
        self.sock = socket.create_connection((host, port), PATIENCE)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=host)
        self.sock.settimeout(PATIENCE)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self.ended = False
        try:
            self._send(Request(host=f"{host}:{port}", target=path, subprotocols=list(subprotocols)))
            accepted = self._event()
            if isinstance(accepted, RejectConnection):
                body = b""
                while not self.ended and isinstance(data := self._event(), RejectData):
                    body += data.data
                    if data.body_finished:
                        break
                raise Refused(accepted.status_code, _texts(accepted.headers), body)
            assert isinstance(accepted, AcceptConnection), accepted
        except BaseException:
            self.sock.close()
            raise
        self.accepted_subprotocol = accepted.subprotocol
        self.headers = _texts(accepted.extra_headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended and self._connection.state is ConnectionState.OPEN:
            self.close()
        self.sock.close()

    # -- as starlette's test client has it -------------------------------------------------------------------------

    def send_text(self, data: str) -> None:
        self._send(TextMessage(data))

    def send_bytes(self, data: bytes) -> None:
        self._send(BytesMessage(data))

    def receive_json(self) -> Any:
        return json.loads(self.receive()["text"])

    def receive_bytes(self) -> bytes:
        data: bytes = self.receive()["bytes"]
        return data

    def receive(self) -> dict[str, Any]:
        """The next whole message, or how it ended."""
        parts: list[Any] = []
        while True:
            event = self._event()
            if isinstance(event, CloseConnection):
                return {"type": "websocket.close", "code": int(event.code), "reason": event.reason or ""}
            if isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    whole = type(parts[0])().join(parts)
                    return {"type": "websocket.send", "text" if isinstance(whole, str) else "bytes": whole}

    # -- as a peer sees it -----------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> dict[str, Any]:
        """Say that it ends, and what the other side says to that."""
        self._send(CloseConnection(code=code, reason=reason))
        while (said := self.receive())["type"] != "websocket.close":
            pass
        return said

    def fragments(self, *parts: str | bytes) -> None:
        """Send one message in several frames."""
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            event = (
                TextMessage(part, message_finished=last) if isinstance(part, str) else BytesMessage(part, message_finished=last)
            )
            self._send(event)

    def ping(self, payload: bytes) -> bytes:
        """Ask, and what is answered."""
        self._send(Ping(payload))
        while not isinstance(event := self._event(), Pong):
            self._events.append(event)
        return bytes(event.payload)

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _send(self, event: Event) -> None:
        self.sock.sendall(self._connection.send(event))

    def _event(self) -> Event:
        while not self._events:
            data = self.sock.recv(65536)
            if not data:
                self.ended = True
                raise EOFError("the server closed the connection")
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, Ping) and not self.rude:
                    self._send(event.response())
                elif isinstance(event, CloseConnection) and not self.rude:
                    if self._connection.state is ConnectionState.REMOTE_CLOSING:
                        self._send(event.response())
                    self._events.append(event)
                else:
                    self._events.append(event)
        return self._events.popleft()


def _texts(headers: Any) -> list[tuple[str, str]]:
    return [(bytes(name).decode(), bytes(value).decode()) for name, value in headers]
