"""Lines: a log record as one JSON object that never fails to be written, whatever the record carries."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from mizzen.words.clock import format_time
from mizzen.words.context import current

from .access import Access, json_access

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR,
          "critical": logging.CRITICAL}  # fmt: skip
_LEVEL_NAMES = {number: name for name, number in LEVELS.items()}
RESERVED = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
"""What a record carries by itself; everything else was given to it."""


class Lines(Protocol):
    """A form that the log takes."""

    def record(self, record: logging.LogRecord) -> bytes: ...
    def access(self, write: Callable[[bytes], None], *, errors_only: bool) -> Access: ...


class JsonLines:
    """One JSON object per line: time, level, message, logger, service, version, instance, trace, then the extras.

    The lines of one of several workers have its number after the instance.
    """

    def __init__(self, *, service: str, version: str, instance: str, worker: int | None = None) -> None:
        self.service = service
        self.version = version
        self.instance = instance
        self.worker = worker
        self._worker = {} if worker is None else {"worker": worker}
        self._encode = msgspec.json.Encoder(enc_hook=shown).encode

    def record(self, record: logging.LogRecord) -> bytes:
        """The line of a record, newline included."""
        context = current()
        line: dict[str, Any] = {
            "time": format_time(record.created),
            "level": level_name(record),
            "message": message_of(record),
            "logger": record.name,
            "service": self.service,
            "version": self.version,
            "instance": self.instance,
            **self._worker,
            "trace_id": context.trace_id if context else "",
            "span_id": context.span_id if context else "",
        }
        for key, value in extras_of(record).items():
            if key not in line:
                line[key] = value
            elif line[key] != value:
                line[f"{key}_"] = value  # ours are the ones that everything else is found by
        exception = exception_of(record)
        if exception:
            line["exception"] = exception
        if record.stack_info:
            line["stack"] = str(record.stack_info)
        try:
            return self._encode(line) + b"\n"
        except Exception:  # a log line must get out: field by field, each in a form that can be written
            return self._encode({_clean(str(key)): self._writable(value) for key, value in line.items()}) + b"\n"

    def access(self, write: Callable[[bytes], None], *, errors_only: bool) -> Access:
        """The access log in this form."""
        return json_access(
            write,
            service=self.service,
            version=self.version,
            instance=self.instance,
            worker=self.worker,
            errors_only=errors_only,
        )

    def _writable(self, value: Any) -> Any:
        try:
            self._encode(value)
        except Exception:  # keys that JSON has not, lone surrogates, a cycle, a repr that raises
            return _clean(value if isinstance(value, str) else shown(value))
        return value


def level_name(record: logging.LogRecord) -> str:
    """The level in lower case, by its number: some libraries colour the name."""
    return _LEVEL_NAMES.get(record.levelno) or str(record.levelname).lower()


def message_of(record: logging.LogRecord) -> str:
    """The message with its arguments; a mistake in them is shown and not raised."""
    try:
        return record.getMessage()
    except Exception:  # "%d" with a word: the line is still worth having
        return f"{shown(record.msg)} {shown(record.args)}"


def extras_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as ``extra=``."""
    return {key: value for key, value in vars(record).items() if key not in RESERVED}


def exception_of(record: logging.LogRecord) -> str:
    """The traceback of a record; empty without one."""
    if record.exc_info and record.exc_info[0] is not None:
        try:
            return "".join(traceback.format_exception(*record.exc_info)).rstrip()
        except Exception:  # an exception that cannot be printed
            return f"{record.exc_info[0].__name__} (its traceback cannot be shown)"
    return str(record.exc_text) if record.exc_text else ""


def shown(value: Any) -> str:
    """A value's ``repr``, or what can be said of one that has none."""
    try:
        return repr(value)
    except Exception:  # somebody else's repr
        return f"<{type(value).__name__} without repr>"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
