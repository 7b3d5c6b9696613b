"""Header fields as an app gives them: checked, since one with a line break would break the answer apart."""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.words.lazy import pattern

_NAME = pattern(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.1: token
_FORBIDDEN = pattern(rb"[\x00\r\n]")


def read_fields(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields with their names in lower case; ``ValueError`` for a name or value that cannot be sent."""
    fields = []
    for name, value in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if _FORBIDDEN.search(value):
            raise ValueError(f"the value of header {name!r} has a line break or NUL in it")
        fields.append((name.lower(), value))
    return fields
