"""A plain ASGI app for servers that are not ours: what a client of ours has to understand of them."""

from __future__ import annotations

from typing import Any

LARGE = 5_000_000


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer by path; the same as ``others.go`` does."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    fields: list[tuple[bytes, bytes]] = [(b"content-type", b"text/plain")]
    status, pieces = 200, [b"small"]
    if path == "/large":
        pieces = [b"x" * LARGE]
    elif path == "/pieces":
        pieces = [b"piece %d\n" % number for number in range(100)]
    elif path == "/echo":
        pieces = [body]
    elif path == "/empty":
        status, pieces = 204, [b""]
    elif path != "/small":
        status, pieces = 404, [b"missing"]
    if len(pieces) == 1 and status != 204:
        fields.append((b"content-length", b"%d" % len(pieces[0])))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    head = scope["method"] == "HEAD"
    for number, piece in enumerate(pieces, 1):
        more = number < len(pieces)
        await send({"type": "http.response.body", "body": b"" if head else piece, "more_body": more})
