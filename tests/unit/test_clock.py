"""Durations and times: what is written in text and what is meant in seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.words.clock import format_duration, format_time, monotonic, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1h2m3s4ms", 3723.004),
        ("0s", 0.0),
        (2, 2.0),
        (0.8, 0.8),
        (0, 0.0),
    ],
)
def test_a_duration_is_text_with_units_or_seconds(text: str | float, seconds: float) -> None:
    """Units are ms, s, m and h, and may be put together; a bare number is seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "2", "2 s", "s", "-1s", "1d", "1.s", "2S", "1s!", True, None, [2]])
def test_anything_else_is_refused_with_what_is_allowed(text: object) -> None:
    """The error shows the value and an example of each form."""
    with pytest.raises(ValueError, match=r"expected a duration such as \"250ms\", \"2s\" or \"1m30s\", got") as caught:
        parse_duration(text)  # type: ignore[arg-type]
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("number", [-0.1, float("inf"), float("nan"), -5])
def test_a_duration_is_not_negative_and_ends(number: float) -> None:
    """A number that no clock can wait for is refused."""
    with pytest.raises(ValueError, match="not negative and ends"):
        parse_duration(number)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.8, "800ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (30, "30s"),
        (59.94, "59.9s"),
        (59.96, "1m"),
        (60, "1m"),
        (302, "5m02s"),
        (3599.7, "1h"),
        (3600, "1h"),
        (7500, "2h05m"),
    ],
)
def test_a_duration_is_told_in_the_shortest_honest_text(seconds: float, text: str) -> None:
    """The text keeps what a reader cares about, and no unit counts up to the next."""
    assert format_duration(seconds) == text


@given(st.floats(0.001, 86_400))
def test_what_is_told_can_be_read_again(seconds: float) -> None:
    """The text of a duration means the same again, to within its rounding."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.06, abs=0.0006)


def test_a_time_is_rfc_3339_in_utc() -> None:
    """Wall-clock times have microseconds and a Z."""
    assert format_time(0.25) == "1970-01-01T00:00:00.250000Z"


def test_the_clock_never_goes_back() -> None:
    """The default clock is monotonic."""
    first = monotonic()
    assert monotonic() >= first
