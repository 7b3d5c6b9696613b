"""Ask a service that starts whether it is ready, and what it waits for."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

LIMIT = 2.0
"""Seconds for one answer; a service of ours on loopback needs milliseconds."""


async def get(host: str, port: int, path: str, *, limit: float = LIMIT) -> tuple[int, bytes]:
    """Status and body of a GET; raises ``OSError`` (``TimeoutError`` is one) when there is no answer."""
    async with asyncio.timeout(limit):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1][:3].isdigit():
        raise OSError("no HTTP answer")
    return int(words[1][:3]), body


async def is_ready(host: str, port: int) -> bool:
    """Whether ``/ready`` answers 200."""
    try:
        status, _ = await get(host, port, "/ready")
    except OSError:
        return False
    return status == 200


async def waits_for(host: str, port: int) -> str:
    """Why it is not ready, as its ``/health`` has it: ``/health 503: database: connection refused``."""
    try:
        status, body = await get(host, port, "/health")
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
