"""Bare uvicorn: what its HTTP and ASGI alone cost. Nothing is routed, typed, traced, counted or logged."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvicorn

USER = json.dumps({"id": "1", "name": "user 1", "email": "u1@a.de"}, separators=(",", ":")).encode()
PICTURE = b"x" * (100 << 10)


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """The same bytes for whoever asks."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    body, kind = (PICTURE, b"application/octet-stream") if path.startswith("/picture") else (USER, b"application/json")
    if path.startswith("/remote"):
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        loop.call_soon(arrived.set_result, None)
        await arrived
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, lifespan="off",
        log_level="warning", timeout_keep_alive=75, backlog=4096,
    )  # fmt: skip
