"""The arithmetic of the bench and its table: medians over rounds, ratios inside a round, budgets. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """A number that was taken once in every round."""

    median: float
    least: float
    most: float

    def text(self, digits: int = 2) -> str:
        """Median and, where there was more than one round, the lowest and the highest."""
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f}–{self.most:,.{digits}f})"


class Budget(NamedTuple):
    """What the design allows at most, and what it aims at."""

    most: float
    aim: float | None = None

    def verdict(self, value: float) -> str:
        """Whether ``value`` keeps it, in words; what is compared is what is printed."""
        value = round(value, 2)
        if value > self.most:
            return f"at most {self.most:g}: MISSED"
        if self.aim is not None and value > self.aim:
            return f"at most {self.most:g}: kept, aim {self.aim:g} not yet"
        return f"at most {self.most:g}: kept"


class Ratio(NamedTuple):
    """One row of the table: Mizzen's number as a multiple of another's, round by round, or a plain number with a unit."""

    what: str
    against: str
    rounds: tuple[float, ...]
    budget: Budget | None = None
    unit: str = ""
    note: str = ""

    @property
    def spread(self) -> Spread | None:
        """None when no round gave a number: then there is nothing to keep a budget with."""
        return spread(self.rounds) if self.rounds else None

    @property
    def verdict(self) -> str:
        """Kept or missed; a budget that could not be measured was not kept."""
        if self.budget is None:
            return ""
        if self.spread is None:
            return f"at most {self.budget.most:g}: NOT MEASURED"
        return self.budget.verdict(self.spread.median)


def spread(values: Iterable[float]) -> Spread:
    """Median, lowest and highest."""
    taken = list(values)
    return Spread(statistics.median(taken), min(taken), max(taken))


def ratios(mine: Sequence[float | None], theirs: Sequence[float | None]) -> tuple[float, ...]:
    """Round by round, since the speed of a machine drifts between rounds; rounds that lack one of the two are left out."""
    return tuple(a / b for a, b in zip(mine, theirs, strict=True) if a is not None and b)


def share(taken: Sequence[float], part: float) -> float:
    """What this share of all is at most; 0 of nothing."""
    ordered = sorted(taken)
    return ordered[max(0, min(len(ordered) - 1, int(part * len(ordered) + 0.5) - 1))] if ordered else 0.0


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Columns as wide as they must be; the first ``left`` ones and the last of text begin at the left, numbers at the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  " + "  ".join(cells).rstrip())
    return "\n".join(text)


def ratio_table(rows: Iterable[Ratio]) -> str:
    """The one table: every ratio with its spread, and its budget where there is one."""
    cells = []
    before = ""
    for row in rows:
        taken = row.spread
        number = "–" if taken is None else f"{taken.median:,.2f}{row.unit}"
        around = "" if taken is None or taken.least == taken.most else f"{taken.least:,.2f}–{taken.most:,.2f}"
        what = "" if row.what == before else row.what
        cells.append((what, row.against, number, around, "  ".join(part for part in (row.verdict, row.note) if part)))
        before = row.what
    wide = max((len(cell[4]) for cell in cells), default=0)
    head = ("Mizzen as a multiple of", "", "median", "rounds", "budget".ljust(wide))
    return table(head, [(*cell[:4], cell[4].ljust(wide)) for cell in cells], left=2)
