"""The pure parts of a crew: its standing, who accepts where, restarts, messages, output, and its own command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.assembly.crew.channel import Channel
from mizzen.assembly.crew.messages import Accept, Ask, Failed, Others, Page, Report, Stop, ToSupervisor, ToWorker
from mizzen.assembly.crew.post import Post
from mizzen.assembly.crew.process import HOPELESS, SILENCE, WorkerProcess, _Lines
from mizzen.assembly.crew.rounds import Rounds
from mizzen.assembly.crew.standing import DEAD, SILENT, enough, shares, standing
from mizzen.tools.cli.crew import own_command

WELL = Report("serving", "passing", "ok")
DEGRADED = Report("serving", "passing", "stock (optional): refused")
ILL = Report("serving", "critical", "Store: refused")


@pytest.mark.parametrize(("size", "needed"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 4)])
def test_half_of_the_workers_are_enough(size: int, needed: int) -> None:
    """Rounded up: with fewer the instance is critical."""
    assert enough(size) == needed
    for passing in range(size + 1):
        found = standing(size, {number: WELL if number < passing else DEAD for number in range(size)})
        assert (found.verdict == "passing") is (passing >= needed)
        assert (found.status == "unavailable") is (passing < needed)


@pytest.mark.parametrize(
    ("workers", "status", "note"),
    [
        ((WELL, WELL), "ok", "ok"),
        ((WELL, DEGRADED), "degraded", "2 of 2 workers pass; worker 1: stock (optional): refused"),
        ((WELL, DEAD), "degraded", "1 of 2 workers pass; worker 1: dead"),
        ((SILENT, WELL), "degraded", "1 of 2 workers pass; worker 0: silent"),
        ((ILL, ILL), "unavailable", "0 of 2 workers pass; workers 0, 1: Store: refused"),
        ((ILL, DEAD), "unavailable", "0 of 2 workers pass; worker 0: Store: refused; worker 1: dead"),
        (
            (Report("starting", waiting=["Store"]), WELL),
            "degraded",
            "1 of 2 workers pass; worker 0: starting: waiting for Store",
        ),
        ((Report("lingering", "passing", "ok"), WELL), "degraded", "1 of 2 workers pass; worker 0: lingering"),
    ],
)
def test_the_standing_names_who_is_unwell(workers: tuple[Report | str, ...], status: str, note: str) -> None:
    """The status is merged, and its reason says which worker has what trouble."""
    found = standing(len(workers), dict(enumerate(workers)))
    assert (found.status, found.note) == (status, note)
    assert list(found.workers) == [str(number) for number in range(len(workers))]


def test_a_worker_that_nobody_has_heard_of_is_dead() -> None:
    """A crew is judged by all of its numbers."""
    assert standing(3, {0: WELL}).verdict == "critical"


def test_one_socket_is_everybodys() -> None:
    """All that can accept do, on the same one."""
    assert shares(1, [0, 2]) == {0: [0], 2: [0]}
    assert shares(1, []) == {}


@given(st.integers(2, 9).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1))))
def test_somebody_accepts_on_every_socket(case: tuple[int, set[int]]) -> None:
    """Each worker has its own, and those of the others are dealt out evenly: no connection waits for a dead worker."""
    size, accepting = case
    dealt = shares(size, sorted(accepting))
    assert sorted(socket for sockets in dealt.values() for socket in sockets) == list(range(size))
    assert all(number in sockets for number, sockets in dealt.items())
    assert set(dealt) == accepting
    lengths = [len(sockets) for sockets in dealt.values()]
    assert max(lengths) - min(lengths) <= 1


class Wire(asyncio.Transport):
    """The other end of a channel, which keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.written = asyncio.Event()

    def write(self, data: Any) -> None:
        self.sent += data
        self.written.set()

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


MESSAGES = [Stop(), Accept([0, 3]), Others("serving", "ok", "x" * 300, {"0": "serving"}), Stop(force=True)]


@given(st.lists(st.integers(1, 400), min_size=1))
def test_messages_arrive_whole(cuts: list[int]) -> None:
    """However the bytes are cut, every message comes out once and in order."""

    async def main() -> list[Any]:
        arrived: list[Any] = []
        wire = Wire()
        one = Channel(ToWorker, arrived.append, lambda: None)
        one.connection_made(wire)
        for message in MESSAGES:
            one.send(message)
        data, place = wire.sent, 0
        while place < len(data):
            cut = cuts[place % len(cuts)]
            one.data_received(data[place : place + cut])
            place += cut
        return arrived

    assert asyncio.run(main()) == MESSAGES


def received(wire: Wire, kinds: Any) -> list[Any]:
    """What the channel at the other end makes of what was sent."""
    arrived: list[Any] = []
    Channel(kinds, arrived.append, lambda: None).data_received(wire.sent)
    return arrived


def test_a_text_that_is_no_utf8_arrives_with_its_numbers_shown() -> None:
    """An error about a file with an odd name is told like any other, and takes nothing else with it."""

    async def main() -> list[Any]:
        wire = Wire()
        channel = Channel(ToWorker, lambda message: None, lambda: None)
        channel.connection_made(wire)
        channel.send(Failed("no file \udcff", ["é \udc80"], ""))
        channel.send(Page(1, b"\xff"))
        return [*received(wire, ToSupervisor | Page)]

    assert asyncio.run(main()) == [Failed("no file \\udcff", ["é \\udc80"], ""), Page(1, b"\xff")]


def test_all_who_ask_at_once_get_one_round() -> None:
    """Whoever asks while one is under way is served by the next, so that no answer is older than its question."""

    async def main() -> list[list[bytes]]:
        begun: list[asyncio.Future[bytes]] = []

        async def work() -> bytes:
            begun.append(asyncio.get_running_loop().create_future())
            return await begun[-1]

        async def settled() -> None:
            for _ in range(9):
                await asyncio.sleep(0)

        rounds = Rounds(work)
        first = [asyncio.ensure_future(rounds.ask()) for _ in range(9)]
        await settled()
        second = [asyncio.ensure_future(rounds.ask()) for _ in range(9)]
        await settled()
        assert len(begun) == 1
        begun[0].set_result(b"first")
        await settled()
        assert len(begun) == 2
        begun[1].set_result(b"second")
        return [await asyncio.gather(*first), await asyncio.gather(*second)]

    assert asyncio.run(main()) == [[b"first"] * 9, [b"second"] * 9]


def test_many_scrapes_at_once_are_one_question_to_the_supervisor() -> None:
    """A page for each of them would be more than a channel holds, and would end the worker."""

    async def main() -> None:
        wire = Wire()
        post = Post()
        post.channel.connection_made(wire)
        asked = [asyncio.ensure_future(post.metrics()) for _ in range(500)]
        await asyncio.wait_for(wire.written.wait(), 5)
        assert received(wire, ToSupervisor) == [Ask(1)]
        reply = Wire()
        supervisor = Channel(ToSupervisor, lambda message: None, lambda: None)
        supervisor.connection_made(reply)
        supervisor.send(Page(1, b"page"))
        post.channel.data_received(reply.sent)
        assert set(await asyncio.gather(*asked)) == {b"page"}
        assert received(wire, ToSupervisor) == [Ask(1)]

    asyncio.run(main())


@pytest.fixture
def worker() -> WorkerProcess:
    """One that has a process, as far as it is known."""
    nobody: Callable[..., None] = lambda *said: None  # noqa: E731
    worker = WorkerProcess(0, [], folder=Path(), environ={}, on_message=nobody, on_lines=nobody)
    worker.alive = True
    return worker


def test_a_worker_that_has_not_spoken_yet_is_starting(worker: WorkerProcess) -> None:
    """However long it imports: it cannot say anything meanwhile, and is not asked for numbers."""
    for _ in range(SILENCE * 100):
        worker.look()
    assert worker.standing == Report("starting")
    assert not worker.hears


def test_a_worker_hangs_when_it_was_not_heard_for_so_many_looks(worker: WorkerProcess) -> None:
    """Each of them is one of a supervisor that did run; a word brings the worker back."""
    worker._told(WELL)
    for _ in range(SILENCE - 1):
        worker.look()
    assert worker.serving
    worker.look()
    assert worker.standing == SILENT
    assert (worker.serving, worker.accepting, worker.hears) == (False, False, False)
    worker._told(WELL)
    assert worker.serving


def test_a_worker_that_hangs_for_a_minute_is_killed_once() -> None:
    """Nobody else would notice it: its fellows answer the platform's probes. One that still imports is left alone."""
    killed: list[int] = []

    class Killable(WorkerProcess):
        def _kill_group(self) -> None:
            killed.append(self._unheard)

    nobody: Callable[..., None] = lambda *said: None  # noqa: E731
    worker = Killable(0, [], folder=Path(), environ={}, on_message=nobody, on_lines=nobody)
    worker.alive = True
    for _ in range(2 * HOPELESS):
        worker.look()
    assert killed == []
    worker._told(WELL)
    for _ in range(2 * HOPELESS):
        worker.look()
    assert killed == [HOPELESS]


def test_nothing_is_sent_to_nobody() -> None:
    """A channel that is not open takes messages and drops them."""

    async def main() -> None:
        channel = Channel(ToWorker, lambda message: None, lambda: None)
        channel.send(Stop())
        assert not channel.free
        await channel.close(0)

    asyncio.run(main())


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\r", b"-")), st.integers(1, 7))
def test_lines_come_out_whole(data: bytes, cut: int) -> None:
    """However the output is cut, only whole lines are handed on; what has no end when the process ends comes last."""

    async def main() -> list[bytes]:
        lines: list[bytes] = []
        protocol = _Lines(lines.append, lines.append)
        for place in range(0, len(data), cut):
            protocol.data_received(data[place : place + cut])
        protocol.connection_lost(None)
        return lines

    came = asyncio.run(main())
    assert b"".join(came) == data
    assert all(piece.endswith(b"\n") for piece in came[:-1])


@pytest.mark.parametrize(
    ("original", "arguments", "own"),
    [
        (["python", "-m", "mizzen", "run", "x"], ["/a/__main__.py", "run", "x"], ["/bin/py", "-m", "mizzen"]),
        (["py", "-X", "dev", "-m", "mizzen", "run", "x"], ["m", "run", "x"], ["/bin/py", "-X", "dev", "-m", "mizzen"]),
        (["py", "/bin/mizzen", "run", "x"], ["/bin/mizzen", "run", "x"], ["/bin/py", "/bin/mizzen"]),
        (["/opt/order", "run", "x"], ["/opt/order", "run", "x"], ["/bin/py"]),
    ],
)
def test_a_worker_is_started_as_its_supervisor_was(original: list[str], arguments: list[str], own: list[str]) -> None:
    """The interpreter with its options and the script, or the executable, without the command's arguments."""
    assert own_command("/bin/py", original, arguments) == own
