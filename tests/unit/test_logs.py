"""Logs: every record in one form, whatever it carries, and everything put back at the end."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.edges.telemetry import Logs, Outlet, install
from mizzen.edges.telemetry.access import LONGEST_PATH, json_access
from mizzen.edges.telemetry.console import ConsoleLines
from mizzen.edges.telemetry.lines import JsonLines
from mizzen.edges.telemetry.sink import Sink
from mizzen.words.context import Context, enter
from mizzen.words.message import Request

FIELDS = ["time", "level", "message", "logger", "service", "version", "instance", "trace_id", "span_id"]
ACCESS = [*FIELDS, "method", "route", "path", "status", "duration_ms", "bytes", "peer"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

log = logging.getLogger("shop.order")


class Written:
    """What left the process."""

    def __init__(self) -> None:
        self.data = b""
        self.outlet = Outlet(opener=lambda fd: Sink("kept", -1, self.put, piece=1 << 16, watchable=False))

    def put(self, data: bytes) -> int:
        self.data += data
        return len(data)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def logs(written: Written) -> Iterator[Logs]:
    """The log taken over, at level debug."""
    logs = install(service="order", version="1.2.3", instance="order-1", level="debug", outlet=written.outlet)
    yield logs
    logs.close()


def hooks() -> tuple[Any, ...]:
    root = logging.getLogger()
    return (
        root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning,
    )  # fmt: skip


def test_a_record_has_the_fields_in_order(logs: Logs, written: Written) -> None:
    """A line has the fixed fields first, then what was given as extra."""
    log.info("order %s taken", 7, extra={"total": 12.5, "items": ["a"]})
    line = written.last
    assert list(line) == [*FIELDS, "total", "items"]
    assert TIME.fullmatch(line["time"])
    assert {key: line[key] for key in FIELDS[1:]} == {
        "level": "info", "message": "order 7 taken", "logger": "shop.order", "service": "order", "version": "1.2.3",
        "instance": "order-1", "trace_id": "", "span_id": "",
    }  # fmt: skip


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_levels_are_lower_case(logs: Logs, written: Written, level: str) -> None:
    """The level is its lower-case name, also when a library has renamed it for its colours."""
    logging.addLevelName(logging.ERROR, "\x1b[31mERROR")
    try:
        getattr(log, level)("x")
    finally:
        logging.addLevelName(logging.ERROR, "ERROR")
    assert written.last["level"] == level


def test_a_record_carries_the_trace_of_its_request(logs: Logs, written: Written) -> None:
    """What is logged while a request is worked on has the ids of that request."""
    context = Context()

    async def work() -> None:
        enter(context)
        log.info("x")
        await asyncio.to_thread(log.info, "in a thread")

    asyncio.run(work())
    ours = [line for line in written.lines if line["logger"] == "shop.order"]
    assert [(line["trace_id"], line["span_id"]) for line in ours] == [(context.trace_id, context.span_id)] * 2


def test_exceptions_and_stacks_are_fields(logs: Logs, written: Written) -> None:
    """A traceback is one field of the line, and so is a stack that was asked for."""
    try:
        raise ValueError("no\nway")
    except ValueError:
        log.exception("failed", stack_info=True)
    line = written.last
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no\nway")
    assert line["stack"].startswith("Stack")


class Unwritable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def cycle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (object, "<class 'object'>"), ({1, 2}, [1, 2]), ({(1, 2): 3}, {"(1, 2)": 3}), ("\ud800", "\\ud800"),
        ({"deep": "\ud800"}, "{'deep': '\\ud800'}"), (cycle(), "[[...]]"), (Unwritable(), "<Unwritable without repr>"),
        (float("nan"), None), (b"\x00", "AA=="), (2**80, None), (TimeoutError("x"), "TimeoutError('x')"),
    ],
)  # fmt: skip
def test_no_extra_keeps_a_line_from_being_written(logs: Logs, written: Written, value: Any, shown: Any) -> None:
    """Whatever is given as extra, the line comes out as JSON with its message and its other extras."""
    log.info("still here", extra={"odd": value, "good": 1})
    line = written.last
    assert (line["message"], line["good"]) == ("still here", 1)
    if shown is not None:
        assert line["odd"] == shown


def test_a_mistake_in_the_arguments_is_shown() -> None:
    """A message that does not fit its arguments is written with both."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "%d orders", ("no",), None)
    line = JsonLines(service="order", version="1", instance="i").record(record)
    assert json.loads(line)["message"] == "'%d orders' ('no',)"


@given(st.text())
def test_any_message_is_one_line(message: str) -> None:
    """Any text is one line of JSON that reads back as that text."""
    record = logging.LogRecord("x", logging.INFO, "", 0, message, None, None)
    line = JsonLines(service="order", version="1", instance="i").record(record)
    assert line.count(b"\n") == 1
    assert json.loads(line)["message"] == message


def test_extras_do_not_take_the_place_of_our_fields(logs: Logs, written: Written) -> None:
    """An extra named like a fixed field is kept beside it, unless it says the same."""
    log.info("x", extra={"service": "mine", "version": "1.2.3"})
    line = written.last
    assert (line["service"], line["service_"]) == ("order", "mine")
    assert "version_" not in line


def test_the_level_is_minded(written: Written) -> None:
    """Records below the level are not written, and neither are access lines that are no error."""
    logs = install(service="order", version="1", instance="i", level="warning", outlet=written.outlet)
    try:
        log.info("no")
        logs.access(answered("/"), 200, 0.1, 0)
        assert written.data == b""
        log.warning("yes")
        logs.access(answered("/"), 500, 0.1, 0)
        assert [line["level"] for line in written.lines] == ["warning", "error"]
    finally:
        logs.close()


def test_unknown_level_is_refused() -> None:
    """A level that does not exist is refused with those that do."""
    with pytest.raises(ValueError, match="one of debug, info, warning, error, critical"):
        install(service="order", version="1", instance="i", level="loud")


def test_close_puts_everything_back(written: Written) -> None:
    """After ``close`` handlers, level and hooks are what they were before."""
    before = hooks()
    logs = install(service="order", version="1", instance="i", outlet=written.outlet)
    during = hooks()
    assert all(one != other for one, other in zip(before, during, strict=True))
    logs.close()
    logs.close()
    assert hooks() == before


def test_close_keeps_what_others_put_in_place(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook or handler that somebody set after us stays."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    logs = install(service="order", version="1", instance="i", outlet=written.outlet)
    theirs, handler = (lambda *args: None), logging.NullHandler()
    sys.excepthook = theirs
    logging.getLogger().addHandler(handler)
    logs.close()
    assert sys.excepthook is theirs
    assert handler in logging.getLogger().handlers
    logging.getLogger().removeHandler(handler)


def test_a_librarys_own_console_handler_is_taken_over(written: Written) -> None:
    """A logger that writes to the console by itself goes through ours instead, until ``close``."""
    library = logging.getLogger("library")
    handler = logging.StreamHandler(sys.stderr)
    library.handlers[:], library.propagate = [handler], False
    try:
        logs = install(service="order", version="1", instance="i", outlet=written.outlet)
        library.warning("hello")
        assert written.last["logger"] == "library"
        logs.close()
        assert (library.handlers, library.propagate) == ([handler], False)
    finally:
        library.handlers[:], library.propagate = [], True


def test_warnings_are_records(logs: Logs, written: Written) -> None:
    """A warning is one line with its category and place."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._ours[3]
        warnings.warn("old\nthing", DeprecationWarning, stacklevel=1)
    line = written.last
    assert (line["level"], line["logger"], line["category"]) == ("warning", "py.warnings", "DeprecationWarning")
    assert line["message"] == "DeprecationWarning: old\nthing"
    assert "test_logs.py:" in line["where"]


def test_asyncio_failures_are_records(logs: Logs, written: Written) -> None:
    """An exception in a callback of the loop is one line with its traceback; the loop's handler is put back."""

    async def body() -> None:
        loop = asyncio.get_running_loop()

        def theirs(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            raise AssertionError("not called")

        loop.set_exception_handler(theirs)
        logs.attach(loop)
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        logs.detach()
        assert loop.get_exception_handler() is theirs

    asyncio.run(body())
    line = written.last
    assert (line["level"], line["logger"]) == ("error", "asyncio")
    assert "ZeroDivisionError" in line["exception"]
    assert "asyncio_handle" in line


def test_dropped_lines_are_told_in_the_logs_own_form(logs: Logs, written: Written) -> None:
    """The line that tells of dropped ones is a record like any other."""
    notice = json.loads(logs.outlet.notice(3, "the reader of stdout stalled"))
    assert list(notice)[: len(FIELDS)] == FIELDS
    assert notice["message"] == "dropped 3 log lines: the reader of stdout stalled"
    assert (notice["event"], notice["count"]) == ("lines_dropped", 3)


def answered(path: str, *, method: str = "GET", route: str = "/", peer: str = "") -> Request:
    """A request that the server's edge is done with."""
    request = Request(method, path, context=Context("ab" * 16), peer=peer)
    request.route = route
    return request


def access_line(
    path: str = "/users/1", *, method: str = "GET", route: str = "/users/{id}", status: int = 200, peer: str = "10.0.0.9:1234"
) -> tuple[dict[str, Any], bytes]:
    lines: list[bytes] = []
    access = json_access(lines.append, service='or"der', version="1", instance="i", wall=lambda: 1_700_000_000.0625)
    access(answered(path, method=method, route=route, peer=peer), status, 0.0123456, 45)
    return json.loads(lines[0]), lines[0]


def test_access_line() -> None:
    """An answered request is one line with the fixed fields and those of the answer."""
    line, raw = access_line()
    assert list(line) == ACCESS
    assert raw.endswith(b"}\n")
    span = line.pop("span_id")
    assert re.fullmatch("[0-9a-f]{16}", span)
    assert line == {
        "time": "2023-11-14T22:13:20.062500Z", "level": "info", "message": "GET /users/1 200", "logger": "mizzen.access",
        "service": 'or"der', "version": "1", "instance": "i", "trace_id": "ab" * 16, "method": "GET",
        "route": "/users/{id}", "path": "/users/1", "status": 200, "duration_ms": 12.346, "bytes": 45,
        "peer": "10.0.0.9:1234",
    }  # fmt: skip


@pytest.mark.parametrize(("status", "level"), [(200, "info"), (404, "info"), (499, "info"), (500, "error"), (503, "error")])
def test_access_level_follows_the_status(status: int, level: str) -> None:
    """An answer of 500 and more is an error of ours."""
    assert access_line(status=status)[0]["level"] == level


@given(st.text(max_size=200), st.text(max_size=20))
def test_no_path_or_peer_can_break_the_line(path: str, peer: str) -> None:
    """Whatever a caller puts into a path, the line is one line of JSON that reads back as that path."""
    line, raw = access_line(path, peer=peer, method='G"T', route='/{"}')
    assert raw.count(b"\n") == 1
    assert (line["path"], line["peer"], line["method"], line["route"]) == (path, peer, 'G"T', '/{"}')
    assert line["message"] == f'G"T {path} 200'


def test_lone_surrogates_in_a_path_are_shown() -> None:
    """Bytes that are no UTF-8 do not fail the line."""
    assert access_line("/\udcff")[0]["path"] == "/\\udcff"


def test_a_long_path_is_cut() -> None:
    """A path of kilobytes is cut, so that the line stays within what a pipe takes at once."""
    line, raw = access_line("/" + "x" * 8000)
    assert line["path"] == "/" + "x" * (LONGEST_PATH - 1) + "..."
    assert len(raw) < 4096


def test_the_second_of_the_time_is_renewed() -> None:
    """The cached second follows the clock, forwards and backwards."""
    lines: list[bytes] = []
    times = iter([1_700_000_000.999999, 1_700_000_001.0, 1_699_999_999.5])
    access = json_access(lines.append, service="s", version="1", instance="i", wall=lambda: next(times))
    for _ in range(3):
        access(answered("/"), 200, 0.0, 0)
    seen = [json.loads(line)["time"][17:-1] for line in lines]
    assert [text[:2] for text in seen] == ["20", "21", "19"]
    assert seen[1:] == ["21.000000", "19.500000"]


def record(message: str, level: int = logging.WARNING, name: str = "mizzen.breaker", **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, message, (), None)
    vars(made).update(extra)
    return made


def test_console_line_of_an_event() -> None:
    """An event is its level, the service and its sentence; its fields are in the sentence already."""
    lines = ConsoleLines(service="order", colour=False)
    shown = lines.record(record("breaker user OPEN for 30s: 5 calls failed", event="breaker_changed", peer="user"))
    assert shown == b"WARN  order  breaker user OPEN for 30s: 5 calls failed\n"


def test_console_line_of_a_library() -> None:
    """Another library's record names its logger and shows its extras."""
    lines = ConsoleLines(service="order", colour=False)
    shown = lines.record(record("connected", logging.INFO, "sqlalchemy.pool", size=5, where="here"))
    assert shown == b"INFO  order  sqlalchemy.pool: connected  size=5  where=here\n"


def test_console_shows_a_traceback_below() -> None:
    """A traceback stands indented under its line."""
    try:
        raise ValueError("no")
    except ValueError:
        made = record("failed", logging.ERROR)
        made.exc_info = sys.exc_info()
    first, second, *_, last = ConsoleLines(service="order", colour=False).record(made).decode().splitlines()
    assert (first, second, last) == ("ERROR order  failed", "      Traceback (most recent call last):", "      ValueError: no")


def test_console_cannot_be_steered_by_what_is_logged() -> None:
    """Control characters in a message or path are shown by their numbers."""
    lines = ConsoleLines(service="order", colour=False)
    assert b"\x1b" not in lines.record(record("\x1b[2J", note="\x1b[31m", name="mizzen"))
    assert lines.record(record("\x1b[2J\x9b")) == b"WARN  order  \\x1b[2J\\x9b\n"
    out: list[bytes] = []
    lines.access(out.append, errors_only=False)(answered("/\x1b[2J"), 200, 0.1, 0)
    assert out == [b"INFO  order  GET /\\x1b[2J 200 100ms\n"]


def test_console_access_lines_are_short() -> None:
    """An answer is its request, status and time."""
    out: list[bytes] = []
    access = ConsoleLines(service="order", colour=False).access(out.append, errors_only=False)
    access(answered("/orders/1"), 200, 0.00123, 45)
    access(answered("/orders/1"), 503, 2.0, 45)
    assert out == [b"INFO  order  GET /orders/1 200 1.2ms\n", b"ERROR order  GET /orders/1 503 2s\n"]


def test_console_colours() -> None:
    """On a terminal the level is coloured by what it means."""
    assert ConsoleLines(service="order", colour=True).record(record("x")).startswith(b"\x1b[33mWARN \x1b[0m order  x")


def test_repr_reads_like_a_status_line(logs: Logs) -> None:
    """The representation says the level, the form and the outlet."""
    assert repr(logs) == "<Logs debug and above as JsonLines to <Outlet stdout (kept): 0 bytes held, 0 lines dropped>>"
    assert logs.describe()["form"] == "JsonLines"
