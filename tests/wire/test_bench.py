"""The bench's pieces work: its services start and answer, and its open loop sees a stall. No number is judged here."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import idle
import pytest
import servers
from arrivals import arrive
from rounds import agree
from saturation import saturate
from scenarios import NEW_USER, SERVER

STALL = 0.3
"""Seconds for which the stalling server keeps its first caller waiting."""
DUE = 0.4
"""Seconds in which requests are due."""


@pytest.fixture(scope="module")
def user() -> Iterator[servers.Server]:
    """The measured user service, as the bench starts it."""
    server = servers.mizzen("user", core=None, name="test-user")
    server.wait("/users/1")
    yield server
    server.stop()


@pytest.fixture(params=["go", "asyncio"])
def generator(request: pytest.FixtureRequest) -> Path | None:
    """Each of the two programs for the open loop."""
    if request.param == "asyncio":
        return None
    if shutil.which("go") is None or sys.platform != "linux":
        pytest.skip("bench/generator needs Linux and Go: install go, or let the asyncio one do")
    built = servers.build_go("generator")
    if not isinstance(built, Path):
        pytest.fail(built)
    return built


@pytest.fixture
def staller() -> Iterator[str]:
    """The address of a server on one connection that answers its first request after a stall, and the others at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                first = True
                while connection.recv(65536):
                    if first:
                        time.sleep(STALL)  # what is measured: a server that does nothing for so long
                    first = False
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_stall_is_seen_by_all_that_were_due_in_it(generator: Path | None, staller: str) -> None:
    """At 100 requests a second, a stall of 0.3 s delays thirty of forty, and not just the one that was under way."""
    seen = arrive(generator, staller, "/", rate=100, seconds=DUE, connections=1, core=None)
    assert (seen.answered, seen.failed) == (40, 0)
    assert seen.max_ms >= STALL * 1000
    assert seen.p50_ms >= 50  # counted from when they were sent, all but one take microseconds


def test_both_loops_count_what_the_service_answers(user: servers.Server, generator: Path | None) -> None:
    """Closed and open, on several connections, with a body and with a large answer."""
    for scenario in SERVER[:4]:
        seen = saturate(
            user.address, scenario.path, seconds=0.2, connections=4, core=None, method=scenario.method, body=scenario.body
        )
        assert seen.requests > 0
        assert seen.failed == 0
    for path in ("/users/1", "/picture"):
        latency = arrive(generator, user.address, path, rate=50, seconds=0.2, connections=4, core=None)
        assert (latency.answered, latency.failed) == (10, 0)
        assert 0 < latency.p50_ms <= latency.p99_ms <= latency.p999_ms <= latency.max_ms


def test_answers_that_fail_are_counted_as_failed(user: servers.Server, generator: Path | None) -> None:
    """A 404 is no served request, in either loop."""
    seen = saturate(user.address, "/users/nobody", seconds=0.2, connections=2, core=None)
    assert seen.failed == seen.requests > 0
    latency = arrive(generator, user.address, "/users/nobody", rate=50, seconds=0.2, connections=2, core=None)
    assert latency.failed == latency.answered == 10


def test_load_without_wrk_counts_the_same(user: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without wrk has the loop in asyncio."""
    monkeypatch.setenv("PATH", "")
    seen = saturate(user.address, "/users", seconds=0.2, connections=4, core=None, method="POST", body=NEW_USER)
    assert seen.requests > 0
    assert seen.failed == 0


def test_the_go_reference_answers_as_mizzen_does(user: servers.Server) -> None:
    """Whatever is compared is the same work; ``agree`` raises where an answer differs."""
    if shutil.which("go") is None:
        pytest.skip("the reference needs Go: install go")
    built = servers.build_go("go")
    if not isinstance(built, Path):
        pytest.skip(f"{built}; fetch its modules once: cd bench/go && go mod download")
    reference = servers.go(built, core=None)
    try:
        reference.wait("/users/1")
        for scenario in SERVER:
            agree(scenario, {"mizzen": user, "go": reference})
    finally:
        reference.stop()


def test_contestants_that_differ_are_not_compared(user: servers.Server) -> None:
    """What answers otherwise does other work."""
    scenario = SERVER[0]._replace(contestants=("mizzen", "other"))
    other = servers.mizzen("order", core=None, user_url=user.url, name="test-order")
    try:
        other.wait("/orders/1")
        with pytest.raises(RuntimeError, match="do not answer GET /orders/1 alike"):
            agree(scenario, {"mizzen": user, "other": other})
    finally:
        other.stop()


def test_idle_connections_are_held_and_weighed(user: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was asked once; where there is no /proc the weight is not told."""
    for name in ("SETTLE", "BEFORE", "REST"):
        monkeypatch.setattr(idle, name, 0.05)
    seen = idle.measure(user, "/users/1", 50)
    assert seen.connections == 50
    assert (seen.bytes_each is None) == (not Path("/proc/self/smaps_rollup").exists())
