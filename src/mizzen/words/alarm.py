"""Alarm: ends a task when its time is up; what ``asyncio.timeout`` does, at half of its cost per request."""

from __future__ import annotations

import asyncio
from typing import Any


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
