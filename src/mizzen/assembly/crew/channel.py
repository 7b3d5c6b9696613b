"""Channel: framed messages over one end of a socket pair.

A frame is its length in four bytes, big-endian, and a message as MessagePack, which has infinities where JSON has none
(a limit of no limit is a metric like any other). The other end is ours, so nothing here defends against it; but it may
be dead, hang or not read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from .messages import Message

HELD = 16 << 20
"""Bytes that may wait for a worker that does not read; what is regular is left out long before."""

_encode = msgspec.msgpack.Encoder().encode


class Channel(asyncio.Protocol):
    """One end. ``on_message`` is told of each message in order, ``on_end`` once when the other end is gone."""

    def __init__(self, kinds: Any, on_message: Callable[[Any], None], on_end: Callable[[], None]) -> None:
        self._decode = msgspec.msgpack.Decoder(kinds).decode
        self._on_message = on_message
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._begun = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the other end is gone, or this one let go of."""

    async def open(self, end: socket.socket) -> None:
        """Take over one end of a socket pair."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    @property
    def free(self) -> bool:
        """Whether the other end has taken what it was sent."""
        return self._transport is not None and not self._transport.is_closing() and not self._transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Send it, unless the other end is gone or has stopped reading for very long."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > HELD:
            transport.abort()
            return
        data = _encoded(message)
        transport.write(len(data).to_bytes(4) + data)

    async def close(self, seconds: float) -> None:
        """Let the other end read what it was sent, for at most that long, and let go of this one."""
        transport = self._transport
        if transport is None or self.ended.done():
            return
        if seconds > 0 and not transport.is_closing():
            transport.write_eof()  # not closed yet: an end that writes to a closed one is lost before it has read
            await asyncio.wait({self.ended}, timeout=seconds)
        if not self.ended.done():
            transport.abort()

    # -- as asyncio's protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._begun + data if self._begun else data
        start = 0
        while len(data) - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4])
            if end > len(data):
                break
            self._on_message(self._decode(memoryview(data)[start + 4 : end]))
            start = end
        self._begun = data[start:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._on_end()

    def __repr__(self) -> str:
        return f"<Channel {'ended' if self.ended.done() else 'open'}>"


def _encoded(message: Message) -> bytes:
    try:
        return _encode(message)
    except UnicodeEncodeError:  # in a text of the user's, such as an error about a file whose name is no UTF-8
        return _encode(_clean(msgspec.to_builtins(message, builtin_types=(bytes,))))


def _clean(value: Any) -> Any:
    """The same with each lone surrogate shown by its number."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value
