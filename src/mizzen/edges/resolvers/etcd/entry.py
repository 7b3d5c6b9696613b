"""Entry: how an instance is written in etcd: ``<prefix>/<service>/<instance id>`` and a JSON value with a schema version."""

from __future__ import annotations

from base64 import b64decode, b64encode

import msgspec

from mizzen.rules.discovery import Instance, is_host

SCHEMA = 1
"""Of the value; goes up when an older reader would misunderstand a newer value, not when a field is added."""
SERVED = ("", "passing", "warning")
"""Verdicts with which an instance is in the set; who writes none says with the key that it is there."""

_SCHEMES = ("http", "https")


class Entry(msgspec.Struct, omit_defaults=True):
    """The value under an instance's key; id and service are in the key, and not said twice."""

    v: int
    host: str
    port: int
    scheme: str = "http"
    version: str = ""
    zone: str = ""
    weight: int = 1
    meta: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    status: str = ""
    note: str = ""

    @property
    def boot(self) -> str:
        return self.meta.get("boot", "")


class _Schema(msgspec.Struct):
    v: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode
_schema = msgspec.json.Decoder(_Schema).decode


def base64(text: str) -> str:
    """As the gateway wants keys."""
    return b64encode(text.encode()).decode()


def key_of(prefix: str, service: str, id: str) -> str:
    """The key of an instance, base64."""
    return base64(f"{prefix}/{service}/{id}")


def span_of(prefix: str, service: str) -> dict[str, str]:
    """The keys of a service, as requests have it: from its ``/`` to what sorts right after it."""
    return {"key": base64(f"{prefix}/{service}/"), "range_end": base64(f"{prefix}/{service}0")}


def id_in(key: str, prefix: str, service: str) -> str:
    """The instance's id in a key of that service."""
    return b64decode(key).decode("utf-8", "replace").removeprefix(f"{prefix}/{service}/")


def value_of(instance: Instance, verdict: str, note: str) -> str:
    """The value, base64."""
    entry = Entry(
        v=SCHEMA,
        host=instance.host,
        port=instance.port,
        scheme=instance.scheme,
        version=instance.version,
        zone=instance.zone,
        weight=instance.weight,
        meta=instance.meta,
        tags=instance.tags,
        status=verdict,
        note=note,
    )
    return b64encode(_encode(entry)).decode()


def entry_in(value: str) -> Entry:
    """The entry in a value, base64; ``ValueError`` says what is wrong with it."""
    data = b64decode(value)
    try:
        entry = _decode(data)
    except msgspec.ValidationError:
        if (version := _schema(data).v) != SCHEMA:
            raise ValueError(_newer(version)) from None
        raise
    if entry.v != SCHEMA:
        raise ValueError(_newer(entry.v))
    if not is_host(entry.host):
        raise ValueError(f"{entry.host!r} is no host")
    if not 0 < entry.port < 65536:
        raise ValueError(f"{entry.port} is no port")
    if entry.scheme not in _SCHEMES:
        raise ValueError(f"{entry.scheme!r} is no scheme of ours")
    return entry


def _newer(version: int) -> str:
    return f"it is of schema {version}, and this Mizzen reads {SCHEMA}"


def boot_in(value: str) -> str:
    """The boot id in a value, base64; empty where there is none, or no entry at all."""
    try:
        return entry_in(value).boot
    except ValueError:
        return ""


def instance_of(service: str, id: str, entry: Entry) -> Instance:
    """The instance that an entry describes."""
    return Instance(
        id=id,
        service=service,
        host=entry.host,
        port=entry.port,
        scheme=entry.scheme,
        version=entry.version,
        zone=entry.zone,
        weight=max(1, entry.weight),
        meta=entry.meta,
        tags=entry.tags,
    )
