"""Traces between real processes: one id in the answer, in the error's body and in the log lines of every service."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, Process, ask, until

pytestmark = pytest.mark.wire

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
TRACE_ID = re.compile(r"[0-9a-f]{32}")
NONE = "0" * 32
"""An id that no trace may have."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    """`order`, and `user` that it calls."""
    folder: Path = tmp_path_factory.mktemp("chain")
    with Fleet(folder) as fleet:
        user = fleet.start("user").ready()
        yield fleet.start("order", settings={"MIZZEN__DISCOVERY__URL": f"static:user=127.0.0.1:{user.port}"}).ready(), user


def lines_of(process: Process, trace_id: str, *, logger: str = "mizzen.access") -> list[dict[str, Any]]:
    """What a service has logged for a trace, once it has."""
    found: list[dict[str, Any]] = until(
        lambda: [line for line in process.lines() if line["trace_id"] == trace_id and line["logger"] == logger],
        f"a line of {process.name} with trace {trace_id}",
    )
    return found


def test_one_trace_id_in_the_answer_and_in_the_lines_of_both_services(chain: tuple[Process, Process]) -> None:
    """The id that the caller is told finds the lines of the service it called and of the one behind it."""
    order, user = chain
    traces = [ask(order.url + "/orders/1").headers["x-trace-id"] for _ in range(3)]
    assert len(set(traces)) == 3
    for trace in traces:
        assert TRACE_ID.fullmatch(trace)
        (ours,), (theirs,) = lines_of(order, trace), lines_of(user, trace)
        assert (ours["path"], theirs["path"]) == ("/orders/1", "/users/1")
        assert ours["span_id"] != theirs["span_id"]


def test_the_error_body_has_it_too(chain: tuple[Process, Process]) -> None:
    """An error that began in the peer has one id in its header, its body and the lines of both."""
    order, user = chain
    answer = ask(order.url + "/strict/none")
    trace = answer.headers["x-trace-id"]
    assert (answer.status, answer.json()["trace_id"]) == (502, trace)
    assert [line["status"] for line in lines_of(order, trace)] == [502]
    assert [line["status"] for line in lines_of(user, trace)] == [404]


def test_a_crash_is_found_by_the_trace_id(chain: tuple[Process, Process]) -> None:
    """A 500 says nothing but its trace id, and the line with that id has the traceback."""
    _, user = chain
    answer = ask(user.url + "/crash")
    trace = answer.headers["x-trace-id"]
    assert answer.json()["trace_id"] == trace
    assert b"defect" not in answer.body
    (line,) = lines_of(user, trace, logger="mizzen.server")
    assert line["exception"].endswith("RuntimeError: a handler's defect\nwith two lines")


def test_what_a_handler_logs_has_the_trace(chain: tuple[Process, Process]) -> None:
    """Records of a library that a handler uses carry the ids of the request they are for."""
    _, user = chain
    trace = ask(user.url + "/warn").headers["x-trace-id"]
    (line,) = lines_of(user, trace, logger="some.library")
    (access,) = lines_of(user, trace)
    assert line["span_id"] == access["span_id"]


@pytest.mark.parametrize("path", ["/orders/1", "/strict/none", "/nowhere", "/live", "/slow/x"])
def test_an_incoming_trace_is_continued(chain: tuple[Process, Process], path: str) -> None:
    """The caller's trace id is kept in the answer, whatever its status; the span is our own."""
    order, _ = chain
    trace = path.encode().hex().zfill(32)[:32]
    answer = ask(order.url + path, headers={"traceparent": f"00-{trace}-{SPAN}-01"})
    assert answer.headers["x-trace-id"] == trace
    if answer.status >= 400:
        assert answer.json()["trace_id"] == trace
    assert {line["span_id"] for line in lines_of(order, trace)}.isdisjoint({SPAN, ""})


def test_an_incoming_trace_is_continued_where_the_body_is_refused(chain: tuple[Process, Process]) -> None:
    """A request that is refused before a handler sees it belongs to its caller's trace as well."""
    order, _ = chain
    answer = ask(order.url + "/orders", "POST", body=b"x" * (2 << 20), headers={"traceparent": TRACEPARENT})
    assert (answer.status, answer.headers["x-trace-id"], answer.json()["trace_id"]) == (413, TRACE, TRACE)
    assert [line["status"] for line in lines_of(order, TRACE)] == [413]


@pytest.mark.parametrize(
    "parent",
    [
        pytest.param("", id="empty"),
        pytest.param("nonsense", id="nonsense"),
        pytest.param(f"00-{NONE}-{SPAN}-01", id="zero-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="zero-span"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="version-ff"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="upper-case"),
    ],
)
def test_a_malformed_trace_begins_a_new_one(chain: tuple[Process, Process], parent: str) -> None:
    """What is no valid traceparent is ignored: the request gets an id of its own, and is answered."""
    order, _ = chain
    answer = ask(order.url + "/orders/1", headers={"traceparent": parent})
    trace = answer.headers["x-trace-id"]
    assert answer.status == 200
    assert TRACE_ID.fullmatch(trace)
    assert trace not in (TRACE, NONE)
    lines_of(order, trace)


class _Peer(http.server.BaseHTTPRequestHandler):
    """Keeps the headers of what it is asked."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        return


def test_the_peer_is_told_trace_span_state_and_baggage(tmp_path: Path) -> None:
    """A call carries the caller's trace, flags, state and baggage on, under a span of its own."""
    _Peer.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Peer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Fleet(tmp_path) as fleet:
            url = f"static:user=127.0.0.1:{server.server_address[1]}"
            order = fleet.start("order", settings={"MIZZEN__DISCOVERY__URL": url}).ready()
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=1,b=2", "baggage": "tenant=7"}
            assert ask(order.url + "/orders/1", headers=headers).status == 200
            (line,) = lines_of(order, TRACE)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    (asked,) = _Peer.asked
    version, trace, span, flags = asked["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "00")
    assert span not in (SPAN, line["span_id"])
    assert (asked["tracestate"], asked["baggage"]) == ("a=1,b=2", "tenant=7")
