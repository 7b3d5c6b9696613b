"""``dns:{service}.shop.internal?type=srv|a&port=8101&server=127.0.0.1:53``: names in DNS, and the URL's options."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING

from mizzen.edges.resolvers import DnsResolver
from mizzen.rules.config import hide_password
from mizzen.words.errors import StartError
from mizzen.words.lazy import pattern

from .backend import Backend, Means, options_of

if TYPE_CHECKING:
    from mizzen.edges.resolvers.dns.records import Ask

OPTIONS = ("type", "port", "server")
FORM = "such as dns:_http._tcp.{service}.shop.internal?type=srv, or dns:{service}.shop.internal?port=8101"

_NAME = pattern(r"(?=.{1,253}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")


def dns(url: str, means: Means) -> Backend:
    """The names that ``url`` means; ``StartError`` when they are none, or what it takes to ask for them is not there."""
    shown = hide_password(url)
    template, _, query = url.partition(":")[2].partition("?")
    template = template or "{service}"
    if not _NAME.fullmatch(template.replace("{service}", "x")):
        raise StartError(f"{shown!r} is not a name in DNS", fix=FORM)
    options = options_of(query, shown, OPTIONS)
    mode = options.get("type") or ("a" if "port" in options else "srv")
    port = options.get("port", "")
    if mode not in ("a", "srv"):
        raise StartError(f"{shown} has type={mode}", fix="it takes type=srv, or type=a (A and AAAA) with port=")
    if mode == "srv" and port:
        raise StartError(f"{shown} has type=srv and a port, which SRV records say themselves", fix="leave out one of the two")
    if mode == "a" and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        what = f"has port={port}" if port else "has no port, and addresses in DNS do not say one"
        raise StartError(f"{shown} {what}", fix="it takes the port of the service, such as port=8101, or type=srv")
    server = _server(options["server"], shown) if "server" in options else None
    resolver = names(shown, lambda service: template.replace("{service}", service), means, port=int(port or 0), server=server)
    return Backend(shown, resolver, None, server)


def names(
    shown: str,
    name: Callable[[str], str],
    means: Means,
    *,
    port: int = 0,
    scheme: str = "http",
    server: tuple[str, int] | None = None,
) -> DnsResolver:
    """A resolver for ``name`` of a service: its addresses behind ``port``, else its SRV records, which say the port.

    ``StartError`` in the name of ``shown`` when that takes dnspython, and it is not installed.
    """
    from mizzen.edges.resolvers.dns.system import routed

    return DnsResolver(
        _asking(shown, srv=not port, server=server),
        name=name,
        mode="a" if port else "srv",
        port=port,
        scheme=scheme,
        random=means.random,
        routed=routed,
    )


def _asking(shown: str, *, srv: bool, server: tuple[str, int] | None) -> Ask:
    """dnspython where it is installed, else the system's own look-up, which knows addresses only."""
    try:
        from mizzen.edges.resolvers.dns.dnspython import DnsPython
    except ImportError:
        what = "reads SRV records" if srv else "asks a server of its own" if server else ""
        if what:
            raise StartError(f"{shown} {what}, which takes dnspython", fix="pip install 'mizzen[dns]'") from None
        from mizzen.assembly.lookups import Lookups
        from mizzen.edges.resolvers.dns.system import SystemNames

        return SystemNames(Lookups())
    return DnsPython(server=server)


def _server(text: str, shown: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":") if not text.endswith("]") and text.count(":") != 0 else (text, "", "53")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) < 65536 or (separator and address.version == 6 and not host.startswith("[")):
            raise ValueError
    except ValueError:
        fix = "it takes an address, since a name would need a server first: server=10.0.0.10:53, or [fd00::a]:53"
        raise StartError(f"{shown} has server={text}", fix=fix) from None
    return str(address), int(port)
