"""Request targets from templates: what a caller puts into a path can never become another path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote, urlencode

_PARAMETER = re.compile(r"\{([^{}]*)\}")


class Target:
    """A path template of a call, compiled once."""

    __slots__ = ("_names", "_parts", "template")

    def __init__(self, template: str) -> None:
        if not template.startswith("/") or "?" in template or "#" in template:
            raise ValueError(f"{template!r} is not a path template: it starts with / and takes its query as query=")
        self.template = template
        pieces = _PARAMETER.split(template)
        self._parts, self._names = pieces[::2], pieces[1::2]

    def fill(self, path: Mapping[str, Any] | None) -> str:
        """The path with each parameter percent-encoded; ``ValueError`` when one is missing, unknown or not one segment."""
        given = path or {}
        if len(given) != len(self._names):
            raise ValueError(f"{self.template} takes path parameters {self._names}, got {sorted(given)}")
        out = [self._parts[0]]
        for name, part in zip(self._names, self._parts[1:], strict=True):
            try:
                value = as_text(given[name])
            except KeyError:
                raise ValueError(f"{self.template} takes path parameters {self._names}, got {sorted(given)}") from None
            if value in ("", ".", ".."):  # such a segment would lead to another route
                raise ValueError(f"path parameter {name} of {self.template} cannot be {value!r}")
            out.append(quote(value, safe="-._~"))
            out.append(part)
        return "".join(out)


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
