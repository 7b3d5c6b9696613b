"""Limit: how many requests may be in flight at once, before more work only makes every answer late."""

from __future__ import annotations

from typing import Any

IN_FLIGHT = 1000
"""Requests; one event loop that holds more only queues, and whoever waits in a queue gives up before its turn
(go-zero and .NET's standard handler shed here too)."""


class Limit:
    """Counts what is in flight and says when there is no place for more."""

    __slots__ = ("count", "maximum", "refused")

    def __init__(self, maximum: int = IN_FLIGHT) -> None:
        """Allow ``maximum`` requests at once; ``ValueError`` when that is none."""
        if maximum < 1:
            raise ValueError(f"a limit of {maximum} in flight would refuse every request; it must be at least 1")
        self.maximum = maximum
        self.count = 0
        """Requests in flight now."""
        self.refused = 0
        """Requests turned away so far."""

    def enter(self) -> bool:
        """Take a place, to be given back by :meth:`leave`; False, and nothing to give back, when there is none."""
        if self.count >= self.maximum:
            self.refused += 1
            return False
        self.count += 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        self.count -= 1

    def describe(self) -> dict[str, Any]:
        return {"in_flight": self.count, "maximum": self.maximum, "refused": self.refused}

    def __repr__(self) -> str:
        return f"<Limit {self.count} of {self.maximum} in flight, {self.refused} refused>"
