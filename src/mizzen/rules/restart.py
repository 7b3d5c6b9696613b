"""Restart: how long to wait before a process that died is started again."""

from __future__ import annotations

MOST = 10.0
"""Seconds: rare enough for a defect that stays to be read, and not to take the machine."""
HEALTHY = 10.0
"""Seconds alive after which a death counts as a new one."""


class Backoff:
    """The waits of one process: doubled each time, from the start again after a life that was long enough."""

    def __init__(self, first: float) -> None:
        """Begin with ``first`` seconds."""
        self._first = self._next = first

    def after(self, alive: float) -> float:
        """Seconds to wait after a life of ``alive`` seconds."""
        if alive >= HEALTHY:
            self._next = self._first
        wait, self._next = self._next, min(self._next * 2, MOST)
        return wait

    def reset(self) -> None:
        """Begin anew, as when the code has changed."""
        self._next = self._first

    def __repr__(self) -> str:
        return f"<Backoff next {self._next:g}s>"
