"""Alarms: one timer for all of them, each rings in its time, and none for a task that is done with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.tools.testing.virtual import run
from mizzen.words.alarm import TICK, Alarm, Alarms


def clock() -> float:
    return asyncio.get_running_loop().time()


def timers() -> list[asyncio.TimerHandle]:
    """Timers that are set on the loop."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled()]


async def ended(alarms: Alarms, seconds: float, work: Callable[[], Awaitable[object]]) -> float | None:
    """When the alarm ended the work, from now; None when that came to its own end."""
    began = clock()
    alarm = alarms.at(began + seconds)
    try:
        await work()
    except asyncio.CancelledError:
        if not alarm.explains():
            raise
        return round(clock() - began, 6)
    finally:
        alarms.off(alarm)
    return None


def test_an_alarm_rings_in_its_time() -> None:
    """Then, and not before."""

    async def main() -> None:
        assert await ended(Alarms(clock), 1.5, asyncio.Event().wait) == 1.5

    run(main())


def test_an_alarm_that_is_off_does_not_ring() -> None:
    """Whoever was in time is left alone, then and later."""

    async def main() -> None:
        alarms = Alarms(clock)
        assert await ended(alarms, 1.0, lambda: asyncio.sleep(0.5)) is None
        await asyncio.sleep(2.0)
        assert len(alarms) == 0
        assert timers() == []

    run(main())


def test_a_thousand_alarms_share_one_timer() -> None:
    """A timer is set for the earliest, and none more for those that end in time."""

    async def main() -> None:
        alarms = Alarms(clock)
        for _ in range(1000):
            alarms.off(alarms.at(clock() + 1.0))
            assert len(timers()) == 1

    run(main())


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0)), min_size=1, max_size=30))
def test_each_rings_for_its_own_task(plans: list[tuple[float, float, float]]) -> None:
    """However starts, limits and lengths of work mix: who is late is ended within a tick, who is in time is not."""

    async def one(alarms: Alarms, start: float, limit: float, length: float) -> None:
        await asyncio.sleep(start)
        came = await ended(alarms, limit, lambda: asyncio.sleep(length))
        if came is None:
            assert length <= limit + TICK
        else:
            assert length >= limit - TICK
            assert limit - 2 * TICK <= came <= limit + 2 * TICK

    async def main() -> None:
        alarms = Alarms(clock)
        await asyncio.gather(*(one(alarms, *plan) for plan in plans))
        alarms.rest()
        assert len(alarms) == 0
        assert timers() == []

    run(main())


def test_many_that_hang_are_not_looked_at_all_the_time() -> None:
    """A thousand alarms that end one after another cost far fewer looks than alarms, and each is late by little."""

    async def main() -> None:
        looks = []

        def counting() -> float:
            looks.append(None)
            return clock()

        alarms = Alarms(counting)
        ends = await asyncio.gather(*(ended(alarms, 1.0 + number * 1e-6, asyncio.Event().wait) for number in range(1000)))
        assert all(end is not None and abs(end - 1.0) < 0.005 for end in ends)
        assert len(looks) < 50

    run(main())


def test_it_leaves_no_timer_when_asked_to_rest() -> None:
    """Unless one is set: that still rings."""

    async def main() -> None:
        alarms = Alarms(clock)
        alarms.off(alarms.at(clock() + 1.0))
        alarms.rest()
        assert timers() == []
        waiting = asyncio.ensure_future(ended(alarms, 1.0, asyncio.Event().wait))
        await asyncio.sleep(0)
        alarms.rest()
        assert await waiting == 1.0

    run(main())


def test_alarms_move_to_another_loop() -> None:
    """What was set on a loop that is gone does not keep them from ringing on the next."""
    alarms = Alarms(clock)

    async def main() -> None:
        alarms.at(clock() + 5.0)
        assert await ended(alarms, 1.0, asyncio.Event().wait) == 1.0

    run(main())
    run(main())


def test_outside_of_a_task_there_is_nobody_to_wake() -> None:
    """An alarm needs a task."""

    async def main() -> None:
        caught: list[RuntimeError] = []

        def callback() -> None:
            with pytest.raises(RuntimeError, match="in a task only") as error:
                Alarms(clock).at(1.0)
            caught.append(error.value)

        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(caught) == 1

    run(main())


@pytest.mark.parametrize("rang", [False, True])
def test_what_ended_by_itself_is_not_cancelled_any_more(rang: bool) -> None:
    """A cancellation that has not come yet when the work is over is met and taken back; another one is not."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        alarm = Alarm(task)
        if rang:
            alarm()
        await alarm.take_back()
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()

    run(main())
