"""``mizzen health``: a probe for images that have no shell and no curl."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from .say import Usage, say
from .where import environment, only_service, read_system

LIMIT = 2.0
"""Seconds for the whole question: platforms give a probe few more, and a slow health is a bad one."""
LARGEST = 1024 * 1024
"""Bytes of a report that are read; whatever is longer is no health report."""


def health(url: str | None, *, service: str | None, folder: str | None, limit: float = LIMIT) -> int:
    """Print the health report found at ``url``, by default the service's own; 0 when it is 200, else 1."""
    target = _complete(url) if url else _own_url(service, folder)
    try:
        status, report = ask(target, limit)
    except (OSError, http.client.HTTPException) as error:
        why = f"no answer within {limit:g}s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        say(f"error: no health at {target}: {why}")
        return 1
    print(report.decode(errors="replace").rstrip("\n"), flush=True)
    if status != 200:
        say(f"{target} answers {status}")
    return 0 if status == 200 else 1


def ask(url: str, limit: float) -> tuple[int, bytes]:
    """Status and body of a GET, all of it within ``limit`` seconds; raises ``OSError`` or ``HTTPException``."""
    parts = urlsplit(url)
    ends = time.monotonic() + limit
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=limit)
    try:
        connection.connect()
        socket = connection.sock
        socket.settimeout(_left(ends))
        query = f"?{parts.query}" if parts.query else ""
        connection.request("GET", f"{parts.path}{query}", headers={"connection": "close", "accept": "application/json"})
        response = connection.getresponse()
        body = bytearray()
        while len(body) < LARGEST:
            socket.settimeout(_left(ends))  # one limit for all of it, or a trickle could last for ever
            piece = response.read1(65536)
            if not piece:
                break
            body += piece
        return response.status, bytes(body)
    finally:
        connection.close()


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _complete(url: str) -> str:
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise Usage(f"mizzen health: {url!r} is no URL: {error}", fix="such as http://127.0.0.1:8102") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Usage(f"mizzen health: {url!r} is no URL of a service", fix="such as http://127.0.0.1:8102")
    return text.rstrip("/") + "/health" if parts.path in ("", "/") and not parts.query else text


def _own_url(service: str | None, folder: str | None) -> str:
    system = read_system(folder, environment())
    if service is None and len(system.services) != 1:
        names = ", ".join(system.services) or "none"
        raise Usage(
            "mizzen health: whose health?",
            where=[f"{system.file.name} has {names}"],
            fix="mizzen health --service NAME, or mizzen health URL",
        )
    config = system.service(service or only_service(system))
    wildcard = config.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if wildcard else config.host
    return f"http://{f'[{host}]' if ':' in host else host}:{config.admin.port or config.port}/health"
