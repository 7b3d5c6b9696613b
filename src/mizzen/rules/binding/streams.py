"""Bodies in pieces: what an async iterator yields is written as bytes, one piece at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from msgspec import Struct

from mizzen.words.json import write as write_json
from mizzen.words.sse import EVENT_STREAM, ServerSentEvent

from .parameter import REQUIRED


class Pieces(Struct, frozen=True):
    """How the items of a stream become bytes, and what those are."""

    content_type: tuple[bytes, bytes]
    write: Callable[[Any], bytes]
    at_once: bool = False
    """Whether the answer begins before its first item is there."""

    def of(self, items: Any) -> Stream:
        """The body that ``items`` make, none of them taken yet."""
        return Stream(items, self.write, ())

    async def begun(self, items: Any) -> Stream:
        """The body that ``items`` make, once there is a first of them: what goes wrong until then is still an answer.

        Events may be long in coming: their reader is told at once that it is connected.
        """
        if self.at_once:
            return self.of(items)
        try:
            first = await anext(items)
        except StopAsyncIteration:
            return Stream(items, self.write, ())
        try:
            return Stream(items, self.write, (self.write(first),))
        except BaseException:
            await items.aclose()
            raise


class Stream:
    """An async iterator of bytes over one of anything, which closes that one with itself.

    Not an async generator: closing one that has not begun would leave the inner one open.
    """

    __slots__ = ("_first", "_items", "_next", "_write")

    def __init__(self, items: Any, write: Callable[[Any], bytes], first: tuple[bytes, ...]) -> None:
        self._items = items
        self._next = aiter(items).__anext__
        self._write = write
        self._first = first

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            (piece,), self._first = self._first, ()
            return piece
        return self._write(await self._next())

    async def aclose(self) -> None:
        """Close what the pieces come from; safe to call twice."""
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()


def pieces_for(item: Any) -> Pieces:
    """How items of an annotated type are written: bytes, text, server-sent events, or one JSON document per line."""
    if item is bytes:
        return Pieces((b"content-type", b"application/octet-stream"), _as_bytes)
    if item is str:
        return Pieces((b"content-type", b"text/plain; charset=utf-8"), _as_bytes)
    if item is ServerSentEvent:
        return Pieces((b"content-type", EVENT_STREAM), ServerSentEvent.encode, at_once=True)
    if item is REQUIRED or item is Any or item == bytes | str:
        return Pieces((b"content-type", b"application/octet-stream"), _as_bytes)

    def line(value: Any) -> bytes:
        return write_json(value) + b"\n"

    return Pieces((b"content-type", b"application/x-ndjson"), line)


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TypeError(
        f"a stream of bytes yielded a {type(item).__name__}; annotate the function with AsyncIterator[{type(item).__name__}] "
        "for one JSON document per line"
    )


async def whole(body: bytes) -> AsyncIterator[bytes]:
    """A body that came whole, for a function that takes it as it arrives."""
    if body:
        yield body
