"""Workers: one service in several processes is one instance to everybody, whatever happens to one of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from certificates import Authority
from fleet import PATIENCE, Answer, Fleet, Load, Process, ask, free_port, until

pytestmark = pytest.mark.wire

KEY = "MIZZEN__SERVICES__CREW__"
SPREADS = sys.platform.startswith("linux")
"""Elsewhere all workers wait on one socket, and who gets a connection is chance."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


def start(fleet: Fleet, workers: int = 4, *, linger: str = "300ms", drain: str = "5s", **more: str) -> Process:
    """Start the service `crew`; ``more`` are its settings in mizzen.toml, with ``__`` between the parts of their names."""
    settings = {"WORKERS": str(workers), "STOP__LINGER": linger, "STOP__DRAIN": drain}
    settings |= {name.upper(): value for name, value in more.items()}
    return fleet.start("crew", settings={KEY + name: value for name, value in settings.items()})


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(own) for own, parent in pairs if int(parent) == pid]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


def full(crew: Process, size: int = 4) -> Process:
    """Wait until every worker serves."""
    until(lambda: list(health(crew)["workers"].values()) == ["serving"] * size, f"all {size} workers serve")
    return crew


def health(crew: Process) -> Any:
    """What the crew says of itself; while nobody serves, of no worker. ``OSError`` when the worker that is asked hangs."""
    return {"workers": {}} | ask(f"{crew.url}/health", timeout=3).json()


def page(crew: Process) -> dict[str, float]:
    """Every sample of the crew's metrics page."""
    return page_at(crew.url)


def page_at(url: str) -> dict[str, float]:
    """Every sample of the metrics page, each of which stands there once."""
    answer = ask(f"{url}/metrics")
    assert answer.status == 200, answer.body
    samples = [line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#")]
    assert len({name for name, _, _ in samples}) == len(samples)
    return {name: float(value) for name, _, value in samples}


def counters(samples: Mapping[str, float]) -> dict[str, float]:
    """What may never go down."""
    ends = ("_total", "_count", "_bucket", "_sum")
    return {name: value for name, value in samples.items() if name.partition("{")[0].endswith(ends)}


def active(url: str) -> float:
    """Requests that any worker is answering on the service's port, the one that asks for the metrics there included."""
    return sum(value for name, value in page_at(url).items() if name.startswith("http_server_active"))


class Line:
    """One kept-alive connection."""

    def __init__(self, crew: Process) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", crew.port, timeout=PATIENCE)
        self._connection.connect()

    def ask(self, path: str = "/who") -> Answer:
        """Ask on this connection and no other: ``OSError`` or ``HTTPException`` when it is gone."""
        connection = self._connection
        if connection.sock is None:
            raise ConnectionError("closed after an answer")
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body, 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class Busy:
    """Kept-alive connections that ask all the time, each remembering who answers it and how it ended."""

    def __init__(self, crew: Process, count: int) -> None:
        self.lines = [Line(crew) for _ in range(count)]
        self.pids = [line.ask().json() for line in self.lines]
        self.ended: dict[int, str] = {}
        self.answers = 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(place,), daemon=True) for place in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        for line in self.lines:
            line.__exit__()

    def _run(self, place: int) -> None:
        while not self._end.wait(0.01):
            try:
                answer = self.lines[place].ask()
            except (OSError, http.client.HTTPException) as error:
                self.ended[place] = type(error).__name__
                return
            if answer.status != 200 or answer.json() != self.pids[place]:
                self.ended[place] = f"{answer.status} {answer.body!r}"
                return
            self.answers += 1


class Fresh:
    """A new connection for each request, one after the other: when it was begun, and what went wrong."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.begun: list[float] = []
        self.failures: list[tuple[float, str]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._end.wait(0.002):
            now = time.monotonic()
            self.begun.append(now)
            try:
                answer = ask(self._url, timeout=5)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((now, f"{type(error).__name__}: {error}"))
            else:
                if answer.status != 200:
                    self.failures.append((now, f"{answer.status} {answer.body!r}"))


class Scrapes:
    """The metrics, looked at again and again: each counter that went down."""

    def __init__(self, crew: Process) -> None:
        self._crew = crew
        self.count = 0
        self.last: dict[str, float] = {}
        self.fell: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._end.wait(0.02):
            try:
                now = counters(page(self._crew))
            except (OSError, http.client.HTTPException):
                continue  # it was the killed worker that was asked
            self.fell += [
                f"{name}: {value} -> {now.get(name)}" for name, value in self.last.items() if now.get(name, -1) < value
            ]
            self.last = now
            self.count += 1


def test_a_killed_worker_loses_its_own_connections_only(fleet: Fleet) -> None:
    """The others' go on, new ones are answered, the instance stays registered, no counter falls, and a new worker comes."""
    fleet.with_registry()
    crew = full(start(fleet).ready())
    [instance] = until(lambda: fleet.instances("crew"), "the crew is registered")
    registered: list[list[str]] = []
    with Busy(crew, 24) as busy, Fresh(f"{crew.url}/who") as fresh, Scrapes(crew) as scrapes:
        until(lambda: busy.answers > 100 and scrapes.count > 5, "there is load")
        victim = busy.pids[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: not alive(victim), "it is dead")
        dead = time.monotonic()
        own = {place for place, pid in enumerate(busy.pids) if pid == victim}
        until(lambda: set(busy.ended) >= own, "its connections have ended")

        def back() -> bool:
            registered.append(fleet.instances("crew"))
            return list(health(crew)["workers"].values()) == ["serving"] * 4

        until(back, "a new worker serves")
        answers, scraped = busy.answers, scrapes.count
        until(lambda: busy.answers > answers + 100 and scrapes.count > scraped + 5, "all goes on")
    assert set(busy.ended) == own
    assert 0 < len(own) < 24
    assert [failure for failure in fresh.failures if failure[0] > dead] == []
    assert all("refused" not in text and "timed out" not in text for _, text in fresh.failures)
    assert sum(begun > dead for begun in fresh.begun) > 20
    assert scrapes.fell == []
    assert set(map(tuple, registered)) == {(instance,)}
    assert page(crew)["mizzen_worker_restarts_total"] == 1
    assert crew.stop() == 0


def test_the_page_is_the_sum_of_all(fleet: Fleet) -> None:
    """Whoever is asked shows every request of every worker, and the user's own counters; a gauge has its worker's number."""
    crew = full(start(fleet).ready())
    before = page(crew).get('crew_asked_total{worker="of mine"}', 0.0)
    lines = [Line(crew) for _ in range(40)]
    asked = [line.ask().json() for line in lines]
    assert len(set(asked)) > 1
    for line in lines:
        line.__exit__()
    for _ in range(8):
        samples = page(crew)
        assert samples['crew_asked_total{worker="of mine"}'] == before + 40
        route = 'http_request_method="GET",http_route="/who",http_response_status_code="200"'
        assert samples[f"http_server_request_duration_seconds_count{{{route}}}"] == before + 40
    gauges = {
        name for name in samples if name.startswith(("process_resident", "mizzen_build_info", "mizzen_state", "crew_own"))
    }
    assert gauges
    assert all('worker="' in name.partition("{")[2] for name in gauges)
    assert {f'process_resident_memory_bytes{{worker="{number}"}}' for number in range(4)} <= gauges
    own = {value for name, value in samples.items() if name.startswith("crew_own{") and 'exported_worker="of mine"' in name}
    assert own >= set(asked)
    assert samples['mizzen_workers{state="serving"}'] == 4


@pytest.mark.skipif(not SPREADS, reason="only Linux spreads connections over several sockets of one port")
def test_connections_are_spread(fleet: Fleet) -> None:
    """Of a hundred connections that are opened at once, every worker has its part."""
    crew = full(start(fleet).ready())
    lines = [Line(crew) for _ in range(100)]
    pids = [line.ask().json() for line in lines]
    for line in lines:
        line.__exit__()
    assert len(set(pids)) == 4
    assert min(pids.count(pid) for pid in set(pids)) >= 5


def test_a_worker_that_is_told_to_stop_is_replaced(fleet: Fleet) -> None:
    """SIGTERM to a worker drains it without a failed request, and another one takes its number."""
    crew = full(start(fleet, 2, linger="200ms").ready(), 2)
    first = ask(f"{crew.url}/who").json()
    with Fresh(f"{crew.url}/who") as fresh, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lambda: until(lambda: slow_on(crew, first), "a slow request is on it"))
        slow.result()
        os.kill(first, signal.SIGTERM)
        until(lambda: not alive(first), "it has ended")
        until(lambda: list(health(crew)["workers"].values()) == ["serving"] * 2, "another one serves")
        begun = len(fresh.begun)
        until(lambda: len(fresh.begun) > begun + 20, "it goes on")
    assert fresh.failures == []
    assert first not in children(crew.popen.pid)
    assert len(children(crew.popen.pid)) == 2


@pytest.mark.skipif(not SPREADS, reason="elsewhere nobody can choose which worker answers")
def test_a_worker_that_lingers_alone_gets_no_new_connections(fleet: Fleet) -> None:
    """The others take them at once, so that those who are connected have the time of its linger for their requests."""
    crew = full(start(fleet, 2, linger="1h").ready(), 2)
    leaving = ask(f"{crew.url}/who").json()
    lines = [Line(crew) for _ in range(20)]
    os.kill(leaving, signal.SIGTERM)
    until(lambda: "lingering" in health(crew)["workers"].values(), "it lingers")
    assert leaving not in {ask(f"{crew.url}/who").json() for _ in range(40)}
    assert leaving in {line.ask().json() for line in lines}
    for line in lines:
        line.__exit__()


def slow_on(crew: Process, pid: int) -> bool:
    """Whether a request that takes a while has been answered by that process."""
    return bool(ask(f"{crew.url}/slow?seconds=0.05").json() == pid)


def test_what_a_worker_starts_does_not_hold_the_port(fleet: Fleet) -> None:
    """A program that it leaves behind has none of the sockets: only the standard streams are handed on."""
    crew = full(start(fleet, 2).ready(), 2)
    assert ask(f"{crew.url}/inherited").json() == [0, 1, 2]


def test_a_rolling_restart_loses_no_request(fleet: Fleet) -> None:
    """Two crews behind a caller, one stopped and started after the other, under load: every request is answered."""
    fleet.with_registry()
    two = {"MIZZEN__SERVICES__USER__WORKERS": "2", "MIZZEN__SERVICES__USER__STOP__LINGER": "1s"}
    ports = [free_port(), free_port()]
    users = [fleet.start("user", port=port, settings=two).ready() for port in ports]
    until(lambda: len(fleet.instances("user")) == 2, "both are registered")
    order = fleet.start("order").ready()
    assert ask(f"{order.url}/orders/1").status == 200
    with Load(f"{order.url}/orders/1") as load:
        load.more(50)
        for place, port in enumerate(ports):
            assert users[place].stop() == 0
            until(lambda: len(fleet.instances("user")) == 1, "it is withdrawn")
            load.more(50)
            users[place] = fleet.start("user", port=port, settings=two).ready()
            until(lambda: len(fleet.instances("user")) == 2, "it is back")
            load.more(50)
    assert load.failures == []


def test_a_stop_goes_in_order(fleet: Fleet) -> None:
    """Withdrawn first, every worker lingers with Connection: close, requests under way are answered, exit 0."""
    fleet.with_registry()
    crew = full(start(fleet, 2, linger="1s").ready(), 2)
    until(lambda: fleet.instances("crew"), "the crew is registered")
    lines = [Line(crew) for _ in range(8)]
    assert {line.ask().headers.get("connection") for line in lines} == {None}
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, f"{crew.url}/slow?seconds=1.5")
        until(lambda: active(crew.url) >= 2, "the slow request is there")
        crew.signal(signal.SIGTERM)
        until(lambda: ask(f"{crew.url}/ready").status == 503, "it lingers")
        assert fleet.instances("crew") == []
        answers = [line.ask() for line in lines]
        assert slow.result().status == 200
    assert {(answer.status, answer.headers["connection"]) for answer in answers} == {(200, "close")}
    assert crew.popen.wait(PATIENCE) == 0
    told = [(line.get("worker"), line["state"]) for line in crew.lines() if line.get("event") == "state_changed"]
    assert [state for worker, state in told if worker is None] == ["starting", "serving", "lingering", "closed"]
    lingering = [place for place, (_, state) in enumerate(told) if state == "lingering"]
    assert told[lingering[0]][0] is None
    for number in range(2):
        states = [state for worker, state in told if worker == number]
        assert states == ["starting", "serving", "lingering", "draining", "closed"]


def test_a_second_signal_forces(fleet: Fleet) -> None:
    """What is under way is cut off in every worker, and the exit code says so."""
    crew = full(start(fleet, 2, linger="30s", drain="30s").ready(), 2)
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(ask, f"{crew.url}/slow?seconds=25")
        until(lambda: active(crew.url) >= 2, "it is there")
        crew.signal(signal.SIGINT)
        until(lambda: ask(f"{crew.url}/ready").status == 503, "it lingers")
        began = time.monotonic()
        crew.signal(signal.SIGINT)
        assert crew.popen.wait(PATIENCE) == 1
        assert time.monotonic() - began < 10
        with suppress(OSError, http.client.HTTPException):
            assert cut.result().status >= 500


@pytest.mark.parametrize("hangs", [False, True], ids=["idle", "with a worker that hangs"])
def test_nothing_is_left_of_a_killed_supervisor(fleet: Fleet, hangs: bool) -> None:
    """SIGKILL of the supervisor ends every worker, even one that hears nothing, and another crew has the port at once."""
    crew = full(start(fleet).ready())
    workers = children(crew.popen.pid)
    assert len(workers) == 4
    with ThreadPoolExecutor(1) as pool:
        if hangs:
            pool.submit(ask, f"{crew.url}/block?seconds=30")
            until(lambda: list(health(crew)["workers"].values()).count("silent") == 1, "one is silent")
        crew.signal(signal.SIGKILL)
        until(lambda: not any(alive(worker) for worker in workers), "every worker has ended")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", crew.port))
        probe.listen()


@pytest.mark.parametrize(
    ("crash", "told"),
    [
        ("import", "crew cannot start: chain.crew:build raised RuntimeError: this cannot be built"),
        ("raise", "crew cannot start: opening Held raised LookupError: there is nothing to hold"),
        ("exit", "exited with 7 before it served"),
        ("SIGSEGV", "was killed by SIGSEGV before it served"),
    ],
)
def test_bad_code_ends_with_one_clear_error(fleet: Fleet, crash: str, told: str) -> None:
    """Workers that cannot start are not started again and again: the crew ends with what one of them said."""
    began = time.monotonic()
    crew = start(fleet, settings__crash=crash)
    assert crew.popen.wait(PATIENCE) == 2
    assert time.monotonic() - began < PATIENCE
    assert crew.stderr.count("error: ") == 1
    assert told in crew.stderr
    assert "worker_ended" not in crew.stdout


def test_what_is_wrong_before_any_worker_is_told_as_ever(fleet: Fleet) -> None:
    """A port that is taken is one error that names who holds it, also when another crew holds it."""
    crew = full(start(fleet, 2).ready(), 2)
    second = fleet.start("crew", port=crew.port, settings={KEY + "WORKERS": "2"})
    assert second.popen.wait(PATIENCE) == 2
    assert f"port {crew.port} is in use by pid {crew.popen.pid}" in second.stderr or not SPREADS
    single = fleet.start("crew", port=crew.port)
    assert single.popen.wait(PATIENCE) == 2
    port = free_port()
    twice = fleet.start("crew", port=port, settings={KEY + "WORKERS": "2", KEY + "ADMIN__PORT": str(port)})
    assert twice.popen.wait(PATIENCE) == 2
    assert f"error: port {port} is in use" in twice.stderr


def test_a_worker_that_cannot_come_back_is_tried_again(fleet: Fleet, tmp_path: Path) -> None:
    """While others serve, its failures are told and the crew is degraded; once it can start, all is well again."""
    broken = tmp_path / "broken"
    crew = full(start(fleet, 2, settings__broken=str(broken)).ready(), 2)
    broken.touch()
    os.kill(ask(f"{crew.url}/who").json(), signal.SIGKILL)
    until(lambda: crew.stdout.count('"event":"worker_ended"') >= 3, "it was tried again")
    answer = ask(f"{crew.url}/health")
    assert (answer.status, answer.json()["status"]) == (200, "degraded")
    assert "serving" in answer.json()["workers"].values()
    ended = [line for line in crew.lines() if line.get("event") == "worker_ended"]
    assert "opening Held raised LookupError" in ended[-1]["message"]
    broken.unlink()
    full(crew, 2)


def test_too_few_workers_are_critical(fleet: Fleet, tmp_path: Path) -> None:
    """With less than half of them the instance fails its health and is no longer given out; with enough it is back."""
    fleet.with_registry()
    broken = tmp_path / "broken"
    crew = full(start(fleet, settings__broken=str(broken)).ready())
    until(lambda: fleet.instances("crew"), "it is registered")
    broken.touch()
    kept, *victims = children(crew.popen.pid)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    until(lambda: not fleet.instances("crew"), "it is not given out any more")
    answer = ask(f"{crew.url}/health")
    assert (answer.status, answer.json()["status"]) == (503, "unavailable")
    assert ask(f"{crew.url}/ready").status == 200
    assert ask(f"{crew.url}/who").json() == kept
    broken.unlink()
    until(lambda: fleet.instances("crew"), "it is given out again")
    full(crew)


def test_when_all_are_dead_the_door_answers(fleet: Fleet, tmp_path: Path) -> None:
    """Requests are refused as by a service that starts, and the workers come back; if they cannot, the crew ends."""
    fleet.with_registry()
    broken = tmp_path / "broken"
    crew = full(start(fleet, 2, settings__broken=str(broken)).ready(), 2)
    until(lambda: fleet.instances("crew"), "it is registered")
    before = counters(page(crew))
    for pid in children(crew.popen.pid):
        os.kill(pid, signal.SIGKILL)

    def refused() -> bool:
        answer = ask(f"{crew.url}/who")
        return answer.status == 503 and answer.headers["x-rejected"] == "starting" and answer.headers["connection"] == "close"

    until(refused, "the door answers")
    full(crew, 2)
    assert all(page(crew)[name] >= value for name, value in before.items())
    broken.touch()
    for pid in children(crew.popen.pid):
        os.kill(pid, signal.SIGKILL)
    assert crew.popen.wait(PATIENCE) == 2
    assert "opening Held raised LookupError" in crew.stderr
    assert fleet.instances("crew") == []


def test_a_worker_that_hangs_holds_up_nobody_else(fleet: Fleet) -> None:
    """New connections are answered by the others, the page and the health too, which names it; afterwards it is back."""
    crew = full(start(fleet).ready())
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(ask, f"{crew.url}/block?seconds=9", timeout=PATIENCE)
        until(lambda: list(health(crew)["workers"].values()).count("silent") == 1, "it is known to hang")
        hung = time.monotonic()
        pids = {ask(f"{crew.url}/who", timeout=2).json() for _ in range(60)}
        if time.monotonic() - hung < 2:  # else it may be back
            assert len(pids) <= 3 or not SPREADS
        page(crew)
        answer = blocked.result()
        assert answer.status in (200, 504)
    full(crew)


@pytest.mark.skipif(not SPREADS, reason="elsewhere nobody can choose which worker answers")
def test_a_crew_with_a_worker_that_hangs_does_not_give_up(fleet: Fleet, tmp_path: Path) -> None:
    """It may come back: the failures of the other one are told and tried again meanwhile."""
    broken = tmp_path / "broken"
    crew = full(start(fleet, 2, settings__broken=str(broken)).ready(), 2)
    hung, killed = children(crew.popen.pid)
    try:
        os.kill(hung, signal.SIGSTOP)
        until(lambda: '"worker 0 has said nothing' in crew.stdout or '"worker 1 has said nothing' in crew.stdout, "it hangs")
        broken.touch()
        os.kill(killed, signal.SIGKILL)
        until(lambda: crew.stdout.count('"event":"worker_ended"') >= 3, "it was tried again")
        broken.unlink()
    finally:
        os.kill(hung, signal.SIGCONT)
    full(crew, 2)


def test_lines_are_whole_whoever_writes_them(fleet: Fleet) -> None:
    """Long lines of many workers at once, also into a pipe, are each one line of JSON with the number of its worker."""
    read, write = os.pipe()
    chunks: list[bytes] = []

    def collect() -> None:
        while chunk := os.read(read, 1 << 16):
            chunks.append(chunk)

    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    try:
        settings = {KEY + "WORKERS": "4", KEY + "STOP__LINGER": "0s"}
        crew = fleet.start("crew", settings=settings, stdout=write).ready()
        os.close(write)
        full(crew)
        with ThreadPoolExecutor(16) as pool:
            lengths = [10, 3000, 4090, 5000, 20_000, 70_000]
            jobs = [pool.submit(ask, f"{crew.url}/say?length={length}&lines=5") for length in lengths * 6]
            assert {job.result().status for job in jobs} == {200}
        assert crew.stop() == 0
        collector.join(PATIENCE)
    finally:
        os.close(read)
    lines = [json.loads(line) for line in b"".join(chunks).decode().splitlines()]
    said = [line for line in lines if line["logger"] == "crew"]
    dropped = sum(line["count"] for line in lines if line.get("event") == "lines_dropped")  # on a machine that is too busy
    assert len(said) + dropped >= len(lengths) * 30 > dropped * 2
    assert {len(line["message"]) for line in said} <= {*lengths, *range(4, 14)}
    by_worker: dict[int, set[str]] = {}
    for line in said:
        by_worker.setdefault(line["worker"], set()).add(line["message"].split("-")[0])
    assert len(by_worker) > 1
    assert all(len(pids) == 1 for pids in by_worker.values())
    access = [line for line in lines if line["logger"] == "mizzen.access"]
    assert {line.get("worker") for line in access} - {None} <= set(range(4))  # none: the door's, before anybody served


def test_a_line_that_a_dead_worker_began_is_ended(fleet: Fleet) -> None:
    """Nothing is glued to it, and it is told as what it is."""
    crew = full(start(fleet, 2).ready(), 2)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(f"{crew.url}/die?text=half")
    until(lambda: "half" in crew.stdout, "it is out")
    full(crew, 2)
    [told] = [line for line in crew.lines() if "half" in line["message"]]
    assert told["level"] == "warning"
    assert "without an end" in told["message"]


def test_the_option_and_any_free_port(fleet: Fleet) -> None:
    """`--workers` overrides the configuration, and with port 0 all of them have the one that the system chose."""
    arguments = ["run", "crew", "--dir", str(fleet.system), "--host", "127.0.0.1", "--port", "0", "--workers", "3"]
    crew = fleet.start_program("crew", arguments, port=0, settings={KEY + "STOP__LINGER": "0s"})
    until(lambda: '"state":"serving"' in crew.stdout, "it serves")
    port = int(next(line["instance"] for line in crew.lines()).rpartition("-")[2])
    assert port > 0
    crew.url = f"http://127.0.0.1:{port}"
    full(crew, 3)
    assert ask(f"{crew.url}/health").json()["instance"] == f"crew-127.0.0.1-{port}"
    assert crew.stop() == 0


def test_the_admin_port_and_a_unix_socket(fleet: Fleet, tmp_path: Path) -> None:
    """Both are shared by all workers; the file of the socket goes with the crew, and not with one of its workers."""
    path, admin = tmp_path / "crew.sock", free_port()
    arguments = ["run", "crew", "--dir", str(fleet.system), "--host", f"unix:{path}", "--workers", "2"]
    settings = {KEY + "STOP__LINGER": "0s"}
    crew = fleet.start_program("crew", arguments, port=0, settings=settings)

    def over_socket(target: str) -> Any:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(str(path))
            line.sendall(f"GET {target} HTTP/1.1\r\nhost: crew\r\nconnection: close\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: line.recv(65536), b"")).partition(b"\r\n\r\n")
        return json.loads(body) if b" 200 " in head.split(b"\r\n")[0] else None

    def both() -> bool:
        found = over_socket("/health")
        return found is not None and list(found["workers"].values()) == ["serving"] * 2

    until(both, "both workers serve")
    os.kill(over_socket("/who"), signal.SIGTERM)
    until(lambda: '"worker_ended"' in crew.stdout, "one has ended")
    until(both, "both workers serve again")
    assert crew.stop() == 0
    assert not path.exists()

    crew = start(fleet, 2, admin__port=str(admin))
    until(lambda: list(ask(f"http://127.0.0.1:{admin}/health").json()["workers"].values()) == ["serving"] * 2, "both serve")
    assert ask(f"{crew.url}/health").status == 404
    assert ask(f"{crew.url}/who").status == 200
    assert ask(f"http://127.0.0.1:{admin}/metrics").status == 200
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, f"{crew.url}/slow?seconds=2")
        until(lambda: active(f"http://127.0.0.1:{admin}") >= 1, "the slow request is there")
        crew.signal(signal.SIGTERM)
        until(lambda: '"draining"' in crew.stdout, "it drains")
        assert [ask(f"http://127.0.0.1:{admin}{path}", timeout=1).status for path in ("/live", "/ready")] == [200, 503]
        assert slow.result().status == 200
    assert crew.popen.wait(PATIENCE) == 0


def test_workers_and_their_door_speak_https(fleet: Fleet, tmp_path: Path) -> None:
    """With a certificate every worker shows it, and so does the door while nobody serves."""
    authority = Authority(tmp_path / "tls")
    pair = authority.issue()
    crew = start(fleet, 2, tls__cert=pair.cert, tls__key=pair.key)
    trusted = ssl.create_default_context(cafile=authority.ca)

    def secure(path: str) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection("127.0.0.1", crew.port, timeout=PATIENCE, context=trusted)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    until(lambda: secure("/health")[1].get("workers") == {"0": "serving", "1": "serving"}, "both serve")
    assert len({secure("/who")[1] for _ in range(40)}) == 2 or not SPREADS
    for pid in children(crew.popen.pid):
        os.kill(pid, signal.SIGKILL)
    status, body = until(lambda: (found := secure("/who"))[0] == 503 and found, "the door answers")
    assert (status, body["detail"]) == (503, "this instance is starting")
    until(lambda: secure("/who")[0] == 200, "they are back")
    assert crew.stop() == 0


def test_one_worker_is_a_single_process(fleet: Fleet) -> None:
    """By default there is no supervisor, no child and nothing of it in the page or the log."""
    crew = start(fleet, 1).ready()
    assert children(crew.popen.pid) == []
    assert not any("mizzen_worker" in name or "worker=" in name for name in page(crew) if not name.startswith("crew_"))
    assert "worker" not in ask(f"{crew.url}/health").json()
    assert not any("worker" in line for line in crew.lines())
    assert crew.stop() == 0
