"""What a function is given from path, query and headers, and what a caller is told who sends something else."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote_plus

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.rules.binding import REQUIRED, Header, plan
from mizzen.rules.router import Route
from mizzen.words.context import Context, enter
from mizzen.words.errors import BadRequest, Fault, Invalid
from mizzen.words.message import Headers, Request, Response


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Draft(msgspec.Struct):
    name: str


async def never(function: Callable[[], Any]) -> Any:
    """The thread pool of functions that are async."""
    raise AssertionError("an async function ran in a thread")


def ask(function: Callable[..., Any], path: str = "/x", params: tuple[str, ...] = (), **request: Any) -> Response:
    """Call a bound function with a request to a template such as ``/users/{id}``, which carries ``params``."""
    message = Request(request.pop("method", "GET"), "/x", **request)
    message.params = params

    async def go() -> Response:
        return await plan(Route(message.method, path, function), ()).compile({}, in_thread=never)(message)

    return asyncio.run(go())


def take(annotation: Any, path: str = "/x", *params: str, default: Any = REQUIRED, **request: Any) -> Any:
    """What a function gets for its one parameter ``value``."""
    taken: list[Any] = []

    async def handle(value: Any) -> None:
        taken.append(value)

    handle.__annotations__["value"] = annotation
    if default is not REQUIRED:
        handle.__defaults__ = (default,)
    ask(handle, path, params, **request)
    (value,) = taken
    return value


def faults(function: Callable[[], Any]) -> dict[str, str]:
    """The reasons of the faults that a call comes to, by path."""
    with pytest.raises(Invalid) as caught:
        function()
    return {fault.path: fault.reason for fault in caught.value.errors}


ID = uuid.UUID("6f3c0e6e-6d86-4b8f-9d53-0b9a7c7d7c11")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "a b", "a b"),
        (int, "42", 42),
        (int, "-1", -1),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (bool, "0", False),
        (uuid.UUID, str(ID), ID),
        (dt.date, "2026-11-23", dt.date(2026, 11, 23)),
        (Colour, "red", Colour.RED),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (int | None, "7", 7),
        (Annotated[int, msgspec.Meta(ge=1)], "7", 7),
        (Annotated[str, msgspec.Meta(min_length=1)], "x", "x"),
    ],
)
def test_text_becomes_what_the_annotation_says(annotation: Any, text: str, value: Any) -> None:
    """Text from path, query or header becomes what the annotation says."""
    assert take(annotation, "/{value}", text) == value
    assert take(annotation, query=f"value={quote_plus(text)}") == value
    assert take(Annotated[annotation, Header()], headers=Headers({"value": text})) == value


@pytest.mark.parametrize(
    ("annotation", "text", "reason"),
    [
        (int, "x", "expected int"),
        (int, "1_0", "expected int"),
        (int, " 1", "expected int"),
        (int, "", "expected int"),
        (bool, "maybe", "expected bool"),
        (uuid.UUID, "x", "expected a UUID"),
        (Colour, "green", "expected one of 'red', 'blue'"),
        (Annotated[int, msgspec.Meta(ge=1)], "0", "expected int >= 1"),
        (int, "9" * 5000, "number out of range"),
        (float, "1e999", "number out of range"),
        (float, "nan", "expected a finite number"),
        (float | None, "-Infinity", "expected a finite number"),
        (Annotated[float, msgspec.Meta(ge=0)], "inf", "expected a finite number"),
        (decimal.Decimal, "NaN", "expected a finite number"),
    ],
)
def test_text_that_is_something_else_is_named_with_its_place(annotation: Any, text: str, reason: str) -> None:
    """Text that is not what the annotation says is a fault of its parameter."""
    assert faults(lambda: take(annotation, "/{value}", text or "x y")) == {"path.value": reason}
    assert faults(lambda: take(annotation, query=f"value={quote_plus(text)}")) == {"query.value": reason}
    marked = Annotated[annotation, Header("x-value")]
    assert faults(lambda: take(marked, headers=Headers({"x-value": text}))) == {"header.x-value": reason}


def test_numbers_without_end() -> None:
    """Among several values the one without end is found; a default may be without end, since no caller said it."""
    assert faults(lambda: take(list[float], query="value=1&value=inf")) == {"query.value": "expected a finite number"}
    assert take(float, default=float("inf")) == float("inf")


def test_several_path_parameters_reach_the_function_by_name() -> None:
    """Path parameters reach the function by their names, in whatever order it takes them."""
    taken: list[Any] = []

    async def swapped(b: str, a: str) -> None:
        taken.append((a, b))

    async def typed(b: int, a: str) -> None:
        taken.append((a, b))

    async def by_name(*, b: str, a: str) -> None:
        taken.append((a, b))

    async def by_place(b: int, a: str, /) -> None:
        taken.append((a, b))

    for function in (swapped, typed, by_name, by_place):
        ask(function, "/{a}/{b}", ("1", "2"))
    assert taken == [("1", "2"), ("1", 2), ("1", "2"), ("1", 2)]


def test_what_is_absent_is_left_to_its_default() -> None:
    """What a request does not carry is what the function's default is, the very object."""
    default = [1]
    assert take(list[int], default=default) is default
    assert take(int, default=20, query="other=1") == 20
    assert take(int | None, default=None) is None
    assert take(Colour, default=Colour.BLUE) is Colour.BLUE
    assert take(Annotated[str, Header()], default="x") == "x"


def test_what_is_absent_and_has_no_default_is_missing() -> None:
    """What a request does not carry is missing unless the function has a default."""
    assert faults(lambda: take(int | None)) == {"query.value": "missing"}
    assert faults(lambda: take(list[str])) == {"query.value": "missing"}
    assert faults(lambda: take(Annotated[str, Header()])) == {"header.value": "missing"}


def test_a_list_takes_every_value_of_its_name() -> None:
    """A list takes every value of its name in order; other collections do likewise; joined header fields are parted."""
    assert take(list[int], query="value=2&x=9&value=1") == [2, 1]
    assert take(set[str], query="value=a&value=a") == {"a"}
    assert take(tuple[str, ...], query="value=a") == ("a",)
    assert take(list[int] | None, query="value=1", default=None) == [1]
    assert faults(lambda: take(list[int], query="value=1&value=x")) == {"query.value[1]": "expected int"}
    headers = Headers([("x-value", "a"), ("x-value", "b")])
    assert take(Annotated[list[str], Header("X-Value")], headers=headers) == ["a", "b"]
    joined = Headers([("x-value", "1,2"), ("x-value", " 3 , ")])
    assert take(Annotated[list[int], Header("X-Value")], headers=joined) == [1, 2, 3]


def test_one_value_given_twice_is_refused() -> None:
    """Where one value is wanted two are refused: frameworks differ in which one they believe."""
    assert faults(lambda: take(str, query="value=a&value=b&value=c")) == {"query.value": "given 3 times, expected once"}


def test_header_fields_of_one_name_are_one_value() -> None:
    """Header fields of one name are one value, joined by commas as the standard has it."""
    headers = Headers([("accept", "a"), ("host", "h"), ("Accept", "b")])
    assert take(Annotated[str, Header("accept")], headers=headers) == "a, b"


def test_a_query_is_decoded_like_a_form() -> None:
    """Percent-encoding and plus signs are undone in names and values; a name alone has an empty value."""
    assert take(str, query="value=a+b%2Bc%26d%3De") == "a b+c&d=e"
    assert take(str, query="v%61lue=1") == "1"
    assert take(str, query="&&value&") == ""
    assert take(str, query="value=a=b") == "a=b"


def test_a_query_that_is_no_text_is_a_bad_request() -> None:
    """Percent-encoding that is not UTF-8 is a bad request."""
    with pytest.raises(BadRequest, match="query is not UTF-8"):
        take(str, query="value=%FF")


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.text(), min_size=1))
def test_any_text_survives_a_query(texts: list[str]) -> None:
    """Whatever text a client encodes into a query arrives unchanged."""
    query = "&".join(f"value={quote_plus(text)}" for text in texts)
    assert take(list[str], query=query) == texts


def test_every_fault_of_a_request_is_named_at_once() -> None:
    """Faults of path, query, header and body are all named in one answer."""

    async def handle(id: int, limit: int, tag: Colour, x_tenant: Annotated[str, Header()], draft: Draft) -> None: ...

    def send() -> None:
        ask(handle, "/users/{id}", ("a",), method="POST", query="limit=b&limit=c&tag=d", body=b'{"name": 5}')

    assert faults(send) == {
        "path.id": "expected int",
        "query.limit": "given 2 times, expected once",
        "query.tag": "expected one of 'red', 'blue'",
        "header.x-tenant": "missing",
        "body.name": "expected str, got int",
    }
    with pytest.raises(Invalid, match="5 fields are at fault"):
        send()


def test_every_fault_of_a_path_is_named_at_once() -> None:
    """Faults of several path parameters are all named in one answer."""

    async def handle(a: int, b: str, c: int) -> None: ...

    assert faults(lambda: ask(handle, "/{a}/{b}/{c}", ("x", "y", "z"))) == {"path.a": "expected int", "path.c": "expected int"}


def test_a_single_fault_is_the_detail() -> None:
    """A single fault is told in the answer's detail as well."""
    with pytest.raises(Invalid) as caught:
        take(int, query="value=x")
    assert caught.value.detail == "query.value: expected int"
    assert caught.value.errors == [Fault("query.value", "expected int")]


def test_request_and_context_are_those_of_the_call() -> None:
    """A function that takes the request or its context gets the ones of its call."""
    taken: list[Any] = []

    async def handle(id: str, request: Request, context: Context) -> None:
        taken.append((id, request.query, context))

    context = Context("1" * 32)
    ask(handle, "/{id}", ("a",), query="q=1", context=context)
    assert taken == [("a", "q=1", context)]


def test_a_request_without_a_context_has_the_current_one_or_a_new_one() -> None:
    """A request that carries no context is worked on in the current one, or in a new one."""
    assert take(Context).deadline is None

    async def inside() -> None:
        enter(current := Context())
        taken: list[Context] = []

        async def handle(context: Context) -> None:
            taken.append(context)

        await plan(Route("GET", "/", handle), ()).compile({}, in_thread=never)(Request("GET", "/"))
        assert taken == [current]

    asyncio.run(inside())
