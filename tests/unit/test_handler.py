"""Stacks: layers in an order that is data, checked when they are put together."""

from __future__ import annotations

import asyncio

import pytest

from mizzen.words.handler import CLIENT_ORDER, SERVER_ORDER, Handler, Layer, Place, Stack
from mizzen.words.message import Request, Response

ORDER = (Place("outer", "first"), Place("middle", "second"), Place("inner", "third"))


def marking(name: str, seen: list[str]) -> Layer:
    """A layer that notes when it is passed."""

    def layer(following: Handler) -> Handler:
        async def send(request: Request) -> Response:
            seen.append(name)
            return await following(request)

        return send

    return layer


async def innermost(request: Request) -> Response:
    return Response(204)


def test_layers_are_passed_from_the_outside_in() -> None:
    """A request meets the layers in the order in which they are given."""
    seen: list[str] = []
    stack = Stack(ORDER, [(name, marking(name, seen)) for name in ("outer", "middle", "inner")], innermost)
    assert asyncio.run(stack.handler(Request("GET", "/"))).status == 204  # type: ignore[arg-type]
    assert seen == ["outer", "middle", "inner"]


def test_a_layer_that_is_off_costs_nothing() -> None:
    """None leaves the handler below as it is, and is not described."""
    stack = Stack(ORDER, [("outer", None), ("inner", None)], innermost)
    assert stack.handler is innermost
    assert stack.describe() == []


def test_a_stack_may_leave_places_empty() -> None:
    """Layers need not fill every place of the order."""
    stack = Stack(ORDER, [("inner", marking("inner", []))], innermost)
    assert stack.describe() == ["inner"]
    assert repr(stack) == "<Stack inner>"


@pytest.mark.parametrize("names", [["inner", "outer"], ["middle", "outer", "inner"], ["outer", "outer"]])
def test_layers_out_of_order_are_refused(names: list[str]) -> None:
    """The error shows the order given and the order that holds."""
    with pytest.raises(ValueError, match=f"layers stand as {' > '.join(names)}; the order is outer > middle > inner"):
        Stack(ORDER, [(name, marking(name, [])) for name in names], innermost)


def test_a_layer_without_a_place_is_refused() -> None:
    """An unknown name is an error that lists the places there are."""
    with pytest.raises(ValueError, match="no place in this stack for cache; it has outer, middle, inner"):
        Stack(ORDER, [("cache", marking("cache", []))], innermost)


def test_the_order_is_checked_even_for_layers_that_are_off() -> None:
    """Switching a layer on later cannot make a stack wrong."""
    with pytest.raises(ValueError, match="the order is"):
        Stack(ORDER, [("inner", None), ("outer", None)], innermost)


def test_the_client_breaks_above_retry_and_picks_below_it() -> None:
    """The client's order is the one that the design fixes."""
    assert [place.name for place in CLIENT_ORDER] == ["edge", "breaker", "retry", "hedge", "attempt"]


def test_the_server_sheds_before_it_works() -> None:
    """The server's order is the one that the design fixes."""
    assert [place.name for place in SERVER_ORDER] == ["edge", "shed", "deadline", "route", "layers"]


def test_every_place_says_why_it_stands_there() -> None:
    """No place in either order is without its reason."""
    assert all(place.why for place in (*CLIENT_ORDER, *SERVER_ORDER))
