"""What happened: frozen records that logs, metrics and the dashboard all read, each with its own sentence.

A sentence says what happened, why, what it touches and, where somebody can do something, what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from mizzen.words.clock import Clock, format_duration
from mizzen.words.lazy import pattern

_CAPITAL = pattern(r"(?<!^)(?=[A-Z])")


class Event(Protocol):
    """Anything that happened and can say so."""

    @property
    def level(self) -> str: ...
    @property
    def logger(self) -> str: ...
    def text(self) -> str: ...
    def fields(self) -> dict[str, Any]: ...


Hook = Callable[[Event], None]
"""Told of every event, synchronously and on the event loop: it must be quick and must not raise."""


class Record(msgspec.Struct, frozen=True):
    """What every event record has; ``level`` is one of debug, info, warning, error."""

    logger: ClassVar[str] = "mizzen"

    @property
    def level(self) -> str:
        return "info"

    def text(self) -> str:
        """The sentence for people."""
        raise NotImplementedError

    def fields(self) -> dict[str, Any]:
        """Everything the record holds, for machines, under the name of what happened."""
        name = _CAPITAL.sub("_", type(self).__name__).lower()
        return {"event": name} | {field: getattr(self, field) for field in self.__struct_fields__}


# -- the service itself


class StateChanged(Record, frozen=True):
    """The service entered a state: starting, serving, lingering, draining or closed."""

    logger: ClassVar[str] = "mizzen.runtime"

    service: str
    state: str
    why: str = ""
    seconds: float = 0.0
    """How long the state before took."""

    def text(self) -> str:
        after = f" after {format_duration(self.seconds)}" if self.seconds else ""
        return f"{self.state}{after}" + (f": {self.why}" if self.why else "")


class StepTaken(Record, frozen=True):
    """One step of starting or stopping is done."""

    logger: ClassVar[str] = "mizzen.runtime"

    step: str
    seconds: float
    limit: float | None = None
    """Seconds it may take, where it has a limit."""
    detail: str = ""

    @property
    def level(self) -> str:
        return "warning" if self._slow else "info"

    @property
    def _slow(self) -> bool:
        # The next deploy may run into the limit: say so while it still works.
        return self.limit is not None and self.seconds > self.limit / 2

    def text(self) -> str:
        close = f", more than half of its limit of {format_duration(self.limit or 0.0)}" if self._slow else ""
        return f"{self.step} in {format_duration(self.seconds)}{close}" + (f": {self.detail}" if self.detail else "")


class CheckChanged(Record, frozen=True):
    """A check of ``/health`` passes or fails from now on."""

    logger: ClassVar[str] = "mizzen.health"

    check: str
    ok: bool
    required: bool
    detail: str = ""

    @property
    def level(self) -> str:
        return "info" if self.ok else "warning"

    def text(self) -> str:
        if self.ok:
            return f"check {self.check} passes"
        touched = "/health is 503 until it passes" if self.required else "optional, /health stays 200"
        return f"check {self.check} fails: {self.detail or 'no reason given'}; {touched}"


class LinesDropped(Record, frozen=True):
    """Log lines are lost for good."""

    logger: ClassVar[str] = "mizzen.logs"

    count: int
    why: str = "the reader of stdout stalled"

    @property
    def level(self) -> str:
        return "warning"

    def text(self) -> str:
        return f"dropped {self.count} log {'line' if self.count == 1 else 'lines'}: {self.why}"


# -- a peer


class BreakerChanged(Record, frozen=True):
    """The breaker of a peer is closed, open or half_open from now on."""

    logger: ClassVar[str] = "mizzen.breaker"

    peer: str
    state: str
    failures: dict[str, int] = {}
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


# -- discovery


class RegistryLost(Record, frozen=True):
    """A registry does not answer; what it said last holds."""

    logger: ClassVar[str] = "mizzen.discovery"

    registry: str
    seconds: float = 0.0
    """Since when, at the time of telling; 0 for just now."""
    serving: dict[str, int] = {}
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

    def text(self) -> str:
        back = f"back after {format_duration(self.seconds_lost)}" if self.seconds_lost else "had forgotten us"
        again = f"re-registered {self.instance} in {format_duration(self.took)}" if self.instance else "nothing was forgotten"
        failed = f"{self.failed_calls} {'call' if self.failed_calls == 1 else 'calls'} failed"
        return f"{self.registry} {back}: {again}; {failed}"


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

    def text(self) -> str:
        moves = [f"+{id}" for id in self.added] + [f"-{id}" for id in self.removed]
        number = f"{self.total} {'instance' if self.total == 1 else 'instances'}"
        return f"{self.peer} has {number}" + (f" ({', '.join(moves)})" if moves else "")


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
            f"{self.peer} went from {self.known} instances to {self.offered} in one read: suspect; "
            f"the missing ones are kept for {format_duration(self.seconds)}, in case the registry lost its memory"
        )
