"""The sum of several workers' metrics: nothing that was shown ever goes down."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from mizzen.assembly.crew.sum import Sum
from mizzen.edges.telemetry import Figures, Sample, compose


def counter(name: str = "taken_total", **values: float) -> Figures:
    return Figures("counter", name, "Taken.", [Sample("", f'colour="{colour}"', value) for colour, value in values.items()])


def gauge(*values: tuple[str, float]) -> Figures:
    return Figures("gauge", "open", "Open.", [Sample("", labels, value) for labels, value in values])


def shown(sum: Sum) -> dict[str, float]:
    """Every sample of the page with its value."""
    lines = compose(sum.families(), join=False).decode().splitlines()
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    names = [name for name, _, _ in samples]
    assert len(names) == len(set(names)), "a series that stands twice makes the page invalid"
    return {name: float(value) for name, _, value in samples}


def test_counters_are_added_up() -> None:
    """A counter is the sum over every worker, label by label."""
    sum = Sum()
    sum.take(0, [counter(red=2, blue=1)])
    sum.take(1, [counter(red=5)])
    assert shown(sum) == {'taken_total{colour="red"}': 7, 'taken_total{colour="blue"}': 1}


def test_a_dead_workers_counters_stay() -> None:
    """What it sent last is in the sum for ever, and its successor of the same number begins from nothing."""
    sum = Sum()
    sum.take(0, [counter(red=2)])
    sum.end(0)
    assert shown(sum) == {'taken_total{colour="red"}': 2}
    sum.take(0, [counter(red=1)])
    assert shown(sum) == {'taken_total{colour="red"}': 3}
    sum.end(0)
    sum.end(0)
    assert shown(sum) == {'taken_total{colour="red"}': 3}


def test_a_gauge_is_each_workers_own() -> None:
    """It carries the number of its worker, and goes with it."""
    sum = Sum()
    sum.take(0, [gauge(("", 3.0))])
    sum.take(1, [gauge(('kind="x"', 4.0))])
    assert shown(sum) == {'open{worker="0"}': 3, 'open{worker="1",kind="x"}': 4}
    sum.end(0)
    assert shown(sum) == {'open{worker="1",kind="x"}': 4}


def test_a_label_of_the_users_is_renamed() -> None:
    """A gauge that has a label `worker` already keeps it under the name that Prometheus gives in such a case."""
    sum = Sum()
    sum.take(2, [gauge(('a="1",worker="bee"', 1.0)), counter(red=1)])
    sum.take(3, [gauge(('worker="ant,worker=\\"x"', 1.0))])
    assert set(shown(sum)) == {
        'open{worker="2",a="1",exported_worker="bee"}',
        'open{worker="3",exported_worker="ant,worker=\\"x"}',
        'taken_total{colour="red"}',
    }


def test_histograms_and_summaries_are_added_up() -> None:
    """Buckets, sums and counts are everybody's; a quantile is one process's own."""
    histogram = Figures(
        "histogram", "took", "", [Sample("_bucket", 'le="1"', 1), Sample("_sum", "", 0.5), Sample("_count", "", 1)]
    )
    summary = Figures("summary", "size", "", [Sample("", 'quantile="0.5"', 3), Sample("_sum", "", 6), Sample("_count", "", 2)])
    sum = Sum()
    sum.take(0, [histogram, summary])
    sum.take(1, [histogram, summary])
    assert shown(sum) == {
        'took_bucket{le="1"}': 2, "took_sum": 1, "took_count": 2,
        "size_sum": 12, "size_count": 4, 'size{worker="0",quantile="0.5"}': 3, 'size{worker="1",quantile="0.5"}': 3,
    }  # fmt: skip


def test_a_sum_of_negative_observations_may_fall() -> None:
    """Only a histogram's sum goes down, when what it observes is negative."""
    sum = Sum()
    for value in (4.0, 1.0):
        sum.take(0, [Figures("histogram", "change", "", [Sample("_sum", "", value)])])
    assert shown(sum) == {"change_sum": 1}


def test_a_name_of_two_kinds_stays_what_it_was() -> None:
    """The page has one type for a name: the first that was told."""
    sum = Sum()
    sum.take(0, [counter("odd", red=1)])
    sum.take(1, [Figures("gauge", "odd", "", [Sample("", "", 9)])])
    assert shown(sum) == {'odd{colour="red"}': 1}


numbers = st.dictionaries(st.sampled_from(["red", "blue"]), st.integers(0, 50))
steps = st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), numbers)), max_size=40)


@given(steps)
def test_no_counter_ever_goes_down(steps: list[tuple[int, Mapping[str, int] | None]]) -> None:
    """Whatever workers say in whatever order, whenever they die, and even if they take back what they said."""
    sum = Sum()
    before: dict[str, float] = {}
    for worker, values in steps:
        if values is None:
            sum.end(worker)
        else:
            sum.take(worker, [counter(**values)])
        now = shown(sum)
        assert all(now.get(series, -1.0) >= value for series, value in before.items())
        before = now


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans()), max_size=40))
def test_nothing_is_lost_or_counted_twice(steps: list[tuple[int, int, bool]]) -> None:
    """Of workers that count up, the sum is all that each life had sent, however often it sent it."""
    sum = Sum()
    lives: dict[int, int] = {}
    total = 0
    for worker, more, dies in steps:
        lives[worker] = lives.get(worker, 0) + more
        total += more
        for _ in range(2):
            sum.take(worker, [counter(red=lives[worker])])
        if dies:
            sum.end(worker)
            del lives[worker]
    assert shown(sum).get('taken_total{colour="red"}', 0) == total
