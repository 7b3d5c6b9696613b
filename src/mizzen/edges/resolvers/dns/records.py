"""What DNS says of a service, whoever asks it: questions, answers, and how SRV records are read (RFC 2782)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from mizzen.words.errors import NoInstances

Kind = Literal["A", "AAAA", "SRV"]
"""The types of records that name a service's instances."""
FAMILIES: tuple[Kind, Kind] = ("A", "AAAA")
PEER = "dns"
"""Whom errors name."""

SMALL = 10
"""Times that an instance of weight 1 is preferred to one of weight 0, which the RFC gives a very small chance."""


class Srv(msgspec.Struct, frozen=True):
    """One SRV record; the target ends with a dot, and ``.`` alone says that the service is not there."""

    priority: int
    weight: int
    port: int
    target: str


class Said(msgspec.Struct, frozen=True):
    """One answer that has records of the kind asked for."""

    ttl: float
    """Seconds that it may be kept: the least of all records that led to it."""
    addresses: tuple[str, ...] = ()
    """Of A or AAAA."""
    services: tuple[Srv, ...] = ()
    """Of SRV."""
    extra: dict[str, tuple[str, ...]] = {}
    """Addresses of targets that the server added unasked."""
    kept: bool = True
    """Whether it may come from a cache: asked again before its time is over, it would be the same."""


class Absent(NoInstances):
    """There is no such name, or it has no record of that kind."""


class Ask(Protocol):
    """Asks DNS one question, in bounded time."""

    async def __call__(self, name: str, kind: Kind) -> Said:
        """The records of that kind; ``Absent`` when there is none, another ``CallError`` when nobody can say."""
        ...


def preferred(records: Iterable[Srv]) -> list[Srv]:
    """The records of the lowest priority; none when the service is said not to be there."""
    there = [record for record in records if record.target != "." and record.port]
    least = min((record.priority for record in there), default=0)
    return [record for record in there if record.priority == least]


def weights(records: Sequence[Srv]) -> list[int]:
    """A weight for each record, at least 1, as small as their ratio allows: equal ones stay equal in every answer."""
    if not any(record.weight for record in records):
        return [1] * len(records)
    zero = any(record.weight == 0 for record in records)
    scaled = [record.weight * (SMALL if zero else 1) or 1 for record in records]
    divisor = math.gcd(*scaled)
    return [weight // divisor for weight in scaled]
