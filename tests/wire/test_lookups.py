"""Look-ups of names in real threads, on every event loop: few at once, and one that hangs holds nobody for ever."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from loops import LOOPS, Run, runner_of

from mizzen.assembly.lookups import AT_ONCE, LEFT_BEHIND, Addresses, Lookups
from mizzen.assembly.network import SocketNetwork

pytestmark = pytest.mark.wire

PATIENCE = 10.0


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return runner_of(LOOPS[request.param])


class System:
    """The system's look-up as the test plays it: it answers once it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.busy = self.most = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __call__(self, host: str, port: int) -> Addresses:
        with self._lock:
            self.asked.append(host)
            self.busy += 1
            self.most = max(self.most, self.busy)
        try:
            if host.startswith("hangs"):
                assert self._ended.wait(3 * PATIENCE)
            if host.startswith("fails"):
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{len(host)}", port))]
        finally:
            with self._lock:
                self.busy -= 1

    def end(self) -> None:
        """Let everything answer."""
        self._ended.set()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is plain state of what is tested
            await asyncio.sleep(0.001)


def asking(lookups: Lookups, *hosts: str) -> list[asyncio.Task[Addresses]]:
    return [asyncio.ensure_future(lookups(host, 80)) for host in hosts]


def test_a_name_is_found(run: Run) -> None:
    """The addresses of a name, or the system's error; nothing runs before and nothing is left after."""

    async def main() -> None:
        before = threading.active_count()
        system = System()
        lookups = Lookups(system)
        assert threading.active_count() == before
        assert (await lookups("name", 80))[0][4] == ("10.0.0.4", 80)
        with pytest.raises(socket.gaierror, match="no such name"):
            await lookups("fails", 80)
        await until(lambda: threading.active_count() == before)
        assert repr(lookups) == "<Lookups 0 names asked for, 0 of 4 at work, 0 left behind>"

    run(main())


def test_the_real_system(run: Run) -> None:
    """localhost is found as getaddrinfo finds it; what can be no name is an error that says so, and is cut to a line."""

    async def main() -> None:
        lookups = Lookups()
        assert {entry[4][0] for entry in await lookups("localhost", 80)} & {"127.0.0.1", "::1"}
        for name in ("x" * 300, "a..b", "\ud800"):
            with pytest.raises(socket.gaierror, match=" is no name: ") as raised:
                await lookups(name, 80)
            assert len(str(raised.value)) < 200

    run(main())


def test_one_look_up_serves_all_who_ask(run: Run) -> None:
    """A hundred connections to one name cost one look-up; another port of it is another one."""

    async def main() -> None:
        system = System()
        lookups = Lookups(system)
        tasks = asking(lookups, *["hangs"] * 100)
        await until(lambda: system.busy == 1)
        system.end()
        assert {(await task)[0][4] for task in tasks} == {("10.0.0.5", 80)}
        assert system.asked == ["hangs"]
        await lookups("hangs", 81)
        assert system.asked == ["hangs", "hangs"]

    run(main())


def test_few_at_once(run: Run) -> None:
    """However many names are asked for, four threads look them up, and all are found."""

    async def main() -> None:
        system = System()
        lookups = Lookups(system)
        tasks = asking(lookups, *(f"hangs{number}" for number in range(20)))
        await until(lambda: system.busy == AT_ONCE)
        system.end()
        await asyncio.gather(*tasks)
        assert (system.most, len(system.asked)) == (AT_ONCE, 20)

    run(main())


def test_what_nobody_waits_for_is_not_begun(run: Run) -> None:
    """A look-up whose caller gave up while it waited for a place is dropped; one that somebody else wants is not."""

    async def main() -> None:
        system = System()
        lookups = Lookups(system)
        hung = asking(lookups, *(f"hangs{number}" for number in range(AT_ONCE)))
        await until(lambda: system.busy == AT_ONCE)
        alone, first, second = asking(lookups, "alone", "shared", "shared")
        await asyncio.sleep(0)
        alone.cancel()
        first.cancel()
        await asyncio.wait([alone, first])
        system.end()
        assert (await second)[0][4] == ("10.0.0.6", 80)
        await asyncio.gather(*hung)
        assert system.asked[AT_ONCE:] == ["shared"]

    run(main())


def test_a_caller_that_gives_up_waits_for_nobody(run: Run) -> None:
    """A timeout ends the wait at once while the look-up goes on, and its late answer disturbs nobody."""

    async def main() -> None:
        system = System()
        lookups = Lookups(system)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lookups("hangs", 80)
        [again] = asking(lookups, "hangs")
        await asyncio.sleep(0.01)
        assert system.asked == ["hangs"]
        system.end()
        assert (await again)[0][4] == ("10.0.0.5", 80)

    run(main())


def test_what_hangs_holds_nobody_for_ever(run: Run) -> None:
    """Look-ups that do not end give their places away after a while: other names, and the same ones again, are found."""

    async def main() -> None:
        system = System()
        lookups = Lookups(system, stuck=0.05)
        hung = asking(lookups, *(f"hangs{number}" for number in range(AT_ONCE)))
        await until(lambda: system.busy == AT_ONCE)
        assert (await lookups("name", 80))[0][4] == ("10.0.0.4", 80)
        [again] = asking(lookups, "hangs0")
        await until(lambda: system.asked.count("hangs0") == 2)
        system.end()
        assert (await again)[0][4] == ("10.0.0.6", 80)
        await asyncio.gather(*hung)
        assert repr(lookups) == "<Lookups 0 names asked for, 0 of 4 at work, 0 left behind>"

    run(main())


def test_what_hangs_costs_a_bounded_number_of_threads(run: Run) -> None:
    """A name that hangs whenever it is asked for is begun anew only so many times; then it is waited for."""

    async def main() -> None:
        system = System()
        lookups = Lookups(system, stuck=0.005)
        for _ in range(3 * LEFT_BEHIND):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await lookups("hangs", 80)
        assert system.busy == LEFT_BEHIND + 1
        assert (await lookups("name", 80))[0][4] == ("10.0.0.4", 80)
        system.end()
        await until(lambda: system.busy == 0)
        await until(lambda: "0 names asked for, 0 of 4 at work, 0 left behind" in repr(lookups))

    run(main())


def test_a_loop_that_ended_leaves_nothing_to_the_next() -> None:
    """Look-ups that a closed loop still waited for do not disturb the one after it."""
    system = System()
    lookups = Lookups(system)

    async def give_up() -> None:
        tasks = asking(lookups, *(f"hangs{number}" for number in range(AT_ONCE)))
        await until(lambda: system.busy == AT_ONCE)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def again() -> None:
        assert (await lookups("name", 80))[0][4] == ("10.0.0.4", 80)
        system.end()
        assert (await lookups("hangs0", 80))[0][4] == ("10.0.0.6", 80)

    asyncio.run(give_up())
    asyncio.run(again())


def test_a_system_without_threads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no thread can be had, everybody who asks is told, were they a thousand; afterwards names are found again."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        lookups = Lookups(System())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            tasks = asking(lookups, *(f"name{number}" for number in range(1000)))
            said = await asyncio.gather(*tasks, return_exceptions=True)
        assert {(type(each), str(each)) for each in said} == {(OSError, "can't start new thread")}
        assert repr(lookups) == "<Lookups 0 names asked for, 0 of 4 at work, 0 left behind>"
        assert (await lookups("name", 80))[0][4] == ("10.0.0.4", 80)

    run(main())


@pytest.mark.parametrize("port", [-1, 0, 65536 + 80])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "name"])
def test_what_is_no_port_is_not_connected_to(run: Run, host: str, port: int) -> None:
    """A registry may say any number; what is left of it in 16 bits is somebody else's port."""

    async def main() -> None:
        system = System()
        with pytest.raises(OSError, match=f"{port} is no port"):
            await SocketNetwork(lookup=Lookups(system)).connect(asyncio.Protocol, host, port, None)
        assert system.asked == []

    run(main())


def test_user_code_keeps_its_threads(run: Run) -> None:
    """With every look-up hung, work in the loop's own threads goes on: they are not what names are looked up in."""

    async def main() -> None:
        system = System()
        network = SocketNetwork(lookup=Lookups(system))
        tasks = [
            asyncio.ensure_future(network.connect(asyncio.Protocol, f"hangs{number}.example", 80, None)) for number in range(64)
        ]
        await until(lambda: system.busy == AT_ONCE)
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*(asyncio.to_thread(int, "7") for _ in range(64))) == [7] * 64
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        system.end()

    run(main())


def test_a_process_ends_while_a_look_up_hangs() -> None:
    """A look-up that never ends does not keep the process."""
    program = """
import asyncio, threading
from mizzen.assembly.lookups import Lookups

async def main():
    try:
        async with asyncio.timeout(0.05):
            await Lookups(lambda host, port: threading.Event().wait())("user", 80)
    except TimeoutError:
        print("over", flush=True)

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=3 * PATIENCE, check=True)
    assert (ended.stdout, ended.stderr) == (b"over\n", b"")
