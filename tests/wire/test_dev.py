"""`mizzen dev` on a small system of real processes: order, restarts, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from mizzen.assembly.ports import describe_holder, is_taken
from mizzen.assembly.registry import serve_registry
from mizzen.edges.registry import Registry

pytestmark = pytest.mark.wire

LIMIT = 30.0
"""Seconds for anything to happen on a busy machine."""
SERVICE = """\
import os
from mizzen import Router, Service
from .word import WORD

async def about() -> dict[str, int | str]:
    return {{"pid": os.getpid(), "word": WORD}}

def register_handlers(router: Router) -> None:
    router.get("/about", about)

def build() -> Service:
    service = Service("{name}")
    {client}
    service.mount(register_handlers)
    return service
"""


class Shop:
    """A system of two services, `order` requiring `user`, on ports of its own."""

    def __init__(self, folder: Path, *, cycle: bool = False) -> None:
        self.folder = folder
        self.registry, self.user, self.order = (free_port() for _ in range(3))
        lines = [f"[registry]\nport = {self.registry}\n"]
        # order stands first, so that only what it requires can put user before it
        peers = {"order": 'service.client("user", required=True)', "user": "pass"}
        if cycle:
            peers["user"] = 'service.client("order", required=True)'
        for name, client in peers.items():
            package = folder / "shop" / name
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("")
            (package / "word.py").write_text('WORD = "first"\n')
            (package / "service.py").write_text(SERVICE.format(name=name, client=client))
            lines.append(f'[services.{name}]\nbuild = "shop.{name}.service:build"\nport = {getattr(self, name)}\n')
        (folder / "shop" / "__init__.py").write_text("")
        (folder / "mizzen.toml").write_text("\n".join(lines))

    def about(self, name: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{getattr(self, name)}/about", timeout=5) as answer:
            return json.load(answer)


class Dev:
    """A running `mizzen dev` and what it has said so far."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("MIZZEN", "CONSUL", "ORDER", "USER_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mizzen", "dev", str(shop.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip("\n"))

    def says(self, text: str, *, times: int = 1) -> int:
        """Wait until it has said that so often; the number of the last such line."""

        def found() -> list[int]:
            return [index for index, line in enumerate(self.lines) if text in line]

        until(lambda: len(found()) >= times, lambda: f"{text!r} was not said:\n" + "\n".join(self.lines))
        return found()[times - 1]

    def ends(self, *, within: float = 10.0) -> int:
        code = self.process.wait(within)
        self._reader.join(5)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(LIMIT)
        if self.process.stdout:
            self.process.stdout.close()


def until(true: Callable[[], object], otherwise: Callable[[], str]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # an orphan that nobody has reaped yet has ended all the same
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def dev(shop: Shop) -> Iterator[Dev]:
    running = Dev(shop)
    try:
        running.says("Ctrl-C stops everything")
        yield running
    finally:
        running.close()


def test_order_and_end(dev: Dev) -> None:
    """Required peers start first, all is said, and Ctrl-C ends everything with exit code 0 and leaves nothing."""
    assert dev.says("order waits for user") < dev.says("user is ready") < dev.says("order is ready")
    pids = [dev.shop.about(name)["pid"] for name in ("user", "order")]
    with urllib.request.urlopen(f"http://127.0.0.1:{dev.shop.registry}/v1/catalog/services", timeout=5) as answer:
        until(
            lambda: {"user", "order"} <= set(json.load(urllib.request.urlopen(answer.url, timeout=5))), lambda: "not registered"
        )
    os.kill(dev.process.pid, signal.SIGINT)
    assert dev.ends() == 0
    assert not [pid for pid in pids if lives(pid)]
    assert not [port for port in (dev.shop.user, dev.shop.order, dev.shop.registry) if is_taken(port)]
    assert dev.lines[-1] == "mizzen | stopped: nothing is left running"


def test_log_lines_have_their_service_before_them(dev: Dev) -> None:
    """Every line of a service stands behind its name and is no JSON any more."""
    dev.shop.about("user")
    line = dev.lines[dev.says("GET /about 200")]
    assert line.startswith("user | ")
    assert "{" not in line


def test_a_crash(dev: Dev) -> None:
    """A service that dies is started again, and how it ended is said."""
    before = dev.shop.about("user")["pid"]
    os.kill(before, signal.SIGKILL)
    dev.says("user was killed by SIGKILL")
    dev.says("user is ready", times=2)
    assert dev.shop.about("user")["pid"] != before


def test_a_change(dev: Dev) -> None:
    """A change of one service's code restarts that service and no other."""
    before = dev.shop.about("order")["pid"]
    (dev.shop.folder / "shop/user/word.py").write_text('WORD = "second"\n')
    dev.says("shop/user/word.py changed: user restarts")
    dev.says("user is ready", times=2)
    assert dev.shop.about("user")["word"] == "second"
    assert dev.shop.about("order")["pid"] == before


def test_code_that_is_wrong(dev: Dev) -> None:
    """A broken change is told with the service's own words, and the next change heals it."""
    word = dev.shop.folder / "shop/user/word.py"
    word.write_text("WORD = (\n")
    dev.says("user exited with 2")
    dev.says("error: user cannot start")
    word.write_text('WORD = "third"\n')
    dev.says("user is ready", times=2)
    assert dev.shop.about("user")["word"] == "third"


def test_a_wrong_mizzen_toml(dev: Dev) -> None:
    """A mistake in mizzen.toml while running is told with its line, and everything goes on."""
    before = dev.shop.about("user")["pid"]
    file = dev.shop.folder / "mizzen.toml"
    file.write_text(file.read_text().replace("[registry]", "[registri]"))
    dev.says("registri is not a setting; did you mean registry?")
    assert dev.shop.about("user")["pid"] == before


def test_a_supervisor_that_is_killed(dev: Dev) -> None:
    """No child outlives the supervisor, even when it is killed."""
    pids = [dev.shop.about(name)["pid"] for name in ("user", "order")]
    dev.process.kill()
    until(lambda: not [pid for pid in pids if lives(pid)], lambda: f"of {pids} some still live")


def test_a_child_that_is_stopped(dev: Dev) -> None:
    """A child that SIGSTOP holds does not hold up the end."""
    pid = dev.shop.about("user")["pid"]
    os.kill(pid, signal.SIGSTOP)
    os.kill(dev.process.pid, signal.SIGTERM)
    assert dev.ends() == 0
    assert not lives(pid)


def test_a_port_that_is_taken(shop: Shop) -> None:
    """A taken port is an error before anything starts; it names who holds it, and the exit code is 2."""
    with socket.create_server(("127.0.0.1", shop.order)):
        running = Dev(shop)
        try:
            assert running.ends(within=LIMIT) == 2
        finally:
            running.close()
    assert running.lines[0].startswith(f"error: order cannot start: port {shop.order} is in use by ")
    if sys.platform == "linux":
        assert f"pid {os.getpid()} (" in running.lines[0]


def test_a_cycle(tmp_path: Path) -> None:
    """Services that require each other are an error that names the cycle, and the exit code is 2."""
    running = Dev(Shop(tmp_path, cycle=True))
    try:
        assert running.ends(within=LIMIT) == 2
    finally:
        running.close()
    assert running.lines[0] == "error: no service of order → user → order can start first"


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a port is known from /proc, which only Linux has")
def test_who_holds_a_port() -> None:
    """The holder of a port is named by its pid and command; a free port has none that could be named."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert describe_holder(port).startswith(f"pid {os.getpid()} (")
        assert is_taken(port)
    assert not is_taken(port)
    assert "another process" in describe_holder(port)


def test_a_registry_whose_checks_fail_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in its checks ends the registry, instead of leaving one that never notices a dead instance."""

    async def broken(self: Registry) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Registry, "run", broken)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(serve_registry("127.0.0.1", 0), LIMIT))
