"""Who this instance is: an address that others can reach, an id that survives a restart, a boot id that does not."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping

from mizzen.rules.discovery import Instance
from mizzen.rules.discovery import instance_id as default_id
from mizzen.words.errors import StartError

WILDCARDS = ("", "0.0.0.0", "::")  # compared with, never bound here


def advertised(
    *, advertise: str | None, host: str, environ: Mapping[str, str], registry_loopback: bool, towards: tuple[str, int] | None
) -> str:
    """The address that others reach us at: the configured one, else ``POD_IP``, else ours on the route to the registry.

    ``StartError`` when that is loopback while the registry is not: nobody else could reach it.
    """
    if advertise:
        address = advertise
    elif environ.get("POD_IP"):
        address = environ["POD_IP"]
    elif host not in WILDCARDS:
        address = host
    elif registry_loopback:
        address = "127.0.0.1"
    else:
        address = _by_route(towards)
    if not registry_loopback and is_loopback(address):
        raise StartError(
            f"this instance would be announced at {address}, which only this machine reaches",
            fix="set services.<name>.advertise to an address that other machines reach, or POD_IP",
        )
    return address


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own loopback."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def instance_of(
    service: str,
    address: str,
    port: int,
    *,
    instance_id: str | None,
    version: str,
    scheme: str = "http",
    meta: Mapping[str, str] | None = None,
) -> Instance:
    """This life of this instance: the id is the same after a restart, the boot id in the metadata is not."""
    return Instance(
        id=instance_id or default_id(service, address, port),
        service=service,
        host=address,
        port=port,
        scheme=scheme,
        version=version,
        meta={**(meta or {}), "boot": uuid.uuid4().hex},
    )


def _by_route(towards: tuple[str, int] | None) -> str:
    """Our address on the way to ``towards``; nothing is sent: connecting a datagram socket only looks up the route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(towards or ("192.0.2.1", 9))  # TEST-NET-1, RFC 5737: never a real host
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
