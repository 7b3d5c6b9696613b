"""What happened to a registry, and to what is known from it."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from mizzen.words.clock import format_duration

from .record import Record

SHOWN = 10
"""Instances that a line names of those that came, and of those that went: a service may have thousands."""


class RegistryLost(Record, frozen=True):
    """A registry does not answer; what it said last holds."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    seconds: float = 0.0
    """Since when, at the time of telling; 0 for just now."""
    serving: dict[str, int] = msgspec.field(default_factory=dict)
    """How many instances of each peer are known from its last word."""
    error: str = ""

    @property
    def level(self) -> str:
        return "warning"

    def text(self) -> str:
        since = f" for {format_duration(self.seconds)}" if self.seconds else ""
        why = f" ({self.error})" if self.error else ""
        return f"{self.registry} lost{since}{why}: {self._touched()}"

    def _touched(self) -> str:
        if not self.serving:
            return "no call depends on it; trying again"
        known = ", ".join(f"{peer} {count}" for peer, count in self.serving.items() if count)
        unknown = ", ".join(peer for peer, count in self.serving.items() if not count)
        parts = [f"serving the last snapshot ({known}); nothing dropped"] if known else []
        if unknown:
            parts.append(f"no instance of {unknown} is known, calls to it fail until the registry is back")
        return "; ".join(parts)


class RegistryBack(Record, frozen=True):
    """A registry answers again, or knows us again."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    seconds_lost: float = 0.0
    instance: str = ""
    """Our instance when it had to be registered again."""
    took: float = 0.0
    failed_calls: int = 0
    why: str = ""
    """Why it had to be, when the registry had not simply forgotten it."""

    def text(self) -> str:
        back = f"back after {format_duration(self.seconds_lost)}" if self.seconds_lost else self.why or "had forgotten us"
        again = f"re-registered {self.instance} in {format_duration(self.took)}" if self.instance else "nothing was forgotten"
        failed = f"{self.failed_calls} {'call' if self.failed_calls == 1 else 'calls'} failed"
        return f"{self.registry} {back}: {again}; {failed}"


class RegistryRefused(Record, frozen=True):
    """A registry answers and does not let us: the token lacks rights, has expired or was revoked, or what we say of our
    instance is nothing that it takes."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    instance: str
    error: str

    @property
    def level(self) -> str:
        return "error"

    def text(self) -> str:
        return (
            f"{self.registry} refuses {self.instance}: {self.error}; it goes out of the registry with its missed heartbeat; "
            "trying on, with what the token file says at each try"
        )


class IdTaken(Record, frozen=True):
    """Another process holds the id of this instance in the registry."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    instance: str
    error: str

    @property
    def level(self) -> str:
        return "error"

    def text(self) -> str:
        return f"{self.registry} has another {self.instance}: {self.error}; this one gets no calls until the other is gone"


class Registered(Record, frozen=True):
    """This instance can be found."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    instance: str
    verdict: str

    def text(self) -> str:
        return f"registered {self.instance} with {self.registry} as {self.verdict}"


class Withdrawn(Record, frozen=True):
    """This instance can no longer be found, or, with an ``error``, could not be taken out."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    instance: str
    error: str = ""

    @property
    def level(self) -> str:
        return "warning" if self.error else "info"

    def text(self) -> str:
        if self.error:
            left = "it stays listed until its heartbeat is missed"
            return f"could not withdraw {self.instance} from {self.registry}: {self.error}; {left}"
        return f"withdrew {self.instance} from {self.registry}"


class SnapshotChanged(Record, frozen=True):
    """The set of a peer's instances is another one."""

    logger: ClassVar[str] = "mizzen.discovery"

    peer: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    total: int

    def fields(self) -> dict[str, Any]:
        return Record.fields(self) | {"added": self.added[:SHOWN], "removed": self.removed[:SHOWN]}

    def text(self) -> str:
        moves = _moves("+", self.added) + _moves("-", self.removed)
        number = f"{self.total} {'instance' if self.total == 1 else 'instances'}"
        return f"{self.peer} has {number}" + (f" ({', '.join(moves)})" if moves else "")


def _moves(sign: str, ids: tuple[str, ...]) -> list[str]:
    more = [f"{sign}{len(ids) - SHOWN} more"] if len(ids) > SHOWN else []
    return [f"{sign}{id}" for id in ids[:SHOWN]] + more


class SnapshotHeld(Record, frozen=True):
    """Discovery dropped so many instances at once that they are kept for now."""

    logger: ClassVar[str] = "mizzen.discovery"

    peer: str
    known: int
    offered: int
    seconds: float

    @property
    def level(self) -> str:
        return "warning"

    def text(self) -> str:
        return (
            f"{self.peer} went from {self.known} instances to {self.offered} in one read: suspect; the missing ones are kept "
            f"for {format_duration(self.seconds)}, and those that answer for longer, in case the registry lost its memory"
        )


class SnapshotRecalled(Record, frozen=True):
    """Instances of a peer are known from disk only: the registry has said nothing yet."""

    logger: ClassVar[str] = "mizzen.discovery"

    peer: str
    registry: str
    total: int
    age: float
    """Seconds since the registry had them."""

    @property
    def level(self) -> str:
        return "warning"

    def text(self) -> str:
        number = f"{self.total} {'instance' if self.total == 1 else 'instances'}"
        return (
            f"{self.peer} has {number} as {self.registry} had them {format_duration(self.age)} ago, from disk: "
            "they stand until the registry answers"
        )
