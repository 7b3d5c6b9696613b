"""Kinds of values in a configuration, and how each is read from TOML or from the text of a variable."""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import Struct

from mizzen.words.clock import parse_duration
from mizzen.words.lazy import pattern

SIZES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE = pattern(r"(\d{1,18}(?:\.\d+)?)\s*([A-Za-z]+)?")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Unit(Struct, frozen=True):
    """What the numbers of a setting are, and which of them are allowed."""

    name: str
    low: float = 0
    high: float = float("inf")
    above: bool = False
    """Whether ``low`` itself is too low."""


class Secret(str):
    """A text that is not for printing: its ``repr`` hides it, and so does the ``repr`` of whatever holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


Duration = Annotated[float, Unit("duration")]
"""Seconds; ``"250ms"`` or a bare number in text."""
Timeout = Annotated[float, Unit("duration", above=True)]
"""Seconds, more than none."""
Size = Annotated[int, Unit("size", low=1)]
"""Bytes; ``"1MiB"`` or a bare number in text."""
Count = Annotated[int, Unit("count", low=1)]
Times = Annotated[int, Unit("count", low=0)]
Port = Annotated[int, Unit("port", low=0, high=65535)]
"""0 takes any free port."""
Mode = Annotated[int, Unit("mode", low=0, high=0o777)]
"""Permissions of a file; ``"0660"`` in text, ``0o660`` in TOML."""
Labels = tuple[str, ...]
"""Short texts; ``"blue,canary"`` in a variable."""
Weight = Annotated[int, Unit("weight", low=1, high=65535)]
"""As Consul and SRV records have it."""
KnownPort = Annotated[int, Unit("port", low=1, high=65535)]
"""One that others are told of before anything listens."""


def parse_size(value: str | int) -> int:
    """Bytes from ``"1MiB"``, ``"64kB"`` or a bare number; ``ValueError`` says what is allowed."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found[2] or "B") not in SIZES:
        raise ValueError(f'expected a size such as "64KiB" or "1MiB", or a number of bytes, got {_shown(value)}')
    return int(float(found[1]) * SIZES[found[2] or "B"])


def format_size(size: int) -> str:
    """The shortest exact text for a number of bytes: ``1MiB``, ``1500B``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % SIZES[unit] == 0:
            return f"{size // SIZES[unit]}{unit}"
    return f"{size}B"


def parse_mode(value: str | int) -> int:
    """Permissions from ``"0660"`` or ``0o660``; ``ValueError`` says what is allowed."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
        return value
    if isinstance(value, str) and re.fullmatch(r"(0o?)?[0-7]{3}", value):
        return int(value.removeprefix("0o"), 8)
    raise ValueError(f'expected permissions such as "0660", got {_shown(value)}')


def format_mode(mode: int) -> str:
    """Permissions as ``chmod`` takes them: ``0660``."""
    return f"{mode:04o}"


def read_number(value: Any, unit: Unit, *, from_text: bool) -> float | int:
    """A number in that unit; ``ValueError`` says what is allowed."""
    if unit.name == "duration":
        number: float | int = parse_duration(_bare(value) if from_text else value)
    elif unit.name == "size":
        number = parse_size(value)
    elif unit.name == "mode":
        number = parse_mode(value)
    else:
        number = _whole(value, unit, from_text=from_text)
    if number < unit.low or number > unit.high or (unit.above and number <= unit.low):
        raise ValueError(f"expected {_range(unit)}, got {_shown(value)}")
    return number


def read_flag(value: Any, *, from_text: bool) -> bool:
    """True or false; ``ValueError`` says what is allowed."""
    if isinstance(value, bool):
        return value
    if from_text and str(value).lower() in (*_TRUE, *_FALSE):
        return str(value).lower() in _TRUE
    raise ValueError(f"expected true or false, got {_shown(value)}")


def read_text(value: Any) -> str:
    """A text with something in it; ``ValueError`` says what is allowed."""
    if isinstance(value, str) and value:
        return value
    raise ValueError("expected a text, got an empty one" if value == "" else f"expected a text, got {_shown(value)}")


def read_labels(value: Any, *, from_text: bool) -> tuple[str, ...]:
    """Several texts, each with something in it; ``ValueError`` says what is allowed."""
    if from_text and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of texts, got {_shown(value)}")
    return tuple(read_text(part) for part in value)


def read_choice(value: Any, choices: tuple[Any, ...]) -> Any:
    """One of ``choices``; ``ValueError`` lists them."""
    if value in choices:
        return value
    raise ValueError(f"expected one of {', '.join(map(str, choices))}, got {_shown(value)}")


def _whole(value: Any, unit: Unit, *, from_text: bool) -> int:
    if from_text and isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected {_range(unit)}, got {_shown(value)}")


def _bare(value: Any) -> Any:
    """A variable has no numbers: ``"2.5"`` in one stands for 2.5 seconds."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _range(unit: Unit) -> str:
    if unit.name == "duration":
        return "a duration that is more than zero"
    if unit.high != float("inf"):
        return f"a whole number from {unit.low} to {unit.high}"
    return f"a whole number of at least {unit.low}"


def _shown(value: Any) -> str:
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
