"""Stdout of a real service: every line is JSON whatever happens, and a reader that stalls costs nobody anything."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from fleet import PATIENCE, Fleet, Process, ask, until

pytestmark = pytest.mark.wire

FIELDS = ["time", "level", "message", "logger", "service", "version", "instance", "trace_id", "span_id"]
ACCESS = [*FIELDS, "method", "route", "path", "status", "duration_ms", "bytes", "peer"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LEVELS = {"debug", "info", "warning", "error", "critical"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


def checked(stdout: str) -> list[dict[str, Any]]:
    """The lines of stdout, each checked for what every one of them has."""
    assert stdout.endswith("\n")
    lines: list[dict[str, Any]] = [json.loads(line) for line in stdout.splitlines()]
    for line in lines:
        expected = ACCESS if line["logger"] == "mizzen.access" else FIELDS
        assert list(line)[: len(expected)] == expected
        assert TIME.fullmatch(line["time"])
        assert line["level"] in LEVELS
        assert line["service"] == "desk"
        assert line["version"]
        assert line["instance"].startswith("desk-127.0.0.1-")
        assert (len(line["trace_id"]), len(line["span_id"])) in ((32, 16), (0, 0))
    return lines


def metric(process: Process, name: str) -> float:
    """The value of a metric without labels."""
    page = ask(process.url + "/metrics").body.decode()
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


def test_every_line_is_json_whatever_happens(fleet: Fleet) -> None:
    """Crashes, warnings, lost tasks and threads, prints and a library's own handler: all are lines, start to exit."""
    desk = fleet.start("desk", settings={"MIZZEN__SERVICES__DESK__STOP__LINGER": "0s"}).ready()
    paths = ("/crash", "/warn", "/say", "/say/in-thread", "/lose/task", "/lose/thread", "/tickets/x", "/nowhere")
    traces = {path: ask(desk.url + path).headers["x-trace-id"] for path in paths}
    until(lambda: "nobody joins" in desk.stdout, "the thread has failed")
    assert desk.stop() == 0
    lines = checked(desk.stdout)
    assert desk.stderr == ""

    def logged(logger: str, path: str = "") -> list[dict[str, Any]]:
        return [line for line in lines if line["logger"] == logger and line["trace_id"] == traces.get(path, line["trace_id"])]

    (crash,) = logged("mizzen.server", "/crash")
    assert crash["exception"].endswith("RuntimeError: a handler's defect\nwith two lines")
    (warning,) = logged("py.warnings", "/warn")
    assert (warning["level"], warning["message"]) == ("warning", "UserWarning: a library's warning")
    (record,) = logged("some.library", "/warn")
    assert (record["level"], record["message"]) == ("warning", "a library's record: ü\n")
    assert [line["message"] for line in logged("stdout", "/say")] == [
        "one line", 'and "another"', "no end yet", "bytes ü", "a handler's line",
    ]  # fmt: skip
    assert [line["message"] for line in logged("stdout", "/say/in-thread")] == ["from a thread"]
    assert logged("stdout")[0]["message"] == "the desk is imported"
    assert {line["level"] for line in logged("stdout")} == {"info"}
    (task,) = logged("asyncio")
    assert task["exception"].endswith("ValueError: in a task that nobody awaits")
    (thread,) = logged("mizzen.process")
    assert (thread["thread_name"], thread["level"]) == ("lost", "error")
    assert [line["path"] for line in logged("mizzen.access") if line["path"] in paths] == list(paths)


def test_a_start_that_fails_leaves_stdout_json(fleet: Fleet) -> None:
    """What is wrong with a start is text on stderr; stdout has log lines and nothing else."""
    desk = fleet.start("desk").ready()
    second = fleet.start("desk", port=desk.port)
    assert second.popen.wait(PATIENCE) == 2
    assert second.stderr.startswith(f"error: port {desk.port} is in use")
    assert [line["message"] for line in checked(second.stdout)]


class Reader:
    """The reading end of a service's stdout, which reads nothing until it is told to."""

    def __init__(self) -> None:
        self._end, self.other = os.pipe()
        self._data: list[bytes] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)  # ends with the service
        os.close(self._end)

    def started(self) -> None:
        """The service has its own end of the pipe: let go of ours, so that its exit is seen."""
        os.close(self.other)

    def read(self) -> None:
        """Read from now on."""
        self._thread.start()

    @property
    def text(self) -> str:
        """What has arrived, up to the last whole line."""
        return b"".join(self._data).rpartition(b"\n")[0].decode() + "\n"

    def _run(self) -> None:
        self._data.extend(iter(lambda: os.read(self._end, 65536), b""))


def answered(port: int, count: int, path: str = "/tickets/1") -> int:
    """Send so many requests on one connection, a batch at a time; how many were answered 200."""
    request = b"GET %b HTTP/1.1\r\nhost: desk\r\n\r\n" % path.encode()
    batch, good = 250, 0
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        for _ in range(count // batch):
            connection.sendall(request * batch)
            data, seen = b"", 0
            while seen < batch:
                piece = connection.recv(1 << 18)
                assert piece, "the service closed the connection"
                data += piece
                seen = data.count(b"HTTP/1.1 ")
            good += data.count(b"HTTP/1.1 200 ")
    return good


def test_a_reader_that_stalls_stops_no_request_and_costs_no_memory(tmp_path: Path) -> None:
    """Nobody reads stdout for 30,000 requests: all are answered, memory stays, and what was lost is counted and said."""
    with Reader() as reader, Fleet(tmp_path) as fleet:
        desk = fleet.start("desk", stdout=reader.other)
        reader.started()
        desk.ready()
        assert answered(desk.port, 6_000) == 6_000  # more than is held: from here on lines are lost
        dropped = until(lambda: metric(desk, "mizzen_log_lines_dropped_total"), "lines are dropped")
        before = metric(desk, "process_resident_memory_bytes")
        assert answered(desk.port, 30_000) == 30_000
        grown = metric(desk, "process_resident_memory_bytes") - before
        assert metric(desk, "mizzen_log_lines_dropped_total") >= dropped + 30_000
        assert grown < 4 << 20, f"{grown / (1 << 20):.1f} MiB more for 12 MiB of lines"
        assert {ask(desk.url + path).status for path in ("/live", "/ready", "/health")} == {200}

        reader.read()
        until(lambda: '"event":"lines_dropped"' in reader.text, "the loss is said")
        trace = ask(desk.url + "/tickets/2").headers["x-trace-id"]
        until(lambda: trace in reader.text, "lines come through again")
        lost = metric(desk, "mizzen_log_lines_dropped_total")
    lines = checked(reader.text)
    (said,) = [line for line in lines if line.get("event") == "lines_dropped"]
    assert said["count"] == lost
    assert (said["level"], said["logger"]) == ("warning", "mizzen.logs")
    assert said["message"] == f"dropped {said['count']} log lines: the reader of stdout stalled"


def test_a_reader_that_is_gone_stops_no_request(tmp_path: Path) -> None:
    """The reader of stdout dies: requests are answered as before, and the lost lines are counted."""
    with Fleet(tmp_path) as fleet:
        with Reader() as reader:
            desk = fleet.start("desk", stdout=reader.other)
            reader.started()
            desk.ready()
        assert answered(desk.port, 500) == 500
        until(lambda: metric(desk, "mizzen_log_lines_dropped_total") >= 500, "the lost lines are counted")
        assert desk.popen.poll() is None


def test_a_service_whose_reader_stalls_stops_all_the_same(tmp_path: Path) -> None:
    """SIGTERM ends a service in time though nobody reads its last lines."""
    with Reader() as reader, Fleet(tmp_path) as fleet:
        desk = fleet.start("desk", stdout=reader.other, settings={"MIZZEN__SERVICES__DESK__STOP__LINGER": "0s"})
        reader.started()
        desk.ready()
        assert answered(desk.port, 6_000) == 6_000
        assert desk.stop(patience=10) == 0


def test_the_console_form_leaves_prints_alone(fleet: Fleet) -> None:
    """Where the log is for a person, what is printed stays as it was printed."""
    settings = {"MIZZEN__SERVICES__DESK__LOG__FORMAT": "console", "MIZZEN__SERVICES__DESK__STOP__LINGER": "0s"}
    desk = fleet.start("desk", settings=settings).ready()
    ask(desk.url + "/say")
    assert desk.stop() == 0
    assert {"the desk is imported", "one line", 'and "another"'} <= set(desk.stdout.splitlines())
