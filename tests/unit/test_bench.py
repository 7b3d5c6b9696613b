"""The arithmetic of the bench: ratios inside rounds, medians, budgets, and the one table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from figures import Budget, Ratio, ratio_table, ratios, share, spread, table
from rounds import Sample
from saturation import Load, parse_wrk

BENCH = Path(__file__).parents[2] / "bench"


def test_ratios_are_taken_inside_a_round() -> None:
    """A machine that is half as fast in one round changes no ratio."""
    assert ratios([10.0, 20.0], [20.0, 40.0]) == (0.5, 0.5)


def test_a_round_that_lacks_a_number_gives_no_ratio() -> None:
    """Failed and unmeasured samples are left out, and nothing is divided by zero."""
    assert ratios([10.0, None, 3.0, 4.0], [20.0, 5.0, None, 0.0]) == (0.5,)


def test_a_spread_has_the_median_and_both_ends() -> None:
    """One bad round moves an end, not the median."""
    assert spread([1.0, 9.0, 1.2, 1.1, 0.9]) == (1.1, 0.9, 9.0)
    assert spread([1.0, 2.0]).text(1) == "1.5 (1.0–2.0)"


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.79, "at most 1: kept"),
        (0.8, "at most 1: kept"),
        (0.81, "at most 1: kept, aim 0.8 not yet"),
        (1.004, "at most 1: kept, aim 0.8 not yet"),
        (1.006, "at most 1: MISSED"),
    ],
)
def test_a_budget_says_what_became_of_it(value: float, verdict: str) -> None:
    """It judges the number that is printed."""
    assert Budget(1.0, aim=0.8).verdict(value) == verdict


def test_a_budget_that_was_not_measured_was_not_kept() -> None:
    """Without Go on the machine the table says so where the ratio would be."""
    row = Ratio("CPU: served", "go", (), Budget(1.0))
    assert row.verdict == "at most 1: NOT MEASURED"
    assert ratio_table([row]).splitlines()[1].split() == ["CPU:", "served", "go", "–", "at", "most", "1:", "NOT", "MEASURED"]


def test_the_table_has_a_row_for_each_ratio() -> None:
    """What was measured is said once, each reference has its median, its rounds and its budget."""
    rows = [
        Ratio("CPU: served", "go", (0.9, 0.8, 1.0), Budget(1.0)),
        Ratio("CPU: served", "fastapi", (0.2,), Budget(0.15)),
        Ratio("memory", "MB", (31.25,), Budget(35.0), " MB"),
    ]
    assert ratio_table(rows).splitlines() == [
        "  Mizzen as a multiple of             median     rounds  budget",
        "  CPU: served              go           0.90  0.80–1.00  at most 1: kept",
        "                           fastapi      0.20             at most 0.15: MISSED",
        "  memory                   MB       31.25 MB             at most 35: kept",
    ]


def test_columns_are_as_wide_as_they_must_be() -> None:
    """Names begin at the left, numbers end at the right."""
    assert table(("", "us"), [("mizzen", "1.0"), ("go", "10.0")]).splitlines() == [
        "            us",
        "  mizzen   1.0",
        "  go      10.0",
    ]


def test_a_share_is_the_value_that_so_many_are_at_most() -> None:
    """Percentiles are values that were seen, never ones in between."""
    taken = [float(number) for number in range(1000, 0, -1)]
    assert [share(taken, part) for part in (0.5, 0.99, 0.999, 1.0)] == [500.0, 990.0, 999.0, 1000.0]
    assert share([7.0], 0.5) == 7.0
    assert share([], 0.99) == 0.0


def test_what_wrk_saw_is_found_among_its_own_words() -> None:
    """The line that generator/report.lua writes is what counts."""
    output = 'Running 1s test\n  32 threads\nRequests/sec:  9.9\nsaw {"requests": 1200, "seconds": 1.5, "failed": 3}\n'
    assert parse_wrk(output) == Load(1200, 1.5, 3)


def test_wrk_without_that_line_is_an_error_with_its_words() -> None:
    """A wrk that could not connect is not a server that answers nothing."""
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_sample_that_failed_has_no_cost() -> None:
    """A server that refuses quickly looks fast."""
    assert Sample(1000.0, 20.0, 30.0, failed=1).cost is None
    assert Sample(1000.0, 20.0, 30.0, failed=0).cost == 20.0
    assert Sample(1000.0, None, 30.0, failed=0).cost == 1000.0


def test_modules_of_the_bench_are_short() -> None:
    """The rule of the package holds for what measures it."""
    long = {path.name: lines for path in BENCH.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 400}
    assert not long
    for path in BENCH.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} does not say what it is for"
