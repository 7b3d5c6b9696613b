"""What a function is given from a body, and what a caller is told whose body is something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mizzen.rules.binding import REQUIRED, plan
from mizzen.rules.router import Route
from mizzen.words.errors import BadRequest, Invalid, UnsupportedMedia
from mizzen.words.message import Body, Headers, Request


class Item(msgspec.Struct):
    name: str
    price: int


class Draft(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    items: list[Item] = []


@dataclass
class Span:
    start: int
    end: int = 9


class Options(TypedDict):
    size: int


class Address(pydantic.BaseModel):
    street: str
    number: int = pydantic.Field(alias="no")


@pydantic_dataclass
class Checked:
    size: pydantic.PositiveInt


async def never(function: Callable[[], Any]) -> Any:
    """The thread pool of functions that are async."""
    raise AssertionError("an async function ran in a thread")


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A body as it arrives."""
    for part in parts:
        yield part


def take(
    annotation: Any, body: Body, *, default: Any = REQUIRED, content_type: str | None = "application/json", method: str = "POST"
) -> Any:
    """What a function gets for its one parameter, which comes from the body."""
    taken: list[Any] = []

    async def handle(value: Any) -> None:
        taken.append(b"".join([part async for part in value]) if hasattr(value, "__aiter__") else value)

    handle.__annotations__["value"] = annotation
    if default is not REQUIRED:
        handle.__defaults__ = (default,)
    headers = Headers([("host", "h"), *([("content-type", content_type)] if content_type is not None else [])])

    async def go() -> None:
        handler = plan(Route(method, "/x", handle), ()).compile({}, in_thread=never)
        await handler(Request(method, "/x", body=body, headers=headers))

    asyncio.run(go())
    (value,) = taken
    return value


def reasons(annotation: Any, body: bytes, **options: Any) -> dict[str, str]:
    """The reasons of the faults of a body, by path."""
    with pytest.raises(Invalid) as caught:
        take(annotation, body, **options)
    return {fault.path: fault.reason for fault in caught.value.errors}


@pytest.mark.parametrize(
    ("annotation", "body", "value"),
    [
        (Draft, b'{"title": "t", "items": [{"name": "n", "price": 1}]}', Draft("t", [Item("n", 1)])),
        (Span, b'{"start": 1}', Span(1)),
        (Options, b'{"size": 1}', {"size": 1}),
        (Address, b'{"street": "s", "no": 1}', Address(street="s", no=1)),
        (Checked, b'{"size": 1}', Checked(1)),
        (list[Item], b'[{"name": "n", "price": 1}]', [Item("n", 1)]),
        (dict[str, Span], b'{"a": {"start": 1}}', {"a": Span(1)}),
        (list[Address], b'[{"street": "s", "no": 1}]', [Address(street="s", no=1)]),
        (Draft | None, b"null", None),
        (Any, b'[1, {"a": null}]', [1, {"a": None}]),
    ],
)
def test_json_becomes_what_the_annotation_says(annotation: Any, body: bytes, value: Any) -> None:
    """A JSON body becomes what the annotation says, whole or in pieces."""
    assert take(annotation, body) == value
    assert take(annotation, pieces(body[:3], body[3:])) == value
    assert take(annotation, body, method="DELETE") == value


def test_every_fault_of_a_body_is_named() -> None:
    """Every field at fault is named with its path."""
    assert reasons(Draft, b'{"items": [{"name": 1, "price": 1}, {"price": "x"}], "titel": 1}') == {
        "body.title": "missing",
        "body.items[0].name": "expected str, got int",
        "body.items[1].name": "missing",
        "body.items[1].price": "expected int, got str",
        "body.titel": "unknown, did you mean 'title'?",
    }


def test_the_faults_of_a_pydantic_model_are_named_alike() -> None:
    """The faults of pydantic's models and dataclasses are named like all others."""
    assert reasons(Address, b'{"no": "x"}') == {
        "body.street": "missing",
        "body.no": "input should be a valid integer, unable to parse string as an integer",
    }
    assert reasons(Checked, b'{"size": 0}') == {"body.size": "input should be greater than 0"}
    assert list(reasons(list[Address], b'[{"street": "s", "no": 1}, {"no": 1}]')) == ["body[1].street"]


@pytest.mark.parametrize("annotation", [Draft, Address, Checked, list[Item], Any])
def test_a_body_that_is_not_there_is_missing(annotation: Any) -> None:
    """A body that a function needs and does not get is a fault; with a default it is none."""
    assert reasons(annotation, b"") == {"body": "missing"}
    assert take(annotation, b"", default=None) is None
    assert take(annotation, pieces(), default=None) is None


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"title" 1}', "the body is not JSON: expected ':' at line 1, column 10"),
        (b'{\n  "title": x\n}', "the body is not JSON: invalid character at line 2, column 12"),
        (b'{"title": "t"', "the body is not JSON: it ends too early, at line 1, column 14"),
        (b'{"title": "t"} x', "the body is not JSON: trailing characters at line 1, column 16"),
        (b'{"title": "\xff"}', "the body is not JSON: its text is not UTF-8"),
        (b'{"title": 5, "items": [}', "the body is not JSON: invalid character at line 1, column 24"),
    ],
)
def test_what_is_not_json_is_a_bad_request_with_its_place(body: bytes, detail: str) -> None:
    """A body that is not JSON is a bad request that says where it stops being so."""
    with pytest.raises(BadRequest) as caught:
        take(Draft, body)
    assert caught.value.detail == detail


def test_what_pydantic_cannot_parse_is_a_bad_request_too() -> None:
    """A body that is not JSON is a bad request for pydantic's types as well."""
    for annotation in (Address, Checked):
        with pytest.raises(BadRequest, match=r"the body is not JSON: .* at line 1 column"):
            take(annotation, b'{"no": }')


def test_a_body_nested_too_deeply_is_a_bad_request() -> None:
    """A body that nests deeper than Python can follow is a bad request and no crash."""
    with pytest.raises(BadRequest, match="nested too deeply"):
        take(Any, b"[" * 100_000)


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "Application/JSON; charset=utf-8", "application/problem+json", "application/vnd.shop+json;v=1"],
)
def test_json_by_any_of_its_names_is_read(content_type: str | None) -> None:
    """JSON is read by any of its media types, and without one."""
    assert take(Options, b'{"size": 1}', content_type=content_type) == {"size": 1}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/x+json"]
)
def test_a_body_that_says_it_is_something_else_is_refused(content_type: str) -> None:
    """A body that says it is not JSON is refused before it is read; one that is not there says nothing."""
    with pytest.raises(UnsupportedMedia, match="this reads application/json"):
        take(Options, b'{"size": 1}', content_type=content_type)
    assert take(Options, b"", content_type=content_type, default=None) is None


def test_bytes_are_the_body_as_it_is() -> None:
    """A function that takes bytes gets the whole body whatever it is; the default only when there is none."""
    assert take(bytes, b"\xff", content_type="image/png") == b"\xff"
    assert take(bytes, pieces(b"a", b"b"), content_type=None) == b"ab"
    assert take(bytes, b"") == b""
    assert take(bytes, b"", default=b"none") == b"none"


def test_a_stream_is_the_body_as_it_arrives() -> None:
    """A function that takes an async iterator gets the pieces, also of a body that came whole."""
    assert take(AsyncIterator[bytes], pieces(b"a", b"b"), content_type="text/csv") == b"ab"
    assert take(AsyncIterator[bytes], b"ab") == b"ab"
    assert take(AsyncIterator[bytes], b"") == b""


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.binary(max_size=40) | st.text(alphabet='{}[]":,title05 \\u', max_size=40).map(str.encode),
    st.sampled_from([Draft, Address, Any]),
)
def test_no_body_is_a_crash(body: bytes, annotation: Any) -> None:
    """Whatever bytes arrive, a function is called or the caller is told what is wrong with them."""
    with suppress(BadRequest, Invalid):
        take(annotation, body)
