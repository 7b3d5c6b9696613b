"""How long to wait before a service that crashed starts again."""

from __future__ import annotations

FIRST, MOST = 0.5, 10.0
"""Seconds: soon enough for an accident, rare enough for a defect that stays to be read."""
HEALTHY = 10.0
"""Seconds alive after which a crash counts as a new one."""


class Backoff:
    """The waits before restarts: doubled each time, from the start again after a time without a crash."""

    def __init__(self) -> None:
        self._next = FIRST

    def after(self, alive: float) -> float:
        """Seconds to wait after a life of ``alive`` seconds."""
        if alive >= HEALTHY:
            self._next = FIRST
        wait, self._next = self._next, min(self._next * 2, MOST)
        return wait

    def reset(self) -> None:
        """Begin anew, since the code has changed."""
        self._next = FIRST

    def __repr__(self) -> str:
        return f"<Backoff next {self._next}s>"
