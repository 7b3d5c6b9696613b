"""What happened to the calls of a peer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from mizzen.words.clock import Clock, format_duration

from .record import Record


class BreakerChanged(Record, frozen=True):
    """The breaker of a peer is closed, open or half_open from now on."""

    logger: ClassVar[str] = "mizzen.breaker"

    peer: str
    state: str
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    """How many of the calls that tripped it failed in which way."""
    cooldown: float = 0.0
    next_trial: str = ""
    affects: tuple[str, ...] = ()
    """Our own routes that call this peer."""

    @property
    def level(self) -> str:
        return "warning" if self.state == "open" else "info"

    def text(self) -> str:
        if self.state == "half_open":
            return f"breaker {self.peer} half-open: the next call is the trial, all others are refused until it is answered"
        if self.state != "open":
            return f"breaker {self.peer} closed: the trial succeeded, all calls go out again"
        parts = [f"breaker {self.peer} OPEN for {format_duration(self.cooldown)}: {self._cause()}"]
        if self.next_trial:
            parts.append(f"next trial {self.next_trial}")
        if self.affects:
            parts.append(f"affects {', '.join(self.affects)}")
        return "; ".join(parts)

    def _cause(self) -> str:
        total = sum(self.failures.values())
        how = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.failures.items())
        return f"{total} {'call' if total == 1 else 'calls'} failed" + (f" ({how})" if how else "")


class Change(Protocol):
    """What a breaker tells of a change of its state."""

    @property
    def state(self) -> str: ...
    @property
    def failures(self) -> Mapping[str, int]: ...
    @property
    def cooldown(self) -> float: ...


def breaker_changed(peer: str, change: Change, affects: tuple[str, ...] = (), *, wall: Clock = time.time) -> BreakerChanged:
    """The event for a breaker's change; ``wall`` (seconds since the epoch) dates its next trial, in UTC."""
    trial = time.strftime("%H:%M:%SZ", time.gmtime(wall() + change.cooldown)) if change.state == "open" else ""
    return BreakerChanged(peer, change.state, dict(change.failures), change.cooldown, trial, affects)


class Ejected(Record, frozen=True):
    """An instance failed too often and gets no calls for a while."""

    logger: ClassVar[str] = "mizzen.balance"

    peer: str
    instance: str
    failures: int
    seconds: float

    @property
    def level(self) -> str:
        return "warning"

    def fields(self) -> dict[str, Any]:
        return _with_endpoint(Record.fields(self))

    def text(self) -> str:
        failed = "1 attempt failed" if self.failures == 1 else f"{self.failures} attempts in a row failed"
        return (
            f"{self.instance} of {self.peer} ejected for {format_duration(self.seconds)}: {failed}; "
            "the other instances take its calls, then one trial decides"
        )


class Readmitted(Record, frozen=True):
    """An ejected instance gets calls again: its trial succeeded, or no other is left."""

    logger: ClassVar[str] = "mizzen.balance"

    peer: str
    instance: str

    def fields(self) -> dict[str, Any]:
        return _with_endpoint(Record.fields(self))

    def text(self) -> str:
        return f"{self.instance} of {self.peer} readmitted: it gets calls again"


def _with_endpoint(fields: dict[str, Any]) -> dict[str, Any]:
    """The peer's instance under another name: ``instance`` in a log line is always our own."""
    return {"endpoint" if key == "instance" else key: value for key, value in fields.items()}


class BudgetExhausted(Record, frozen=True):
    """A peer fails so often that failures are no longer retried."""

    logger: ClassVar[str] = "mizzen.retry"

    peer: str

    @property
    def level(self) -> str:
        return "warning"

    def text(self) -> str:
        return f"retry budget of {self.peer} spent: failed calls are not sent again until fewer of them fail"
