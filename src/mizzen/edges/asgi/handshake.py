"""The handshake of a WebSocket (RFC 6455 §4.2): what a caller has to say, and what it is told."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NamedTuple

from mizzen.words.errors import Answer, BadRequest
from mizzen.words.message import Request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
VERSION = "13"


class UpgradeRequired(Answer):
    """The caller speaks another version of the protocol."""

    status = 426


class Unimplemented(Answer):
    """What would speak the protocol is not installed."""

    status = 501


class Offer(NamedTuple):
    """What a caller offers in its handshake."""

    accept: bytes
    """What proves to it that its handshake was understood."""
    subprotocols: tuple[str, ...]


def is_handshake(raw: list[tuple[bytes, bytes]]) -> bool:
    """Whether these are the fields of a request to speak WebSocket: it names the protocol, and asks for the change."""
    for name, _ in raw:
        if name == b"upgrade":
            return b"websocket" in _tokens(raw, b"upgrade") and b"upgrade" in _tokens(raw, b"connection")
    return False


def offer_of(request: Request) -> Offer:
    """What the caller offers; ``BadRequest`` or ``UpgradeRequired`` when it is no handshake that we understand."""
    if request.body != b"":
        raise BadRequest("the handshake of a WebSocket has no body")
    version = request.headers.all("sec-websocket-version")
    if version != [VERSION]:
        raise UpgradeRequired(f"WebSocket version {VERSION} is spoken here", headers={"sec-websocket-version": VERSION})
    keys = request.headers.all("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadRequest("Sec-WebSocket-Key is not one key of 16 bytes in base64")
    digest = hashlib.sha1(keys[0].encode("latin-1") + _GUID, usedforsecurity=False).digest()
    names = ",".join(request.headers.all("sec-websocket-protocol")).split(",")
    return Offer(base64.b64encode(digest), tuple(name.strip() for name in names if name.strip()))


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key.encode("latin-1"), validate=True)) == 16
    except binascii.Error:
        return False


def _tokens(raw: list[tuple[bytes, bytes]], field: bytes) -> set[bytes]:
    return {token.strip().lower() for name, value in raw if name == field for token in value.split(b",")}
