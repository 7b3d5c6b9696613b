"""Between ASGI's dictionaries and our messages: pure, so that every server's way of saying it can be tried."""

from __future__ import annotations

from urllib.parse import quote

from mizzen.words.message import Headers, Request, Response

from .types import Scope

BODYLESS = frozenset({204, 304})
"""Statuses whose answers have neither a body nor a length (RFC 9110 §6.4.1)."""
_OWNED = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive"})
"""Fields that belong to the connection: what a handler says of them would contradict what is sent."""
_PLAIN = "/-._~!$&'()*+,;=:@"  # RFC 3986 §3.3: what a path may have as it is

Field = tuple[bytes, bytes]


def request_of(scope: Scope) -> Request:
    """The request that a scope describes, its body not looked at."""
    fields = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    request = Request(
        scope["method"], path_of(scope), query=scope.get("query_string", b"").decode("latin-1"), headers=Headers.of(fields)
    )
    request.peer = caller_of(scope)
    return request


def path_of(scope: Scope) -> str:
    """The path below ``root_path``, percent-encoded as the caller sent it where the server tells."""
    raw = scope.get("raw_path")
    path = quote(scope["path"], safe=_PLAIN) if raw is None else raw.decode("latin-1").partition("?")[0]
    if not path.startswith("/") and "://" in path:  # a target in absolute form, which some servers hand on as it is
        path = "/" + path.partition("://")[2].partition("/")[2]
    root = scope.get("root_path", "").rstrip("/")
    for prefix in (root, quote(root, safe=_PLAIN)) if root else ():
        # Some servers put it before the path and some do not: only what is there is taken off.
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            path = path[len(prefix) :]
            break
    return path or "/"


def caller_of(scope: Scope) -> str:
    """The caller's address as text: ``host:port``, IPv6 in brackets; empty where the server knows none."""
    client = scope.get("client")
    if not client or not client[0]:
        return ""
    host, port = client[0], client[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announces_body(scope: Scope, request: Request) -> tuple[bool, int | None]:
    """Whether a body follows, and its length where the caller says it."""
    length = request.headers.get("content-length")
    if length is not None and length.isdigit():
        return int(length) > 0, int(length)
    # From HTTP/2 on the frames tell where a body ends, and nothing before the body tells that there is one.
    return "transfer-encoding" in request.headers or scope.get("http_version", "1.1")[:1] != "1", None


def answer_fields(response: Response, method: str, *, last: bool) -> tuple[list[Field], int | None, bool]:
    """Fields of an answer, the bytes of body that they promise, and whether none follow whatever the answer holds.

    ``last`` closes its connection. ``ValueError`` for a status or length that cannot be sent.
    """
    status = response.status
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is not the status of an answer")
    fields, length = [], None
    for field in response.headers.raw:
        if field[0] not in _OWNED:
            fields.append(field)
        elif field[0] == b"content-length":
            if not field[1].isdigit():
                raise ValueError(f"content-length is {field[1]!r}, not a number")
            length = int(field[1])
    empty = method == "HEAD" or status in BODYLESS
    body = response.body
    if isinstance(body, bytes) and (body or length is None or not empty):
        length = len(body)
    if length is not None and status not in BODYLESS:
        fields.append((b"content-length", b"%d" % length))
    if last:
        fields.append((b"connection", b"close"))
    return fields, length, empty
