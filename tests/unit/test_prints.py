"""Prints: what is printed while the log is ours is logged, and nothing of it is lost or goes in circles."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.edges.telemetry import Logs, Outlet, install
from mizzen.edges.telemetry.prints import LONGEST, Prints
from mizzen.edges.telemetry.sink import Sink
from mizzen.words.context import Context, enter

# Contexts and not fixtures: pytest puts a stdout of its own in place between the phases of a test.


@contextlib.contextmanager
def printing() -> Iterator[tuple[Prints, list[str]]]:
    """The stream in place of stdout, and what it has logged."""
    said: list[str] = []
    logging.getLogger("stdout").setLevel(logging.INFO)
    prints = Prints(lambda record: said.append(record.getMessage()))
    try:
        yield prints, said
    finally:
        prints.give_back()
        logging.getLogger("stdout").setLevel(logging.NOTSET)


@contextlib.contextmanager
def logging_to(written: bytearray) -> Iterator[Logs]:
    """The log taken over, and all that leaves the process."""

    def put(data: bytes) -> int:
        written.extend(data)
        return len(data)

    outlet = Outlet(opener=lambda fd: Sink("kept", -1, put, piece=1 << 16, watchable=False))
    logs = install(service="order", version="1", instance="order-1", outlet=outlet)
    try:
        yield logs
    finally:
        logs.close()


def lines(written: bytearray) -> list[dict[str, str]]:
    return [json.loads(line) for line in written.splitlines()]


def test_each_line_is_one_record() -> None:
    """A print is a record, one with line breaks several; empty lines say nothing, and a carriage return is no text."""
    with printing() as (_, said):
        print("a", 1, sep=", ")
        print("two\nlines\r\n")
        print()
        assert said == ["a, 1", "two", "lines"]


def test_a_line_without_its_end_is_kept() -> None:
    """Parts of a line are put together, until a newline, a flush or a close ends it."""
    with printing() as (prints, said):
        print("a", end="")
        print("b", end="")
        assert said == []
        print("c")
        print("d", end="", flush=True)
        print("e", end="")
        sys.stdout.close()
        print("f", end="")
        prints.give_back()
        assert said == ["abc", "d", "e", "f"]


def test_a_line_that_never_ends_is_bounded() -> None:
    """What a progress bar prints does not gather in memory."""
    with printing() as (_, said):
        for _ in range(100):
            print("." * 2000, end="")
        assert len(said) == 100 * 2000 // LONGEST
        assert all(LONGEST < len(text) <= LONGEST + 2000 for text in said)


def test_threads_do_not_share_a_line() -> None:
    """What two threads print in parts is not mixed."""
    with printing() as (_, said):
        print("a", end="")
        thread = threading.Thread(target=print, args=("whole",))
        thread.start()
        thread.join()
        print("b")
        assert said == ["whole", "ab"]


@given(st.lists(st.text("ab\n", max_size=5)))
def test_nothing_is_lost(parts: list[str]) -> None:
    """However text is cut into prints, the lines are those of the whole text that are not empty."""
    with printing() as (prints, said):
        for part in parts:
            prints.write(part)
    assert said == [line for line in "".join(parts).split("\n") if line]


def test_the_record_is_info_of_the_logger_stdout() -> None:
    """A printed line has level, logger and the trace of the request it was printed for, and no arguments to format."""
    written = bytearray()
    with logging_to(written):
        context = Context()
        enter(context)
        print("100 %s \udc80")
        enter(None)
        (line,) = lines(written)
        assert (line["level"], line["logger"], line["trace_id"]) == ("info", "stdout", context.trace_id)
        assert line["message"] == "100 %s \\udc80"


def test_a_handler_that_prints_makes_no_circle() -> None:
    """A handler on stdout that user code adds turns each record into one line more, and not into endless ones."""
    written = bytearray()
    with logging_to(written):
        handler = logging.StreamHandler(sys.stdout)
        logging.getLogger().addHandler(handler)
        try:
            logging.getLogger("shop").warning("twice")
            print("once")
        finally:
            logging.getLogger().removeHandler(handler)
        assert [(line["logger"], line["message"]) for line in lines(written)] == [
            ("shop", "twice"), ("stdout", "twice"), ("stdout", "once"),
        ]  # fmt: skip


def test_the_level_of_the_logger_counts() -> None:
    """Prints can be silenced like any logger."""
    written = bytearray()
    with logging_to(written):
        logging.getLogger("stdout").setLevel(logging.WARNING)
        try:
            print("x")
        finally:
            logging.getLogger("stdout").setLevel(logging.NOTSET)
        assert written == b""


def test_everything_is_put_back() -> None:
    """After the log is given back stdout is the stream from before, and who kept ours prints there too."""
    with contextlib.redirect_stdout(io.StringIO()) as before:
        logs = install(
            service="order", version="1", instance="order-1", outlet=Outlet(opener=lambda fd: Sink("", -1, len, piece=1))
        )
        ours = sys.stdout
        assert ours is not before
        logs.close()
        assert sys.stdout is before
        ours.write("late")
    assert before.getvalue() == "late"


def test_a_stream_put_in_place_later_stays() -> None:
    """Whoever redirected stdout after us keeps what they put there; once they leave, prints go where they went before us."""
    with contextlib.redirect_stdout(io.StringIO()) as before:
        prints = Prints(lambda record: None)
        with contextlib.redirect_stdout(io.StringIO()) as later:
            prints.give_back()
            assert sys.stdout is later
        print("back")
    assert before.getvalue() == "back\n"


def test_the_console_form_takes_no_prints() -> None:
    """A person at a terminal sees what is printed as it is."""
    before = sys.stdout
    logs = install(
        service="order",
        version="1",
        instance="order-1",
        format="console",
        outlet=Outlet(opener=lambda fd: Sink("", -1, len, piece=1)),
    )
    try:
        assert sys.stdout is before
    finally:
        logs.close()


def test_it_behaves_like_a_text_stream() -> None:
    """What programs ask of their standard output is answered: bytes, descriptor, encoding, terminal, text only."""
    with printing() as (prints, said):
        assert sys.stdout.buffer.write("ü\n".encode()[:1]) == 1
        sys.stdout.buffer.write("ü\n".encode()[1:])
        sys.stdout.buffer.write(b"\xff\n")
        sys.stdout.buffer.flush()
        assert said == ["ü", "\\xff"]
        assert (sys.stdout.encoding, sys.stdout.writable(), sys.stdout.isatty()) == ("utf-8", True, False)
        prints.reconfigure(line_buffering=True)
        with pytest.raises(TypeError, match="must be str, not int"):
            sys.stdout.write(1)  # type: ignore[arg-type]
        assert repr(prints) == "<Prints of stdout: 0 lines begun>"


def test_the_descriptor_is_that_of_the_stream_before(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever wants the descriptor, as a subprocess does, gets the real one; without one they are told so."""
    with (tmp_path_factory.mktemp("out") / "out").open("w") as file, contextlib.redirect_stdout(file):
        prints = Prints(lambda record: None)
        assert prints.fileno() == file.fileno()
        prints.give_back()
    with contextlib.redirect_stdout(None):  # as in a process that was started without a stdout
        prints = Prints(lambda record: None)
        with pytest.raises(io.UnsupportedOperation):
            prints.fileno()
        prints.give_back()
        assert prints.write("nowhere") == 7
