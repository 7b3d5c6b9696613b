"""Metrics: counters, gauges and histograms that cost little to update and are put together when somebody looks.

Updates belong to the event loop's thread; they take no lock. ``labels(...)`` is for the time when a route or client
is built: keep the child it returns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mizzen.words.lazy import pattern

from .names import Kind, Name

if TYPE_CHECKING:
    from .exposition import Sample

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds: what OpenTelemetry's semantic conventions advise for HTTP durations."""

_NAME = pattern(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = pattern(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

Values = Mapping[Any, float]
"""A value for each tuple of label values, in the order of the family's labels."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add ``amount``, which must not be negative (unchecked: this is on the path of every request)."""
        self.value += amount

    def __repr__(self) -> str:
        return f"<Counter {self.value:g}>"


class Gauge:
    """A number that goes up and down, or is asked for when somebody looks."""

    __slots__ = ("function", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.function: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    def dec(self, amount: float = 1.0) -> None:
        self.value -= amount

    def follow(self, function: Callable[[], float]) -> None:
        """Take the value from ``function`` whenever the metrics are looked at."""
        self.function = function

    def __repr__(self) -> str:
        return f"<Gauge {'of a function' if self.function else format(self.value, 'g')}>"


class Histogram:
    """How many observations fell under which bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} observations, sum {self.sum:g}>"


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """All metrics of one name; one child for each combination of label values."""

    def __init__(
        self, kind: Kind, name: str, help: str, labels: tuple[str, ...], make: Callable[[], Child], function: Any = None
    ) -> None:
        self.kind: Kind = kind
        self.name = name
        self.help = help
        self.label_names = labels
        self.function: Callable[[], float | Values] | None = function
        self._make: Callable[[], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: object) -> Child:
        """The child for these label values, in the order the labels were declared; keep it for the hot path."""
        key = tuple([str(value) for value in values])
        child = self._children.get(key)
        if child is None:
            if len(key) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}, got {len(key)} values")
            child = self._children.setdefault(key, self._make())
        return child

    def remove(self, *values: object) -> None:
        """Forget a child, as for a peer that is gone."""
        self._children.pop(tuple([str(value) for value in values]), None)

    def samples(self) -> Iterable[Sample]:
        """What the page shows of this family; a function stands for all children. What it raises passes through."""
        from .exposition import samples_of  # nobody looks while a service starts

        if self.function is None:
            return samples_of(self.label_names, list(self._children.items()))
        answer = self.function()
        return samples_of(self.label_names, list(answer.items()) if isinstance(answer, Mapping) else [((), answer)])

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "labels": self.label_names, "children": len(self._children)}

    def __repr__(self) -> str:
        return f"<{self.kind.capitalize()} {self.name}: {len(self._children)} children>"


class Metrics:
    """Every family of one process, and the page that shows them."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Any]] = {}

    def counter(
        self, name: str, help: str, labels: Iterable[str] = (), *, function: Callable[[], float | Values] | None = None
    ) -> Family[Counter]:
        """A family of counters; a ``function`` is asked for the values when somebody looks.

        The same declaration again gives the same family; ``ValueError`` for another one of that name.
        """
        return self._family("counter", name, help, labels, Counter, function)

    def gauge(
        self, name: str, help: str, labels: Iterable[str] = (), *, function: Callable[[], float | Values] | None = None
    ) -> Family[Gauge]:
        """A family of gauges; a ``function`` gives a number, or a mapping of label values to numbers."""
        return self._family("gauge", name, help, labels, Gauge, function)

    def histogram(
        self, name: str, help: str, labels: Iterable[str] = (), *, buckets: tuple[float, ...] = BUCKETS
    ) -> Family[Histogram]:
        """A family of histograms with ascending upper bounds."""
        if not buckets or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"{name}: buckets must be ascending bounds, got {buckets}")
        return self._family("histogram", name, help, labels, lambda: Histogram(buckets), None)

    def add(self, name: Name, *, function: Callable[[], float | Values] | None = None) -> Family[Any]:
        """The family of one of the names in ``names``."""
        if name.kind == "histogram":
            return self.histogram(name.name, name.help, name.labels)
        make = self.counter if name.kind == "counter" else self.gauge
        return make(name.name, name.help, name.labels, function=function)

    def render(self) -> bytes:
        """The page in Prometheus' text format 0.0.4, with what user code has put into ``prometheus_client``."""
        from .exposition import compose

        return compose(self._families.values())

    def families(self) -> Iterable[Family[Any]]:
        """Every family, as the page has them."""
        return list(self._families.values())

    def describe(self) -> list[dict[str, Any]]:
        """Every family, without its values."""
        return [family.describe() for family in self._families.values()]

    def __repr__(self) -> str:
        return f"<Metrics {len(self._families)} families>"

    def _family(
        self, kind: Kind, name: str, help: str, labels: Iterable[str], make: Callable[[], Child], function: Any
    ) -> Family[Child]:
        names = tuple(labels)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a metric name: letters, digits, _ and : only, no digit first")
        for label in names:
            if not _LABEL.fullmatch(label) or (label == "le" and kind == "histogram"):
                raise ValueError(f"{name}: {label!r} is not a label name: letters, digits and _ only, not le, no leading __")
        known = self._families.get(name)
        if known is None:
            known = self._families[name] = Family(kind, name, help, names, make, function)
            if not names:
                known.labels()  # a metric without labels is on the page from the start, as 0
        elif (known.kind, known.label_names) != (kind, names):
            raise ValueError(f"{name} is a {known.kind} with the labels {known.label_names} already")
        elif function is not None:
            known.function = function
        return known
