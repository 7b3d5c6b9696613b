"""The bench's pieces work: its services start and answer, and its open loop sees a stall. No number is judged here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import discovery
import idle
import programs
import pytest
from arrivals import arrive
from rounds import agree
from saturation import saturate
from scenarios import NEW_USER, SERVER

STALL = 0.3
"""Seconds for which the stalling server keeps its first caller waiting."""
DUE = 0.4
"""Seconds in which requests are due."""


@pytest.fixture(scope="module")
def user() -> Iterator[programs.Server]:
    """The measured user service, as the bench starts it."""
    server = programs.mizzen("user", core=None, name="test-user")
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
    built = programs.build_go("generator")
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


def test_the_open_loop_counts_what_the_service_answers(user: programs.Server, generator: Path | None) -> None:
    """Small and large answers on several connections, and a 404 as failed."""
    for path in ("/users/1", "/picture"):
        latency = arrive(generator, user.address, path, rate=50, seconds=0.2, connections=4, core=None)
        assert (latency.answered, latency.failed) == (10, 0)
        assert 0 < latency.p50_ms <= latency.p99_ms <= latency.p999_ms <= latency.max_ms
    latency = arrive(generator, user.address, "/users/nobody", rate=50, seconds=0.2, connections=2, core=None)
    assert latency.failed == latency.answered == 10


@pytest.mark.parametrize("path", [os.environ["PATH"], ""], ids=["as installed", "without wrk"])
def test_the_closed_loop_counts_what_the_service_answers(
    user: programs.Server, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with a body, and a 404 as failed; a machine without wrk has the loop in asyncio."""
    monkeypatch.setenv("PATH", path)
    seen = saturate(user.address, "/users", seconds=0.2, connections=4, core=None, method="POST", body=NEW_USER)
    assert seen.requests > 0
    assert seen.failed == 0
    seen = saturate(user.address, "/users/nobody", seconds=0.2, connections=2, core=None)
    assert seen.failed == seen.requests > 0


def test_the_go_reference_answers_as_mizzen_does(user: programs.Server) -> None:
    """Whatever is compared is the same work; ``agree`` raises where an answer differs."""
    if shutil.which("go") is None:
        pytest.skip("the reference needs Go: install go")
    built = programs.build_go("go")
    if not isinstance(built, Path):
        pytest.skip(f"{built}; fetch its modules once: cd bench/go && go mod download")
    reference = programs.go(built, core=None)
    try:
        reference.wait("/users/1")
        for scenario in SERVER:
            agree(scenario, {"mizzen": user, "go": reference})
    finally:
        reference.stop()


def test_contestants_that_differ_are_not_compared(user: programs.Server) -> None:
    """What answers otherwise does other work, and what refuses does none."""
    scenario = SERVER[0]._replace(contestants=("mizzen", "other"))
    other = programs.mizzen("order", core=None, user_url=user.url, name="test-order")
    try:
        other.wait("/orders/1")
        with pytest.raises(RuntimeError, match="other answers 404 to GET /users/1"):
            agree(scenario, {"mizzen": user, "other": other})
        with pytest.raises(RuntimeError, match="do not answer GET /health alike"):
            agree(scenario._replace(path="/health"), {"mizzen": user, "other": other})
    finally:
        other.stop()


def test_idle_connections_are_held_and_weighed(user: programs.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was asked once; where there is no /proc the weight is not told."""
    for name in ("SETTLE", "BEFORE", "REST"):
        monkeypatch.setattr(idle, name, 0.05)
    seen = idle.measure(user, "/users/1", 50)
    assert seen.connections == 50
    assert (seen.bytes_each is None) == (not Path("/proc/self/smaps_rollup").exists())


def test_a_run_ends_with_the_table(tmp_path: Path) -> None:
    """One part alone, in one round: what it measured, the ratio and the budget, and every sample in a file."""
    command = [
        sys.executable,
        str(programs.HERE / "run.py"),
        "--parts",
        "start",
        "--rounds",
        "1",
        "--out",
        str(tmp_path / "all.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Mizzen as a multiple of" in done.stdout
    assert "at most 1.3: " in done.stdout
    kept = json.loads((tmp_path / "all.json").read_text())
    assert [ratio["what"] for ratio in kept["ratios"]] == ["start to the first 200", "CPU of that start"]


def test_a_part_that_does_not_exist_is_named() -> None:
    """With those that do."""
    command = [sys.executable, str(programs.HERE / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "BENCH_PARTS": "sever hop"})
    assert done.returncode == 2
    assert "BENCH_PARTS has sever; there are server, hop, client, start, memory, idle, slow, discovery" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="costs are read from /proc, which only Linux has")
def test_a_registry_is_filled_watched_and_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes are weighed, every service has its snapshot, and every change is told."""
    monkeypatch.setattr(discovery, "SERVICES", 20)
    monkeypatch.setattr(discovery, "REST", 0.1)
    seen = discovery.measure(None, None)
    assert (seen.few.services, seen.all.services, seen.all.errors) == (10, 20, 0)
    assert min(*seen.all.resident_mb, *seen.all.change_cpu_us, seen.registered.cpu_us, seen.beat.cpu_us) > 0
