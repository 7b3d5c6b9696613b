"""One server as a process: started, frozen, killed and started again on the same address and data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATIENCE = 60.0
"""Seconds until a server that is not ready is a failure; never waited for when all is well."""


class ServerProcess:
    """A server that a test runs. Its output is in ``log``; it is its own process group, so that nothing is left of it."""

    def __init__(
        self, name: str, command: Sequence[str | Path], *, folder: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; whether it is ready is for ``until`` to find out."""
        assert not self.running, f"{self.name} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def until(self, ready: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until it is ready; the end of its log when it is not, or ends before."""
        end = time.monotonic() + patience
        while not ready():
            code = None if self._process is None else self._process.poll()
            if code is not None or time.monotonic() > end:
                what = f"ended with {code}" if code is not None else f"is not ready after {patience:g}s"
                self.kill()
                raise AssertionError(f"{self.name} {what}:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and says nothing; returns once each of its threads stands still."""
        process = self._process
        if process is not None and self.running:
            self._signal(signal.SIGSTOP)
            self.until(lambda: os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[0] == process.pid)

    def thaw(self) -> None:
        """SIGCONT: it goes on, as if no time had passed."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash; it may be started again."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self, patience: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after ``patience`` seconds."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
