"""Alarms: what ends a task when its time is up, at half of what ``asyncio.timeout`` costs per request."""

from __future__ import annotations

import asyncio
import math
from asyncio import current_task
from contextlib import suppress
from typing import Any

from .clock import Clock

TICK = 0.001
"""Seconds: how early a timer may fire and still count, since libuv rounds to milliseconds."""

SCAN = 0.000_001
"""Seconds by which alarms may ring late for each one that is set: looking at all of them then takes a twentieth of the
time at most, however many calls hang and however their ends are spread."""


class Alarm:
    """Cancels ``task`` when called, as by a timer; remembers that it did."""

    __slots__ = ("_before", "due", "rang", "task")

    def __init__(self, task: asyncio.Task[Any], due: float = 0.0) -> None:
        self.task = task
        self.due = due
        """When it is to ring, for whoever watches the clock."""
        self.rang = False
        self._before = task.cancelling()

    def __call__(self) -> None:
        self.rang = True
        self.task.cancel()

    def explains(self) -> bool:
        """Whether the cancellation under way is this alarm's alone, and is taken back; else it came from outside as well."""
        return self.rang and self.task.uncancel() <= self._before

    async def take_back(self) -> None:
        """What it was set for has ended by itself: a cancellation that is still to come is met here and taken back."""
        if self.rang:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            self.task.uncancel()


class Alarms:
    """Alarms with one timer between them: nearly all are called off long before their time.

    A timer of its own for each would cost more than the rest of a call's time limit. The one there is stays set when
    its alarm is called off; it finds out when it fires, and is set anew for the earliest that is left.
    """

    __slots__ = ("_clock", "_loop", "_next", "_set", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._set: set[Alarm] = set()
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def at(self, due: float) -> Alarm:
        """Cancel the running task at ``due`` on the clock, unless :meth:`off` comes first; ``RuntimeError`` outside of one."""
        # A known loop needs no question: up to Python 3.11 asking for the running one is a system call.
        task = None if self._loop is None else current_task(self._loop)
        if task is None:
            task = self._arrive()
        alarm = Alarm(task, due)
        self._set.add(alarm)
        if due < self._next:
            self._wait(due)
        return alarm

    def off(self, alarm: Alarm) -> None:
        """It will not ring; whether it has is for the caller to see."""
        self._set.discard(alarm)

    def rest(self) -> None:
        """Leave no timer behind where no alarm is set."""
        if not self._set and self._timer is not None:
            self._timer.cancel()
            self._timer, self._next = None, math.inf

    def _arrive(self) -> asyncio.Task[Any]:
        """Begin on the loop that runs; what was set on another one is gone with it."""
        loop = asyncio.get_running_loop()
        task = current_task(loop)
        if task is None:
            raise RuntimeError("this runs in a task only")
        self._loop, self._timer, self._next = loop, None, math.inf
        self._set.clear()
        return task

    def _wait(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        assert self._loop is not None  # alarms are set in a task
        self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._look)

    def _look(self) -> None:
        now = self._clock()
        self._timer, self._next = None, math.inf
        for alarm in [alarm for alarm in self._set if alarm.due <= now + TICK]:
            self._set.discard(alarm)
            alarm()
        if self._set:
            self._wait(max(min(alarm.due for alarm in self._set), now + SCAN * len(self._set)))

    def __len__(self) -> int:
        return len(self._set)

    def __repr__(self) -> str:
        return f"<Alarms {len(self._set)} set>"
