"""A caller that is not ours: h11 over any network, so that every server is judged by the same neutral eyes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h11

Factory = Callable[[], asyncio.Protocol]
Connect = Callable[[Factory], Awaitable[tuple[asyncio.Transport, asyncio.Protocol]]]

PATIENCE = 20.0
"""Seconds for what takes one when the machine is quiet."""
READ = 64 * 1024


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._h11 = h11.Connection(h11.CLIENT)

    async def ask(
        self,
        method: str,
        target: str,
        *,
        fields: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        pieces: Iterable[bytes] | None = None,
    ) -> Reply:
        """One request and its whole answer; ``pieces`` are sent chunked, while the answer is read."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        await self.begin(method, target, fields=fields, length=None if body is None else len(body), chunked=pieces is not None)
        sender = asyncio.ensure_future(self._send_all(pieces if pieces is not None else [body or b""]))
        try:
            status, answer = await self.head()
            return Reply(status, answer, b"".join([piece async for piece in self.pieces()]))
        finally:
            if self._h11.their_state is h11.DONE:
                await sender
            sender.cancel()
            await asyncio.wait([sender])

    async def begin(
        self,
        method: str,
        target: str,
        *,
        fields: Iterable[tuple[str, str]] = (),
        length: int | None = None,
        chunked: bool = False,
    ) -> None:
        """Send the head of a request."""
        head = [("host", "served"), *fields]
        if chunked:
            head.append(("transfer-encoding", "chunked"))
        elif length is not None:
            head.append(("content-length", str(length)))
        self.writer.write(self._h11.send(h11.Request(method=method, target=target, headers=head)) or b"")
        await self.writer.drain()

    async def send(self, piece: bytes) -> None:
        """Send a piece of the body."""
        self.writer.write(self._h11.send(h11.Data(data=piece)) or b"")
        await self.writer.drain()

    async def finish(self) -> None:
        """End the request."""
        self.writer.write(self._h11.send(h11.EndOfMessage()) or b"")
        await self.writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and fields of the answer."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event.status_code, [(name.decode(), value.decode()) for name, value in event.headers]
            assert isinstance(event, h11.InformationalResponse), event

    async def told(self) -> int:
        """The status of whatever the server says next, be it final or not."""
        event = await self._event()
        assert isinstance(event, h11.InformationalResponse | h11.Response), event
        return event.status_code

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the answer as it arrives."""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            yield bytes(event.data)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return self._h11.their_state is h11.DONE and self._h11.our_state is h11.DONE

    def reset(self) -> None:
        """End without a word, as a process that dies does."""
        self.writer.transport.abort()

    async def _send_all(self, pieces: Iterable[bytes]) -> None:
        try:
            for piece in pieces:
                if piece:
                    await self.send(piece)
            await self.finish()
        except (OSError, h11.LocalProtocolError):  # the server said enough already
            return

    async def _event(self) -> Any:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            async with asyncio.timeout(PATIENCE):
                self._h11.receive_data(await self.reader.read(READ))


@asynccontextmanager
async def calling(connect: Connect) -> AsyncIterator[Caller]:
    """A connection, closed at the end."""
    reader = asyncio.StreamReader()
    transport, protocol = await connect(lambda: asyncio.StreamReaderProtocol(reader))
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    try:
        yield Caller(reader, writer)
    finally:
        transport.abort()


async def until(true: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE) -> Any:
    """Wait until ``true`` is, and give what it gave; fails by saying ``what`` did not come."""
    ends = asyncio.get_running_loop().time() + patience
    while not (found := await true()):
        assert asyncio.get_running_loop().time() < ends, f"not within {patience:g}s: {what}"
        await asyncio.sleep(0.02)
    return found
