"""Limit: so many in flight, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.rules.limit import IN_FLIGHT, Limit


def test_it_lets_in_as_many_as_it_has_places() -> None:
    """The request after the last place is refused, and counted."""
    limit = Limit(2)
    assert [limit.enter(), limit.enter(), limit.enter()] == [True, True, False]
    assert limit.describe() == {"in_flight": 2, "maximum": 2, "refused": 1}


def test_a_place_given_back_is_free_again() -> None:
    """Whoever leaves makes room for the next."""
    limit = Limit(1)
    limit.enter()
    limit.leave()
    assert limit.enter()


def test_a_refusal_takes_no_place() -> None:
    """Refused requests leave the count as it is."""
    limit = Limit(1)
    limit.enter()
    for _ in range(5):
        limit.enter()
    assert limit.count == 1


def test_the_default_is_a_thousand() -> None:
    """Without a number, a thousand requests may be in flight."""
    assert Limit().maximum == IN_FLIGHT == 1000


@pytest.mark.parametrize("maximum", [0, -1])
def test_a_limit_that_refuses_everything_is_an_error(maximum: int) -> None:
    """A maximum below one is refused with the reason."""
    with pytest.raises(ValueError, match="must be at least 1"):
        Limit(maximum)


def test_its_repr_is_a_status_line() -> None:
    """The repr says how full it is."""
    limit = Limit(1)
    limit.enter()
    limit.enter()
    assert repr(limit) == "<Limit 1 of 1 in flight, 1 refused>"


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_the_count_is_what_was_let_in_and_has_not_left(maximum: int, steps: list[bool]) -> None:
    """Whatever comes and goes, the count is exact and never above the maximum."""
    limit, inside = Limit(maximum), 0
    for entering in steps:
        if entering:
            assert limit.enter() == (inside < maximum)
            inside = min(inside + 1, maximum)
        elif inside:
            limit.leave()
            inside -= 1
        assert limit.count == inside
