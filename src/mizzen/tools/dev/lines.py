"""A service's JSON log line as people read it, for whoever watches several services at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mizzen.edges.telemetry.console import COLOURS, CONTROLS, NAMES
from mizzen.words.clock import format_duration

_HEAD = {"time", "level", "message", "logger", "service", "version", "instance", "trace_id", "span_id", "exception", "stack"}
_DIM = "2"
_PROBES = (b'"path":"/ready"', b'"path":"/health"', b'"path":"/live"')


def is_probe(line: bytes) -> bool:
    """Whether it says no more than that somebody probed the service: supervisor and registry do so all the time."""
    return b'"logger":"mizzen.access"' in line and any(path in line for path in _PROBES)


def render_line(line: bytes, *, colour: bool) -> str:
    """``14:02:41 WARN  breaker user OPEN for 30s: …``; tracebacks indented below. ``ValueError`` when it is no log line."""
    said: Any = msgspec.json.decode(line)
    if not isinstance(said, dict) or "message" not in said:
        raise ValueError("no log line")
    level = NAMES.get(str(said.get("level")), _clean(str(said.get("level", ""))).upper())
    head = f"{_paint(_DIM, _time(said), colour)} {_paint(COLOURS.get(level, '0'), f'{level:<5}', colour)} "
    text = head + (_access(said, colour) if "duration_ms" in said and "status" in said else _record(said, colour))
    for below in (said.get("exception"), said.get("stack")):
        if below:
            text += f"\n      {_clean(str(below)).replace(chr(10), f'{chr(10)}      ')}"
    return text


def _access(said: Mapping[str, Any], colour: bool) -> str:
    status = int(said["status"])
    milliseconds = float(said["duration_ms"])
    took = f"{milliseconds:.1f}ms" if milliseconds < 10 else format_duration(milliseconds / 1000)
    painted = _paint("32" if status < 400 else "33" if status < 500 else "31", str(status), colour)
    asked = _clean(f"{said.get('method', '')} {said.get('path', '')}")
    return f"{asked} {painted} {_paint(_DIM, took, colour)}"


def _record(said: Mapping[str, Any], colour: bool) -> str:
    logger = str(said.get("logger", ""))
    own = logger.startswith("mizzen") or logger in ("", "root")
    text = _clean(f"{'' if own else f'{logger}: '}{said['message']}").replace("\n", "\n      ")
    if "event" in said:  # its sentence says all of its fields
        return text
    fields = "  ".join(f"{key}={_brief(value)}" for key, value in said.items() if key not in _HEAD)
    return f"{text}  {_paint(_DIM, _clean(fields), colour)}" if fields else text


def _time(said: Mapping[str, Any]) -> str:
    """The time of day: the line is a few seconds old at most."""
    return _clean(str(said.get("time", "")))[11:19]


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _clean(text: str) -> str:
    return text.translate(CONTROLS)


def _paint(code: str, text: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
