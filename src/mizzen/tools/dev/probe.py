"""Ask a service that starts whether it is ready, and what it waits for."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ssl

LIMIT = 2.0
"""Seconds for one answer; a service of ours on loopback needs milliseconds."""


class Place(NamedTuple):
    """Where a service answers: a host and port, or a Unix socket; by HTTPS when ``tls`` says how to verify it."""

    host: str
    port: int
    socket: str | None = None
    tls: ssl.SSLContext | None = None


async def get(place: Place, path: str, *, limit: float = LIMIT) -> tuple[int, bytes]:
    """Status and body of a GET; raises ``OSError`` (``TimeoutError`` is one) when there is no answer."""
    async with asyncio.timeout(limit):
        if place.socket is not None:
            reader, writer = await asyncio.open_unix_connection(place.socket)
        else:
            reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.tls)
        try:
            host = f"{place.host}:{place.port}"
            writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1][:3].isdigit():
        raise OSError("no HTTP answer")
    return int(words[1][:3]), body


async def is_ready(place: Place) -> bool:
    """Whether ``/ready`` answers 200."""
    try:
        status, _ = await get(place, "/ready")
    except OSError:
        return False
    return status == 200


async def waits_for(place: Place) -> str:
    """Why it is not ready, as its ``/health`` has it: ``/health 503: database: connection refused``."""
    try:
        status, body = await get(place, "/health")
    except OSError as error:
        return "no answer from /health" if isinstance(error, TimeoutError) else "it does not listen yet"
    detail = health_detail(body)
    return f"/health {status}{f': {detail}' if detail else ''}"


def health_detail(report: bytes) -> str:
    """The checks of a health report that are not well, in one line; nothing when it says none."""
    try:
        said: Any = json.loads(report)
        checks = said.get("checks", {})
        bad = [(name, check) for name, check in checks.items() if not check.get("ok", True)]
        bad.sort(key=lambda item: not item[1].get("required", True))
        return "; ".join(f"{name}: {check.get('detail') or 'not passed yet'}" for name, check in bad)
    except (ValueError, AttributeError):  # some other page
        return ""
