"""A service under other servers, from start to stop, as real processes: what is opened, announced, logged and closed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from fleet import APPS, PATIENCE, Fleet, Process, ask, until
from ports import free_port

pytestmark = pytest.mark.wire

SERVERS = ("uvicorn", "granian", "hypercorn")
OPENED = ["build", "open first", "open second", "open third"]
CLOSED = ["close third", "close second", "close first"]
EXPIRES = 40.0
"""Seconds in which a registry has noticed that an instance is gone: its heartbeat is overdue after 15."""
ENDED = {"uvicorn": -signal.SIGTERM, "granian": 0, "hypercorn": 0}
"""Exit codes of a proper stop by SIGTERM: uvicorn ends by the signal it was sent."""


class Hosts:
    """Starts ``chain.hosted`` under any server."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self._diary = folder / "diary"

    @property
    def diary(self) -> list[str]:
        return self._diary.read_text().splitlines() if self._diary.exists() else []

    def start(self, server: str, app: str, *more: str, workers: int = 1, **settings: str) -> Process:
        """Start it on a port of its own, which is the configured one as well; ``settings`` are keys of the service."""
        port = free_port()
        place = {"hypercorn": ["--bind", f"127.0.0.1:{port}"]}.get(server, ["--host", "127.0.0.1", "--port", str(port)])
        own = {"granian": ["--interface", "asgi"]}.get(server, []) + ([] if workers == 1 else ["--workers", str(workers)])
        key = f"MIZZEN__SERVICES__{app.upper()}__"
        environ = {key + name.upper(): value for name, value in settings.items()}
        environ["TMPDIR"] = str(self.fleet.folder)  # where workers meet
        if app != "quiet":  # which no file names
            environ[key + "PORT"] = str(port)
        if app == "steps":
            environ[key + "SETTINGS__DIARY"] = str(self._diary)
        arguments = [f"chain.hosted:{app}", *place, *own, *more]
        return self.fleet.start_program(server, arguments, port=port, settings=environ, module=server, cwd=APPS)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with Fleet(tmp_path) as fleet:
        yield Hosts(fleet, tmp_path)


def our_lines(process: Process) -> list[dict[str, Any]]:
    """The lines of JSON on stdout; whatever else stands there is the server's own supervisor's, which we are no part of."""
    lines = [line for line in process.stdout.splitlines() if line]
    others = [line for line in lines if not line.startswith("{")]
    assert all(process.name == "granian" and re.match(r"\[(INFO|WARNING|ERROR)\] ", line) for line in others), others
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("server", SERVERS)
def test_a_life_from_start_to_stop(hosts: Hosts, server: str) -> None:
    """Resources open in order; at SIGTERM the request under way is answered, then they close in reverse."""
    process = hosts.start(server, "steps").ready()
    assert hosts.diary == OPENED
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, process.url + "/slow/0.8")
        until(lambda: "begin slow" in hosts.diary, "the request is under way")
        process.signal(signal.SIGTERM)
        assert (answer.result().status, answer.result().body) == (200, b"done")
    assert process.stop() == ENDED[server]
    assert hosts.diary == [*OPENED, "begin slow", "end slow", *CLOSED]
    lines = our_lines(process)
    states = [line["state"] for line in lines if line.get("event") == "state_changed"]
    assert states == ["starting", "serving", "lingering", "draining", "closed"]
    assert [line["status"] for line in lines if line.get("path") == "/slow/0.8"] == [200]


def test_behind_a_servers_tls_it_is_announced_as_https(hosts: Hosts) -> None:
    """With the service's tls set, callers and the registry's own probe are sent to the port as what it speaks."""
    registry = hosts.fleet.with_registry()
    cert, key = Authority(hosts.fleet.folder / "tls").issue()
    process = hosts.start("uvicorn", "served", "--ssl-certfile", cert, "--ssl-keyfile", key, tls__cert=cert, tls__key=key)
    until(lambda: hosts.fleet.instances("served"), "it is announced")
    entry = ask(f"{registry.url}/v1/health/service/served").json()[0]
    assert entry["Service"]["Meta"]["scheme"] == "https"

    def probed() -> bool:
        checks = ask(f"{registry.url}/v1/health/service/served").json()[0]["Checks"]
        return any("200 OK" in check["Output"] and check["Status"] == "passing" for check in checks)

    until(probed, "the registry's own probe passes", patience=2 * PATIENCE)
    process.stop()


@pytest.mark.parametrize("server", SERVERS)
def test_the_servers_own_lines_are_json(hosts: Hosts, server: str) -> None:
    """What the server itself logs while it serves goes through the same log, with the service's name."""
    loggers = {"uvicorn": "uvicorn.error", "granian": "_granian.serve", "hypercorn": "hypercorn.error"}
    process = hosts.start(server, "served").ready()
    found = until(
        lambda: [line for line in our_lines(process) if line["logger"].startswith(loggers[server])], "a line of the server's"
    )
    assert all((line["service"], line["level"]) == ("served", "info") for line in found)
    process.stop()


@pytest.mark.parametrize("server", SERVERS)
def test_what_cannot_start_ends_the_server(hosts: Hosts, server: str) -> None:
    """A resource that fails ends the process with an error that says which, and what was open is closed."""
    process = hosts.start(server, "steps", settings__fail="open second")
    assert (process.popen.wait(PATIENCE) == 0) is (server == "hypercorn")  # whose exit code does not tell
    assert "steps cannot start: opening Second" in process.stdout + process.stderr
    assert hosts.diary == ["build", "open first", "open second", "close second", "close first"]


@pytest.mark.parametrize("server", SERVERS)
def test_a_start_that_waits_is_answered_for(hosts: Hosts, server: str) -> None:
    """Probes say what is waited for, requests are refused as starting, and a stop closes what is open."""
    process = hosts.start(server, "steps", settings__hang="open second")
    process.ready("/live")
    ready = ask(process.url + "/ready")
    assert (ready.status, ready.json()["state"], ready.json()["waiting_for"]) == (503, "starting", ["Second"])
    refused = ask(process.url + "/slow/0")
    assert (refused.status, refused.headers["x-rejected"]) == (503, "starting")
    assert process.stop() == ENDED[server]
    assert hosts.diary == ["build", "open first", "open second", "close second", "close first"]


@pytest.mark.parametrize("server", SERVERS)
def test_a_start_that_fails_late_ends_the_server(hosts: Hosts, server: str) -> None:
    """What turns out to be wrong when the server listens already ends the process, as its platform would."""
    process = hosts.start(server, "steps", settings__fail="open second", settings__late="6.5")
    process.ready("/live")
    process.popen.wait(PATIENCE)
    assert hosts.diary == ["build", "open first", "open second", "close second", "close first"]
    last = [line["message"] for line in our_lines(process) if line["level"] == "critical"][-1]
    assert "steps ends: steps cannot start: opening Second" in last


def test_an_end_that_is_not_proper_is_told(hosts: Hosts) -> None:
    """What fails to close is in the log, and the server is told."""
    process = hosts.start("uvicorn", "steps", settings__fail="close second").ready()
    process.stop()
    assert hosts.diary == [*OPENED, *CLOSED]
    assert "steps did not end properly" in process.stdout + process.stderr


@pytest.mark.parametrize(
    ("server", "options", "workers"),
    [
        ("uvicorn", [], 1),
        ("granian", [], 1),
        ("hypercorn", [], 1),
        ("uvicorn", [], 2),
        ("granian", ["--respawn-failed-workers"], 2),
    ],
)
def test_workers_are_one_instance(hosts: Hosts, server: str, options: list[str], workers: int) -> None:
    """However many workers serve, the registry has one instance; a worker's end keeps it, the server's end removes it."""
    registry = hosts.fleet.with_registry()
    process = hosts.start(server, "served", *options, workers=workers).ready()
    expected = [f"served-127.0.0.1-{process.port}"]
    until(lambda: hosts.fleet.instances("served") == expected, "it is announced")
    if workers > 1:
        pids = until(lambda: _workers(process, workers), "every worker serves")
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: not _alive(pids[0]), "the worker is gone")
        assert hosts.fleet.instances("served") == expected
        until(lambda: len(_workers(process, workers + 1)) == workers, "another one serves in its place")
    process.stop()
    assert ask(f"{registry.url}/v1/health/service/served").json() == []


def test_workers_of_hypercorn_are_one_instance_until_one_of_them_ends(hosts: Hosts) -> None:
    """Hypercorn kills its workers once the first has ended: the registry may have to find out by their silence."""
    hosts.fleet.with_registry()
    process = hosts.start("hypercorn", "served", workers=2).ready()
    until(lambda: _workers(process, 2), "every worker serves")
    until(lambda: hosts.fleet.instances("served") == [f"served-127.0.0.1-{process.port}"], "it is announced")
    process.stop()
    until(lambda: hosts.fleet.instances("served") == [], "it is out of the registry", EXPIRES)


def _workers(process: Process, count: int) -> list[int]:
    """Ids of the processes that said that they serve, once there are as many."""
    states = [line for line in our_lines(process) if line.get("state") == "serving"]
    if len(states) < count:
        return []
    children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()
    return [int(child) for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_lifespan_is_told(hosts: Hosts) -> None:
    """A server that was told to leave the lifespan out answers 500, and its log names the option."""
    process = hosts.start("uvicorn", "served", "--lifespan", "off")
    until(lambda: ask(process.url + "/items/1").status == 500, "it answers")
    assert "served was not started" in process.stderr
    assert "--lifespan on" in process.stderr
    process.stop()


def test_logging_can_be_left_alone(hosts: Hosts) -> None:
    """With ``logs=False`` the server's lines stay where and as they were, and there are none of ours on stdout."""
    process = hosts.start("uvicorn", "quiet", "--factory").ready()
    assert ask(process.url + "/slow/0").status == 200
    process.stop()
    assert "INFO:     Application startup complete." in process.stderr
    assert '"GET /slow/0 HTTP/1.1" 200 OK' in process.stdout
    assert "{" not in process.stdout
