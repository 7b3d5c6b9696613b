"""Prints: what code says with ``print()`` as log records, so that nothing on stdout is not a log line."""

from __future__ import annotations

import codecs
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TextIO

LONGEST = 1 << 16
"""Characters of a line without an end that are kept: a progress bar may never write one, and memory is bounded."""

log = logging.getLogger("stdout")


class Prints(io.TextIOBase):
    """Stands for ``sys.stdout`` while the log is ours: each printed line is an info record of the logger ``stdout``.

    Lines are gathered per thread; what has no end yet is kept until its newline, ``flush`` or ``close``. Records go
    straight to ``emit`` and to no handler, so one that prints itself cannot make a circle. ``give_back`` undoes all.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, emit: Callable[[logging.LogRecord], None]) -> None:
        self.before: TextIO | None = sys.stdout
        """What ``sys.stdout`` was; it may be None, as in a process without one."""
        self.buffer = _Bytes(self)
        self._emit: Callable[[logging.LogRecord], None] | None = emit
        # Re-entrant: a finaliser or a signal handler that prints may interrupt a print on the same thread.
        self._lock = threading.RLock()
        self._partial: dict[int, str] = {}
        sys.stdout = self

    def write(self, text: str) -> int:
        """Take text; every line that it completes is logged."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._emit is None:  # somebody kept us for longer than we are in charge
            return self.before.write(text) if self.before is not None else len(text)
        thread = threading.get_ident()
        with self._lock:
            *lines, rest = (self._partial.pop(thread, "") + text).split("\n")
            if len(rest) > LONGEST:
                lines.append(rest)
            elif rest:
                self._partial[thread] = rest
        self._say(lines)
        return len(text)

    def flush(self) -> None:
        """Log what this thread has printed of a line, and let the next print begin a new one."""
        with self._lock:
            rest = self._partial.pop(threading.get_ident(), "")
        self._say([rest])

    def give_back(self) -> None:
        """Log what is left and put the stream from before back, unless somebody has put another one in place."""
        with self._lock:
            rests = list(self._partial.values())
            self._partial.clear()
        self._say(rests)
        self._emit = None
        if sys.stdout is self:
            sys.stdout = self.before

    def close(self) -> None:
        """Log what is left; the stream stays open, as standard output does for whoever prints next."""
        self.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """The descriptor of the stream from before: whoever asks for it writes past the log on purpose."""
        if self.before is None:
            raise io.UnsupportedOperation("fileno")
        return self.before.fileno()

    def isatty(self) -> bool:
        """No: colours and progress bars have no place in a log line."""
        return False

    def reconfigure(self, **_options: Any) -> None:
        """Accept what a program may ask of its standard output: a log line has one encoding and no buffering."""

    def __repr__(self) -> str:
        return f"<Prints of stdout{'' if self._emit else ', given back'}: {len(self._partial)} lines begun>"

    def _say(self, lines: Iterable[str]) -> None:
        emit = self._emit
        if emit is None or not log.isEnabledFor(logging.INFO):
            return
        for line in lines:
            text = line.rstrip("\r")
            if text:  # an empty line parts others on a screen, and says nothing in a log
                emit(logging.LogRecord(log.name, logging.INFO, "", 0, text, (), None))


class _Bytes(io.BufferedIOBase):
    """``sys.stdout.buffer``, for code that prints bytes."""

    def __init__(self, text: Prints) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            self._text.write(self._decoder.decode(bytes(view)))
            return view.nbytes

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True
