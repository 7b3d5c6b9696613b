"""Scope: what an app is told of a request before anything of its body."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from mizzen.words.link import caller, is_secure, local
from mizzen.words.message import Request

VERSION = "3.0"
"""Of ASGI."""
SPEC = "2.4"
"""Of its HTTP and WebSocket parts: ``send`` raises an OSError once the caller is gone."""


def scope_of(request: Request, kind: str, *, root: str, state: dict[str, Any]) -> dict[str, Any]:
    """The scope of a request for an app mounted at ``root``; ``kind`` is ``http`` or ``websocket``."""
    path = request.path
    link = request.link
    secure = link is not None and is_secure(link)
    return {
        "type": kind,
        "asgi": {"version": VERSION, "spec_version": SPEC},
        "http_version": "1.0" if link is not None and link[1] else "1.1",
        "scheme": ("https" if secure else "http") if kind == "http" else ("wss" if secure else "ws"),
        "method": request.method,
        "path": unquote(path) if "%" in path else path,
        "raw_path": path.encode("ascii"),
        "query_string": request.query.encode("ascii"),
        "root_path": root,
        "headers": request.headers.raw,
        "client": None if link is None else caller(link),
        "server": None if link is None else local(link),
        "state": state.copy(),
        "extensions": {},
    }
