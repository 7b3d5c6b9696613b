"""Saturation of a real process: what is too much is turned away at once, and the platform is always answered."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleet import PATIENCE, Fleet, Process, ask, until

pytestmark = pytest.mark.wire

PLACES = 10
PROMPT = 3.0
"""Seconds in which a probe answers on a busy machine; the benchmark looks at 100 ms."""


class Held:
    """A request that lasts until :meth:`finish`, since its handler waits for the last byte of its body."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.connection.sendall(b"POST /hold HTTP/1.1\r\nhost: desk\r\nconnection: close\r\ncontent-length: 1\r\n\r\n")

    def finish(self) -> bytes:
        """Send the last byte; the answer's status line."""
        with self.connection:
            self.connection.sendall(b"x")
            return b"".join(iter(lambda: self.connection.recv(4096), b"")).partition(b"\r\n")[0]


def in_flight(desk: Process) -> int:
    """Requests that the service works on besides the one that asks."""
    page = ask(desk.url + "/metrics").body.decode()
    return int(next(line.split()[1] for line in page.splitlines() if line.startswith("http_server_active_requests "))) - 1


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Process]:
    """A service with ten places."""
    settings = {"MIZZEN__SERVICES__DESK__LIMITS__IN_FLIGHT": str(PLACES), "MIZZEN__SERVICES__DESK__LIMITS__HANDLER": "60s"}
    with Fleet(tmp_path) as fleet:
        yield fleet.start("desk", settings=settings).ready()


@pytest.fixture
def held(desk: Process) -> Iterator[list[Held]]:
    """As many requests under way as there are places."""
    with ExitStack() as stack:
        requests = [Held(desk.port) for _ in range(PLACES)]
        for request in requests:
            stack.callback(request.connection.close)
        until(lambda: in_flight(desk) == PLACES, "every place is taken")
        yield requests


def test_what_is_too_much_is_shed(desk: Process, held: list[Held]) -> None:
    """With every place taken, one more request is a 503 that invites to try elsewhere at once."""
    for path in ("/tickets/1", "/crash"):
        answer = ask(desk.url + path)
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert (answer.headers["x-rejected"], answer.headers["retry-after"]) == ("shed", "0")
        assert answer.json()["trace_id"] == answer.headers["x-trace-id"]
        assert answer.json()["detail"] == "10 requests are in flight here already"
    assert ask(desk.url + "/nowhere").status == 404


def test_probes_are_never_shed(desk: Process, held: list[Held]) -> None:
    """With every place taken and more being shed, each question of the platform is answered 200."""
    with ThreadPoolExecutor(8) as threads:
        shed = [threads.submit(ask, desk.url + "/tickets/1") for _ in range(200)]
        for _ in range(10):
            for path in ("/live", "/ready", "/health", "/metrics"):
                answer = ask(desk.url + path)
                assert answer.status == 200
                assert answer.seconds < PROMPT
        assert {request.result().status for request in shed} == {503}


def test_places_come_back_one_by_one(desk: Process, held: list[Held]) -> None:
    """Each request that ends makes room for one, and after all have ended all is well."""
    assert held.pop().finish() == b"HTTP/1.1 200 OK"
    until(lambda: in_flight(desk) == PLACES - 1, "one place is free")
    held.append(Held(desk.port))
    until(lambda: in_flight(desk) == PLACES, "it is taken")
    assert ask(desk.url + "/tickets/1").status == 503
    assert [request.finish() for request in held] == [b"HTTP/1.1 200 OK"] * PLACES
    until(lambda: in_flight(desk) == 0, "every place is free")
    with ThreadPoolExecutor(PLACES) as threads:
        assert {answer.status for answer in threads.map(ask, [desk.url + "/tickets/1"] * PLACES)} == {200}


def test_a_caller_that_leaves_frees_its_place(desk: Process, held: list[Held]) -> None:
    """A place is not lost with the connection of the one who held it."""
    for request in held:
        request.connection.close()
    until(lambda: in_flight(desk) == 0, "every place is free")
    assert ask(desk.url + "/tickets/1").status == 200


def test_what_was_shed_is_counted_and_logged(desk: Process, held: list[Held]) -> None:
    """A request that was turned away is in the metrics and in the log like any other."""
    trace = ask(desk.url + "/tickets/1").headers["x-trace-id"]
    (line,) = until(lambda: [line for line in desk.lines() if line["trace_id"] == trace], "its line")
    assert (line["status"], line["route"], line["level"]) == (503, "/tickets/{id}", "error")
    labels = 'http_request_method="GET",http_route="/tickets/{id}",http_response_status_code="503"'
    assert f"http_server_request_duration_seconds_count{{{labels}}} 1\n" in ask(desk.url + "/metrics").body.decode()
