"""Outlet: where log lines leave the process, without ever making the event loop wait for whoever reads them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from mizzen.words.clock import Clock, monotonic

from .sink import Sink, open_sink

HELD = 1 << 20
"""Bytes of lines kept while the reader stalls: minutes of quiet service or a second of a busy one; then lines are lost."""
RETRY = 0.05
"""Seconds between tries at a stalled reader where the loop cannot watch the descriptor."""
CLOSE_LIMIT = 1.0
"""Seconds that closing waits for the reader: a dead log collector must not hold up the stop."""
STALLED = "the reader of {name} stalled"
_NEWLINE = 10

Notice = Callable[[int, str], bytes]
"""The log line that says how many lines were dropped, and why."""


def _plain_notice(count: int, why: str) -> bytes:
    return b"dropped %d log lines: %s\n" % (count, why.encode())


class Outlet:
    """Gathers lines and writes them once per turn of the loop; drops the newest ones when the reader stalls.

    Lines may come from any thread. Without a loop each one is written at once. Nothing here raises on a write.
    """

    def __init__(
        self,
        fd: int = 1,
        *,
        name: str = "stdout",
        held: int = HELD,
        notice: Notice = _plain_notice,
        clock: Clock = monotonic,
        opener: Callable[[int], Sink] = open_sink,
    ) -> None:
        self.dropped = 0
        """Lines lost since the start."""
        self.notice = notice
        self._name = name
        self._held = held
        self._clock = clock
        self._sink = opener(fd)
        self._lines: deque[bytes] = deque()
        self._rest = b""  # what is next: a piece that was refused or written in part
        self._size = 0  # bytes of both
        self._midline = False  # the last byte written did not end a line
        self._torn = False  # ... and the rest of that line is lost: the next one must not be glued to it
        self._lost = 0  # lines dropped since the last notice
        self._why = ""
        # Re-entrant: a finaliser or a signal handler that logs may interrupt a write on the same thread.
        self._lock = threading.RLock()
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._waiting = False  # a turn is scheduled, or the reader is waited for
        self._timer: asyncio.TimerHandle | None = None
        self._watching = False
        self._closed = False

    # -- lines in

    def write(self, line: bytes) -> None:
        """Take one line, or several, the last of which ends with a newline; returns at once, whatever the reader does."""
        with self._lock:
            size = self._size + len(line)
            if size > self._held and not self._make_room(len(line)):
                self._drop(line.count(b"\n"), STALLED.format(name=self._name))
                return
            self._lines.append(line)
            self._size += len(line)
            if self._waiting:
                return
            if self._loop is not None and self._schedule():
                return
            self._drain()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write once per turn of ``loop`` from now on; called on the loop's thread."""
        with self._lock:
            self._stop_waiting()
            self._loop = loop
            self._thread = threading.get_ident()
            if self._size:
                self._schedule()

    def detach(self) -> None:
        """Write each line at once again; called on the loop's thread, before the loop is closed."""
        with self._lock:
            self._stop_waiting()
            self._loop = None
            self._drain()

    # -- lines out

    def flush(self, timeout: float = 0.0) -> bool:
        """Write what is held, waiting at most ``timeout`` seconds for the reader; whether all of it is out."""
        ends = self._clock() + timeout
        while not self._drain():
            left = ends - self._clock()
            if left <= 0:
                return False
            self._sink.wait(left)
        return True

    def close(self, timeout: float = CLOSE_LIMIT) -> bool:
        """Flush for at most ``timeout`` seconds and let go of the descriptor; whether every held line went out."""
        if self._closed:
            return True
        self.detach()
        done = self.flush(timeout)
        with self._lock:
            self._closed = True
            self._forget("the outlet is closed")
            self._sink.close()
        return done

    def describe(self) -> dict[str, Any]:
        """What is held and what was lost."""
        return {"name": self._name, "held_bytes": self._size, "dropped": self.dropped, "sink": self._sink.kind}

    def __repr__(self) -> str:
        return f"<Outlet {self._name} ({self._sink.kind}): {self._size} bytes held, {self.dropped} lines dropped>"

    def _make_room(self, need: int) -> bool:
        """Whether a line fits after all: one turn may bring more than is held without any reader at fault."""
        self._drain()
        return not self._size or self._size + need <= self._held

    def _schedule(self) -> bool:
        loop = self._loop
        if loop is None:
            return False
        try:
            if threading.get_ident() == self._thread:
                loop.call_soon(self._turn)
            else:
                loop.call_soon_threadsafe(self._turn)
        except RuntimeError:  # the loop was closed under us
            self._loop = None
            return False
        self._waiting = True
        return True

    def _turn(self) -> None:
        with self._lock:
            self._stop_waiting()
            if not self._drain() and not self._draining and self._loop is not None:
                self._await_reader(self._loop)

    def _await_reader(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting = True
        if self._sink.watchable is not None:
            try:
                loop.add_writer(self._sink.watchable, self._turn)
            except (OSError, RuntimeError, NotImplementedError, ValueError):
                pass  # a descriptor that this loop cannot watch
            else:
                self._watching = True
                return
        self._timer = loop.call_later(RETRY, self._turn)

    def _stop_waiting(self) -> None:
        self._waiting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watching:
            self._watching = False
            if self._loop is not None and self._sink.watchable is not None and not self._loop.is_closed():
                self._loop.remove_writer(self._sink.watchable)

    def _drain(self) -> bool:
        """Write until nothing is held (True) or the reader stalls (False)."""
        with self._lock:
            if self._draining:  # a line that was logged while this thread is writing: the writer below takes it along
                return False
            self._draining = True
            try:
                while self._rest or self._lines:
                    piece = self._rest or self._gather()
                    try:
                        written = self._sink.put(piece)
                    except BlockingIOError:
                        written = 0
                    if written:
                        self._midline = piece[written - 1] != _NEWLINE
                    self._rest = piece[written:]
                    self._size -= written
                    if not written:
                        return False
                    if self._lost and self._size <= self._held // 2:  # not sooner, or a slow reader would get little else
                        self._tell()
            except OSError as error:
                self._lose(error)
            finally:
                self._draining = False
            return True

    def _gather(self) -> bytes:
        """Whole lines that the sink writes in one go; a line longer than that goes alone."""
        lines, most = self._lines, self._sink.piece
        piece = [lines.popleft()]
        size = len(piece[0])
        if self._torn:
            self._torn = False
            self._size += 1
            size += 1
            piece.insert(0, b"\n")
        while lines and size + len(lines[0]) <= most:
            size += len(lines[0])
            piece.append(lines.popleft())
        self._rest = b"".join(piece)
        return self._rest

    def _lose(self, error: OSError) -> None:
        """Nobody reads any more, or the disk is full: drop what is held; the next line is a new try."""
        self._torn = self._midline
        self._forget(error.strerror or type(error).__name__)

    def _forget(self, why: str) -> None:
        self._drop(sum(line.count(b"\n") for line in self._lines) + self._rest.lstrip(b"\n").count(b"\n"), why)
        self._lines.clear()
        self._rest, self._size = b"", 0

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        self._lost += count
        self._why = why

    def _tell(self) -> None:
        count, self._lost = self._lost, 0
        line = self.notice(count, self._why)
        self._lines.append(line)
        self._size += len(line)
