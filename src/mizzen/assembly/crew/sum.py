"""Sum: what several workers have measured, as one page on which no counter ever goes down.

Counters, histograms and summaries are added up over every worker that lives or ever lived; a gauge is each worker's own
and carries its number as the label ``worker``.

Only what a worker has sent is ever shown, and what it sent last stays in the sum when it dies. What it counted between
its last message and a SIGKILL is lost, but as nobody has seen it, nothing on the page goes down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mizzen.edges.telemetry import Figures, Sample

LABEL = "worker"

Series = tuple[str, str, str]
"""Family, suffix and labels: what a sample is a value of."""


class _Family(NamedTuple):
    kind: str
    help: str


class Sum:
    """What every worker of a crew has measured since it began."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._past: dict[Series, float] = {}  # of the lives that are over
        self._counted: dict[int, dict[Series, float]] = {}
        self._gauges: dict[int, dict[Series, float]] = {}

    def take(self, worker: int, figures: Iterable[Figures]) -> None:
        """Take what a worker has measured so far in its present life.

        A counter of it that is smaller than before, or gone, stands as it was: whoever forgets has still counted.
        """
        counted = self._counted.setdefault(worker, {})
        gauges: dict[Series, float] = {}
        for family in figures:
            kind = self._families.setdefault(family.name, _Family(family.kind, family.help)).kind
            if kind != family.kind:  # one name, two kinds: the page could not say what it is
                continue
            for suffix, labels, value in family.samples:
                series = (family.name, suffix, labels)
                if not _adds_up(kind, suffix):
                    gauges[family.name, suffix, _labelled(labels, worker)] = value
                elif suffix == "_sum" or not value <= counted.get(series, float("-inf")):  # of what is negative, it may fall
                    counted[series] = value
        self._gauges[worker] = gauges

    def end(self, worker: int) -> None:
        """A worker's life is over: what it counted stays, its gauges go."""
        self._gauges.pop(worker, None)
        for series, value in self._counted.pop(worker, {}).items():
            self._past[series] = self._past.get(series, 0.0) + value

    def families(self) -> Iterator[Summed]:
        """Every family, in the order in which they became known."""
        total = dict(self._past)
        for counted in self._counted.values():
            for series, value in counted.items():
                total[series] = total.get(series, 0.0) + value
        samples: dict[str, list[Sample]] = {name: [] for name in self._families}
        for (name, suffix, labels), value in total.items():
            samples[name].append(Sample(suffix, labels, value))
        for number in sorted(self._gauges):
            for (name, suffix, labels), value in self._gauges[number].items():
                samples[name].append(Sample(suffix, labels, value))
        for name, family in self._families.items():
            yield Summed(name, family.help, family.kind, samples[name])

    def __repr__(self) -> str:
        return f"<Sum of {len(self._counted)} workers: {len(self._families)} families>"


class Summed:
    """One family of the sum, as the page needs it."""

    def __init__(self, name: str, help: str, kind: str, samples: list[Sample]) -> None:
        self.name = name
        self.help = help
        self.kind = kind
        self._samples = samples

    def samples(self) -> Iterable[Sample]:
        return self._samples


def _adds_up(kind: str, suffix: str) -> bool:
    # A summary's quantiles are those of one process; its sum and count are everybody's.
    return kind in ("counter", "histogram") or (kind == "summary" and suffix in ("_sum", "_count"))


def _labelled(labels: str, worker: int) -> str:
    """The labels with the worker's number; a label of the user's of that name is renamed as Prometheus does it."""
    own = f",{labels}".replace(f',{LABEL}="', f',exported_{LABEL}="') if labels else ""
    return f'{LABEL}="{worker}"{own}'
