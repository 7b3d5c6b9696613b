"""Where each parameter of a function comes from, and everything that is refused before a service starts."""

from __future__ import annotations

import abc
import datetime as dt
import enum
import functools
import sys
import types
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypedDict

import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mizzen.rules.binding import REQUIRED, Header, Parameter, Plan, plan
from mizzen.rules.router import Route
from mizzen.words.context import Context
from mizzen.words.errors import NotFound, PeerError, StartError
from mizzen.words.message import Request, Response

if TYPE_CHECKING:
    from decimal import Decimal as Unseen


class Client:
    """A stand-in for a client: only its name matters."""


class Users:
    """What a service needs of another one."""

    def __init__(self, client: Client) -> None:
        self.client = client


class UserStore:
    """A thing of the service."""

    def __init__(self, url: str, size: int) -> None:
        self.url = url


class SqlUserStore(UserStore):
    """A thing of the service that is a kind of another one."""


class Clock:
    """A thing of the service that is made of nothing."""


class Sender(Protocol):
    """A thing of the service, by what it does."""

    def send(self) -> None: ...


class Storage(abc.ABC):
    """A thing of the service that cannot be made as it is."""

    @abc.abstractmethod
    def read(self) -> bytes: ...


class Draft(msgspec.Struct):
    name: str


class WithStore(msgspec.Struct):
    store: UserStore


class Dangling(msgspec.Struct):
    value: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Node(msgspec.Struct):
    below: list[Node] = []


@dataclass
class Span:
    start: int


class Options(TypedDict):
    size: int


class Model(pydantic.BaseModel):
    size: int


@pydantic_dataclass
class Checked:
    size: int


class Colour(enum.Enum):
    RED = "red"


USERS = Users(Client())


def bind(
    function: Callable[..., Any], template: str = "/x", method: str = "GET", *, also: tuple[type, ...] = (), **options: Any
) -> Plan:
    """The plan of a function with a Users provided."""
    return plan(Route(method, template, function, **options), {Users, *also})


def refused(function: Callable[..., Any], template: str = "/x", method: str = "GET", **options: Any) -> StartError:
    """The error that binding a function comes to."""
    with pytest.raises(StartError) as caught:
        bind(function, template, method, **options)
    return caught.value


def sources(function: Callable[..., Any], template: str = "/x", method: str = "POST", **options: Any) -> dict[str, str]:
    """The source of each parameter."""
    return bind(function, template, method, **options).describe()


def test_a_parameter_of_the_template_comes_from_the_path() -> None:
    """A parameter that the template names comes from the path, whatever piece of text its type is."""

    async def handle(a: str, b: int, c: uuid.UUID, d: Colour, e: Literal["x", "y"], f: dt.date, g: bool, h: float) -> None: ...

    assert set(sources(handle, "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h:path}").values()) == {"path"}


def test_text_and_lists_of_it_come_from_the_query() -> None:
    """What is a piece of text, or a list of such, and not in the template, comes from the query."""

    async def handle(
        a: str, b: int | None, c: list[int], d: set[Colour], e: Annotated[int, msgspec.Meta(ge=1)], f: list[str] | None = None,
        g: tuple[dt.date, ...] = (), h: bool | int = 1,
    ) -> None: ...  # fmt: skip

    plan_of = bind(handle)
    assert set(plan_of.describe().values()) == {"query"}
    assert [parameter.name for parameter in plan_of.parameters if parameter.many] == ["c", "d", "f", "g"]


def test_a_marked_parameter_comes_from_a_header() -> None:
    """A marked parameter comes from a header of its own name with dashes, or of the marker's."""

    async def handle(
        x_tenant: Annotated[str, Header()], b: Annotated[int, Header("X-Level")], c: Annotated[str, Header]
    ) -> None: ...

    parameters = bind(handle).parameters
    assert [(parameter.source, parameter.field) for parameter in parameters] == [
        ("header", "x-tenant"), ("header", "x-level"), ("header", "c")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "annotation",
    [Draft, Span, Options, Model, Checked, list[Draft], dict[str, Span], Draft | None, list[Model], Node, Any, dict],
)
def test_everything_larger_comes_from_the_body(annotation: Any) -> None:
    """Structs, dataclasses, TypedDicts, pydantic models, and lists and dicts of such come from the body."""

    async def handle(draft: Any) -> None: ...

    handle.__annotations__["draft"] = annotation
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert sources(handle, method=method) == {"draft": "body"}


def test_request_and_context_are_handed_over() -> None:
    """Request and Context are recognised by their types."""

    async def handle(r: Request, c: Context, d: Context | None = None) -> None: ...

    assert sources(handle) == {"r": "request", "c": "context", "d": "context"}


def test_provided_things_are_found_by_their_exact_type() -> None:
    """A provided thing is found by the type it is provided as, which may be a protocol, and so is an optional one."""

    async def handle(users: Users, again: Users | None, sender: Sender, marked: Annotated[Users, "the users"]) -> None: ...

    found = bind(handle, also=(Sender,))
    assert found.describe() == dict.fromkeys(("users", "again", "sender", "marked"), "provided")
    assert found.needs == (Users, Sender)


def test_a_provided_struct_is_no_body() -> None:
    """What is provided comes from the service even where it could come from a body."""

    async def handle(draft: Draft) -> None: ...

    assert sources(handle, also=(Draft,)) == {"draft": "provided"}
    assert bind(handle, also=(Draft,)).needs == (Draft,)


def test_a_provided_text_does_not_replace_a_query() -> None:
    """Providing a plain builtin does not turn every parameter of that type into it."""

    async def handle(name: str) -> None: ...

    assert sources(handle, also=(str,)) == {"name": "query"}


def test_what_nobody_provides_is_left_to_its_default() -> None:
    """A parameter that nobody provides is left to the default that the function gives it."""

    async def handle(users: Users, clock: Clock | None = None) -> None: ...

    assert sources(handle) == {"users": "provided"}
    assert sources(handle, also=(Clock,)) == {"users": "provided", "clock": "provided"}


def test_a_body_may_be_taken_as_it_arrives() -> None:
    """A parameter that is an async iterator of bytes takes the body as it arrives, and bytes takes it as it is."""

    async def arriving(chunks: AsyncIterator[bytes]) -> None: ...
    async def raw(data: bytes) -> None: ...
    async def typed(draft: Draft) -> None: ...

    assert [bind(function, method="POST").streams_body for function in (arriving, raw, typed)] == [True, False, False]
    assert sources(arriving) == {"chunks": "body"}
    assert sources(raw) == {"data": "body"}


def test_a_plan_keeps_what_a_contract_needs() -> None:
    """A plan keeps every parameter with type and default, and the type of the result."""

    async def handle(id: int, limit: int = 20) -> Draft:
        return Draft("x")

    found = bind(handle, "/users/{id}")
    assert found.parameters == (
        Parameter("id", "path", int, REQUIRED, "id"), Parameter("limit", "query", int, 20, "limit")
    )  # fmt: skip
    assert [parameter.required for parameter in found.parameters] == [True, False]
    assert found.returns is Draft
    assert repr(found) == "<Plan GET /users/{id} -> handle: id from path, limit from query>"


def test_methods_partials_and_objects_are_functions_too() -> None:
    """A method, a partial and an object that can be called are bound by what they still take."""

    class Handlers:
        async def get(self, id: str) -> None: ...
        async def __call__(self, id: str) -> None: ...

    async def handle(prefix: str, id: str) -> None: ...

    for function in (Handlers().get, Handlers(), functools.partial(handle, "a")):
        assert sources(function, "/users/{id}", "GET") == {"id": "path"}


def test_a_need_that_nobody_meets_names_the_function_the_place_and_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A need that nobody meets is told as the design tells it: what, where, and the line that is missing."""
    source = "async def get_order(id: str, users: Users) -> None: ...\n"
    for name in ("shop", "shop.order", "shop.order.service"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    scope: dict[str, Any] = {"Users": Users, "__name__": "shop.order"}
    exec(compile("from __future__ import annotations\n" + source, "shop/order/__init__.py", "exec"), scope)
    with pytest.raises(StartError) as caught:
        plan(Route("GET", "/orders/{id}", scope["get_order"]), {Clock})
    assert str(caught.value) == (
        "get_order needs Users; nothing provides it\n"
        "  shop/order/__init__.py:2  get_order(id: str, users: Users)\n"
        '  fix: service.provide(Users(service.client("user"))) in shop/order/service.py'
    )


@pytest.mark.parametrize(
    ("needed", "fix"),
    [
        (Clock, "service.provide(Clock()) where the service is built"),
        (UserStore, "service.provide(UserStore(...)) where the service is built"),
        (Sender, "service.provide(Sender, open_sender) where the service is built"),
        (Storage, "service.provide(Storage, open_storage) where the service is built"),
    ],
)
def test_the_fix_shows_how_such_a_thing_is_provided(needed: type, fix: str) -> None:
    """The fix shows a value where one can be made, and a factory where not."""

    async def handle(thing: Any) -> None: ...

    handle.__annotations__["thing"] = needed
    assert refused(handle).fix == fix


def test_several_unmet_needs_are_told_at_once() -> None:
    """Several needs that nobody meets are told at once."""

    async def handle(clock: Clock, sender: Sender, again: Clock) -> None: ...

    error = refused(handle)
    assert error.what == "handle needs Clock and Sender; nothing provides them"
    assert "service.provide(Clock())" in error.fix
    assert "service.provide(Sender, open_sender)" in error.fix


def test_a_subclass_or_a_namesake_is_pointed_out() -> None:
    """A provided subclass does not meet the need, nor does another class of that name: the fix says so."""

    async def handle(store: UserStore) -> None: ...

    assert "annotate the parameter with SqlUserStore" in refused(handle, also=(SqlUserStore,)).fix
    namesake = type("UserStore", (), {"__module__": "elsewhere"})
    assert "elsewhere.UserStore is provided" in refused(handle, also=(namesake,)).fix


async def starred(*ids: str) -> None: ...
async def double_starred(**options: str) -> None: ...
async def bare(id) -> None: ...  # type: ignore[no-untyped-def]
async def unseen(price: Unseen) -> None: ...
async def undefined(price: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def broken(price: "int | |") -> None: ...  # type: ignore[valid-type]  # noqa: F722
async def dangling(value: Dangling) -> None: ...
async def no_id(name: str) -> None: ...
async def shadowing(id: Users) -> None: ...
async def shadowing_request(id: Request) -> None: ...
async def shadowing_header(id: Annotated[str, Header()]) -> None: ...
async def shadowing_body(id: Draft) -> None: ...
async def shadowing_list(id: list[str]) -> None: ...
async def with_body(draft: Draft) -> None: ...
async def with_stream(draft: AsyncIterator[bytes]) -> None: ...
async def two_bodies(draft: Draft, span: Span) -> None: ...
async def calling(call: Callable[[int], int]) -> None: ...
async def anything(thing: object) -> None: ...
async def mixed(thing: Clock | int) -> None: ...
async def twofold(thing: Draft | Span) -> None: ...
async def nested_thing(thing: WithStore) -> None: ...
async def nested_checked(thing: list[Checked]) -> None: ...
async def texts(pieces: AsyncIterator[str]) -> None: ...
async def odd_header(x: Annotated[Draft, Header()]) -> None: ...
async def returns_store() -> UserStore: ...  # type: ignore[empty-body]
async def returns_stores() -> list[UserStore]: ...  # type: ignore[empty-body]
async def returns_draft() -> Draft: ...  # type: ignore[empty-body]
async def fine() -> None: ...


def generating() -> Iterator[str]:
    yield "x"


@pytest.mark.parametrize(
    ("function", "route", "what"),
    [
        (starred, "GET /x", "starred takes *ids: nothing says what a request should put there"),
        (double_starred, "GET /x", "double_starred takes **options: nothing says"),
        (bare, "GET /{id}", "bare takes id without an annotation"),
        (unseen, "GET /x", "an annotation of unseen cannot be resolved: name 'Unseen' is not defined"),
        (undefined, "GET /x", "an annotation of undefined cannot be resolved: name 'Nowhere' is not defined"),
        (broken, "GET /x", "an annotation of broken cannot be resolved"),
        (dangling, "POST /x", "an annotation inside of Dangling cannot be resolved: name 'Nowhere' is not defined"),
        (no_id, "GET /users/{id}", "no_id does not take id, a path parameter of /users/{id}"),
        (shadowing, "GET /{id}", "shadowing takes id: Users, but id is also a path parameter of /{id}"),
        (shadowing_request, "GET /{id}", "takes id: Request, but id is also a path parameter"),
        (shadowing_header, "GET /{id}", "takes id: Annotated[str, Header()], but id is also a path parameter"),
        (shadowing_body, "POST /{id}", "takes id: Draft, but id is also a path parameter"),
        (shadowing_list, "GET /{id}", "takes id: list[str], but id is also a path parameter"),
        (with_body, "GET /x", "with_body takes draft: Draft from a body, but GET /x has none"),
        (with_body, "HEAD /x", "but HEAD /x has none"),
        (with_stream, "OPTIONS /x", "but OPTIONS /x has none"),
        (two_bodies, "POST /x", "two_bodies takes draft: Draft and span: Span from a body, but a request has one"),
        (calling, "POST /x", "calling takes call: Callable[[int], int], which no request can carry"),
        (anything, "POST /x", "anything takes thing: object, which no request can carry"),
        (mixed, "POST /x", "mixed takes thing: Clock | int, which no request can carry"),
        (twofold, "POST /x", "twofold takes thing: Draft | Span, which no request can carry"),
        (nested_thing, "POST /x", "JSON cannot carry the UserStore inside of it"),
        (nested_checked, "POST /x", "Checked is a pydantic dataclass inside of another type"),
        (texts, "POST /x", "texts takes pieces: AsyncIterator[str], which no request can carry"),
        (odd_header, "POST /x", "a header is text"),
        (returns_store, "GET /x", "returns_store returns UserStore, which cannot be answered"),
        (returns_stores, "GET /x", "returns_stores returns list[UserStore], which cannot be answered"),
        (generating, "GET /x", "generating is a generator that is not async"),
        (dict.fromkeys, "GET /x", "fromkeys"),
    ],
)
def test_what_could_only_fail_later_is_refused(function: Callable[..., Any], route: str, what: str) -> None:
    """What could only fail later is refused with the function, its place and a fix."""
    method, template = route.split()
    error = refused(function, template, method)
    assert what in error.what
    assert error.where
    assert error.fix
    if hasattr(function, "__code__"):
        assert "test_binding_plan.py:" in error.where[0]
        assert f"  {function.__name__}(" in error.where[0]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"raises": [NotFound, PeerError]}, "fine says raises=[PeerError], which is not an answer"),
        ({"raises": [ValueError]}, "fine says raises=[ValueError]"),
        ({"raises": [404]}, "fine says raises=[404]"),
        ({"raises": ValueError}, "fine says raises=[ValueError]"),
        ({"status": 99}, "fine answers with status=99"),
        ({"status": "201"}, "fine answers with status='201'"),
    ],
)
def test_what_is_said_of_a_route_is_checked(options: dict[str, Any], what: str) -> None:
    """Answers that are none and statuses that cannot be are refused."""
    error = refused(fine, **options)
    assert what in error.what
    assert error.fix


def test_one_answer_may_stand_alone() -> None:
    """A single answer that a function raises needs no list."""
    assert bind(fine, raises=NotFound).route.raises == (NotFound,)


def test_a_status_without_a_body_takes_no_result() -> None:
    """A function that returns something cannot be answered with a status that has no body."""
    assert "status=204 has no body" in refused(returns_draft, status=204).what
    assert bind(fine, status=204).route.status == 204


def test_the_signature_in_a_message_is_as_it_was_written() -> None:
    """The signature in a message is short and as it was written, whether or not annotations are text."""

    async def handle(a: dict[str, Draft] | None, b: list[Draft], c: int = 5, *rest: Any) -> None: ...

    assert refused(handle).where[0].endswith("handle(a: dict[str, Draft] | None, b: list[Draft], c: int = 5, *rest: Any)")
    handle.__annotations__ = {"a": dict[str, Draft] | None, "b": list[Draft], "c": int, "rest": Any}
    assert refused(handle).where[0].endswith("handle(a: dict[str, Draft] | None, b: list[Draft], c: int = 5, *rest: Any)")


@pytest.mark.parametrize(
    "returns",
    [
        None, Draft, Draft | None, list[Draft], dict[str, Any], str, bytes, int, Response, Draft | Response, Any, object, Model,
        list[Model], AsyncIterator[Draft], AsyncIterator[bytes], Draft | Span, Options, Colour, Annotated[Draft, "a draft"],
    ],
)  # fmt: skip
def test_every_result_that_can_be_written_is_bound(returns: Any) -> None:
    """Every result that can be written is bound."""

    async def handle() -> Any: ...

    handle.__annotations__["return"] = returns
    assert bind(handle).returns == returns
