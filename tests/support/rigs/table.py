"""The table of driver × fault, made of what the tests reported; works across the workers of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from . import RIGS
from .rig import FAULTS

GAP = 2
"""Columns between columns."""
WORST = {"FAIL": 3, "absent": 2, "pass": 1}


class Report(Protocol):
    """What pytest tells of one phase of a test."""

    @property
    def user_properties(self) -> Sequence[tuple[str, object]]: ...
    @property
    def failed(self) -> bool: ...
    @property
    def skipped(self) -> bool: ...


def lines(reports: Iterable[Report]) -> list[str]:
    """The table, and below it why the rest cannot be made; nothing when no cell was played."""
    cells: dict[tuple[str, str], str] = {}
    versions: dict[str, str] = {}
    for report in reports:
        told = dict(report.user_properties)
        if "fault" not in told or "rig" not in told:
            continue
        at = (str(told["fault"]), str(told["rig"]))
        if told.get("version"):
            versions[at[1]] = str(told["version"])
        word = "FAIL" if report.failed else "absent" if report.skipped else "pass"
        cells[at] = max(cells.get(at, word), word, key=WORST.__getitem__)
    rigs = [rig for rig in RIGS if any(name == rig.name for _, name in cells)]
    if not rigs:
        return []
    notes: dict[str, int] = {}
    heads = [_head(rig.name, versions.get(rig.name, "")) for rig in rigs]
    rows = [["fault", *heads]]
    for fault in FAULTS:
        row = [fault]
        for rig in rigs:
            if reason := rig.cannot.get(fault):
                row.append(f"[{notes.setdefault(reason, len(notes) + 1)}]")
            else:
                row.append(cells.get((fault, rig.name), "not run"))
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) + GAP for column in range(len(rows[0]))]
    table = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, *(f"[{number}] cannot be made: {reason}" for reason, number in notes.items())]


def _head(name: str, version: str) -> str:
    """``etcd 3.6`` is ``etcd 3.6.6`` once it is known; a build that does not know what it is says 0.0.0."""
    first, _, last = name.rpartition(" ")
    if version.startswith("0.0.0"):
        return name
    return f"{first if first and version.startswith(last) else name} {version}".strip()
