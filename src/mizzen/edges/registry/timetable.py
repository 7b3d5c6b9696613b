"""When which check is to be looked at: a heap, so that ten thousand that beat in time cost next to nothing."""

from __future__ import annotations

import heapq
from itertools import count

from .model import Check

SPARE = 64
"""Entries out of date that are always put up with."""


class Timetable:
    """Entries are never moved: one that turns out too early is entered anew for later, which a heartbeat need not do."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Check]] = []
        self._number = count()
        self._stale = 0

    def plan(self, check: Check) -> None:
        """Note when there is something to do about ``check``, if that is sooner than what is noted."""
        at = check.next
        if at is None or (check.planned is not None and check.planned <= at):
            return
        if check.planned is not None:
            self._leave()
        check.planned = at
        heapq.heappush(self._heap, (at, next(self._number), check))

    def drop(self, check: Check) -> None:
        """Forget a check that is gone."""
        if check.planned is not None:
            check.planned = None
            self._leave()

    def due(self, now: float) -> list[Check]:
        """The checks to look at now; each has to be planned again."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, _, check = heapq.heappop(self._heap)
            if check.planned != at:
                self._stale -= 1
                continue
            check.planned = None
            if check.next is not None and check.next > now:
                self.plan(check)
            else:
                found.append(check)
        return found

    @property
    def next(self) -> float | None:
        """When to look again; None when nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def _leave(self) -> None:
        self._stale += 1
        if self._stale > SPARE + len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].planned == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0

    def __len__(self) -> int:
        return len(self._heap)
