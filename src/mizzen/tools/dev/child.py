"""One child process of `mizzen dev`: started, listened to, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from mizzen.assembly.children import exit_of

KEPT = 15
"""Lines of stderr that are kept for telling why it ended: a short traceback."""
LONGEST_LINE = 1024 * 1024
"""Bytes after which a line is shown in pieces: a child that never ends one must not fill our memory."""
LAST_WORDS = 0.5
"""Seconds for output that is still in the pipe when the process has ended."""


class Child:
    """A process of its own session, so that Ctrl-C reaches the supervisor alone, with our end of its lifeline."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        on_line: Callable[[bytes], None],
        on_error: Callable[[bytes], None],
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._environ = dict(environ)
        self._on_line = on_line
        self._on_error = on_error
        self._process: subprocess.Popen[bytes] | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._ended: asyncio.Future[int] | None = None
        self.last_errors: deque[str] = deque(maxlen=KEPT)

    async def start(self) -> None:
        """Start the process and listen to it."""
        loop = asyncio.get_running_loop()
        process = self._process = subprocess.Popen(  # noqa: ASYNC220  # milliseconds, and a command of our own
            self._command,
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._ended = exit_of(process)
        for pipe, tell in ((process.stdout, self._on_line), (process.stderr, self._error)):
            if pipe is not None:
                self._pumps.append(loop.create_task(_pump(pipe, tell)))

    async def wait(self) -> int:
        """Wait until it has ended, its last words are read and nothing is left of its group; its exit code."""
        if self._ended is None or self._process is None:
            raise RuntimeError("this child was never started")
        code = await asyncio.shield(self._ended)
        self._signal_group(signal.SIGKILL)  # what it started itself must not stay
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=LAST_WORDS)
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    def terminate(self) -> None:
        """Ask it to stop; one that was stopped by SIGSTOP is continued, or it could not hear."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and whatever it started at once."""
        if self.alive:
            self._signal_group(signal.SIGKILL)
            self._signal(signal.SIGKILL)

    @property
    def alive(self) -> bool:
        return self._ended is not None and not self._ended.done()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.alive:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            # macOS says PermissionError of a group whose members have all ended
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _error(self, line: bytes) -> None:
        self.last_errors.append(line.decode(errors="replace"))
        self._on_error(line)

    def __repr__(self) -> str:
        return f"<Child {self.pid}, {'alive' if self.alive else 'ended'}>"


async def _pump(pipe: IO[bytes], tell: Callable[[bytes], None]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    rest = b""
    try:
        while piece := await reader.read(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                tell(line)
            if len(rest) > LONGEST_LINE:
                tell(rest)
                rest = b""
    finally:
        if rest:
            tell(rest)
        transport.close()
