"""Who this instance is: an address that others can reach, an id that survives a restart, a boot id that does not."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mizzen.rules.discovery import Instance
from mizzen.rules.discovery import instance_id as default_id
from mizzen.words.errors import StartError

WILDCARDS = ("", "0.0.0.0", "::")  # compared with, never bound here

RESERVED = ("boot", "scheme", "version", "zone")
"""Keys of the metadata that say something else already."""
KEYS_MOST, KEY_LONGEST, VALUE_LONGEST = 60, 128, 512
"""What the narrowest registry takes as metadata: Consul's 64 keys less ours, and its longest key and value."""
NOWHERE = (("192.0.2.1", 9), ("2001:db8::1", 9))
"""Addresses that are never a real host (RFC 5737, RFC 3849), to ask for the route to everywhere else."""

_POINTS = dict.fromkeys(map(ord, "._-"))


def advertised(
    *, advertise: str | None, host: str, environ: Mapping[str, str], registry_loopback: bool, towards: tuple[str, int] | None
) -> str:
    """The address that others reach us at: the configured one, else ``POD_IP``, else the one that we bind, else ours on
    the route to the registry. IPv6 addresses come without brackets.

    ``StartError`` when that is loopback while the registry is not, or no address at all: nobody could call it.
    """
    if advertise:
        address = advertise.strip("[]")
    elif environ.get("POD_IP"):
        address = environ["POD_IP"].strip("[]")
    elif host not in WILDCARDS:
        address = host.strip("[]")
    elif registry_loopback:
        address = "127.0.0.1"
    else:
        address = _by_route(towards)
    if address in WILDCARDS:
        wrong = "is every address and therefore none"
    elif not _names_a_host(address):
        wrong = "is neither an address nor a name of a host"
    elif not registry_loopback and is_loopback(address):
        wrong = "only this machine reaches"
    else:
        return address
    raise StartError(
        f"this instance would be announced at {address}, which {wrong}",
        fix="set services.<name>.advertise to an address that other machines reach, or POD_IP",
    )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own loopback."""
    name = host.strip("[]").partition("%")[0].lower().removeprefix("::ffff:")
    return name.rstrip(".") == "localhost" or name.startswith("127.") or name in ("::1", "0:0:0:0:0:0:0:1")


def instance_of(
    service: str,
    address: str,
    port: int,
    *,
    instance_id: str | None,
    version: str,
    scheme: str = "http",
    zone: str = "",
    weight: int = 1,
    tags: Sequence[str] = (),
    meta: Mapping[str, str] | None = None,
) -> Instance:
    """This life of this instance: the id is the same after a restart, the boot id in the metadata is not.

    ``StartError`` for metadata under a key that has a meaning of its own, or more of it than registries take.
    """
    meta = meta or {}
    if taken := [key for key in meta if key in RESERVED]:
        raise StartError(
            f"services.{service}.meta sets {', '.join(taken)}, which says something else already",
            fix=f"choose another name: {', '.join(RESERVED)} are Mizzen's",
        )
    if much := _too_much(meta):
        raise StartError(f"services.{service}.meta{much}", fix="say less there: no registry takes that much of one instance")
    return Instance(
        id=instance_id or default_id(service, address, port),
        service=service,
        host=address,
        port=port,
        scheme=scheme,
        version=version,
        zone=zone,
        weight=weight,
        meta={**meta, "boot": uuid.uuid4().hex},
        tags=tuple(tags),
    )


def _names_a_host(address: str) -> bool:
    """Whether callers can make a URL of it; the path of a Unix socket is a place too, which is announced to nobody."""
    if address.startswith("unix:"):
        return True
    if ":" not in address:
        return address.isascii() and address.translate(_POINTS).isalnum()
    try:
        socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return False
    return True


def _too_much(meta: Mapping[str, str]) -> str:
    if len(meta) > KEYS_MOST:
        return f" has more than {KEYS_MOST} keys"
    for key, value in meta.items():
        if len(key) > KEY_LONGEST:
            return f" has a key of more than {KEY_LONGEST} characters, {key[:20]}…"
        if len(value) > VALUE_LONGEST:
            return f".{key} has more than {VALUE_LONGEST} characters"
    return ""


def _by_route(towards: tuple[str, int] | None) -> str:
    """Our address on the way to the registry, else, while its name has no address yet, on the way to everywhere else."""
    for host, port in (*([towards] if towards else []), *NOWHERE):
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError:  # a registry that is down at start, with its name: no reason not to serve
            continue
        for family, kind, protocol, _, at in found:
            if (address := _source(family, kind, protocol, at)) and not is_loopback(address):
                return address
    return "127.0.0.1"


def _source(family: int, kind: int, protocol: int, at: Any) -> str | None:
    """Our address on the way there; nothing is sent: connecting a datagram socket only looks up the route."""
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(at)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:  # no such family, or no route
        return None
