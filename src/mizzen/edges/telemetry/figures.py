"""Figures: what a process has measured, as plain records that can be sent to another process and added up there."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .exposition import Sample, Source, escape_label

log = logging.getLogger("mizzen.metrics")

_KINDS = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "untyped", "unknown": "untyped"}
"""What the text format calls the kinds of ``prometheus_client`` that it has not."""
_NAMED = {"counter": "_total", "info": "_info"}
"""What the text format has in the name of the family, and ``prometheus_client`` only in those of its samples."""
_OPENMETRICS = ("_created", "_gsum", "_gcount")
"""Samples that are gauges of their own in the text format."""


class Figures(msgspec.Struct, array_like=True, frozen=True):
    """One family at one moment."""

    kind: str
    name: str
    help: str
    samples: list[Sample]


def figures_of(families: Iterable[Source]) -> list[Figures]:
    """Our own families and, where user code has imported ``prometheus_client``, the user's.

    A family whose function fails is left out and logged, as on the page of a single process.
    """
    found: dict[str, Figures] = {}
    for family in families:
        try:
            found[family.name] = Figures(str(family.kind), family.name, family.help, list(family.samples()))
        except Exception:  # a function of somebody else's must not take the others with it
            log.warning("metric %s could not be read and is left out", family.name, exc_info=True)
    ours = set(found)
    for foreign in _foreign():
        if foreign.name not in ours:  # a name that stands twice makes the whole page invalid
            found.setdefault(foreign.name, foreign)
    return list(found.values())


def _foreign() -> Iterator[Figures]:
    # Looked up, not imported: whoever has no metrics there shall not pay for the import.
    registry = getattr(sys.modules.get("prometheus_client"), "REGISTRY", None)
    if registry is None:
        return
    try:
        for metric in registry.collect():
            yield from _translated(metric)
    except Exception:  # a collector of the user's failed
        log.warning("the metrics of prometheus_client could not be read and are left out", exc_info=True)


def _translated(metric: Any) -> Iterator[Figures]:
    """A family of ``prometheus_client`` as its own text format has it."""
    name = metric.name + _NAMED.get(metric.type, "")
    samples: list[Sample] = []
    apart: dict[str, list[Sample]] = {}
    for sample in metric.samples:
        labels = ",".join(f'{key}="{escape_label(value)}"' for key, value in sorted(sample.labels.items()))
        for suffix in _OPENMETRICS:
            if sample.name == metric.name + suffix:
                apart.setdefault(sample.name, []).append(Sample("", labels, float(sample.value)))
                break
        else:
            samples.append(Sample(sample.name.removeprefix(name), labels, float(sample.value)))
    yield Figures(_KINDS.get(metric.type, metric.type), name, metric.documentation, samples)
    for own, gauges in apart.items():
        yield Figures("gauge", own, metric.documentation, gauges)
