"""Process: one worker as its supervisor has it, through one life after the other."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mizzen.assembly.children import exit_of
from mizzen.assembly.probes import State

from .channel import Channel
from .messages import Failed, Message, Report, ToSupervisor
from .standing import DEAD, SILENT

SILENCE = 5
"""Looks of the supervisor, one a second, without a word from a worker, which reports every second, until it counts as one
that hangs. Looks and not seconds: a supervisor that did not get to run heard nobody."""
HOPELESS = 60
"""Looks without a word after which such a worker is killed, so that another takes its place: what blocks an event loop for
a minute does not end, and nobody else would notice, because its fellows answer the platform's probes."""
LAST_WORDS = 0.5
"""Seconds for output and messages that are still on their way when a process has ended."""
LONGEST_LINE = 16 << 20
"""Bytes after which a line without an end is ended for it: a worker must not fill our memory."""
GATHER = 0.005
"""Seconds between two looks at a worker's output: below what anybody notices, and the pipe holds what it says meanwhile."""
SHOWN_OF_REST = 1000
"""Bytes of a line without an end that are logged: what a worker was about to say when it died."""

log = logging.getLogger("mizzen.crew")


class WorkerProcess:
    """The process of one number in the crew; ``on_message`` is told what it says, ``on_lines`` what it prints."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        on_message: Callable[[WorkerProcess, Any], None],
        on_lines: Callable[[bytes], None],
    ) -> None:
        self.number = number
        self.report: Report | None = None
        """What it said last in its present life."""
        self.failed: Failed | None = None
        """Why it could not start, in its own words."""
        self.served = False
        """Whether it has served in its present life."""
        self.accepts: list[int] = []
        """The sockets that it was told to accept on."""
        self.alive = False
        self.pid = 0
        self._command = command
        self._folder = folder
        self._environ = environ
        self._on_message = on_message
        self._on_lines = on_lines
        self._unheard = 0
        self._channel: Channel | None = None

    @property
    def standing(self) -> Report | str:
        """Its last report, or what is to be said instead."""
        if not self.alive:
            return DEAD
        if self.report is None:  # it says nothing while it imports, however long that takes
            return Report(State.STARTING.value)
        return SILENT if self._unheard >= SILENCE else self.report

    @property
    def hears(self) -> bool:
        """Whether it has something to tell, and does not hang."""
        return self.report is not None and not isinstance(self.standing, str)

    @property
    def serving(self) -> bool:
        """Whether it serves and does not hang."""
        standing = self.standing
        return not isinstance(standing, str) and standing.state == State.SERVING.value

    @property
    def accepting(self) -> bool:
        """Whether connections can be given to it: while it lingers, too."""
        standing = self.standing
        return not isinstance(standing, str) and standing.state in (State.SERVING.value, State.LINGERING.value)

    async def live(self, greeting: Callable[[int], Sequence[Message]], descriptors: Sequence[int]) -> int:
        """Live one life with these descriptors; the exit code, negative for a signal. Cancelled, it is killed.

        ``greeting`` makes the first messages of the lifeline's descriptor. ``OSError`` when no process can be had.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        lifeline, held = os.pipe()
        output, printed = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  # milliseconds, and a command of our own
                [*self._command, "--as-worker", str(theirs.fileno())],
                cwd=self._folder,
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                pass_fds=(theirs.fileno(), lifeline, *descriptors),
                start_new_session=True,  # Ctrl-C is for the supervisor alone
            )
        except BaseException:
            ours.close()
            os.close(held)
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
            os.close(printed)
        self.pid, self.alive, self._unheard = process.pid, True, 0
        self.report, self.failed, self.served, self.accepts = None, None, False, []
        ended = exit_of(process)
        lines = _Lines(self._on_lines, self._on_rest)
        channel = self._channel = Channel(ToSupervisor, self._told, lambda: None)
        try:
            await loop.connect_read_pipe(lambda: lines, os.fdopen(output, "rb", 0))
            await channel.open(ours)
            for message in greeting(lifeline):
                channel.send(message)
            return await asyncio.shield(ended)
        finally:
            self._kill_group()  # what it started itself must not stay; the whole of it, when we are cancelled
            last: list[asyncio.Future[Any]] = [ended, lines.ended, channel.ended]
            await asyncio.wait(last, timeout=LAST_WORDS)
            self.alive = False
            await channel.close(0)
            lines.close()
            os.close(held)

    def send(self, message: Message) -> None:
        """Tell it something; nothing happens when it has no life."""
        if self._channel is not None:
            self._channel.send(message)

    def look(self) -> None:
        """Notice when it says nothing, and end it when that lasts; called once a second."""
        self._unheard += 1
        if self._unheard == HOPELESS and self.report is not None:
            log.error("worker %d (pid %d) has hung for a minute: killed, another takes its place", self.number, self.pid)
            self._kill_group()

    def _kill_group(self) -> None:
        # macOS says PermissionError of a group whose members have all ended
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _on_rest(self, rest: bytes) -> None:
        text = rest[:SHOWN_OF_REST].decode(errors="replace")
        log.warning(
            "worker %d has written a line without an end: %s",
            self.number,
            text,
            extra={"event": "line_without_end", "number": self.number},
        )

    def _told(self, message: Any) -> None:
        self._unheard = 0
        if isinstance(message, Report):
            self.report = message
            self.served = self.served or message.state == State.SERVING.value
        elif isinstance(message, Failed):
            self.failed = message
        self._on_message(self, message)

    def __repr__(self) -> str:
        standing = self.standing
        return f"<Worker {self.number}, {standing if isinstance(standing, str) else standing.state}, pid {self.pid}>"


class _Lines(asyncio.Protocol):
    """Hands on what is printed, in whole lines, so that no line of one process is broken by another's."""

    def __init__(self, on_lines: Callable[[bytes], None], on_rest: Callable[[bytes], None]) -> None:
        self._on_lines = on_lines
        self._on_rest = on_rest
        self._rest: list[bytes] = []
        self._held = 0
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if end:
            lines, rest = data[:end], data[end:]
            if self._rest:
                lines = b"".join([*self._rest, lines])
                self._rest.clear()
                self._held = 0
            self._on_lines(lines)
            self._rest_a_little()
        else:
            rest = data
        if rest:
            self._rest.append(rest)
            self._held += len(rest)
            if self._held > LONGEST_LINE:
                self._finish()

    def _rest_a_little(self) -> None:
        # A worker writes after every turn of its loop; each wake of ours for a few lines would cost as much as they did.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._go_on)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._finish()
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def _finish(self) -> None:
        if self._rest:
            self._on_rest(b"".join(self._rest))
            self._rest.clear()
            self._held = 0
