"""Rules of HTTP/1.1 framing that the parser leaves to its user; the ways in which two parsers come to disagree."""

from __future__ import annotations

import re
from typing import Any

from mizzen.words.lazy import pattern

CHUNKED = b"chunked"
CHUNK_OVERHEAD = 32
"""Bytes around one chunk that are no reason for suspicion: its size, two line ends and a short extension."""

# RFC 3986 §3.2.2 reg-name or address in brackets, and port; no userinfo, which RFC 9110 §4.2.4 tells us not to trust.
_AUTHORITY = pattern(rb"(?:(?:[0-9A-Za-z.\-_~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = pattern(rb"https?://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)


class Refused(Exception):
    """A request that is not read any further: the status and the reason that its sender is told."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def is_authority(value: bytes) -> bool:
    """Whether a Host value is one host and at most one port, and nothing that could be taken for something else."""
    return _AUTHORITY.fullmatch(value) is not None


def says_close(value: bytes) -> bool:
    """Whether a Connection value has the option ``close`` in it, whatever else it asks for."""
    return any(option.strip(b" \t") == b"close" for option in value.lower().split(b","))


def may_keep(keep: bool, version: str, coding: bytes | None, connection: bytes | None) -> bool:
    """Whether a connection goes on after an answer, by rules that the parser does not know.

    Raises ``ValueError`` for another version than 1.0 and 1.1.
    In HTTP/1.0 a Transfer-Encoding is a sign of faulty framing (RFC 9112 §6.1), and close wins over keep-alive (§9.3).
    """
    if version == "1.1":
        return keep
    if version != "1.0":
        raise ValueError(f"its version is {version}")
    return keep and coding is None and not (connection is not None and says_close(connection))


def is_chunked(value: bytes) -> bool:
    """Whether a Transfer-Encoding is the single coding that we read; coding names are case-insensitive."""
    return value.lower() == CHUNKED


def split_target(method: str, target: bytes) -> tuple[str, str, bytes | None]:
    """Path, query and, in absolute form, the authority that stands for Host; ``Refused`` for other forms."""
    if method == "CONNECT":
        raise Refused(501, "CONNECT is not supported: this is no proxy")
    if b"#" in target:
        raise Refused(400, "the request target has a fragment in it")
    if target[:1] == b"/":
        path, _, query = target.decode("ascii").partition("?")
        return path, query, None
    if target == b"*":
        if method != "OPTIONS":
            raise Refused(400, f"the request target * is for OPTIONS, not for {method}")
        return "*", "", None
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not is_authority(match[1]) or match[1][:1] == b":":
        raise Refused(400, "the request target is neither a path nor a URL")
    return (match[2] or b"/").decode("ascii"), (match[3] or b"").decode("ascii"), match[1]


def peer_name(address: Any) -> str:
    """A caller's address as text: ``host:port``, IPv6 in brackets; empty where there is none, as on a Unix socket."""
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
