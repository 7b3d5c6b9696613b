"""The bench's pieces work: its services start and answer, and its open loop sees a stall. No number is judged here."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from arrivals import arrive
from rounds import _agree
from saturation import saturate
from scenarios import SERVER

STALL = 0.3
"""Seconds for which the stalling server keeps its first caller waiting."""
DUE = 0.6
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
    """At 100 requests a second and one connection, a stall of 0.3 s delays thirty of sixty, and not just the one under way."""
    seen = arrive(generator, staller, "/", rate=100, seconds=DUE, connections=1, core=None)
    assert (seen.answered, seen.failed) == (60, 0)
    assert seen.max_ms >= STALL * 1000
    assert seen.p50_ms >= 1.0  # by the time of sending, half of them would have taken microseconds... see the next line
    assert seen.p99_ms >= STALL * 1000 - 20
