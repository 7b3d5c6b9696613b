"""What `mizzen dev` shows: every line with the name of the service it is from, coloured on a terminal."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TextIO

from .lines import is_probe, render_line

OWN = "mizzen"
"""The name before the supervisor's own lines."""
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
"""ANSI colours of services, in their order; red is left for what is wrong."""
_BOLD, _RED = 1, 31


class Screen:
    """Writes lines of several services to one stream."""

    def __init__(self, stream: TextIO, names: Collection[str], *, colour: bool | None = None) -> None:
        self.colour = stream.isatty() if colour is None else colour
        self._stream = stream
        self._width = max(map(len, [OWN, *names])) if self.colour else 0
        self._colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}

    def say(self, text: str, *, name: str = OWN, wrong: bool = False) -> None:
        """Print lines of the supervisor, or about the service ``name``."""
        for line in text.splitlines():
            self._write(name, self._painted(line, _RED) if wrong else line)

    def log(self, name: str, line: bytes) -> None:
        """Print a log line of a service: its JSON as people read it, anything else as it is; nothing of mere probes."""
        if is_probe(line):
            return
        for part in self._rendered(line).split("\n"):  # a traceback is several
            self._write(name, part)

    def raw(self, text: str) -> None:
        """Print text without a name before it."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _rendered(self, line: bytes) -> str:
        if line.startswith(b"{"):
            with suppress(Exception):  # nothing that a child says may end the reading: what is no line of ours stays as it is
                return render_line(line, colour=self.colour)
        return line.decode(errors="replace")

    def _write(self, name: str, text: str) -> None:
        prefix = f"{name:<{self._width}}"
        self._stream.write(f"{self._painted(prefix, self._colours.get(name, _BOLD))} | {text}\n")
        self._stream.flush()

    def _painted(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text
