"""Where each key of a TOML text stands: ``tomllib`` tells values but no lines, and an error must name its line."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

from mizzen.words.lazy import pattern

from .source import Path

_BLANK = pattern(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = pattern(r"[ \t]*")
_BARE = pattern(r"[A-Za-z0-9_-]+")
_SHORT = r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'"
_QUOTED = pattern(_SHORT)
# The longest form first, and up to two more quotes may stand directly before the three that end a text.
_TEXT = pattern(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})|' r"'''.*?'''(?:'{0,2})|" + _SHORT,
    re.DOTALL,
)
_SCALAR = pattern(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every key and table of ``text``, which must be valid TOML (``tomllib`` has read it)."""
    return _Scan(text).document()


class _Scan:
    """One pass over a valid document; what is not a key is only skipped."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._ends = [index for index, character in enumerate(self.text) if character == "\n"]
        self._arrays: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return self.lines
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        """``[a.b]`` or ``[[a.b]]``; each ``[[a]]`` is one more element, and ``[a.b]`` after it belongs to the latest."""
        array = self.text.startswith("[[", self.at)
        line = self._line()
        self.at += 2 if array else 1
        path: Path = ()
        keys = self._key()
        for index, key in enumerate(keys):
            path = (*path, key)
            self.lines.setdefault(path, line)
            last = index == len(keys) - 1
            if last and array:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
                self.lines.setdefault(path, line)
        self.lines[path] = line
        self.at = self.text.index("]", self.at) + (2 if array else 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for key in self._key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.at = self.text.index("=", self.at) + 1
        self._value(path)

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            quoted = _QUOTED.match(self.text, self.at)
            found = quoted or _BARE.match(self.text, self.at)
            if found is None:  # cannot be in valid TOML; better no further lines than an endless loop
                raise ValueError(f"no key in line {self._line()}")
            self.at = found.end()
            # tomllib knows every escape of a quoted key, so it decodes them
            keys.append(tomllib.loads(f"k = {found[0]}")["k"] if quoted else found[0])
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        start = self.text[self.at]
        if start == "[":
            self._array(path)
        elif start == "{":
            self._inline(path)
        else:
            found = (_TEXT if start in "\"'" else _SCALAR).match(self.text, self.at)
            self.at = found.end() if found else len(self.text)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self.text[self.at] == "]":
                break
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.lines[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
        self.at += 1

    def _inline(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self.text[self.at] == "}":
                break
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._pair(path)
        self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()

    def _line(self) -> int:
        return bisect_right(self._ends, self.at - 1) + 1
