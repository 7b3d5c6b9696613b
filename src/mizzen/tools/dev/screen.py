"""What `mizzen dev` shows: every line with the name of the service it is from, coloured on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
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
        self.on_lost: Callable[[], None] = _nobody_cares
        """Told once when nothing can be shown any more: the terminal is closed, or whoever read the pipe is gone."""
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
        self._put(f"{text}\n")

    def _rendered(self, line: bytes) -> str:
        if line.startswith(b"{"):
            with suppress(Exception):  # nothing that a child says may end the reading: what is no line of ours stays as it is
                return render_line(line, colour=self.colour)
        return line.decode(errors="replace")

    def _write(self, name: str, text: str) -> None:
        prefix = f"{name:<{self._width}}"
        self._put(f"{self._painted(prefix, self._colours.get(name, _BOLD))} | {text}\n")

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # What is buffered would fail again at every write, and once more when Python exits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self.on_lost()

    def _painted(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def _nobody_cares() -> None:
    """Until somebody wants to be told."""
