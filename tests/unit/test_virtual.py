"""Virtual time: what a test of time-outs stands on."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from mizzen.tools.testing.virtual import DeadLock, VirtualLoop, run


def test_sleeping_takes_virtual_time_only() -> None:
    """An hour of sleep passes at once, and the loop's clock says that it passed."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    before = time.perf_counter()
    assert run(main()) == pytest.approx(3600)
    assert time.perf_counter() - before < 5


def test_timers_fire_in_order_of_their_time() -> None:
    """Timers fire in the order of their times, each at its own time."""
    fired: list[tuple[str, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name, delay in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
            loop.call_later(delay, lambda name=name: fired.append((name, loop.time())))
        await asyncio.sleep(5)

    run(main(), start=100.0)
    assert [(name, round(at, 6)) for name, at in fired] == [("a", 101.0), ("b", 102.0), ("c", 103.0)]


def test_a_timeout_of_asyncio_works() -> None:
    """`asyncio.timeout` and `wait_for` measure virtual time."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.sleep(30)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 5)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(25)


def test_a_dead_lock_is_named() -> None:
    """When everything waits and no timer is set, the error names the task and the place where it waits."""

    async def waits_for_nobody() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.create_task(waits_for_nobody(), name="forgotten")

    with pytest.raises(DeadLock, match=r"forgotten waits in .*waits_for_nobody at .*test_virtual"):
        run(main())


def test_a_dead_lock_leaves_nothing_running() -> None:
    """After a dead-lock every task has been cancelled and has cleaned up."""
    cleaned: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("main")

    with pytest.raises(DeadLock):
        run(main())
    assert cleaned == ["main"]


def test_time_stands_still_while_threads_work() -> None:
    """A call in a thread is waited for in real time; no timer fires meanwhile."""
    gate = threading.Event()

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, lambda: gate.wait(10) and 42)
        loop.call_soon(gate.set)
        async with asyncio.timeout(1):
            result = await work
        return result, loop.time()

    assert run(main()) == (42, 0.0)


def test_to_thread_works() -> None:
    """`asyncio.to_thread` answers, and the executor is shut down afterwards."""

    async def main() -> str:
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert run(main()) != threading.current_thread().name
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]


def test_the_result_and_the_error_come_out() -> None:
    """`run` returns what the coroutine returns and raises what it raises."""

    async def fine() -> str:
        return "fine"

    async def broken() -> None:
        raise KeyError("broken")

    assert run(fine()) == "fine"
    with pytest.raises(KeyError, match="broken"):
        run(broken())


def test_the_loop_shows_its_state() -> None:
    """The loop's repr says whether it runs and what time it is."""
    loop = VirtualLoop(start=7.5)
    assert repr(loop) == "<VirtualLoop stopped at 7.500s>"
    loop.close()
    assert "closed" in repr(loop)
