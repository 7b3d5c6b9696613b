"""Patterns: Python's regular expressions in the words of ECMA-262, which JSON Schema has them in."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r"\\[\s\S]|\[\^?\]?(?:\\[\s\S]|[^\]\\])*\]|\(\?P<|\(\?P=\w+\)|[\s\S]")
_SAME = {r"\A": "^", r"\Z": "$", "(?P<": "(?<"}
_VALUES = frozenset({"default", "enum", "const", "examples"})
"""Keywords whose values are data and no schemas."""


def ecma(pattern: str) -> str:
    """The pattern where ECMA-262 has other words for the same: ``\\A``, ``\\Z``, named groups, ``]`` first in a class.

    The rest is as it is; ``$`` lets a line break at the end pass in Python alone, and ``\\d``, ``\\s``, ``\\w`` know more of
    Unicode there, so a pattern that is to mean the same to both does without them.
    """
    return "".join(_word(found[0]) for found in _TOKEN.finditer(pattern))


def _word(token: str) -> str:
    if token.startswith("(?P="):
        return rf"\k<{token[4:-1]}>"
    if token.startswith(("[]", "[^]")):
        return token.replace("]", r"\]", 1)
    return _SAME.get(token, token)


def translate(schema: Any) -> None:
    """Put every pattern of a schema, and of those inside of it, into ECMA-262's words."""
    if isinstance(schema, list):
        for item in schema:
            translate(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                schema[key] = ecma(value)
            elif key not in _VALUES:
                translate(value)
