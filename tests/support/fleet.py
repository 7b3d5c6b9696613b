"""Real processes for tests: services and a registry on free ports, seen from the outside, stopped whatever happens."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from ports import free_port

APPS = Path(__file__).parent / "apps"
SHOP = Path(__file__).parents[2] / "examples" / "shop"
PATIENCE = 20.0
"""Seconds for what takes one when the machine is quiet."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    method: str = "GET",
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """One request on a connection of its own; ``OSError`` when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    began = time.monotonic()
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, fields, content, time.monotonic() - began)
    finally:
        connection.close()


def until(true: Any, what: str, patience: float = PATIENCE) -> Any:
    """Wait until ``true()`` is, and give what it gave; fails by saying ``what`` did not come."""
    ends = time.monotonic() + patience
    while True:
        try:
            found = true()
        except OSError:
            found = None
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {patience:g}s: {what}")
        time.sleep(0.02)


class Process:
    """One started program whose stdout and stderr are kept; ``stdout`` is a descriptor to write to instead."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        port: int,
        folder: Path,
        stdout: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.name = name
        self.port = port
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        self._out = folder / f"{name}-{port}-{time.monotonic_ns()}.out"
        self._err = self._out.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=out if stdout is None else stdout,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=dict(env),
                cwd=cwd,
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Every complete line of stdout, parsed."""
        return [json.loads(line) for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]

    def ready(self, path: str = "/ready") -> Process:
        """Wait until it answers 200; fails with its output when it ends instead."""

        def answers() -> bool:
            if self.popen.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n{self.stdout}{self.stderr}")
            return ask(self.url + path, timeout=2).status == 200

        until(answers, f"{self.name} answers {path}")
        return self

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def stop(self, patience: float = PATIENCE) -> int:
        """Ask it to stop, and its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(patience)

    def end(self) -> None:
        """Make sure that nothing is left of it."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait(PATIENCE)


class Fleet:
    """Services of one mizzen.toml as processes; a context manager that leaves nothing behind."""

    def __init__(self, folder: Path, system: Path = APPS, *, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.system = system
        self.processes: list[Process] = []
        self.registry: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.end()

    def with_registry(self, port: int | None = None) -> Process:
        """Start an embedded registry that services started later use."""
        port = port or free_port()
        self.registry = self.start_program("registry", ["registry", "--port", str(port)], port=port)
        return self.registry.ready("/v1/status/leader")

    def start(
        self, service: str, *, port: int | None = None, settings: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> Process:
        """Start one service; ``settings`` are environment variables."""
        port = port or free_port()
        arguments = ["run", service, "--dir", str(self.system), "--host", self.host, "--port", str(port)]
        return self.start_program(service, arguments, port=port, settings=settings, stdout=stdout)

    def start_program(
        self,
        name: str,
        arguments: list[str],
        *,
        port: int,
        settings: Mapping[str, str] | None = None,
        stdout: int | None = None,
        module: str = "mizzen",
        cwd: Path | None = None,
    ) -> Process:
        """Start ``mizzen``, or another module, with these arguments."""
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        for service in ("USER", "ORDER"):
            env[f"MIZZEN__SERVICES__{service}__STOP__LINGER"] = "300ms"
            env[f"MIZZEN__SERVICES__{service}__STOP__DRAIN"] = "5s"
        if self.registry is not None:
            env["MIZZEN__DISCOVERY__URL"] = f"consul://127.0.0.1:{self.registry.port}"
        env.update(settings or {})
        command = ["-m", module, *arguments]
        process = Process(
            name, command, env=env, cwd=cwd or self.folder, port=port, folder=self.folder, stdout=stdout, host=self.host
        )
        self.processes.append(process)
        return process

    def instances(self, service: str) -> list[str]:
        """Ids that the registry gives out as passing."""
        assert self.registry is not None
        found = ask(f"{self.registry.url}/v1/health/service/{service}?passing").json()
        return sorted(entry["Service"]["ID"] for entry in found)


class Load:
    """Steady requests from a few threads, until stopped; every answer is kept."""

    def __init__(self, url: str, *, threads: int = 4, pause: float = 0.005) -> None:
        self.statuses: list[int] = []
        self.seconds: list[tuple[float, float]] = []
        """When each answer came, and how long it took."""
        self.failures: list[str] = []
        self._parts = urlsplit(url)
        self._pause = pause
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        target = len(self.statuses) + count
        until(lambda: len(self.statuses) + len(self.failures) >= target, f"{count} more answers")

    def _run(self) -> None:
        parts = self._parts
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        while not self._end.wait(self._pause):
            began = time.monotonic()
            try:
                connection.request("GET", parts.path)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            now = time.monotonic()
            self.statuses.append(answer.status)
            self.seconds.append((now, now - began))
            if answer.status != 200:
                self.failures.append(content.decode())
        connection.close()


def settings_of(order: str, **values: object) -> Iterator[tuple[str, str]]:
    """Environment variables of one service, such as ``clients__user__url``."""
    for key, value in values.items():
        yield f"MIZZEN__SERVICES__{order.upper()}__{key.upper()}", str(value)
