"""Exposition: metrics as the text that Prometheus scrapes, joined with the user's own from ``prometheus_client``."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from .metrics import Counter, Gauge, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

log = logging.getLogger("mizzen.metrics")

_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Sample(NamedTuple):
    """One line of the page: what is added to the family's name, the labels as text, the value."""

    suffix: str
    labels: str
    value: float


class Source(Protocol):
    """A family as the page needs it."""

    name: str
    help: str
    kind: Any

    def samples(self) -> Iterable[Sample]: ...


def samples_of(labels: Sequence[str], children: Iterable[tuple[Sequence[Any], Any]]) -> Iterator[Sample]:
    """The lines of a family's children or plain numbers, each with its label values. What a function raises passes through."""
    for values, child in children:
        text = ",".join(f'{name}="{escape_label(value)}"' for name, value in zip(labels, values, strict=True))
        if isinstance(child, Histogram):
            yield from _histogram(child, text)
        elif isinstance(child, Gauge) and child.function is not None:
            yield Sample("", text, float(child.function()))
        else:
            yield Sample("", text, child.value if isinstance(child, Counter | Gauge) else float(child))


def _histogram(child: Histogram, text: str) -> Iterator[Sample]:
    joint = f"{text}," if text else ""
    total = 0
    for bound, count in zip((*child.bounds, math.inf), child.counts.copy(), strict=True):
        total += count
        yield Sample("_bucket", f'{joint}le="{"+Inf" if bound == math.inf else format(bound, "g")}"', total)
    yield Sample("_sum", text, child.sum)
    yield Sample("_count", text, total)


def escape_label(value: str) -> str:
    """A label's value as it stands between quotes; what UTF-8 cannot hold is shown by its number."""
    return value.translate(_LABEL_ESCAPES).encode("utf-8", "backslashreplace").decode()


def number(value: float) -> str:
    """A value in the way Prometheus reads it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def compose(families: Iterable[Source], *, join: bool = True) -> bytes:
    """The whole page; a family whose function fails is left out and logged, the others stand.

    It is joined with what user code of this process has put into ``prometheus_client``, unless ``join`` is False.
    """
    lines: list[str] = []
    taken: set[str] = set()
    for family in families:
        taken.update(_names(family))
        try:
            samples = [f"{family.name}{suffix}{{{labels}}} {number(value)}" if labels else
                       f"{family.name}{suffix} {number(value)}" for suffix, labels, value in family.samples()]  # fmt: skip
        except Exception:  # a function of somebody else's must not take the page down with it
            log.warning("metric %s could not be read and is left out", family.name, exc_info=True)
            continue
        if samples:
            lines += [f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}", f"# TYPE {family.name} {family.kind}"]
            lines += samples
    page = "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
    return page + _foreign(taken) if join else page


def _names(family: Source) -> Iterator[str]:
    yield family.name
    if family.kind == "histogram":
        yield from (f"{family.name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))


class _Rest:
    """What the user's registry has beyond our own names: a name that stands twice makes the whole page invalid."""

    def __init__(self, registry: Any, taken: set[str]) -> None:
        self._registry = registry
        self._taken = taken

    def collect(self) -> Iterator[Any]:
        for metric in self._registry.collect():
            names = {metric.name, *(sample.name for sample in metric.samples)}
            if metric.type == "counter":
                names.add(f"{metric.name}_total")
            if not names & self._taken:
                yield metric


def _foreign(taken: set[str]) -> bytes:
    # Looked up, not imported: whoever has no metrics there shall not pay for the import.
    client = sys.modules.get("prometheus_client")
    registry = getattr(client, "REGISTRY", None)
    generate = getattr(client, "generate_latest", None)
    if registry is None or generate is None:
        return b""
    try:
        page: bytes = generate(_Rest(registry, taken))
    except Exception:  # a collector of the user's failed: our own metrics still stand
        log.warning("the metrics of prometheus_client could not be read and are left out", exc_info=True)
        return b""
    return page
