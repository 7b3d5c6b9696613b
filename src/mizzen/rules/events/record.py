"""Record: what every event is made of and who is told of it, and what happens to every service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import msgspec

from mizzen.words.clock import format_duration
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
