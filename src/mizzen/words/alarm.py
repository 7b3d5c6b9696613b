"""Alarms: what ends a task when its time is up, at half of what ``asyncio.timeout`` costs per request."""

from __future__ import annotations

import asyncio
from typing import Any


class Finder:
    """Finds the task that is running; for code on the path of every request.

    Up to Python 3.11 ``get_running_loop`` asks the system each time which process this is: a system call that costs
    as much as a tenth of a request. A known loop needs no question.
    """

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def task(self) -> asyncio.Task[Any]:
        """The task that runs this code; ``RuntimeError`` outside of one."""
        task = None if self._loop is None else asyncio.current_task(self._loop)
        if task is None:
            self._loop = asyncio.get_running_loop()
            task = asyncio.current_task(self._loop)
            if task is None:
                raise RuntimeError("this runs in a task only")
        return task


class Alarm:
    """Cancels ``task`` when called, as by a timer; remembers that it did."""

    __slots__ = ("_before", "rang", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.rang = False
        self._before = task.cancelling()

    def __call__(self) -> None:
        self.rang = True
        self.task.cancel()

    def explains(self) -> bool:
        """Whether the cancellation under way is this alarm's alone, and is taken back; else it came from outside as well."""
        return self.rang and self.task.uncancel() <= self._before
