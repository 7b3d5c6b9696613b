"""Entry: how an instance is written in Consul, and whether what stands there is still that."""

from __future__ import annotations

from typing import Any

import msgspec

from mizzen.rules.discovery import DuplicateId, Instance, Outdated
from mizzen.words.clock import format_duration

from .agent import PEER

HTTP_INTERVAL = 10.0
"""Seconds between Consul's own looks at ``/health``."""
HTTP_TIMEOUT = 2.0
"""Seconds; Consul's default of 10 would let a hung instance pass for most of an interval."""
BOOT_SHOWN = 8
"""Characters of a boot id that tell two lives apart in a message."""


class Entry(msgspec.Struct, rename="pascal"):
    """A service as agents and catalogs answer it: the parts that a registration writes."""

    address: str = ""
    port: int = 0
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    weights: dict[str, int] | None = None

    @property
    def boot(self) -> str:
        return (self.meta or {}).get("boot", "")

    def says(self, instance: Instance) -> bool:
        """Whether it is what registering ``instance`` writes: an operator, or a tool, may have edited it."""
        return (
            (self.address, self.port) == (instance.host, instance.port)
            and sorted(self.tags or ()) == sorted(instance.tags)
            and (self.meta or {}) == meta_of(instance)
            and (self.weights or {}).get("Passing", 1) == instance.weight
        )


class Standing(msgspec.Struct):
    """What a registrar knows of an instance that it registered; times on its clock."""

    boot: str
    looked: float
    """When its entry was last seen to be there and ours."""
    beat: float
    """When a heartbeat last arrived."""
    token: str | None = None
    """With which it was registered: agents keep it, and go on writing to the catalog with it."""


def fields_of(instance: Instance) -> dict[str, Any]:
    """The fields of a service that agent and catalog name alike."""
    return {
        "ID": instance.id,
        "Address": instance.host,
        "Port": instance.port,
        "Tags": list(instance.tags),
        "Meta": meta_of(instance),
        "Weights": {"Passing": instance.weight, "Warning": 1},
        "EnableTagOverride": False,
    }


def meta_of(instance: Instance) -> dict[str, str]:
    """Consul has no place of its own for these: they travel in the metadata."""
    said = {"scheme": instance.scheme, "version": instance.version, "zone": instance.zone}
    return {**instance.meta, **{key: value for key, value in said.items() if value}}


def probe_of(url: str, interval: float) -> dict[str, Any]:
    """The part of a check by which somebody else looks at ``url``; ``interval`` in seconds."""
    return {
        "HTTP": url,
        # whoever asks does so by address, which is on few certificates, and believes no more than a status
        **({"TLSSkipVerify": True} if url.startswith("https:") else {}),
        "Method": "GET",
        "Interval": f"{round(interval * 1000)}ms",
        "Timeout": f"{round(HTTP_TIMEOUT * 1000)}ms",
    }


def health_url(instance: Instance, path: str, port: int | None) -> str:
    """Where ``/health`` of an instance is: on its own port, or on ``port``, where it is always plain HTTP."""
    at = instance if port is None else msgspec.structs.replace(instance, port=port, scheme="http")
    return at.origin + path


def duplicate(instance: Instance, entry: Entry, since: float) -> DuplicateId:
    """The error that another life under our id is; ``since`` is how many seconds ago the entry was still ours."""
    return DuplicateId(
        f"{instance.id} was ours in consul {format_duration(since)} ago and is now boot {entry.boot[:BOOT_SHOWN] or '(none)'}"
        f" at {entry.address}:{entry.port}, while we are boot {instance.boot[:BOOT_SHOWN]} at {instance.host}:{instance.port}:"
        f" two processes share one id; give each an instance_id of its own, or none, and end the one that is not wanted",
        peer=PEER,
    )


def outdated(what: str) -> Outdated:
    """The error that another registration mends; ``what`` says what Consul had, or was."""
    return Outdated(what, peer=PEER)


def ttl_check_id(instance: Instance) -> str:
    """The id of the check that carries our verdict."""
    return f"service:{instance.id}:ttl"


def http_check_id(instance: Instance) -> str:
    """The id of the check by which somebody else looks at ``/health``."""
    return f"service:{instance.id}:http"
