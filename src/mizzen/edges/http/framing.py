"""Rules of HTTP/1.1 framing that the parser leaves to its user; the ways in which two parsers come to disagree."""

from __future__ import annotations

import re

CHUNKED = b"chunked"

# RFC 3986 §3.2.2 reg-name, address and port; no userinfo, which RFC 9110 §4.2.4 tells us not to trust.
_AUTHORITY = re.compile(rb"[0-9A-Za-z.\-_~%!$&'()*+,;=:\[\]]*")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)


class Refused(Exception):
    """A request that is not read any further: the status and the reason that its sender is told."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def is_authority(value: bytes) -> bool:
    """Whether a Host value is host and port, and nothing that could be taken for something else."""
    return _AUTHORITY.fullmatch(value) is not None


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
    if match is None or not is_authority(match[1]):
        raise Refused(400, "the request target is neither a path nor a URL")
    return (match[2] or b"/").decode("ascii"), (match[3] or b"").decode("ascii"), match[1]
