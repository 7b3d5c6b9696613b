"""Stopping real processes: a signal at each step of starting and stopping leaves no registration, process or open thing."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import pytest
from fleet import PATIENCE, Answer, Fleet, Process, ask, free_port, until

pytestmark = pytest.mark.wire

KEY = "MIZZEN__SERVICES__STEPS__"
OPENED = ["build", "open first", "open second", "open third"]
CLOSED = ["close third", "close second", "close first"]
SIGNALS = [signal.SIGTERM, signal.SIGINT]
PROMPT = 5.0
"""Seconds in which something ends that waits for nothing, on a busy machine."""
EXPIRES = 40.0
"""Seconds in which a registry has noticed that an instance is gone: its heartbeat is overdue after 15."""


class Steps:
    """The service `steps` as processes, and what it wrote into its diary."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self._diary = folder / "diary"

    @property
    def diary(self) -> list[str]:
        return self._diary.read_text().splitlines() if self._diary.exists() else []

    def until(self, step: str) -> None:
        """Wait until the diary has that step."""
        until(lambda: step in self.diary, f"the step {step!r}")

    def start(
        self,
        *,
        hang: str = "",
        fail: str = "",
        stubborn: bool = False,
        registry: int = 0,
        http_check: bool = True,
        linger: str = "0s",
        drain: str = "5s",
        **more: str,
    ) -> Process:
        """Start it; ``more`` are its settings in mizzen.toml, with ``__`` between the parts of their names."""
        settings = {
            "SETTINGS__DIARY": str(self._diary),
            "SETTINGS__HANG": hang,
            "SETTINGS__FAIL": fail,
            "SETTINGS__STUBBORN": str(stubborn).lower(),
            "STOP__LINGER": linger,
            "STOP__DRAIN": drain,
            **{name.upper(): value for name, value in more.items()},
        }
        environ = {KEY + name: value for name, value in settings.items()}
        environ["MIZZEN__DISCOVERY__HTTP_CHECK"] = str(http_check).lower()
        if registry:
            environ["MIZZEN__DISCOVERY__URL"] = f"consul://127.0.0.1:{registry}"
        return self.fleet.start("steps", settings=environ)


class Consul:
    """A registry that the test plays: it keeps what is registered, and answers registrations when its gate is open."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.registered: dict[str, Any] = {}
        self.gate = Event()
        self.gate.set()
        consul = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                id = self.path.rpartition("/")[2]
                found = consul.registered.get(id) if self.path.startswith("/v1/agent/service/") else None
                self._say(404 if found is None else 200, found)

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                consul.asked.append(self.path)
                if self.path.endswith("/service/register"):
                    consul.gate.wait(PATIENCE)
                    said = json.loads(body)
                    consul.registered[said["ID"]] = {"ID": said["ID"], "Meta": said["Meta"]}
                elif "/service/deregister/" in self.path:
                    consul.registered.pop(self.path.rpartition("/")[2])
                self._say(200, None)

            def _say(self, status: int, value: Any) -> None:
                body = b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


class Begun:
    """A request whose first line is out and whose end is not, so that it can be asked later on an open connection."""

    def __init__(self, process: Process, path: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE)
        self._connection.sendall(f"GET {path} HTTP/1.1\r\nhost: steps\r\n".encode())

    def finish(self) -> Answer:
        """Send the end of it and read until the connection is closed."""
        began = time.monotonic()
        with self._connection as connection:
            connection.sendall(b"\r\n")
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in rest)
        return Answer(int(first.split()[1]), fields, body, time.monotonic() - began)


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Steps]:
    with Fleet(tmp_path) as fleet:
        yield Steps(fleet, tmp_path)


@pytest.fixture
def consul() -> Iterator[Consul]:
    with Consul() as consul:
        yield consul


@pytest.fixture
def later() -> Iterator[Callable[..., Future[Answer]]]:
    """Asks in a thread of its own, which is over when the test is."""
    with ThreadPoolExecutor(8) as threads:
        yield lambda process, path: threads.submit(ask, process.url + path)


def state(process: Process) -> str:
    """Where it says it is in its life."""
    return str(ask(process.url + "/live").json()["state"])


def entered(process: Process, name: str) -> bool:
    """Whether its log says that it entered that state: by then its socket may be closed."""
    return any(line.get("event") == "state_changed" and line["state"] == name for line in process.lines())


def is_waiting(process: Process, what: str) -> bool:
    """Whether it is starting and says that it waits for that."""
    return [what] == ask(process.url + "/health").json().get("waiting_for")


def check_ended(process: Process, within: float = PROMPT) -> int:
    """The exit code of a process that was told to end; fails when it takes longer."""
    return process.popen.wait(within)


# -- starting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_while_its_code_is_loaded(steps: Steps, consul: Consul, number: signal.Signals) -> None:
    """A signal while the service's code still runs ends it at once with 0: nothing is open yet, and nobody heard of it."""
    process = steps.start(hang="build", registry=consul.port)
    steps.until("build")
    process.signal(number)
    assert check_ended(process) == 0
    assert (steps.diary, consul.asked, process.stderr) == (["build"], [], "")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_while_a_thing_is_being_opened(steps: Steps, consul: Consul, number: signal.Signals) -> None:
    """A signal while the second of three things does not open cancels that and closes the first; the third was not begun."""
    process = steps.start(hang="open second", registry=consul.port, linger="1h")
    steps.until("open second")
    process.signal(number)
    assert check_ended(process) == 0
    assert steps.diary == ["build", "open first", "open second", "close second", "close first"]
    assert consul.asked == []


def test_a_stop_while_the_first_thing_is_being_opened(steps: Steps) -> None:
    """A signal while the first thing does not open ends it with nothing to close."""
    process = steps.start(hang="open first")
    steps.until("open first")
    process.signal(signal.SIGTERM)
    assert check_ended(process) == 0
    assert steps.diary == ["build", "open first", "close first"]


def test_a_stop_while_a_required_check_fails(steps: Steps, consul: Consul) -> None:
    """A signal while a required check has not passed closes everything in reverse; nothing was announced."""
    process = steps.start(hang="check", registry=consul.port, linger="1h")
    until(lambda: is_waiting(process, "Second"), "it waits for the check")
    process.signal(signal.SIGTERM)
    assert check_ended(process) == 0
    assert steps.diary == OPENED + CLOSED
    assert consul.asked == []


def test_a_thing_that_cannot_be_cancelled(steps: Steps) -> None:
    """A thing whose opening swallows its cancellation is left behind after a time, and told of by the exit code."""
    process = steps.start(hang="open second", stubborn=True)
    steps.until("open second")
    process.signal(signal.SIGTERM)
    assert check_ended(process, 3 * PROMPT) == 1
    assert steps.diary == ["build", "open first", "open second", "close first"]


def test_a_thing_that_fails_to_open(steps: Steps, consul: Consul) -> None:
    """A start that fails closes what is open, says why, and was never announced."""
    process = steps.start(fail="open second", registry=consul.port)
    assert check_ended(process, PATIENCE) == 2
    assert steps.diary == ["build", "open first", "open second", "close second", "close first"]
    assert consul.asked == []
    error, *places = process.stderr.splitlines()
    assert error == "error: steps cannot start: opening Second raised RuntimeError: the test fails open second"
    assert places[-1].startswith("  chain/steps.py:")
    [line] = [line for line in process.lines() if line["level"] == "critical"]
    assert "Traceback" in line["exception"]


def test_what_is_answered_while_starting(steps: Steps) -> None:
    """While it starts, the platform hears that it lives and what it waits for; requests are refused as `starting`."""
    process = steps.start(hang="open second")
    until(lambda: is_waiting(process, "Second"), "it waits for the second thing")
    assert ask(process.url + "/live").status == 200
    assert ask(process.url + "/metrics").status == 200
    for path in ("/ready", "/health"):
        answer = ask(process.url + path)
        assert (answer.status, answer.json()["state"], answer.json()["waiting_for"]) == (503, "starting", ["Second"])
        assert "x-rejected" not in answer.headers
    for path in ("/slow/0", "/nowhere"):
        answer = ask(process.url + path)
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["x-rejected"] == "starting"


# -- serving -----------------------------------------------------------------------------------------------------------


def test_a_stop_while_its_registration_is_in_flight(steps: Steps, consul: Consul) -> None:
    """A signal while the registry has not answered waits for the answer first, so that the withdrawal comes after it."""
    consul.gate.clear()
    process = steps.start(registry=consul.port)
    until(lambda: consul.asked, "it registers")
    process.signal(signal.SIGTERM)
    until(lambda: any(line["message"].startswith("SIGTERM") for line in process.lines()), "it heard the signal")
    assert state(process) == "serving"
    consul.gate.set()
    assert check_ended(process) == 0
    assert consul.registered == {}
    assert [path.split("/")[4] for path in consul.asked if "/service/" in path] == ["register", "deregister"]
    assert steps.diary == OPENED + CLOSED


def test_a_stop_while_the_registry_hangs(steps: Steps) -> None:
    """A registry that has stopped answering holds up the stop for seconds only, and what it finds later expires."""
    registry = steps.fleet.with_registry()
    registry.signal(signal.SIGSTOP)
    process = steps.start().ready()
    process.signal(signal.SIGTERM)
    assert check_ended(process, 2 * PROMPT) == 0
    assert steps.diary == OPENED + CLOSED
    registry.signal(signal.SIGCONT)
    until(lambda: ask(registry.url + "/v1/status/leader").status == 200, "the registry answers again")
    until(lambda: steps.fleet.instances("steps") == [], "the registry gives it out no more", patience=EXPIRES)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_with_requests_in_flight(steps: Steps, later: Callable[..., Future[Answer]], number: signal.Signals) -> None:
    """A signal while requests are in flight lets each finish before anything it uses is closed; nothing stays registered."""
    steps.fleet.with_registry()
    process = steps.start().ready()
    until(lambda: steps.fleet.instances("steps"), "it is registered")
    answers = [later(process, "/slow/1") for _ in range(4)]
    until(lambda: steps.diary.count("begin slow") == 4, "all are in flight")
    process.signal(number)
    assert [(answer.result().status, answer.result().headers.get("connection")) for answer in answers] == [(200, "close")] * 4
    assert check_ended(process) == 0
    assert steps.fleet.instances("steps") == []
    assert ask(f"{steps.fleet.registry.url}/v1/agent/services").json() == {}
    assert steps.diary == OPENED + ["begin slow"] * 4 + ["end slow"] * 4 + CLOSED


def test_a_kill_is_found_out_by_the_registry(steps: Steps) -> None:
    """An instance that was killed is not given out any more once its heartbeat is overdue."""
    registry = steps.fleet.with_registry()
    process = steps.start(http_check=False)
    until(lambda: steps.fleet.instances("steps"), "it is registered")
    process.signal(signal.SIGKILL)
    process.popen.wait(PROMPT)
    until(lambda: steps.fleet.instances("steps") == [], "the registry drops it", patience=EXPIRES)
    checks = ask(registry.url + "/v1/agent/checks").json().values()
    assert "TTL expired" in " ".join(check["Output"] for check in checks)


# -- lingering ---------------------------------------------------------------------------------------------------------


def test_what_is_answered_while_lingering(steps: Steps, consul: Consul) -> None:
    """While it lingers, everything is still answered, each connection for the last time; the platform hears 503."""
    process = steps.start(registry=consul.port, linger="1h").ready()
    until(lambda: consul.registered, "it is registered")
    process.signal(signal.SIGTERM)
    until(lambda: state(process) == "lingering", "it lingers")
    assert consul.registered == {}
    for path, status in (("/live", 200), ("/ready", 503), ("/health", 503), ("/metrics", 200), ("/slow/0", 200)):
        answer = Begun(process, path).finish()  # which also says that the connection was closed
        assert (path, answer.status, answer.headers.get("connection")) == (path, status, "close")
    process.signal(signal.SIGTERM)
    assert check_ended(process) == 0
    assert steps.diary == [*OPENED, "begin slow", "end slow", *CLOSED]


# -- draining ----------------------------------------------------------------------------------------------------------


def test_what_is_answered_while_draining(steps: Steps, later: Callable[..., Future[Answer]]) -> None:
    """While it drains, new connections are refused and new requests on open ones rejected; what is in flight finishes."""
    process = steps.start(drain="1h").ready()
    answer = later(process, "/slow/3")
    steps.until("begin slow")
    begun = {path: Begun(process, path) for path in ("/live", "/ready", "/health", "/slow/0", "/nowhere")}
    process.signal(signal.SIGTERM)
    until(lambda: entered(process, "draining"), "it drains")
    with pytest.raises(ConnectionRefusedError):
        ask(process.url + "/live")
    until(lambda: "last requests in" in process.stdout, "it has waited for the first requests of those who are connected")
    told = {path: request.finish() for path, request in begun.items()}
    assert {path: answer.status for path, answer in told.items()} == {
        "/live": 200, "/ready": 503, "/health": 503, "/slow/0": 503, "/nowhere": 503,
    }  # fmt: skip
    assert {path for path, answer in told.items() if answer.headers.get("x-rejected") == "draining"} == {"/slow/0", "/nowhere"}
    assert answer.result().status == 200
    assert check_ended(process) == 0
    assert steps.diary == [*OPENED, "begin slow", "end slow", *CLOSED]


@pytest.mark.parametrize(
    ("path", "doing", "thread"),
    [
        ("/slow/600", ["begin slow", "slow was cancelled"], ""),
        ("/blocked/600", ["begin blocked"], "handler_0"),
        ("/in-thread/600", ["begin blocked"], "(asyncio|uvloop)_0.*"),
    ],
)
def test_what_does_not_finish_is_cut_off(
    steps: Steps, later: Callable[..., Future[Answer]], path: str, doing: list[str], thread: str
) -> None:
    """A request that outlasts the drain is cut off, in a thread too; then everything is closed and the exit code is 1."""
    process = steps.start(drain="200ms").ready()
    answer = later(process, path)
    steps.until(doing[0])
    process.signal(signal.SIGTERM)
    assert check_ended(process) == 1
    assert answer.exception() is not None
    assert steps.diary == [*OPENED, *doing, *CLOSED]
    assert any(line["message"] == "1 requests were cut off at the end of the drain" for line in process.lines())
    why = f"error: the thread {thread} did not end within 2s of the stop: cut off\n" if thread else ""
    assert re.fullmatch(why, process.stderr)


def test_a_request_that_cannot_be_cancelled(steps: Steps, later: Callable[..., Future[Answer]]) -> None:
    """A handler that swallows its cancellation does not keep the process."""
    process = steps.start(hang="begin slow", stubborn=True, drain="200ms").ready()
    answer = later(process, "/slow/0")
    steps.until("begin slow")
    process.signal(signal.SIGTERM)
    assert check_ended(process, 2 * PROMPT) == 1
    assert answer.exception() is not None
    assert steps.diary == [*OPENED, "begin slow", *CLOSED]


@pytest.mark.parametrize("where", ["lingering", "draining"])
def test_a_second_signal_forces(steps: Steps, later: Callable[..., Future[Answer]], where: str) -> None:
    """A second signal ends the waiting for what is in flight: it is cut off, and everything is closed all the same."""
    process = steps.start(linger="1h" if where == "lingering" else "0s", drain="1h").ready()
    answer = later(process, "/slow/600")
    steps.until("begin slow")
    process.signal(signal.SIGTERM)
    until(lambda: entered(process, where), f"it is {where}")
    process.signal(signal.SIGTERM)
    assert check_ended(process) == 1
    assert answer.exception() is not None
    assert steps.diary == [*OPENED, "begin slow", "slow was cancelled", *CLOSED]


def test_probes_on_a_port_of_their_own_are_answered_to_the_end(steps: Steps, later: Callable[..., Future[Answer]]) -> None:
    """With a port of their own, the platform's questions are answered while the service's port is closed already."""
    port = free_port()
    process = steps.start(drain="1h", admin__port=str(port))
    until(lambda: ask(f"http://127.0.0.1:{port}/ready").status == 200, "it is ready")
    answer = later(process, "/slow/600")
    steps.until("begin slow")
    process.signal(signal.SIGTERM)
    until(lambda: entered(process, "draining"), "it drains")
    assert [ask(f"http://127.0.0.1:{port}{path}").status for path in ("/live", "/ready", "/health")] == [200, 503, 503]
    process.signal(signal.SIGTERM)
    assert check_ended(process) == 1
    assert answer.exception() is not None


# -- closing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_thing_that_does_not_close(steps: Steps, stubborn: bool) -> None:
    """A thing that does not close is left after a time, the others are closed, and the exit code is 1."""
    process = steps.start(hang="close second", stubborn=stubborn).ready()
    process.signal(signal.SIGTERM)
    assert check_ended(process, 3 * PROMPT) == 1
    assert steps.diary == OPENED + CLOSED


def test_the_steps_of_a_life_are_in_the_log(steps: Steps, consul: Consul) -> None:
    """The log tells every state and step in their order, each with how long it took."""
    process = steps.start(registry=consul.port).ready()
    until(lambda: consul.registered, "it is registered")
    assert process.stop() == 0
    told = [
        line.get("state") or line.get("step") or line["event"]
        for line in process.lines()
        if line.get("event") in ("state_changed", "step_taken", "registered", "withdrawn")
    ]
    assert told == [
        "starting", "open First", "open Second", "open Third", "serving", "registered", "withdrawn", "withdraw",
        "lingering", "draining", "close Third", "close Second", "close First", "closed",
    ]  # fmt: skip
