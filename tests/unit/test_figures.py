"""Figures: what a process has measured, in a form that another one can add up."""

from __future__ import annotations

import math

import msgspec
import prometheus_client
import pytest

from mizzen.edges.telemetry import Figures, Metrics, figures_of


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> prometheus_client.CollectorRegistry:
    """The user's registry, empty."""
    registry = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    return registry


def by_name(metrics: Metrics) -> dict[str, Figures]:
    return {each.name: each for each in figures_of(metrics.families())}


def test_every_kind_of_ours_is_there(registry: prometheus_client.CollectorRegistry) -> None:
    """Counters, gauges and histograms are taken with their labels as text."""
    metrics = Metrics()
    metrics.counter("taken_total", "Taken.", ["colour"]).labels('re"d').inc(3)
    metrics.gauge("open", "Open.", function=lambda: math.inf)
    metrics.histogram("took", "Took.", buckets=(1.0,)).labels().observe(0.5)
    found = by_name(metrics)
    assert [(each.kind, each.help) for each in found.values()] == [
        ("counter", "Taken."),
        ("gauge", "Open."),
        ("histogram", "Took."),
    ]
    assert [tuple(sample) for sample in found["taken_total"].samples] == [("", 'colour="re\\"d"', 3.0)]
    assert [tuple(sample) for sample in found["open"].samples] == [("", "", math.inf)]
    assert [tuple(sample) for sample in found["took"].samples] == [
        ("_bucket", 'le="1"', 1), ("_bucket", 'le="+Inf"', 1), ("_sum", "", 0.5), ("_count", "", 1),
    ]  # fmt: skip


def test_the_users_own_are_named_as_on_his_page(registry: prometheus_client.CollectorRegistry) -> None:
    """What is in `prometheus_client` comes with the names, kinds and labels of its own text format."""
    prometheus_client.Counter("jobs", "Jobs.", ["b", "a"], registry=registry).labels("2", "1").inc()
    prometheus_client.Info("build", "Build.", registry=registry).info({"by": "me"})
    prometheus_client.Enum("mode", "Mode.", states=["on", "off"], registry=registry).state("off")
    prometheus_client.Summary("size", "Size.", registry=registry).observe(4)
    lines = set()
    for family in by_name(Metrics()).values():
        lines.add(f"# TYPE {family.name} {family.kind}")
        lines |= {
            f"{family.name}{suffix}{{{labels}}}" if labels else f"{family.name}{suffix}" for suffix, labels, _ in family.samples
        }
    page = prometheus_client.generate_latest(registry).decode().splitlines()
    theirs = {line if line.startswith("#") else line.rpartition(" ")[0] for line in page if not line.startswith("# HELP")}
    assert lines == theirs


def test_a_name_of_ours_is_not_taken_twice(registry: prometheus_client.CollectorRegistry) -> None:
    """A family of the user's with a name of ours is left out, as on the page of one process."""
    metrics = Metrics()
    metrics.gauge("open", "Ours.").labels().set(1)
    prometheus_client.Gauge("open", "Theirs.", registry=registry).set(2)
    [family] = figures_of(metrics.families())
    assert family.help == "Ours."


def test_one_that_fails_is_left_out(registry: prometheus_client.CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """A function of somebody else's does not take the other families with it."""

    def fail() -> float:
        raise OSError("away")

    metrics = Metrics()
    metrics.gauge("broken", "Broken.", function=fail)
    metrics.gauge("open", "Open.")
    assert list(by_name(metrics)) == ["open"]
    assert "metric broken could not be read" in caplog.text


def test_they_travel_unchanged(registry: prometheus_client.CollectorRegistry) -> None:
    """Infinities and no-numbers arrive as what they are."""
    metrics = Metrics()
    values = {("inf",): math.inf, ("nan",): math.nan, ("big",): 2.0**70}
    metrics.gauge("odd", "Odd.", ["kind"], function=lambda: values)
    sent = figures_of(metrics.families())
    [arrived] = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=list[Figures])
    assert repr(arrived) == repr(sent[0])
