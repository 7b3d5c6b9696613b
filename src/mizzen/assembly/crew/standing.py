"""Standing: what a crew is worth by what is known of its workers, and who accepts on which socket."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from mizzen.assembly.probes import State

from .messages import Report

ENOUGH = 0.5
"""Share of the workers that must serve and pass: with fewer the instance is critical, since what is left would drown in the
load of all, and its neighbours take it better. One worker of two is enough, so that a crash alone withdraws nobody."""

DEAD, SILENT = "dead", "silent"
"""What stands for the state of a worker that has no process, and of one that has said nothing for long."""


class Standing(NamedTuple):
    """The merged verdict of a crew."""

    status: Literal["ok", "degraded", "unavailable"]
    """What /health says, whichever worker is asked."""
    verdict: Literal["passing", "critical"]
    """What the heartbeat says."""
    note: str
    workers: dict[str, str]
    """The state or the trouble of each, by its number."""


def enough(size: int) -> int:
    """How many of ``size`` workers must serve."""
    return max(1, math.ceil(size * ENOUGH))


def standing(size: int, workers: Mapping[int, Report | str]) -> Standing:
    """The crew's standing by each worker's last report, or by ``DEAD`` or ``SILENT`` in its place."""
    texts = {number: _text(workers.get(number, DEAD)) for number in range(size)}
    passing = [number for number, report in workers.items() if _passes(report)]
    troubles: dict[str, list[str]] = {}
    for number, text in texts.items():
        if text != State.SERVING.value:
            troubles.setdefault(text.removeprefix("serving: "), []).append(str(number))
    told = [f"{'worker' if len(who) == 1 else 'workers'} {', '.join(who)}: {text}" for text, who in troubles.items()]
    note = "; ".join([f"{len(passing)} of {size} workers pass", *told]) if told else "ok"
    shown = {str(number): text for number, text in texts.items()}
    if len(passing) < enough(size):
        return Standing("unavailable", "critical", note, shown)
    return Standing("degraded" if told else "ok", "passing", note, shown)


def shares(sockets: int, accepting: Sequence[int]) -> dict[int, list[int]]:
    """Which sockets each worker that can accept does accept on.

    One socket is everybody's. Of several, each worker has the one of its number, and those of workers that cannot accept
    are dealt out among those that can: the kernel goes on handing connections to them.
    """
    if not accepting:
        return {}
    if sockets == 1:
        return {number: [0] for number in accepting}
    dealt: dict[int, list[int]] = {number: [number] for number in accepting}
    orphans = [number for number in range(sockets) if number not in dealt]
    for place, orphan in enumerate(orphans):
        dealt[accepting[place % len(accepting)]].append(orphan)
    return dealt


def _passes(report: Report | str) -> bool:
    return not isinstance(report, str) and report.state == State.SERVING.value and report.verdict == "passing"


def _text(report: Report | str) -> str:
    if isinstance(report, str):
        return report
    if report.state != State.SERVING.value:
        return f"{report.state}: waiting for {', '.join(report.waiting)}" if report.waiting else report.state
    return report.state if report.note in ("", "ok") else f"{report.state}: {report.note}"
