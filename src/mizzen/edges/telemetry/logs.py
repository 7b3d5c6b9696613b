"""Logs: every record of every library, and everything that ends a process or a task, goes out in one form.

The standard ``logging`` stays underneath, because third-party code speaks it. ``install`` takes it over,
``Logs.close`` gives everything back. ``faulthandler`` is left alone: it writes to stderr when Python itself is broken.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import types
import warnings
from typing import Any, Literal, TextIO

from mizzen.rules.events import LinesDropped

from .access import Access
from .hooks import log_record
from .lines import LEVELS, JsonLines, Lines, shown
from .outlet import CLOSE_LIMIT, Outlet
from .prints import Prints

CRASH_FLUSH = 1.0
"""Seconds that a crash waits for the reader of its last words; after that they go to stderr."""

process_log = logging.getLogger("mizzen.process")
asyncio_log = logging.getLogger("asyncio")
warnings_log = logging.getLogger("py.warnings")


def install(
    *,
    service: str,
    version: str,
    instance: str,
    worker: int | None = None,
    level: str = "info",
    format: Literal["json", "console"] = "json",
    outlet: Outlet | None = None,
    colour: bool | None = None,
) -> Logs:
    """Take over the process's log: records, warnings, uncaught exceptions. ``ValueError`` for an unknown level.

    Lines go to ``outlet``, stdout by default. As JSON they are all that stdout carries: what is printed is logged too.
    ``colour`` is for the console; by default when stdout is a terminal. ``worker`` is the number of one of several.
    """
    if level not in LEVELS:
        raise ValueError(f"{level!r} is not a log level: one of {', '.join(LEVELS)}")
    lines: Lines
    if format == "console":
        from .console import ConsoleLines

        shown_as = service if worker is None else f"{service}/{worker}"
        lines = ConsoleLines(service=shown_as, colour=_is_terminal() if colour is None else colour)
    else:
        lines = JsonLines(service=service, version=version, instance=instance, worker=worker)
    return Logs(lines, level=level, outlet=outlet or Outlet(), take_prints=format == "json")


class Logs:
    """The process's log while it is ours; ``close`` puts back what was there before."""

    def __init__(self, lines: Lines, *, level: str, outlet: Outlet, take_prints: bool = False) -> None:
        self.outlet = outlet
        self.level = level
        self.lines = lines
        self.access: Access = lines.access(outlet.write, errors_only=LEVELS[level] > logging.INFO)
        """Logs one answered request; take it once, it is made for the hot path."""
        outlet.notice = lambda count, why: lines.record(log_record(LinesDropped(count, why)))
        self._handler = _Handler(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_before: Any = None
        self._loop_ours = self._loop_failed
        self._closed = False
        self._taken: list[tuple[logging.Logger, list[logging.Handler], bool]] = []
        root = logging.getLogger()
        self._root = (root.handlers[:], root.level)
        # Bound methods differ each time they are taken: keep the ones that are put in place.
        self._ours = (self._uncaught, self._thread_uncaught, self._unraisable, self._warned)
        self._before = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
        root.handlers[:] = [self._handler]
        root.setLevel(LEVELS[level])
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = self._ours
        self._stdout = sys.stdout
        self._prints = Prints(self.emit) if take_prints else None
        self.adopt()
        atexit.register(self.close)

    def adopt(self) -> None:
        """Take loggers along that libraries gave a console handler of their own; again after user code is imported."""
        streams = (sys.stdout, self._stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        for logger in list(logging.Logger.manager.loggerDict.values()):
            if not isinstance(logger, logging.Logger):
                continue
            plain = [each for each in logger.handlers if isinstance(each, logging.StreamHandler) and each.stream in streams]
            if plain:
                self._taken.append((logger, logger.handlers[:], logger.propagate))
                logger.handlers[:] = [handler for handler in logger.handlers if handler not in plain]
                logger.propagate = True

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gather lines per turn of ``loop`` and log what its tasks and callbacks leave uncaught; on the loop's thread."""
        self.detach()
        self._loop = loop
        self._loop_before = loop.get_exception_handler()
        loop.set_exception_handler(self._loop_ours)
        self.outlet.attach(loop)

    def detach(self) -> None:
        """Let go of the loop, before it is closed; lines are then written at once."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.get_exception_handler() is self._loop_ours:
            loop.set_exception_handler(self._loop_before)
        self.outlet.detach()

    def close(self, timeout: float = CLOSE_LIMIT) -> None:
        """Put back what was there before ``install`` and write what is left, for at most ``timeout`` seconds."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self.detach()
        self._put_back()
        self.outlet.close(timeout)

    def describe(self) -> dict[str, Any]:
        return {"level": self.level, "form": type(self.lines).__name__, "outlet": self.outlet.describe()}

    def __repr__(self) -> str:
        return f"<Logs {self.level} and above as {type(self.lines).__name__} to {self.outlet!r}>"

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never raises."""
        self.outlet.write(self.lines.record(record))

    def _put_back(self) -> None:
        """Undo what still is ours: whoever came after us keeps what they put in place."""
        if self._prints is not None:
            self._prints.give_back()
        root = logging.getLogger()
        if self._handler in root.handlers:
            others = [handler for handler in root.handlers if handler is not self._handler]
            root.handlers[:] = self._root[0] + [each for each in others if each not in self._root[0]]
            root.setLevel(self._root[1])
        for logger, handlers, propagate in reversed(self._taken):
            logger.handlers[:] = handlers
            logger.propagate = propagate
        uncaught, thread_uncaught, unraisable, warned = self._before
        if sys.excepthook is self._ours[0]:
            sys.excepthook = uncaught
        if threading.excepthook is self._ours[1]:
            threading.excepthook = thread_uncaught
        if sys.unraisablehook is self._ours[2]:
            sys.unraisablehook = unraisable
        if warnings.showwarning is self._ours[3]:
            warnings.showwarning = warned

    # -- what nobody caught

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):  # a person at the keyboard, who reads stderr
            self._before[0](kind, error, trace)
            return
        process_log.critical("uncaught %s ends the process", kind.__name__, exc_info=(kind, error, trace))
        if not self.outlet.flush(CRASH_FLUSH):
            self._before[0](kind, error, trace)

    def _thread_uncaught(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:  # asked for: threading itself stays silent
            return
        error = args.exc_value or args.exc_type()
        name = args.thread.name if args.thread else "?"
        process_log.error(
            "uncaught %s ends thread %s", args.exc_type.__name__, name,
            exc_info=(args.exc_type, error, args.exc_traceback), extra={"thread_name": name},
        )  # fmt: skip

    def _unraisable(self, args: sys.UnraisableHookArgs) -> None:
        error = args.exc_value or args.exc_type()
        process_log.error(
            "%s: %s", args.err_msg or "exception ignored in", shown(args.object),
            exc_info=(args.exc_type, error, args.exc_traceback),
        )  # fmt: skip

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:  # somebody wants it there
            self._before[3](message, category, filename, lineno, file, line)
            return
        extra = {"category": category.__name__, "where": f"{filename}:{lineno}"}
        warnings_log.warning("%s: %s", category.__name__, message, extra=extra)

    def _loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        extra = {key: shown(value) for key, value in context.items() if key not in ("message", "exception")}
        extra = {f"asyncio_{key}": value for key, value in extra.items()}
        trace = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
        asyncio_log.error("%s", context.get("message") or "unhandled exception in the event loop", exc_info=trace, extra=extra)


class _Handler(logging.Handler):
    """Between ``logging`` and ours."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._logs.emit(record)
        except Exception:  # logging must not fail the code that logs
            self.handleError(record)


def _is_terminal() -> bool:
    try:
        return os.isatty(1)
    except OSError:
        return False
