"""What becomes of a function's result, and how functions of every kind are run."""

from __future__ import annotations

import asyncio
import enum
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from mizzen.rules.binding import plan
from mizzen.rules.router import Route
from mizzen.words.errors import NotFound, StartError
from mizzen.words.message import Request, Response
from mizzen.words.sse import ServerSentEvent


class Item(msgspec.Struct):
    name: str


class Special(Item):
    price: int = 1


@dataclass
class Span:
    start: int


class Options(TypedDict):
    size: int


class Address(pydantic.BaseModel):
    number: int = pydantic.Field(alias="no")


class Colour(enum.StrEnum):
    RED = "red"


class Store:
    """A thing of the service."""

    closed = False


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread of its own, which starts with an empty context."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


async def never(function: Callable[[], Any]) -> Any:
    """The thread pool of functions that are async."""
    raise AssertionError("an async function ran in a thread")


async def ask(
    function: Callable[..., Any], *, threads: Any = never, request: Request | None = None, **options: Any
) -> Response:
    """The answer of a bound function that has a Store provided."""
    method, template = options.pop("at", "GET /x").split()
    handler = plan(Route(method, template, function, **options), {Store}).compile({Store: STORE}, in_thread=threads)
    return await handler(Request(method, "/x") if request is None else request)


STORE = Store()


def answer(value: Any, returns: Any = None, **options: Any) -> tuple[int, str | None, bytes]:
    """Status, type and body of the answer to a result, whose function is annotated with ``returns``."""

    async def handle():  # type: ignore[no-untyped-def]
        return value

    if returns is not None:
        handle.__annotations__["return"] = returns

    async def go() -> tuple[int, str | None, bytes]:
        response = await ask(handle, **options)
        return response.status, response.headers.get("content-type"), await response.read()

    return asyncio.run(go())


JSON, TEXT, BINARY, LINES = (
    "application/json", "text/plain; charset=utf-8", "application/octet-stream", "application/x-ndjson"
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "returns", "content_type", "body"),
    [
        (Item("n"), Item, JSON, b'{"name":"n"}'),
        (Special("n"), Item, JSON, b'{"name":"n","price":1}'),
        (Item("n"), Item | None, JSON, b'{"name":"n"}'),
        (Item("n"), Item | Span, JSON, b'{"name":"n"}'),
        (Span(1), Span, JSON, b'{"start":1}'),
        ({"size": 1}, Options, JSON, b'{"size":1}'),
        ([Item("n")], list[Item], JSON, b'[{"name":"n"}]'),
        ({"a": [1, None]}, dict[str, Any], JSON, b'{"a":[1,null]}'),
        (5, int, JSON, b"5"),
        (False, bool, JSON, b"false"),
        (Colour.RED, Colour, JSON, b'"red"'),
        (Address(no=1), Address, JSON, b'{"no":1}'),
        ([Address(no=1)], list[Address], JSON, b'[{"no":1}]'),
        ("é", str, TEXT, "é".encode()),
        (b"\xff", bytes, BINARY, b"\xff"),
        (bytearray(b"x"), Any, BINARY, b"x"),
    ],
)
def test_a_result_is_written_as_what_it_is(value: Any, returns: Any, content_type: str, body: bytes) -> None:
    """A result is written as what it is, the same with its annotation, with a vague one, and without."""
    for annotation in (returns, Any, None):
        assert answer(value, annotation) == (200, content_type, body)
        assert answer(value, annotation, status=201) == (201, content_type, body)


def test_a_result_that_is_not_what_was_promised_is_written_as_what_it_is() -> None:
    """A result of another type than the annotation's is still written as what it is."""
    assert answer("text", Item) == (200, TEXT, b"text")
    assert answer(Item("n"), str) == (200, JSON, b'{"name":"n"}')


def test_none_is_no_content_unless_another_status_is_declared() -> None:
    """None is answered with 204, or with the declared status and an empty body."""
    assert answer(None) == (204, None, b"")
    assert answer(None, Item | None) == (204, None, b"")
    assert answer(None, status=201) == (201, None, b"")


def test_a_response_is_handed_through() -> None:
    """A Response is handed through as it is, whatever status the route declares."""
    assert answer(Response(418, b"x", content_type="a/b"), Response, status=201) == (418, "a/b", b"x")
    assert answer(Response(418), Item) == (418, None, b"")


def test_a_result_where_no_body_may_be_is_a_defect() -> None:
    """A result that a declared 204 cannot carry is an error of the function, not silently lost."""
    with pytest.raises(TypeError, match="status 204 has no body"):
        answer({"a": 1}, status=204)
    with pytest.raises(TypeError, match="status 204 has no body"):
        answer({"a": 1}, Any, status=204)


def test_a_result_that_cannot_be_written_is_a_defect() -> None:
    """A result that cannot be written says so."""
    with pytest.raises(TypeError, match="a Store cannot be written as JSON"):
        answer({"store": STORE})


class Source:
    """An async iterator of the test's, which knows whether it was closed."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)
        self.closed = False

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("items", "returns", "content_type", "body"),
    [
        ([b"a", b"b"], AsyncIterator[bytes], BINARY, b"ab"),
        (["é", "b"], AsyncIterator[str], TEXT, "éb".encode()),
        ([Item("a"), Item("b")], AsyncIterator[Item], LINES, b'{"name":"a"}\n{"name":"b"}\n'),
        ([Address(no=1)], AsyncIterator[Address], LINES, b'{"no":1}\n'),
        ([{"a": 1}], AsyncIterator[dict[str, int]], LINES, b'{"a":1}\n'),
        ([b"a", "b"], None, BINARY, b"ab"),
        ([], AsyncIterator[Item], LINES, b""),
    ],
)
def test_a_stream_is_written_piece_by_piece(items: list[Any], returns: Any, content_type: str, body: bytes) -> None:
    """An async iterator, returned or generated, is written piece by piece."""
    assert answer(Source(*items), returns) == (200, content_type, body)

    async def generate():  # type: ignore[no-untyped-def]
        for item in items:
            yield item

    if returns is not None:
        generate.__annotations__["return"] = returns

    async def go() -> tuple[int, str | None, bytes]:
        response = await ask(generate, status=202)
        return response.status, response.headers.get("content-type"), await response.read()

    assert asyncio.run(go()) == (202, content_type, body)


def test_an_object_in_a_stream_of_bytes_is_a_defect_that_says_what_to_write() -> None:
    """An object in a stream that is not annotated says how to annotate it."""
    with pytest.raises(TypeError, match=r"AsyncIterator\[Item\]"):
        answer(Source(Item("a")))


async def failing(store: Store) -> AsyncIterator[bytes]:
    """A generator that fails before its first piece."""
    if not store.closed:
        raise NotFound("no such file")
    yield b""


def test_what_a_generator_raises_before_its_first_piece_is_still_an_answer() -> None:
    """A generator that raises before its first piece answers with what it raises."""
    with pytest.raises(NotFound, match="no such file"):
        asyncio.run(ask(failing))


def test_a_stream_that_is_dropped_is_closed() -> None:
    """What is streamed is closed with its answer: a generator runs its clean-up at once, even when its answer fails."""
    steps: list[str] = []

    async def generate(bad: bool = False) -> AsyncIterator[bytes]:
        try:
            yield Item("x") if bad else b"a"  # type: ignore[misc]
            yield b"b"
        finally:
            steps.append("closed")

    async def go() -> None:
        response = await ask(generate)
        await response.close()
        assert steps == ["closed"]
        with pytest.raises(TypeError):
            await ask(generate, request=Request("GET", "/x", query="bad=true"))
        assert steps == ["closed", "closed"]
        source = Source(b"a")

        async def hand_over() -> AsyncIterator[bytes]:
            return source

        await (await ask(hand_over)).close()
        assert source.closed

    asyncio.run(go())


def test_a_generator_takes_arguments_like_any_function() -> None:
    """A generator takes path, body and provided things like any other function."""

    async def generate(id: str, store: Store, body: Item) -> AsyncIterator[str]:
        assert store is STORE
        yield id
        yield body.name

    async def go() -> bytes:
        async def arriving() -> AsyncIterator[bytes]:
            yield b'{"name": "n"}'

        request = Request("POST", "/x", body=arriving())
        request.params = ("1",)
        return await (await ask(generate, at="POST /x/{id}", request=request)).read()

    assert asyncio.run(go()) == b"1n"


TENANT: ContextVar[str] = ContextVar("tenant", default="none")


def test_a_function_that_is_not_async_runs_in_a_thread_and_keeps_the_context() -> None:
    """A function that is not async runs where ``in_thread`` runs it, with the request's context variables."""

    def handle(id: str, store: Store, limit: int = 5) -> dict[str, Any]:
        main = threading.current_thread() is threading.main_thread()
        return {"id": id, "limit": limit, "tenant": TENANT.get(), "store": store is STORE, "main": main}

    async def go() -> Any:
        TENANT.set("shop")
        request = Request("GET", "/x", query="limit=7")
        request.params = ("1",)
        return (await ask(handle, threads=in_thread, at="GET /x/{id}", request=request)).json()

    assert asyncio.run(go()) == {"id": "1", "limit": 7, "tenant": "shop", "store": True, "main": False}


def test_a_decorator_that_is_not_async_may_stand_around_a_function_that_is() -> None:
    """What a function that is not async returns is awaited when it has to be."""

    async def handle(id: str) -> str:
        return id

    @functools.wraps(handle)
    def wrapped(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, str]:
        return handle(*args, **kwargs)

    async def go() -> bytes:
        request = Request("GET", "/x")
        request.params = ("1",)
        return await (await ask(wrapped, threads=in_thread, at="GET /x/{id}", request=request)).read()

    assert asyncio.run(go()) == b"1"


async def leading(id: str, store: Store) -> str:
    return f"{id} {store is STORE}"


async def trailing(store: Store, id: str) -> str:
    return f"{id} {store is STORE}"


async def named(*, store: Store, id: str) -> str:
    return f"{id} {store is STORE}"


async def placed(store: Store, id: str, /) -> str:
    return f"{id} {store is STORE}"


async def placed_after(id: str, store: Store, /) -> str:
    return f"{id} {store is STORE}"


async def defaulted(id: str, other: Item | None, store: Store) -> str:
    return f"{id} {store is STORE}"


async def gap(unprovided: threading.Event = threading.Event(), id: str = "", store: Store = STORE) -> str:
    return f"{id} {store is STORE}"


class Handlers:
    """Functions that belong to an object."""

    async def get(self, id: str, store: Store) -> str:
        return f"{id} {store is STORE}"

    async def __call__(self, store: Store, id: str) -> str:
        return f"{id} {store is STORE}"


@pytest.mark.parametrize(
    "function", [leading, trailing, named, placed, placed_after, gap, Handlers().get, Handlers(), functools.partial(gap)]
)
def test_provided_things_and_path_reach_every_form_of_signature(function: Callable[..., Any]) -> None:
    """Provided things and path parameters reach a function however it takes them."""

    async def go() -> bytes:
        request = Request("GET", "/x")
        request.params = ("1",)
        return await (await ask(function, at="GET /x/{id}", request=request)).read()

    assert asyncio.run(go()) == b"1 True"


def test_a_needed_value_that_was_not_opened_is_told() -> None:
    """Compiling without a value that the plan needs says which."""
    with pytest.raises(StartError, match="leading needs Store; it was not opened"):
        plan(Route("GET", "/{id}", leading), {Store}).compile({}, in_thread=never)


def test_one_frame_stands_between_the_caller_and_the_function() -> None:
    """The handler adds one frame above the user's function, whatever that takes, and computes nothing twice."""

    def depth() -> int:
        frame, count = sys._getframe(), 0
        while frame.f_back is not None:
            frame, count = frame.f_back, count + 1
        return count

    async def straight(id: str, store: Store) -> int:
        return depth()

    async def typed(id: int, store: Store) -> int:
        return depth()

    async def queried(id: str, store: Store, limit: int = 5) -> int:
        return depth()

    async def posted(id: str, store: Store, body: Item) -> int:
        return depth()

    async def go() -> None:
        async def bare() -> int:
            return depth()

        zero = await bare() - 1
        for function in (straight, typed, queried, posted):
            request = Request("POST", "/x", body=b'{"name":"n"}')
            request.params = ("1",)
            handler = plan(Route("POST", "/{id}", function), {Store}).compile({Store: STORE}, in_thread=never)
            assert (await handler(request)).json() == zero + 2, function.__name__

    asyncio.run(go())


def test_a_function_of_events_is_answered_before_the_first_of_them() -> None:
    """It may be long in coming: the answer begins, and says what it is, while the function still waits."""
    waiting = asyncio.Event()

    async def events() -> AsyncIterator[ServerSentEvent]:
        await waiting.wait()
        yield ServerSentEvent(data={"name": "ruler"}, id="1")

    async def main() -> None:
        response = await ask(events)
        assert response.headers.get("content-type") == "text/event-stream"
        waiting.set()
        assert await response.read() == b'id: 1\ndata: {"name":"ruler"}\n\n'

    asyncio.run(main())
