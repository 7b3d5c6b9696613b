"""Headers, Call, Request and Response: the values that cross every boundary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.words.message import Headers, Request, Response


class Pieces:
    """A body that arrives in pieces and knows whether it was closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop(0)

    async def aclose(self) -> None:
        self.closed += 1


def test_header_names_have_no_case() -> None:
    """A field is found by its name in any case."""
    headers = Headers({"Content-Type": "text/plain"})
    assert headers["CONTENT-TYPE"] == headers.get("content-type") == "text/plain"
    assert "Content-type" in headers
    assert headers.raw == [(b"content-type", b"text/plain")]


def test_a_name_may_stand_more_than_once() -> None:
    """The first value is got, all of them are kept in order."""
    headers = Headers([("a", "1"), ("b", "2"), ("A", "3")])
    assert headers.get("a") == "1"
    assert headers.all("A") == ["1", "3"]
    assert list(headers) == [("a", "1"), ("b", "2"), ("a", "3")]
    assert len(headers) == 3


def test_set_replaces_every_field_of_that_name() -> None:
    """After a set there is one value."""
    headers = Headers([("a", "1"), ("b", "2"), ("A", "3")])
    headers.set("a", "4")
    assert list(headers) == [("b", "2"), ("a", "4")]


def test_remove_drops_every_field_of_that_name() -> None:
    """After a remove there is none, and a second one is no error."""
    headers = Headers([("a", "1"), ("A", "3")])
    headers.remove("A")
    headers.remove("A")
    assert list(headers) == []


def test_an_absent_header_is_a_default_or_a_key_error() -> None:
    """get has a default, indexing raises."""
    headers = Headers()
    assert headers.get("a") is None
    assert headers.get("a", "x") == "x"
    with pytest.raises(KeyError):
        headers["a"]


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x", "a\nb", "a\rb", "a\0b"])
def test_a_value_cannot_break_the_message_apart(value: str) -> None:
    """Line breaks and NUL in a value are refused."""
    with pytest.raises(ValueError, match="line break or NUL"):
        Headers({"x-note": value})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "é", "a(b)"])
def test_a_name_is_a_token(name: str) -> None:
    """What RFC 9110 does not allow in a name is refused."""
    with pytest.raises(ValueError, match="is not a header name"):
        Headers({name: "x"})


def test_a_value_outside_latin_1_is_refused() -> None:
    """What the wire cannot carry is a ValueError, not mojibake."""
    with pytest.raises(ValueError, match="latin-1"):
        Headers({"x-note": "Ω"})


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30))
def test_any_latin_1_value_comes_back_as_it_went_in(value: str) -> None:
    """Values round-trip through their bytes."""
    assert Headers({"x": value})["x"] == value


def test_a_copy_is_independent() -> None:
    """Changing a copy leaves the original alone."""
    headers = Headers({"a": "1"})
    copy = headers.copy()
    copy.add("b", "2")
    assert headers == Headers({"a": "1"})
    assert copy != headers


def test_headers_are_no_key_and_show_no_values() -> None:
    """They are mutable, so not hashable; their repr leaves values out, which may be secret."""
    with pytest.raises(TypeError):
        hash(Headers())
    assert repr(Headers({"Authorization": "secret"})) == "<Headers authorization>"


def test_a_request_reads_its_body_once() -> None:
    """Pieces are gathered and kept for the next reader."""
    request = Request("POST", "/", body=Pieces(b"a", b"b"))

    async def main() -> None:
        assert await request.read() == b"ab"
        assert await request.read() == b"ab"

    asyncio.run(main())
    assert request.body == b"ab"


def test_every_request_has_headers_of_its_own() -> None:
    """No two requests share a default."""
    first, second = Request("GET", "/"), Request("GET", "/")
    first.headers.add("a", "1")
    assert len(second.headers) == 0
    assert repr(first) == "<Request GET />"


def test_a_response_made_of_a_value_is_json() -> None:
    """json_of encodes, json decodes into a type."""

    class User(msgspec.Struct):
        id: str

    response = Response.json_of(User("7"), 201)
    assert (response.status, response.headers["content-type"], response.body) == (201, "application/json", b'{"id":"7"}')
    assert response.json(User) == User("7")
    assert response.json() == {"id": "7"}


def test_pydantic_models_are_json_wherever_they_stand() -> None:
    """A model, and a list of models, go out and come back by their aliases."""

    class User(pydantic.BaseModel):
        full_name: str = pydantic.Field(alias="fullName")

    ann = User(fullName="Ann")
    for value, into, body in ((ann, User, b'{"fullName":"Ann"}'), ([ann], list[User], b'[{"fullName":"Ann"}]')):
        response = Response.json_of(value)
        assert (response.body, response.json(into)) == (body, value)


def test_a_response_takes_headers_as_mapping_or_as_they_are() -> None:
    """A mapping is copied, Headers are taken; the content type is set in both."""
    headers = Headers({"a": "1"})
    assert Response(headers=headers).headers is headers
    response = Response(headers={"Content-Type": "x"}, content_type="text/plain")
    assert response.headers.all("content-type") == ["text/plain"]


def test_json_of_a_streamed_body_says_what_to_do() -> None:
    """Decoding before the body is whole is an error that names the fix."""
    with pytest.raises(TypeError, match=r"await response\.read\(\) first"):
        Response(body=Pieces(b"1")).json()


def test_reading_a_streamed_response_closes_it() -> None:
    """Once its body is whole, what it holds is given back, once."""
    body, given_back = Pieces(b"a", b"b"), []
    response = Response(body=body)
    response.on_close(lambda: given_back.append(1))

    async def main() -> None:
        assert await response.read() == b"ab"
        await response.close()

    asyncio.run(main())
    assert given_back == [1]


def test_a_dropped_response_closes_its_body_and_calls_back_once() -> None:
    """Closing is safe to do twice."""
    body, given_back = Pieces(b"a"), []
    response = Response(body=body)
    response.on_close(lambda: given_back.append("first"))
    response.on_close(lambda: given_back.append("second"))

    async def main() -> None:
        await response.close()
        await response.close()

    asyncio.run(main())
    assert body.closed >= 1
    assert given_back == ["first", "second"]


def test_a_body_that_breaks_off_still_gives_back() -> None:
    """An error while reading reaches the reader, and the connection its pool."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionResetError("gone")

    given_back: list[int] = []
    response = Response(body=broken())
    response.on_close(lambda: given_back.append(1))
    with pytest.raises(ConnectionResetError):
        asyncio.run(response.read())
    assert given_back == [1]
    assert repr(response) == "<Response 200>"
