"""What a check may probe, and with what: a registry is no scanner, and every probe must be a request that can be sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from mizzen.words.message import Headers

from .refusal import Refusal, unsupported

PROBED = tuple(
    ipaddress.ip_network(text)
    for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
"""Loopback (RFC 1122, RFC 4291) and private networks (RFC 1918, RFC 4193). What Python calls private is more, among it
networks for documentation and tunnels, and not the same in every version."""
METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254")))
"""Where clouds hand out a machine's credentials under a private address: EC2 and Google Cloud over IPv6."""


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
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _unreadable(target) from None
    if kind == "http" and "@" in parts.netloc:  # the target is not repeated: it has a password in it
        raise unsupported("a user in the URL of an HTTP check (write it as the field Authorization of its Header)", 400)
    readable = parts.scheme in ("http", "https") if kind == "http" else port is not None and parts.netloc == target
    if not readable or not host or port == 0 or "@" in parts.netloc or "%" in host:
        raise _unreadable(target)
    if host == "localhost":
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise unsupported(f"a check of the name {host!r} (write an address)", 400) from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address  # ::ffff:8.8.8.8 goes to 8.8.8.8, whatever else that notation is called
    if address in METADATA or not any(address in network for network in PROBED):
        raise unsupported(f"a check of {host}: it probes loopback and private addresses only", 400)


def _unreadable(target: str) -> Refusal:
    return Refusal(400, f"Invalid check: {target!r} cannot be probed")
