"""What `make demo` runs, as a person has it: `mizzen dev` on the example system, in a terminal, ended by Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import PATIENCE, SHOP, Answer, ask, free_port, until

from mizzen.assembly.ports import is_taken

pytestmark = pytest.mark.wire

START = 60.0
"""Seconds in which everything is up, and more than anybody wants to wait."""
END = 10.0
"""Seconds in which Ctrl-C has ended everything."""
CTRL_C = b"\x03"
# The session's leader takes the terminal for its own: only so does Ctrl-C become a signal to whoever is in front.
IN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Demo:
    """`mizzen dev` on a copy of examples/shop, whose code nobody edits meanwhile, in a terminal and on ports of its own."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(SHOP, folder / "shop", ignore=shutil.ignore_patterns("*.db*", "__pycache__", ".pytest_cache"))
        self.ports = {name: free_port() for name in ("user", "order", "registry")}
        environ = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TERM": "xterm-256color",
            "MIZZEN__REGISTRY__PORT": str(self.ports["registry"]),
        }
        for name in ("user", "order"):
            environ[f"MIZZEN__SERVICES__{name.upper()}__PORT"] = str(self.ports[name])
        self._shown = bytearray()
        self._master, terminal = pty.openpty()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", IN_TERMINAL, "-m", "mizzen", "dev", "shop"],
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env=environ,
                cwd=folder,
            )
        finally:
            os.close(terminal)
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._closed.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # Linux says EIO when nobody has the terminal any more
                return
            if not piece:
                return
            self._shown += piece

    @property
    def shown(self) -> str:
        """What stands on the screen, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._shown.decode(errors="replace")).replace("\r\n", "\n")

    def shows(self, text: str, *, times: int = 1) -> None:
        """Wait until it has shown that so often."""
        end = time.monotonic() + START
        while self.shown.count(text) < times:
            assert time.monotonic() < end, f"{text!r} is not on the screen:\n{self.shown}"
            assert self.process.poll() is None or self.shown.count(text) >= times, f"it ended:\n{self.shown}"
            time.sleep(0.05)

    def ready(self) -> Demo:
        self.shows("Ctrl-C stops everything")
        return self

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def ask(self, name: str, path: str, method: str = "GET", body: bytes | None = None) -> Answer:
        headers = {} if body is None else {"content-type": "application/json"}
        return ask(f"http://127.0.0.1:{self.ports[name]}{path}", method, body=body, headers=headers)

    def pid(self, name: str) -> int:
        """The process of that service: the one that `mizzen dev` started with its name."""
        return next(pid for pid, command in family(self.process.pid).items() if f"run {name} " in f"{command} ")

    def ports_taken(self) -> list[str]:
        return [name for name, port in self.ports.items() if is_taken(port)]

    def close_terminal(self) -> None:
        """Close the window: the system tells who is in front by SIGHUP, and nothing can be shown any more."""
        if not self._closed.is_set():
            self._closed.set()
            self._reader.join(PATIENCE)
            os.close(self._master)

    def close(self) -> None:
        for pid in family(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self.close_terminal()


def family(pid: int) -> dict[int, str]:
    """Every process below that one, with its command."""
    living, found = processes(), dict[int, str]()
    while below := {child: command for child, (parent, command) in living.items() if parent in (pid, *found)}:
        if below == found:
            break
        found = below
    return found


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command of every process that has not ended."""
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
        return {int(row[0]): (int(row[1]), row[3]) for row in rows if len(row) == 4 and not row[2].startswith("Z")}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            found[int(folder.name)] = (int(parent), command)
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    try:
        yield demo
    finally:
        demo.close()


def test_the_demo_from_start_to_ctrl_c(demo: Demo) -> None:
    """Both services become healthy, an order shows its user, and Ctrl-C ends everything in time, with 0."""
    demo.ready()
    for name in ("user", "order"):
        until(lambda name=name: demo.ask(name, "/health").json()["status"] == "ok", f"{name} is healthy, its peers included")
        assert f"http://127.0.0.1:{demo.ports[name]}" in demo.shown
    order = demo.ask("order", "/orders/1").json()
    assert order["user"] == {"id": 1, "name": demo.ask("user", "/users/1").json()["name"]}
    assert [demo.ask(name, f"/{name}s").json()["total"] for name in ("user", "order")] == [1000, 1000]
    registered = demo.ask("registry", "/v1/agent/services").json().values()
    assert sorted(entry["Service"] for entry in registered) == ["order", "user"]
    absent = demo.ask("order", "/orders", "POST", b'{"user_id": 5000, "item": "tea"}')
    assert (absent.status, absent.json()["errors"][0]["path"]) == (422, "body.user_id")

    children = family(demo.process.pid)
    assert len(children) >= 2
    demo.press(CTRL_C)
    assert demo.process.wait(END) == 0
    assert children.keys() & processes().keys() == set()
    assert demo.ports_taken() == []
    assert demo.shown.rstrip().endswith("stopped: nothing is left running")
    assert "Traceback" not in demo.shown


def test_a_service_that_is_killed_comes_back(demo: Demo) -> None:
    """While `user` is away an order is 503 and the list of orders is there; it is started again, and nothing was lost."""
    demo.ready()
    before, order = demo.pid("user"), demo.pid("order")
    name = demo.ask("order", "/orders/1").json()["user"]["name"]
    os.kill(before, signal.SIGSTOP)  # it cannot come back before we looked
    answer = until(lambda: (found := demo.ask("order", "/orders/1")).status == 503 and found, "the order is unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert demo.ask("order", "/orders").json()["total"] == 1000
    os.kill(before, signal.SIGKILL)
    demo.shows("user was killed by SIGKILL")
    demo.shows("user is ready", times=2)
    assert until(lambda: demo.ask("order", "/orders/1").json().get("user"), "the order shows its user", 60)["name"] == name
    assert demo.pid("user") != before
    assert demo.pid("order") == order, demo.shown


def test_a_killed_supervisor_leaves_no_child(demo: Demo) -> None:
    """When `mizzen dev` itself is killed, its services end by themselves."""
    demo.ready()
    children = family(demo.process.pid)
    demo.process.kill()
    until(lambda: not children.keys() & processes().keys(), "no child is left")
    assert demo.ports_taken() == []


def test_a_terminal_that_is_closed(demo: Demo) -> None:
    """Closing the window ends everything, although nobody is there any more to be told."""
    demo.ready()
    children = family(demo.process.pid)
    demo.close_terminal()
    assert demo.process.wait(END) == 0
    assert children.keys() & processes().keys() == set()


def test_ctrl_c_while_everything_starts(demo: Demo) -> None:
    """Ctrl-C at the first sign of life ends what was begun."""
    demo.shows("mizzen |")
    demo.press(CTRL_C)
    assert demo.process.wait(END) == 0
    assert demo.ports_taken() == []
    assert "Traceback" not in demo.shown
