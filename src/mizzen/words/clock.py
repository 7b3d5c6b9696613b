"""Time as a value: clocks are passed in, durations are float seconds in code and ``"250ms"`` in text."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from .lazy import pattern

Clock = Callable[[], float]
"""Seconds on a monotonic scale; the event loop's own ``time`` where virtual time is wanted."""

Random = Callable[[], float]
"""A number in [0, 1); passed in so that a test can choose it."""

monotonic: Clock = time.monotonic

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = pattern(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION = pattern(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h))+")


def parse_duration(value: str | float) -> float:
    """Seconds from ``"250ms"``, ``"1m30s"`` or a bare number of seconds; ``ValueError`` says what is allowed."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f'expected a duration such as "250ms", "2s" or "1m30s", got {value!r}')
    if not isinstance(value, str):
        seconds = float(value)
    elif _DURATION.fullmatch(value):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    else:
        raise ValueError(f'expected a duration such as "250ms", "2s" or "1m30s", got {value!r}')
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"expected a duration that is not negative and ends, got {value!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest honest text for a duration: ``800ms``, ``2s``, ``1.5s``, ``5m02s``, ``2h05m``."""
    if seconds < 0.9995:  # what rounds up to the next unit is told in that
        return f"{round(seconds * 1000)}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"


def format_time(wall: float) -> str:
    """A wall-clock time (seconds since the epoch) as RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
