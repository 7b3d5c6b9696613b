"""Metrics: what is counted and how the page shows it."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as ForeignCounter
from prometheus_client import Gauge as ForeignGauge
from prometheus_client.parser import text_string_to_metric_families

from mizzen.edges.telemetry import BUCKETS, Metrics, add_process_metrics, names


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default nobody has imported prometheus_client."""
    monkeypatch.delitem(sys.modules, "prometheus_client")


def page(metrics: Metrics) -> str:
    return metrics.render().decode()


def test_counter_on_the_page() -> None:
    """A counter shows its help, its type and one line per child."""
    metrics = Metrics()
    family = metrics.counter("shop_orders_total", "Orders taken.", ["kind"])
    family.labels("new").inc()
    family.labels("new").inc(2)
    family.labels("old").inc(0.5)
    assert page(metrics) == (
        "# HELP shop_orders_total Orders taken.\n"
        "# TYPE shop_orders_total counter\n"
        'shop_orders_total{kind="new"} 3\n'
        'shop_orders_total{kind="old"} 0.5\n'
    )


def test_child_is_the_same_each_time() -> None:
    """The same label values give the same child, whatever their types, so it can be kept."""
    family = Metrics().counter("a_total", "a", ["status"])
    assert family.labels(200) is family.labels("200")


def test_metric_without_labels_is_there_from_the_start() -> None:
    """A metric without labels shows 0 before anything is counted; one with labels and no children shows nothing."""
    metrics = Metrics()
    metrics.counter("a_total", "a")
    metrics.counter("b_total", "b", ["x"])
    assert page(metrics) == "# HELP a_total a\n# TYPE a_total counter\na_total 0\n"


def test_gauge_goes_both_ways() -> None:
    """A gauge is set, raised and lowered."""
    metrics = Metrics()
    gauge = metrics.gauge("a", "a").labels()
    gauge.set(5)
    gauge.inc()
    gauge.dec(2.5)
    assert "\na 3.5\n" in page(metrics)


def test_gauge_of_a_function_is_asked_when_rendered() -> None:
    """A function gives the number, or one number per combination of label values, at the time of the page."""
    metrics = Metrics()
    known = {("user", "ready"): 2}
    metrics.gauge("endpoints", "e", ["peer", "status"], function=lambda: known)
    metrics.gauge("active", "a", function=lambda: 7)
    metrics.gauge("age", "a", ["peer"]).labels("user").follow(lambda: 1.5)
    known["user", "ejected"] = 1
    shown = page(metrics)
    assert 'endpoints{peer="user",status="ready"} 2\nendpoints{peer="user",status="ejected"} 1\n' in shown
    assert "\nactive 7\n" in shown
    assert '\nage{peer="user"} 1.5\n' in shown


def test_failing_function_leaves_out_its_family_only(caplog: pytest.LogCaptureFixture) -> None:
    """A function that raises costs its own family, which is logged, and not the page."""
    metrics = Metrics()

    def broken() -> float:
        raise RuntimeError("gone")

    metrics.gauge("bad", "b", function=broken)
    metrics.gauge("good", "g").labels().set(1)
    with caplog.at_level(logging.WARNING):
        assert page(metrics) == "# HELP good g\n# TYPE good gauge\ngood 1\n"
    assert "metric bad could not be read" in caplog.text


def test_histogram_is_cumulative() -> None:
    """Each bucket holds what lies at or under its bound, the last one everything."""
    metrics = Metrics()
    child = metrics.histogram("h_seconds", "h", ["route"], buckets=(0.5, 1.0, 10.0)).labels("/")
    for value in (0.5, 0.7, 10.0, 11.0):
        child.observe(value)
    assert page(metrics).splitlines()[2:] == [
        'h_seconds_bucket{route="/",le="0.5"} 1',
        'h_seconds_bucket{route="/",le="1"} 2',
        'h_seconds_bucket{route="/",le="10"} 3',
        'h_seconds_bucket{route="/",le="+Inf"} 4',
        'h_seconds_sum{route="/"} 22.2',
        'h_seconds_count{route="/"} 4',
    ]


def test_default_buckets_are_the_conventions() -> None:
    """Durations fall into the buckets that OpenTelemetry advises for HTTP."""
    assert BUCKETS == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
    assert Metrics().histogram("h", "h").labels().bounds == BUCKETS


def test_label_values_are_escaped() -> None:
    """Quotes, backslashes, line breaks and lone surrogates in a label's value come out as the format wants them."""
    metrics = Metrics()
    odd = 'a"b\\c\nd é {x="y"} \ud800'
    metrics.gauge("g", "with \\ and\nbreak", ["x"]).labels(odd).set(1)
    [family] = text_string_to_metric_families(page(metrics))
    assert family.samples[0].labels == {"x": odd.replace("\ud800", "\\ud800")}
    assert family.documentation == "with \\ and\nbreak"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (3, "3"), (-2.0, "-2"), (0.1, "0.1"), (1e300, "1e+300"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"),
     (float("nan"), "NaN")],
)  # fmt: skip
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    """Whole numbers are short, and what is no number has the format's own spelling."""
    metrics = Metrics()
    metrics.gauge("g", "g").labels().set(value)
    assert page(metrics).splitlines()[-1] == f"g {text}"


def test_declaring_again_gives_the_same_family() -> None:
    """Two places may declare the same metric; two different ones cannot share a name."""
    metrics = Metrics()
    assert metrics.counter("a_total", "a", ["x"]) is metrics.counter("a_total", "a", ["x"])
    with pytest.raises(ValueError, match="a_total is a counter with the labels"):
        metrics.gauge("a_total", "a", ["x"])
    with pytest.raises(ValueError, match="a_total is a counter with the labels"):
        metrics.counter("a_total", "a", ["y"])


@pytest.mark.parametrize(("name", "labels"), [("1a", []), ("a-b", []), ("", []), ("a", ["b-c"]), ("a", ["__x"]), ("a", ["le"])])
def test_names_that_would_break_the_page_are_refused(name: str, labels: list[str]) -> None:
    """A name that Prometheus cannot read is refused when it is declared."""
    with pytest.raises(ValueError, match="is not a"):
        Metrics().histogram(name, "help", labels)


def test_wrong_declarations_and_uses_are_refused() -> None:
    """Buckets ascend, and a child has a value for each label."""
    metrics = Metrics()
    with pytest.raises(ValueError, match="ascending"):
        metrics.histogram("h", "h", buckets=(1.0, 0.5))
    with pytest.raises(ValueError, match="got 1 values"):
        metrics.counter("a_total", "a", ["x", "y"]).labels("1")


def test_removed_child_leaves_the_page() -> None:
    """A child that is removed is no longer shown."""
    metrics = Metrics()
    family = metrics.gauge("g", "g", ["peer"])
    family.labels("user").set(1)
    family.remove("user")
    assert page(metrics) == ""


def foreign(monkeypatch: pytest.MonkeyPatch, registry: Any) -> None:
    """Let it look as if user code had imported prometheus_client with that registry."""
    module = SimpleNamespace(REGISTRY=registry, generate_latest=generate_latest)
    monkeypatch.setitem(sys.modules, "prometheus_client", module)


def test_the_users_own_metrics_are_on_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in prometheus_client's registry follows ours, except for names that we have already."""
    registry = CollectorRegistry()
    ForeignCounter("shop_carts", "theirs", registry=registry).inc(4)
    ForeignGauge("http_server_active_requests", "theirs", registry=registry).set(-0.125)
    ForeignCounter("mizzen_retries", "theirs", registry=registry).inc(0.125)
    ForeignGauge("h_count", "theirs", registry=registry).set(-0.125)
    foreign(monkeypatch, registry)
    metrics = Metrics()
    metrics.add(names.SERVER_ACTIVE).labels().set(1)
    metrics.add(names.RETRIES).labels("user", "timeout").inc()
    metrics.histogram("h", "h")
    shown = page(metrics)
    assert "\nshop_carts_total 4.0\n" in shown
    assert "0.125" not in shown
    families = [line for line in shown.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


def test_a_failing_foreign_collector_costs_only_the_foreign_part(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A collector of the user's that raises is logged, and our own metrics stand."""

    class Broken:
        def collect(self) -> Any:
            raise RuntimeError("gone")

    registry = CollectorRegistry(auto_describe=False)
    monkeypatch.setattr(registry, "collect", Broken().collect)
    foreign(monkeypatch, registry)
    metrics = Metrics()
    metrics.gauge("good", "g").labels().set(1)
    with caplog.at_level(logging.WARNING):
        assert page(metrics).endswith("good 1\n")
    assert "prometheus_client could not be read" in caplog.text


def test_rendering_does_not_import_prometheus_client() -> None:
    """Whoever has no metrics there does not pay for the import."""
    page(Metrics())
    assert "prometheus_client" not in sys.modules


def test_every_name_is_listed_once() -> None:
    """The list of names is complete and without doubles: it is what dashboards and alerts rest on."""
    listed = [name for name in vars(names).values() if isinstance(name, names.Name)]
    assert sorted(listed, key=repr) == sorted(names.ALL, key=repr)
    assert len({name.name for name in names.ALL}) == len(names.ALL)


def test_process_metrics_from_proc(tmp_path: Path) -> None:
    """Memory, descriptors and start time come from ``/proc``, even where the program has an odd name."""
    folder = tmp_path / "self"
    (folder / "fd").mkdir(parents=True)
    fields = ["0"] * 49
    fields[18], fields[19], fields[20], fields[21] = "1", "0", "4096000", "10"
    (folder / "stat").write_text(f"7 (a) b) S {' '.join(fields[1:])}\n")
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1700000000\n")
    metrics = Metrics()
    add_process_metrics(metrics, proc=str(tmp_path), linux=True)
    shown = page(metrics)
    assert "\nprocess_virtual_memory_bytes 4096000\n" in shown
    assert "\nprocess_start_time_seconds 1700000000\n" in shown
    assert "process_resident_memory_bytes" in shown
    assert "process_open_fds" in shown


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the real /proc, which Linux alone has")
def test_process_metrics_are_plausible() -> None:
    """On Linux the numbers of this very process make sense."""
    metrics = Metrics()
    add_process_metrics(metrics)
    values = {family.name: family.samples[0].value for family in text_string_to_metric_families(page(metrics))}
    assert 1e6 < values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
    assert 3 <= values["process_open_fds"] <= values["process_max_fds"]
    assert values["process_start_time_seconds"] > 1.6e9


def test_process_metrics_away_from_linux() -> None:
    """Without ``/proc`` only CPU time and the descriptor limit are shown, and nothing fails."""
    metrics = Metrics()
    add_process_metrics(metrics, proc="/nowhere", linux=False)
    shown = [line.split()[2] for line in page(metrics).splitlines() if line.startswith("# TYPE")]
    assert shown == ["process_cpu_seconds_total", "process_max_fds"]


def test_promtool_accepts_the_page() -> None:
    """Prometheus' own checker finds nothing to say against a page with every metric on it."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus, or brew install prometheus")
    metrics = Metrics()
    for name in names.ALL:
        family = metrics.add(name)
        child = family.labels(*('odd "value"\\\n' for _ in name.labels))
        if name.kind == "histogram":
            child.observe(0.3)
        else:
            child.inc()
    command = [promtool, "check", "metrics"]
    checked = subprocess.run(command, input=metrics.render(), capture_output=True, check=False, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_repr_reads_like_a_status_line() -> None:
    """Families and children say what they are."""
    metrics = Metrics()
    family = metrics.histogram("h", "h", ["route"])
    family.labels("/").observe(2.0)
    assert repr(family) == "<Histogram h: 1 children>"
    assert repr(family.labels("/")) == "<Histogram 1 observations, sum 2>"
    assert repr(metrics) == "<Metrics 1 families>"
    assert metrics.describe() == [{"name": "h", "kind": "histogram", "labels": ("route",), "children": 1}]
