"""The programs that are measured: each started on a free port, pinned to one core, asked once, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import machine

HERE = Path(__file__).parent
OUT = HERE / "out"
READY_LIMIT = 30.0
"""Seconds from start to the first answer; none of them needs more than two."""

SETTLE_LIMIT = 5.0
"""Seconds for a server to come to rest after a load."""
SETTLE_LOOK = 0.02
"""Seconds between looks at whether it rests, which is to use less than a fifth of a core in them."""


class Server:
    """One process under measurement, with its output thrown away and its errors kept in ``bench/out``."""

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        *,
        core: int | None,
        env: Mapping[str, str] | None = None,
        cwd: Path = HERE,
    ) -> None:
        self.name = name
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        OUT.mkdir(exist_ok=True)
        self._errors = OUT / f"{name}.err"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*machine.on(core), *command],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )

    def wait(self, path: str) -> bytes:
        """The first 200 of that path; ``RuntimeError`` with the server's last words when there is none in time."""
        ends = time.monotonic() + READY_LIMIT
        while time.monotonic() < ends and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + path, timeout=2) as answer:
                    return bytes(answer.read())
            except (OSError, urllib.error.HTTPError):
                time.sleep(0.05)
        words = self._errors.read_text(errors="replace").strip()
        self.stop()
        raise RuntimeError(f"{self.name} did not answer {path}: {words[-1500:] or 'it said nothing'}")

    def cpu(self) -> float | None:
        """Seconds of CPU used so far, in user and kernel; None where there is no /proc."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def running(self) -> float | None:
        """Seconds of CPU used so far by the threads that live, in nanoseconds' steps: ``cpu`` counts ticks of 10 ms."""
        try:
            tasks = list(Path(f"/proc/{self.process.pid}/task").iterdir())
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        except OSError:
            return None

    def settle(self) -> None:
        """Wait until it rests, so that what is left of one load is no part of the next one's cost."""
        ends = time.monotonic() + SETTLE_LIMIT
        used = self.running()
        while used is not None and time.monotonic() < ends:
            time.sleep(SETTLE_LOOK)
            before, used = used, self.running()
            if used is not None and used - before < SETTLE_LOOK / 5:
                return

    def resident(self) -> float | None:
        """MB resident; None where there is no /proc."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        """End it; a second signal forces a server that takes its time."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                continue
            return


def mizzen(
    service: str, *, core: int | None, user_url: str = "", settings: Mapping[str, str] | None = None, name: str = ""
) -> Server:
    """A service of ``bench/system`` by ``mizzen run``, as in production."""
    port = free_port()
    key = f"MIZZEN__SERVICES__{service.upper()}__"
    env = {f"{key}PORT": str(port), f"{key}HOST": "127.0.0.1", **(settings or {})}
    env |= {f"{key}STOP__LINGER": "0s", f"{key}STOP__DRAIN": "1s"}
    if user_url and service != "user":
        env[f"{key}CLIENTS__USER__URL"] = user_url
    command = [str(Path(sys.executable).parent / "mizzen"), "run", service]
    return Server(name or f"mizzen-{service}", command, port, core=core, env=env, cwd=HERE / "system")


def fastapi(python: Path, *, core: int | None, user_url: str = "") -> Server:
    """FastAPI on uvicorn; one app has both services."""
    port = free_port()
    command = [str(python), str(HERE / "fastapi_reference" / "app.py"), str(port)]
    return Server("fastapi", command, port, core=core, env={"USER_URL": user_url})


def uvicorn(python: Path, *, core: int | None) -> Server:
    """Bare uvicorn."""
    port = free_port()
    return Server("uvicorn", [str(python), str(HERE / "uvicorn_reference" / "app.py"), str(port)], port, core=core)


def go(binary: Path, *, core: int | None, user_url: str = "") -> Server:
    """The Go reference; one binary has both services. It has one core, so it is told of one."""
    port = free_port()
    return Server("go", [str(binary), str(port)], port, core=core, env={"USER_URL": user_url, "GOMAXPROCS": "1"})


def build_go(folder: str) -> Path | str:
    """The binary of that folder's Go program, or why there is none."""
    if shutil.which("go") is None:
        return "go is not installed"
    OUT.mkdir(exist_ok=True)
    binary = OUT / f"{folder}-program"
    # GOTOOLCHAIN=local: an older Go says so, and does not fetch a newer one.
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    command = ["go", "build", "-buildvcs=false", "-o", str(binary), "."]
    built = subprocess.run(command, cwd=HERE / folder, env=env, capture_output=True, text=True, check=False)
    return binary if built.returncode == 0 else f"go build failed: {built.stderr.strip().splitlines()[-1][:200]}"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
