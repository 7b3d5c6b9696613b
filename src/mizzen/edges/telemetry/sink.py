"""Sinks: the ways to write to somebody else's descriptor without blocking and without changing its flags.

``O_NONBLOCK`` belongs to the open file, which the terminal and other processes share: setting it on our standard
output would make their writes fail. So each kind of descriptor gets a way of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Callable

PIECE = select.PIPE_BUF
"""Bytes that a pipe takes whole or not at all (POSIX): lines of that length never mix with another process's."""
CHUNK = 1 << 16
"""Bytes of one write to anything else: what a pipe holds on Linux, so that no single call takes long."""


class Sink:
    """A descriptor with its way of writing: ``put`` takes a part, raises ``BlockingIOError`` when it would wait."""

    def __init__(
        self,
        kind: str,
        fd: int,
        put: Callable[[bytes], int],
        *,
        piece: int,
        watchable: bool = True,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.kind = kind
        self.put = put
        self.piece = piece
        self.watchable = fd if watchable else None
        """The descriptor that becomes writable when the reader is back; None where waiting makes no sense."""
        self._fd = fd
        self._release = release

    def wait(self, seconds: float) -> None:
        """Wait until the reader takes more, for at most that long; this blocks the thread."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(max(1, int(seconds * 1000)))

    def close(self) -> None:
        """Let go of the descriptor; whatever is put after that fails."""
        self._fd, self.watchable, self.put = -1, None, _nowhere
        release, self._release = self._release, lambda: None
        with contextlib.suppress(OSError):
            release()

    def __repr__(self) -> str:
        return f"<Sink {self.kind}>"


def open_sink(fd: int) -> Sink:
    """The sink for a descriptor of any kind; one that is not open gives a sink that fails on every write."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            return _socket(fd)
        if stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(fd)):
            return _reopened(fd, mode) or polled(fd)
        return _plain(fd)
    except OSError:
        return Sink("closed", -1, _nowhere, piece=CHUNK, watchable=False)


def _plain(fd: int) -> Sink:
    """A file or a device such as the null one: a write never waits for a reader.

    A duplicate, not a second opening: it shares the offset with whoever else writes to that file.
    """
    own = os.dup(fd)
    return Sink("file", own, lambda data: os.write(own, data), piece=CHUNK, watchable=False, release=lambda: os.close(own))


def _socket(fd: int) -> Sink:
    """A socket, as under systemd: it can be told per call not to wait."""
    own = os.dup(fd)
    try:
        end = socket.socket(fileno=own)
    except OSError:
        os.close(own)
        raise
    return Sink("socket", own, lambda data: end.send(data, socket.MSG_DONTWAIT), piece=CHUNK, release=end.close)


def _reopened(fd: int, mode: int) -> Sink | None:
    """A pipe or terminal, opened a second time: flags of our own. None where the system or its permissions forbid it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    kind, piece = ("pipe", PIECE) if stat.S_ISFIFO(mode) else ("terminal", CHUNK)
    return Sink(kind, own, lambda data: os.write(own, data), piece=piece, release=lambda: os.close(own))


def polled(fd: int) -> Sink:
    """A pipe or terminal that is asked before each write: room is then promised for ``PIECE`` bytes."""
    own = os.dup(fd)
    poll = select.poll()
    poll.register(own, select.POLLOUT)

    def put(data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, "the reader is not ready")
        return os.write(own, data[:PIECE])

    return Sink("polled", own, put, piece=PIECE, release=lambda: os.close(own))


def _nowhere(_data: bytes) -> int:
    raise OSError(errno.EBADF, "the descriptor is closed")
