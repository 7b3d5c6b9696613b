"""One timer per connection, moved lazily: most deadlines are replaced long before they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mizzen.words.clock import Clock

_TICK = 0.001
"""Seconds: how early a timer may fire and still count, since libuv rounds to milliseconds."""


class Patience:
    """Calls back once the latest deadline has passed; setting a later one costs no timer."""

    __slots__ = ("_clock", "_due", "_expired", "_loop", "_timer", "_timer_due")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._expired = expired
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def expect(self, seconds: float, now: float | None = None) -> None:
        """Replace the deadline. The timer stays where it would come earlier, and is set anew when it does.

        ``now`` saves a look at the clock.
        """
        self._due = due = (self._clock() if now is None else now) + seconds
        if self._timer is not None:
            if self._timer_due <= due + _TICK:
                return
            self._timer.cancel()
        self._arm(due, seconds)

    def cancel(self) -> None:
        """Never call back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float, seconds: float) -> None:
        self._timer_due = due
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        left = self._due - self._clock()
        if left > _TICK:
            self._arm(self._due, left)
        else:
            self._expired()
