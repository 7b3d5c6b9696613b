"""Console: the log as lines for a person at a terminal, as under ``mizzen dev``."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mizzen.words.clock import format_duration
from mizzen.words.message import Request

from .access import Access
from .lines import exception_of, extras_of, level_name, message_of, shown

NAMES = {"debug": "DEBUG", "info": "INFO", "warning": "WARN", "error": "ERROR", "critical": "FATAL"}
COLOURS = {"DEBUG": "2", "INFO": "32", "WARN": "33", "ERROR": "31", "FATAL": "1;31"}
# Whatever a caller sent may end up in a line: nothing of it may steer the terminal.
CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if code not in (9, 10)}


class ConsoleLines:
    """``WARN  order  breaker user OPEN for 30s: …``; one line each, tracebacks indented below."""

    def __init__(self, *, service: str, colour: bool) -> None:
        self.service = service
        self._colour = colour

    def record(self, record: logging.LogRecord) -> bytes:
        """The line of a record; fields are shown unless its sentence is an event's, which says them all."""
        name = level_name(record)
        text = message_of(record)
        if record.name != "root" and not record.name.startswith("mizzen"):
            text = f"{record.name}: {text}"
        extras = extras_of(record)
        fields = "" if "event" in extras else "  ".join(f"{key}={_brief(value)}" for key, value in extras.items())
        below = "\n".join(part for part in (exception_of(record), record.stack_info or "") if part)
        line = f"{self._head(NAMES.get(name, name.upper()))}{_indented(text)}"
        if fields:
            line += f"  {self._paint('2', _indented(fields))}"
        if below:
            line += f"\n      {_indented(below)}"
        return _encoded(line)

    def access(self, write: Callable[[bytes], None], *, errors_only: bool) -> Access:
        """A short line per answer."""

        def access(request: Request, status: int, seconds: float, _sent: int) -> None:
            if errors_only and status < 500:
                return
            colour = "32" if status < 400 else "33" if status < 500 else "31"
            took = f"{seconds * 1000:.1f}ms" if seconds < 0.01 else format_duration(seconds)
            head = self._head("INFO" if status < 500 else "ERROR")
            asked = f"{request.method} {request.path}".translate(CONTROLS)
            write(_encoded(f"{head}{asked} {self._paint(colour, str(status))} {self._paint('2', took)}"))

        return access

    def _head(self, level: str) -> str:
        return f"{self._paint(COLOURS.get(level, '0'), f'{level:<5}')} {self.service}  "

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def _brief(value: object) -> str:
    return value if isinstance(value, str) else shown(value)


def _indented(text: str) -> str:
    return text.translate(CONTROLS).replace("\n", "\n      ")


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
