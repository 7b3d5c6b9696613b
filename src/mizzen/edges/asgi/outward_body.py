"""The body of a request that another server reads: gathered whole with its limit, or handed on piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mizzen.words.errors import Answer, BadRequest, RequestTimeout, TooLarge

from .types import Receive


def _nothing() -> None:
    """Nobody to tell."""


class Body:
    """An async iterator over a body as it arrives; the server stops reading while nobody asks for the next piece.

    Raises ``TooLarge`` past ``most`` bytes, ``RequestTimeout`` when nothing arrives for ``patience`` seconds. ``ended``
    is called once at the end, ``left`` once when the caller goes away before it.
    """

    __slots__ = ("_ended", "_error", "_left", "_most", "_patience", "_receive", "_size", "complete")

    def __init__(
        self,
        receive: Receive,
        *,
        most: int,
        patience: float,
        ended: Callable[[], None] = _nothing,
        left: Callable[[], None] = _nothing,
    ) -> None:
        self._receive = receive
        self._most = most
        self._patience = patience
        self._ended = ended
        self._left = left
        self._size = 0
        self._error: Answer | None = None
        self.complete = False
        """Whether the last byte was handed over."""

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while not self.complete:
            if self._error is not None:
                raise self._error
            piece = await self._next()
            if piece:
                return piece
        raise StopAsyncIteration

    async def whole(self) -> bytes:
        """All of it, or what is wrong with it; ``BadRequest`` means that the caller went away before its end."""
        pieces = bytearray()  # no list: a million pieces of one byte would cost many times their size
        async for piece in self:
            pieces += piece
        return bytes(pieces)

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            self._error = RequestTimeout(f"nothing of the request's body arrived in {self._patience:g}s")
            raise self._error from None
        if message["type"] != "http.request":
            self._error = BadRequest("the caller went away before the end of the body")
            self._left()
            await asyncio.sleep(0)  # the cancellation that this leads to comes first, where it is for us
            raise self._error
        piece: bytes = message.get("body", b"")
        self._size += len(piece)
        if self._size > self._most:
            self._error = TooLarge(f"the body is over the limit of {self._most} bytes")
            raise self._error
        if not message.get("more_body", False):
            self.complete = True
            self._ended()
        return piece
