"""Handing a connection over: from an answer of 101 on, another protocol speaks on it."""

from __future__ import annotations

import asyncio

from mizzen.words.message import Request
from mizzen.words.upgrade import Lost, Upgrade


def cannot_upgrade(request: Request, *, more: bool, keep: bool, old: bool) -> str:
    """Why the connection of a request cannot be handed over; empty when it can.

    ``more`` is whether its caller has sent anything behind the request: it must wait for the answer (RFC 6455 §4.1), and
    what it sent has been read as HTTP.
    """
    if old:
        return "an upgrade takes HTTP/1.1"
    if more or request.body != b"":
        return "something was sent behind the request to upgrade, before its answer"
    if not keep:
        return "the connection ends with this request"
    return ""


async def hand_over(response: Upgrade, transport: asyncio.Transport, lost: Lost) -> int:
    """Write the head of the answer, let its successor speak, and wait until the connection is no more; the bytes sent.

    ``lost`` is told of the end as the transport would have told it.
    """
    successor = response.successor
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(exc: Exception | None) -> None:
        if not gone.done():
            gone.set_result(None)
        lost(exc)

    transport.write(_head(response))
    successor.begin(transport, ended)
    await gone
    return successor.sent


def _head(response: Upgrade) -> bytes:
    """The head of an answer of 101, with the field that its own headers cannot say: the connection's."""
    parts = [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"]
    for name, value in response.headers.raw:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
