"""Who may ask: this machine, or whoever has the token; never a web page."""

from __future__ import annotations

import hmac
import ipaddress

from mizzen.words.message import Request

from .refusal import Refusal


class Guard:
    """Lets a request through or raises a `Refusal`.

    Without a token only callers on loopback are served, and only under a name of loopback: a page that had its own
    name point to 127.0.0.1 (DNS rebinding) still sends that name as ``Host``. An ``Origin`` always means a page.
    """

    def __init__(self, token: str | None) -> None:
        self.token = token

    def check(self, request: Request) -> None:
        headers = request.headers
        if "origin" in headers:
            raise Refusal(403, "the embedded registry answers no web pages (the request has an Origin header)")
        if self.token:  # an empty one would let in whoever shows none
            if not hmac.compare_digest(self._shown(request).encode(), self.token.encode()):
                raise Refusal(403, "Permission denied: this registry wants its token in X-Consul-Token")
            return
        if request.peer and not is_loopback(_host(request.peer)):
            raise Refusal(403, "the embedded registry answers this machine only; start it with a token to let others in")
        host = headers.get("host")
        if host and not is_loopback(_host(host)):
            raise Refusal(403, f"the embedded registry does not answer for the host {host!r}: ask 127.0.0.1 or localhost")

    def _shown(self, request: Request) -> str:
        bearer = request.headers.get("authorization", "") or ""
        return request.headers.get("x-consul-token") or bearer.removeprefix("Bearer ")

    def __repr__(self) -> str:
        return f"<Guard {'token' if self.token else 'loopback only'}>"


def is_loopback(host: str) -> bool:
    """Whether that host is this machine and no other."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761: never leaves the machine
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None  # as a dual-stack socket has it
    return (mapped or address).is_loopback


def _host(address: str) -> str:
    """The host of ``host``, ``host:port`` or ``[v6]:port``."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return (address if address.count(":") > 1 else address.partition(":")[0]).rstrip(".").lower()
