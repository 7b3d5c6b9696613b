"""Outlet: lines leave whole, in order and without waiting; what cannot leave is counted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from mizzen.edges.telemetry.outlet import Outlet
from mizzen.edges.telemetry.sink import PIECE, Sink, open_sink, polled


class Reader:
    """A sink whose reader does as told: takes at most ``room`` bytes, or fails."""

    def __init__(self, room: float = float("inf")) -> None:
        self.room = room
        self.error: OSError | None = None
        self.pieces: list[bytes] = []
        self.waits = 0

    def put(self, data: bytes) -> int:
        if self.room == 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        if self.error is not None and self.room == float("inf"):
            raise self.error
        taken = int(min(len(data), self.room))
        self.room -= taken
        if self.error is not None and self.room == 0:
            self.room = float("inf")
        self.pieces.append(data[:taken])
        return taken

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def outlet(self, held: int = 1000, piece: int = 100, **options: Any) -> Outlet:
        self.sink = Sink("fake", -1, self.put, piece=piece, watchable=False)
        self.sink.wait = self.wait  # type: ignore[method-assign]
        return Outlet(opener=lambda fd: self.sink, held=held, **options)

    def wait(self, seconds: float) -> None:
        self.waits += 1


def in_loop(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


def test_without_a_loop_each_line_is_written_at_once() -> None:
    """Before there is a loop, and after it, a line is out when ``write`` returns."""
    reader = Reader()
    outlet = reader.outlet()
    outlet.write(b"one\n")
    outlet.write(b"two\n")
    assert reader.pieces == [b"one\n", b"two\n"]


def test_lines_of_one_turn_are_one_write() -> None:
    """With a loop attached, the lines of one turn go out together, at its end."""
    reader = Reader()
    outlet = reader.outlet()

    async def body() -> None:
        outlet.attach(asyncio.get_running_loop())
        for line in (b"one\n", b"two\n", b"three\n"):
            outlet.write(line)
        assert reader.pieces == []
        await asyncio.sleep(0)
        assert reader.pieces == [b"one\ntwo\nthree\n"]
        outlet.write(b"four\n")
        await asyncio.sleep(0)
        assert reader.pieces[1:] == [b"four\n"]
        outlet.detach()

    in_loop(body)


def test_pieces_hold_whole_lines() -> None:
    """A write holds as many whole lines as fit into what goes out in one go; a longer line goes alone."""
    reader = Reader()
    outlet = reader.outlet(piece=10)

    async def body() -> None:
        outlet.attach(asyncio.get_running_loop())
        for line in (b"aaa\n", b"bbb\n", b"cccc\n", b"d" * 14 + b"\n", b"ee\n"):
            outlet.write(line)
        await asyncio.sleep(0)
        outlet.detach()

    in_loop(body)
    assert reader.pieces == [b"aaa\nbbb\n", b"cccc\n", b"d" * 14 + b"\n", b"ee\n"]


def test_what_a_partial_write_left_goes_first() -> None:
    """A line that was taken in part is finished before any other begins."""
    reader = Reader(room=5)
    outlet = reader.outlet()
    outlet.write(b"a long line\n")
    outlet.write(b"next\n")
    assert reader.data == b"a lon"
    reader.room = float("inf")
    assert outlet.flush()
    assert reader.data == b"a long line\nnext\n"
    assert outlet.dropped == 0


def test_stalled_reader_costs_the_newest_lines_and_is_told_of_once() -> None:
    """Lines beyond what is held are dropped whole and counted; when the reader is back, one line says so."""
    reader = Reader(room=0)
    outlet = reader.outlet(held=30)
    for number in range(10):
        outlet.write(b"line %d...\n" % number)  # 10 bytes
    assert (outlet.dropped, reader.data) == (7, b"")
    reader.room = float("inf")
    assert outlet.flush()
    assert reader.data == b"line 0...\nline 1...\nline 2...\n" + b"dropped 7 log lines: the reader of stdout stalled\n"
    outlet.write(b"after\n")
    assert reader.data.endswith(b"stalled\nafter\n")
    assert outlet.dropped == 7


def test_many_lines_in_one_turn_are_not_a_stall() -> None:
    """More lines than are held, logged without giving the loop a chance, all go out when the reader takes them."""
    reader = Reader()
    outlet = reader.outlet(held=50)

    async def body() -> None:
        outlet.attach(asyncio.get_running_loop())
        for number in range(100):
            outlet.write(b"line %d\n" % number)
        await asyncio.sleep(0)
        outlet.detach()

    in_loop(body)
    assert (outlet.dropped, reader.data.count(b"\n")) == (0, 100)


def test_a_line_longer_than_all_that_is_held_still_goes_out() -> None:
    """A single huge line is written when nothing else is held."""
    reader = Reader()
    outlet = reader.outlet(held=10)
    outlet.write(b"x" * 50 + b"\n")
    assert len(reader.data) == 51


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_an_error_counts_and_never_raises(code: int) -> None:
    """Nobody reading, a full disk or any other error drops the lines, and the next line is a new try."""
    reader = Reader()
    reader.error = OSError(code, os.strerror(code))
    outlet = reader.outlet()
    outlet.write(b"one\n")
    outlet.write(b"two\n")
    assert outlet.dropped == 2
    reader.error = None
    outlet.write(b"three\n")
    assert reader.data == b"three\n" + f"dropped 2 log lines: {os.strerror(code)}\n".encode()


def test_a_line_cut_off_by_an_error_does_not_swallow_the_next() -> None:
    """After a disk that filled up in the middle of a line, the next line begins on a line of its own."""
    reader = Reader(room=3)
    reader.error = OSError(errno.ENOSPC, "full")
    outlet = reader.outlet()
    outlet.write(b"cut off\n")
    assert (reader.data, outlet.dropped) == (b"cut", 1)
    reader.error = None
    outlet.write(b"whole\n")
    assert reader.data.splitlines() == [b"cut", b"whole", b"dropped 1 log lines: full"]


def test_writes_from_a_thread_reach_the_loop() -> None:
    """A worker thread's line is written by the loop."""
    reader = Reader()
    outlet = reader.outlet()

    async def body() -> None:
        outlet.attach(asyncio.get_running_loop())
        await asyncio.to_thread(outlet.write, b"from a thread\n")
        await asyncio.sleep(0)
        assert reader.data == b"from a thread\n"
        outlet.detach()

    in_loop(body)


def test_a_line_logged_while_writing_is_taken_along() -> None:
    """A finaliser or signal handler that logs in the middle of a write neither deadlocks nor loses its line."""
    reader = Reader()
    outlet = reader.outlet()
    plain = reader.put

    def put(data: bytes) -> int:
        if data == b"outer\n":
            outlet.write(b"inner\n")
        return plain(data)

    reader.sink.put = put
    outlet.write(b"outer\n")
    assert reader.data == b"outer\ninner\n"


def test_a_closed_loop_does_not_stop_the_lines() -> None:
    """Lines that come after the loop was closed under the outlet are written at once."""
    reader = Reader()
    outlet = reader.outlet()

    async def body() -> None:
        outlet.attach(asyncio.get_running_loop())

    in_loop(body)
    outlet.write(b"late\n")
    assert reader.data == b"late\n"


def test_close_waits_only_so_long() -> None:
    """Closing gives a stalled reader its time, then drops and counts what is left; a second close is nothing."""
    now = iter(range(100))
    reader = Reader(room=0)
    outlet = reader.outlet(clock=lambda: float(next(now)))
    outlet.write(b"stuck\n")
    assert outlet.close(timeout=3.0) is False
    assert (outlet.dropped, reader.waits) == (1, 2)
    assert outlet.close() is True
    outlet.write(b"after\n")
    assert outlet.dropped == 2


# -- real descriptors


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def fill(end: int) -> int:
    """Fill a pipe to the brim and give the number of bytes that took."""
    own = os.open(f"/proc/self/fd/{end}", os.O_WRONLY | os.O_NONBLOCK)
    total = 0
    try:
        while True:
            total += os.write(own, b"x" * 4096)
    except BlockingIOError:
        return total
    finally:
        os.close(own)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reopens a pipe through /proc, which Linux alone has")


@linux
def test_flags_of_a_shared_pipe_stay_as_they_are(pipe: tuple[int, int]) -> None:
    """The descriptor that others share stays blocking: the outlet opens the pipe a second time for itself."""
    outlet = Outlet(pipe[1])
    assert outlet.describe()["sink"] == "pipe"
    outlet.write(b"line\n")
    assert os.read(pipe[0], 100) == b"line\n"
    assert not fcntl.fcntl(pipe[1], fcntl.F_GETFL) & os.O_NONBLOCK
    outlet.close()


@linux
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("opener", [open_sink, polled])
def test_a_stalled_pipe_never_blocks_the_loop(pipe: tuple[int, int], opener: Callable[[int], Sink], loop: str) -> None:
    """With nobody reading, the loop turns on and lines are dropped; all that is held arrives once somebody reads."""
    stuffing = fill(pipe[1])
    outlet = Outlet(pipe[1], held=10_000, opener=opener)

    async def body() -> None:
        loop = asyncio.get_running_loop()
        outlet.attach(loop)
        for number in range(200):
            outlet.write(b"%099d\n" % number)
            await asyncio.sleep(0)
        assert outlet.dropped == 100
        got = b""
        while b"stalled" not in got:
            got += await asyncio.to_thread(os.read, pipe[0], 65536)
        lines = got[stuffing:].splitlines()
        assert [int(line) for line in lines[:-1]] == list(range(100))
        assert lines[-1] == b"dropped 100 log lines: the reader of stdout stalled"
        assert outlet.close()

    with asyncio.Runner(loop_factory=pytest.importorskip(loop).new_event_loop) as runner:
        runner.run(body())


@linux
def test_lines_of_two_writers_on_one_pipe_never_mix(pipe: tuple[int, int]) -> None:
    """Two outlets on the same full pipe, read slowly: every line arrives whole."""
    outlets = [Outlet(pipe[1], held=10**7) for _ in range(2)]
    got = bytearray()

    def read() -> None:
        while piece := os.read(pipe[0], 1000):
            got.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(400):
        for name, outlet in zip((b"a", b"b"), outlets, strict=True):
            outlet.write(name * (number * 7 % 1500 + 1) + b"\n")
    for outlet in outlets:
        assert outlet.close(timeout=10.0)
    os.close(pipe[1])
    reader.join()
    lines = bytes(got).splitlines()
    assert len(lines) == 800
    assert all(len(set(line)) == 1 for line in lines)


@linux
def test_flags_of_a_terminal_stay_as_they_are() -> None:
    """A terminal is opened a second time like a pipe: what else runs there keeps its blocking writes."""
    ours, terminal = os.openpty()
    try:
        outlet = Outlet(terminal)
        assert outlet.describe()["sink"] == "terminal"
        outlet.write(b"line\n")
        assert os.read(ours, 100) == b"line\r\n"
        assert os.get_blocking(terminal)
        outlet.close()
    finally:
        os.close(ours)
        os.close(terminal)


def test_a_reader_that_is_gone_costs_lines_only(pipe: tuple[int, int]) -> None:
    """A pipe whose reader has closed drops lines, counts them and stays quiet."""
    outlet = Outlet(pipe[1])
    os.close(pipe[0])
    outlet.write(b"one\n")
    assert outlet.flush()
    assert outlet.dropped == 1
    outlet.close()


def test_a_file_keeps_what_others_wrote(tmp_path: Path) -> None:
    """A file's offset is shared, as with ``> log.txt 2>&1``: lines follow what is there and do not overwrite it."""
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        outlet = Outlet(file.fileno())
        outlet.write(b"ours\n")
        file.write(b"theirs\n")
        outlet.close()
    assert (tmp_path / "log").read_bytes() == b"before\nours\ntheirs\n"


def test_a_stalled_socket_never_blocks() -> None:
    """A socket, as under systemd, is written without waiting, and its flags stay as they are."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = Outlet(ours.fileno(), held=5000)
        assert outlet.describe()["sink"] == "socket"
        for _ in range(20_000):
            outlet.write(b"x" * 99 + b"\n")
            if outlet.dropped:
                break
        assert outlet.dropped == 1
        assert os.get_blocking(ours.fileno())
        outlet.close(timeout=0.0)


def test_no_descriptor_at_all() -> None:
    """A standard output that was closed before the start drops lines and nothing else."""
    end, other = os.pipe()
    os.close(other)
    os.close(end)
    outlet = Outlet(other)
    outlet.write(b"line\n")
    assert (outlet.dropped, outlet.describe()["sink"]) == (1, "closed")
    outlet.close()


def test_polled_pipe_takes_at_most_one_piece(pipe: tuple[int, int]) -> None:
    """Where a pipe cannot be opened again, each write is small enough for what polling promises."""
    sink = polled(pipe[1])
    assert sink.put(b"x" * (PIECE + 10)) == PIECE == select.PIPE_BUF
    sink.close()


def test_repr_reads_like_a_status_line() -> None:
    """The representation says where lines go and how it goes."""
    assert repr(Reader(room=0).outlet()) == "<Outlet stdout (fake): 0 bytes held, 0 lines dropped>"
