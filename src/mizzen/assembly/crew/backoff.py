"""Backoff: how long to wait before a dead worker is replaced."""

from __future__ import annotations

FIRST, MOST = 0.1, 10.0
"""Seconds: an accident costs hardly more than the start, a defect that stays does not take the machine."""
HEALTHY = 10.0
"""Seconds alive after which a death counts as a new one."""


class Backoff:
    """The waits of one worker: doubled each time, from the start again after a life that was long enough."""

    def __init__(self) -> None:
        self._next = FIRST

    def after(self, alive: float) -> float:
        """Seconds to wait after a life of ``alive`` seconds."""
        if alive >= HEALTHY:
            self._next = FIRST
        wait, self._next = self._next, min(self._next * 2, MOST)
        return wait

    def __repr__(self) -> str:
        return f"<Backoff next {self._next:g}s>"
