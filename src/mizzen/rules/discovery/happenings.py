"""Happenings: what a store tells of, each once."""

from __future__ import annotations

import msgspec


class Changed(msgspec.Struct, frozen=True):
    """Instances came or went, as callers see it."""

    service: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    total: int


class Held(msgspec.Struct, frozen=True):
    """Instances missing from the last read are kept; told once per hold."""

    service: str
    known: int
    offered: int
    seconds: float
    """Until they are let go, unless something changes; look again (``tick``) then."""


class Lost(msgspec.Struct, frozen=True):
    """The registry cannot be read any more; told once per outage."""

    service: str
    serving: int
    error: Exception


class Back(msgspec.Struct, frozen=True):
    """The registry can be read again."""

    service: str
    seconds: float
    """How long it was lost."""


class Recalled(msgspec.Struct, frozen=True):
    """Instances were taken from disk, since the registry has said nothing yet."""

    service: str
    total: int
    age: float
    """Seconds since a registry had them."""


StoreEvent = Changed | Held | Lost | Back | Recalled
