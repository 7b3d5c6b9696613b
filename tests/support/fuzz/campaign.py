"""Many inputs over several processes within a time; the numbers decide what is tried, so every run can be repeated."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from . import clients, servers
from .shrink import shrink

BATCH = 200
"""Streams that run side by side on one loop."""
TASK = 20
"""Batches that a process takes at a time."""
SHOWN = 10
"""Failures after which a campaign ends: more of them say no more."""
SIDES = {"server": servers.check, "client": clients.check}

Found = tuple[str, int, bytes, str]
"""Side, number, stream, and what is wrong."""


@dataclass
class Report:
    """What a campaign came to."""

    tried: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    failures: list[Found] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """For people."""
        total = sum(self.tried.values())
        shown = ", ".join(f"{count:,} {side}" for side, count in sorted(self.tried.items()))
        lines = [f"{total:,} inputs ({shown}) in {self.seconds:.0f}s, {len(self.failures)} disagreements that nothing explains"]
        lines += [f"  explained {count:>8,}  {name}" for name, count in self.explained.most_common()]
        for side, number, data, wrong in self.failures[:SHOWN]:
            lines += [
                f"FAILED {side} {number}: {wrong}",
                f"  shortest   {shortest(side, data)!r}",
                f"  again      {again(side, number)}",
            ]
        return lines


def again(side: str, number: int) -> str:
    """The command that tries one input again."""
    return f"python tests/fuzz/run.py {side} {number}"


def shortest(side: str, data: bytes) -> bytes:
    """The stream shortened as far as it still fails, where cutting it byte by byte is enough to fail."""
    check = servers.check_stream if side == "server" else clients.check_stream
    return shrink(data, lambda candidate: bool(check(candidate))) if check(data) else data


def run_part(side: str, first: int, count: int) -> tuple[str, int, dict[str, int], list[Found]]:
    """Try these numbers on one side, in this process."""
    explained: dict[str, int] = {}
    found: list[Found] = []
    for start in range(first, first + count, BATCH):
        numbers = range(start, min(start + BATCH, first + count))
        found += [(side, *item) for item in SIDES[side](numbers, explained)]
    return side, count, {f"{side}: {name}": count for name, count in explained.items()}, found


def run(inputs: int, *, first: int, seconds: float, processes: int, tell: Callable[[str], None]) -> Report:
    """Try so many inputs, two thirds on the server; ends early after ``seconds`` or with the first failures."""
    report = Report()
    began = time.monotonic()
    size = BATCH * TASK
    parts = [
        (side, first + start, min(size, total - start))
        for side, total in shares(inputs).items()
        for start in range(0, total, size)
    ]
    told = began
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way: set[Future[tuple[str, int, dict[str, int], list[Found]]]] = set()
        while (parts or under_way) and len(report.failures) < SHOWN:
            while parts and len(under_way) < 2 * processes and time.monotonic() - began < seconds:
                under_way.add(pool.submit(run_part, *parts.pop()))
            if not under_way:
                break
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                side, count, explained, found = future.result()
                report.tried[side] += count
                report.explained.update(explained)
                report.failures += found
            if time.monotonic() - told > 10:
                told = time.monotonic()
                tell(f"{sum(report.tried.values()):,} inputs in {told - began:.0f}s")
        for future in under_way:
            future.cancel()
    report.seconds = time.monotonic() - began
    return report


def shares(inputs: int) -> dict[str, int]:
    """How many of the inputs each side gets."""
    return {"client": inputs // 3, "server": inputs - inputs // 3}
