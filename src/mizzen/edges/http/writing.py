"""Heads of messages as bytes: one join per message, with everything that can be cached cached."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from mizzen.words.lazy import pattern
from mizzen.words.message import Request, Response
from mizzen.words.statuses import PHRASES

LARGE = 256 * 1024
"""Bytes of body from which copying it behind its head costs more than a second piece in the transport's buffer, which
uvloop then writes later and by another way (100 KiB: 51 us in one piece, 56 us in two)."""

USER_AGENT = b"user-agent: mizzen\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BODYLESS = frozenset({204, 304})
"""Statuses whose answers have neither a body nor a length (RFC 9110 §6.4.1)."""

_STATUS = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii")) for status, phrase in PHRASES.items() if status >= 200
}
_OWNED = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive"})
"""Fields that belong to the connection: a handler's own would contradict what is sent."""
_METHODS = {name: name.encode() + b" " for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")}
_TOKEN = pattern(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_EXPECTING = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests carry a length even without a body (RFC 9110 §8.6)."""
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def date_line(wall: float) -> bytes:
    """The ``date`` field for a wall-clock time; names are English whatever the locale."""
    at = datetime.fromtimestamp(wall, UTC)
    values = (_DAYS[at.weekday()], at.day, _MONTHS[at.month - 1], at.year, at.hour, at.minute, at.second)
    return b"date: %b, %02d %b %04d %02d:%02d:%02d GMT\r\n" % values


Head = tuple[bytes, bool, int | None, bool, bool]
"""The head of an answer (a whole body of less than ``LARGE`` bytes included), whether the connection ends with it, the
bytes of body that it promises, whether they are chunked, and whether none follow whatever the answer holds."""


def answer_head(response: Response, method: str, keep: bool, old: bool, date: bytes) -> Head:
    """The head of an answer; ``ValueError`` for a status or length that cannot be sent.

    ``keep`` is whether the connection may go on, ``old`` whether the caller speaks HTTP/1.0.
    """
    status = response.status
    parts = [_STATUS.get(status) or _unnamed(status), date]
    length = None
    for name, value in response.headers.raw:
        if name in _OWNED:
            if name == b"content-length":
                if not value.isdigit():
                    raise ValueError(f"content-length is {value!r}, not a number")
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                keep = False
        else:
            parts += (name, b": ", value, b"\r\n")
    body = response.body
    chunked = False
    empty = method == "HEAD" or status in BODYLESS
    if isinstance(body, bytes):
        if body or length is None or not empty:
            length = len(body)
    else:
        body = b""
        if length is None and not empty:
            chunked = not old
            keep = keep and chunked  # without a length, HTTP/1.0 marks the end of a body by closing
    if length is not None and status not in BODYLESS:
        parts.append(_length_line(length))
    elif chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    if not keep:
        parts.append(b"connection: close\r\n\r\n")
    elif old:
        parts.append(b"connection: keep-alive\r\n\r\n")
    else:
        parts.append(b"\r\n")
    if not empty and len(body) < LARGE:
        parts.append(body)
    return b"".join(parts), not keep, length, chunked, empty


@lru_cache(1024)
def _length_line(length: int) -> bytes:
    return b"content-length: %d\r\n" % length  # formatting costs as much as all the rest of a small head


def _unnamed(status: int) -> bytes:
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is not the status of an answer")
    return b"HTTP/1.1 %d \r\n" % status


def request_head(request: Request, host: bytes) -> bytes:
    """The head of a request up to its body; ``ValueError`` for a method or target that would break it apart."""
    method = _METHODS.get(request.method)
    if method is None:
        if not _TOKEN.fullmatch(request.method) or request.method == "CONNECT":
            raise ValueError(f"{request.method!r} is not a method that can be sent")
        method = request.method.encode() + b" "
    target = f"{request.path}?{request.query}" if request.query else request.path
    if not (target.isascii() and target.isprintable()) or " " in target or (target[:1] != "/" and target != "*"):
        raise ValueError(f"{target!r} is not a request target: it starts with / and is percent-encoded")
    parts = [method, target.encode("ascii"), b" HTTP/1.1\r\n"]
    named = agent = False
    for name, value in request.headers.raw:
        if name in _OWNED:
            if name == b"connection":
                parts += (b"connection: ", value, b"\r\n")
        else:
            named = named or name == b"host"
            agent = agent or name == b"user-agent"
            parts += (name, b": ", value, b"\r\n")
    if not named:
        parts.append(host)
    if not agent:
        parts.append(USER_AGENT)
    body = request.body
    if not isinstance(body, bytes):
        parts.append(b"transfer-encoding: chunked\r\n\r\n")
    elif body or request.method in _EXPECTING:
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
    else:
        parts.append(b"\r\n")
    return b"".join(parts)


def chunk(piece: bytes) -> bytes:
    """One chunk of a chunked body; an empty piece would end it and must not be given."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
