"""What a check may probe, and with what: a registry is no scanner, and every probe must be a request that can be sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from mizzen.words.message import Headers

from .refusal import Refusal, unsupported


def sendable(method: str, url: str, header: Mapping[str, list[str]]) -> None:
    """Refuse what no request can be made of: every later probe would fail as if it were a defect of ours."""
    if not (method.isascii() and method.isalpha()) or method == "CONNECT":
        raise Refusal(400, f"Invalid check: {method!r} is no method")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise Refusal(400, f"Invalid check: {url!r} cannot be probed: it must be percent-encoded")
    try:
        Headers((name, value) for name, values in header.items() for value in values or [""])
    except ValueError as error:
        raise Refusal(400, f"Invalid check: {error}") from None


def probed(kind: str, target: str) -> None:
    """Refuse a probe of anything but this machine and private networks."""
    try:
        parts = urlsplit(target if kind == "http" else f"//{target}")
        readable = parts.scheme in ("http", "https") if kind == "http" else parts.port is not None
        host = parts.hostname if readable and (parts.port is None or parts.port) else None
    except ValueError:
        host = None
    if not host:
        raise Refusal(400, f"Invalid check: {target!r} cannot be probed")
    if host == "localhost":
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise unsupported(f"a check of the name {host!r} (write an address)", 400) from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address  # ::ffff:8.8.8.8 goes to 8.8.8.8, whatever else that notation is called
    if not (address.is_loopback or (address.is_private and not address.is_link_local)) or address.is_unspecified:
        raise unsupported(f"a check of {host}: it probes loopback and private addresses only", 400)
