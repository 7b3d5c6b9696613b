"""Securing: a client's connection, from its opening to the end of its handshake."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .tls import TlsConnection


class Tls(Protocol):
    """What a client needs to know about TLS with one peer."""

    server_name: str
    """The name that the peer's certificate must have, when that is not the host's."""

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        ...

    def explain(self, error: BaseException, name: str) -> str:
        """Why a handshake with ``name`` failed, and the fix."""
        ...


async def secured(
    open_below: Callable[[Callable[[], asyncio.Protocol]], Awaitable[Any]],
    factory: Callable[[], asyncio.Protocol],
    tls: Tls,
    host: str,
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    """A client's connection that ``open_below`` opens, its handshake done; ``OSError`` says why it failed, and the fix.

    Cancelled, it leaves nothing open.
    """
    name = tls.server_name or host.removesuffix(".")  # a certificate's names have no dot at their end (RFC 6066 §3)
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_: TlsConnection, error: BaseException | None) -> None:
        if ready.done():
            return
        if error is None:
            ready.set_result(None)
        else:
            ready.set_exception(error)

    above = factory()
    try:
        line = TlsConnection(above, tls.context(), name=name, done=done, explain=lambda error: tls.explain(error, name))
    except (ValueError, TypeError) as error:  # a name with a NUL is a TypeError
        raise OSError(f"{name!r} is no name that a certificate could have: {error}") from error
    try:
        await open_below(lambda: line)
    except BaseException:
        ready.cancel()  # whoever opens closes what it could not open
        raise
    try:
        await ready
    except asyncio.CancelledError:
        line.abort()
        raise
    except Exception as error:
        raise OSError(tls.explain(error, name)) from error
    return line, above
