"""Request targets from templates: what a caller puts into a path can never become another path."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote, urlencode

from mizzen.words.lazy import pattern

_PARAMETER = pattern(r"\{([^{}]*)\}")


class Target:
    """A path template of a call, compiled once."""

    __slots__ = ("_first", "_names", "_rest", "template")

    def __init__(self, template: str) -> None:
        if not template.startswith("/") or "?" in template or "#" in template:
            raise ValueError(f"{template!r} is not a path template: it starts with / and takes its query as query=")
        self.template = template
        pieces = _PARAMETER.split(template)
        self._first, self._names = pieces[0], pieces[1::2]
        self._rest = list(zip(self._names, pieces[2::2], strict=True))

    def fill(self, path: Mapping[str, Any] | None) -> str:
        """The path with each parameter percent-encoded; ``ValueError`` when one is missing, unknown or not one segment."""
        given = path or {}
        if len(given) != len(self._names):
            raise ValueError(f"{self.template} takes path parameters {self._names}, got {sorted(given)}")
        out = self._first
        for name, part in self._rest:
            try:
                value = given[name]
            except KeyError:
                raise ValueError(f"{self.template} takes path parameters {self._names}, got {sorted(given)}") from None
            if value.__class__ is not str:
                value = as_text(value)
            if not (value.isalnum() and value.isascii()):  # nearly all are: numbers and names that mean themselves
                if value in ("", ".", ".."):  # such a segment would lead to another route
                    raise ValueError(f"path parameter {name} of {self.template} cannot be {value!r}")
                value = quote(value, safe="-._~")
            out += value + part
        return out


def encode_query(query: Mapping[str, Any] | None) -> str:
    """A query string: lists repeat their name, None is left out, booleans are ``true`` and ``false``."""
    if not query:
        return ""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if isinstance(value, list | tuple | set | frozenset):
            pairs += [(name, as_text(item)) for item in value]
        elif value is not None:
            pairs.append((name, as_text(value)))
    return urlencode(pairs)


def as_text(value: Any) -> str:
    """A value as it stands in a URL."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return as_text(value.value)
    return str(value)
