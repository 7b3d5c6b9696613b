"""Link: what a request came over, for whoever has to tell."""

from __future__ import annotations

import asyncio
from typing import Any

Link = tuple[asyncio.BaseTransport, bool]
"""The transport of a request's connection, and whether the request spoke HTTP/1.0: no more than what costs nothing."""

Address = tuple[str, int | None]
"""Host and port; the path and None for a Unix socket."""


def caller(link: Link) -> Address | None:
    """The address of the one that asked; None where it has none, as on a Unix socket."""
    return _address(link[0].get_extra_info("peername"))


def local(link: Link) -> Address | None:
    """The address that it asked at."""
    return _address(link[0].get_extra_info("sockname"))


def is_secure(link: Link) -> bool:
    """Whether it came over TLS."""
    return link[0].get_extra_info("ssl_object") is not None


def _address(name: Any) -> Address | None:
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return (name, None) if isinstance(name, str) and name else None
