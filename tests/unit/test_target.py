"""Targets: a caller's values can never become another path."""

from enum import Enum
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.assembly.target import Target, encode_query


class Colour(Enum):
    RED = "red"


def test_fills_parameters_in_order() -> None:
    """Each parameter takes its place in the template."""
    assert Target("/a/{x}/b/{y}").fill({"y": 2, "x": "one"}) == "/a/one/b/2"


def test_template_without_parameters() -> None:
    """A template without parameters is its own path."""
    assert Target("/users").fill(None) == "/users"


@given(st.text(min_size=1).filter(lambda text: text not in (".", "..")).filter(lambda text: text.isprintable()))
def test_value_stays_one_segment(value: str) -> None:
    """Whatever text a parameter holds, it comes out as one segment that decodes to itself."""
    path = Target("/users/{id}/end").fill({"id": value})
    assert path.count("/") == 3
    assert unquote(path.split("/")[2]) == value


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_value_that_would_change_the_route_is_refused(value: str) -> None:
    """An empty or dotted segment would lead to another route, so it is refused."""
    with pytest.raises(ValueError, match="cannot be"):
        Target("/users/{id}").fill({"id": value})


@pytest.mark.parametrize("given_path", [None, {}, {"other": 1}, {"id": 1, "more": 2}])
def test_missing_and_unknown_parameters_are_named(given_path: dict[str, object] | None) -> None:
    """A parameter that is missing or unknown is an error that names those of the template."""
    with pytest.raises(ValueError, match=r"takes path parameters \['id'\]"):
        Target("/users/{id}").fill(given_path)


def test_template_is_checked() -> None:
    """A template starts with a slash and has no query."""
    for wrong in ("users", "/users?x=1", "/users#top"):
        with pytest.raises(ValueError, match="is not a path template"):
            Target(wrong)


def test_query_encodes_lists_none_and_types() -> None:
    """Lists repeat their name, None is left out, and values stand as a URL has them."""
    query = {"tag": ["a b", "c"], "none": None, "yes": True, "n": 3, "colour": Colour.RED, "id": UUID(int=1)}
    assert encode_query(query) == f"tag=a+b&tag=c&yes=true&n=3&colour=red&id={UUID(int=1)}"
    assert encode_query(None) == ""
