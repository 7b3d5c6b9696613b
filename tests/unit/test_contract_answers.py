"""What the document says that an operation answers: plain answers, what it raises, and what the server says by itself."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import pydantic
import pytest

from mizzen import Answer, Client, Conflict, Header, Invalid, NotFound, Response, Service, StartError, Unavailable
from mizzen.tools.contract import openapi
from mizzen.words.errors import Problem


class Item(msgspec.Struct):
    name: str


class Model(pydantic.BaseModel):
    number: int = pydantic.Field(1, alias="no")


class Colour(enum.StrEnum):
    RED = "red"


class SoldOut(Conflict):
    """Nothing is left.

    Come back tomorrow.
    """


class Taken(Conflict):
    """Somebody has it."""


class Teapot(Answer):
    status = 418


ITEM = {"schema": {"$ref": "#/components/schemas/Item"}}


def document_of(returns: Any = None, **options: Any) -> Any:
    """The document of a service with one route whose function has that return annotation."""

    async def handler() -> Any: ...

    handler.__annotations__ = {} if returns is ... else {"return": returns}
    service = Service("stock")
    service.router.get("/a", handler, **options)
    return openapi(service, version="1")


def responses(returns: Any = None, **options: Any) -> Any:
    return document_of(returns, **options)["paths"]["/a"]["get"]["responses"]


def answers(returns: Any, **options: Any) -> Any:
    """Status and content of the plain answers."""
    found = responses(returns, **options)
    return {status: found[status].get("content") for status in found if status[0] in "23"}


@pytest.mark.parametrize(
    ("returns", "content"),
    [
        (Item, {"application/json": ITEM}),
        (Awaitable[Item], {"application/json": ITEM}),
        (list[Item], {"application/json": {"schema": {"type": "array", "items": ITEM["schema"]}}}),
        (Annotated[int, msgspec.Meta(ge=0)], {"application/json": {"schema": {"type": "integer", "minimum": 0}}}),
        (Item | int, {"application/json": {"schema": {"anyOf": [ITEM["schema"], {"type": "integer"}]}}}),
        (Colour, {"application/json": {"schema": {"$ref": "#/components/schemas/Colour"}}}),
        (Model, {"application/json": {"schema": {"$ref": "#/components/schemas/Model"}}}),
        (str, {"text/plain": {"schema": {"type": "string"}}}),
        (Literal["a"], {"text/plain": {"schema": {"enum": ["a"]}}}),
        (str | Item, {"text/plain": {"schema": {"type": "string"}}, "application/json": ITEM}),
        (bytes, {"application/octet-stream": {}}),
        (AsyncIterator[bytes], {"application/octet-stream": {}}),
        (AsyncIterator[str], {"text/plain": {"schema": {"type": "string"}}}),
        (Response, {"*/*": {}}),
        (Any, {"*/*": {}}),
        (..., {"*/*": {}}),
        (Annotated[Response, Item], {"application/json": ITEM}),
        (Annotated[Response, str], {"text/plain": {"schema": {"type": "string"}}}),
    ],
)
def test_the_content_of_an_answer(returns: Any, content: Any) -> None:
    """The annotation of the result says media type and schema, as the server writes it."""
    assert answers(returns) == {"200": content}


def test_a_stream_of_json() -> None:
    """Items that come one by one are lines of JSON; OpenAPI 3.1 has no word for a line's schema, so it stands beside."""
    [media] = answers(AsyncIterator[Item])["200"].items()
    assert media[0] == "application/x-ndjson"
    assert media[1]["schema"] == {"type": "string", "description": "One JSON document on each line."}
    assert media[1]["x-item-schema"] == ITEM["schema"]


def test_an_answer_without_a_body() -> None:
    """None is 204 unless the route says another status; what may be None has both answers."""
    assert answers(None) == {"204": None}
    assert answers(None, status=202) == {"202": None}
    assert answers(Response, status=204) == {"204": None}
    assert answers(Item | None) == {"200": {"application/json": ITEM}, "204": None}
    assert answers(Item | None, status=201) == {"201": {"application/json": ITEM}}
    assert answers(NoReturn) == {}


def test_headers_of_an_answer() -> None:
    """Every answer has a trace id; a Response names what else it carries, which is always there unless one form lacks it."""
    said = Annotated[Response, Item, Header("Location")]
    text = {"schema": {"type": "string"}}
    trace = {"x-trace-id": {"$ref": "#/components/headers/x-trace-id"}}
    assert responses(said, status=201)["201"]["headers"] == {**trace, "location": {"required": True, **text}}
    assert responses(said | Item, status=201)["201"]["headers"] == {**trace, "location": text}
    for response in document_of()["components"]["responses"].values():
        assert trace.items() <= response["headers"].items()


def test_what_a_response_says_of_itself_is_checked() -> None:
    """What cannot be written, and a header without a name, is an error before the service starts."""
    with pytest.raises(StartError, match="which does not say which header it carries"):
        document_of(Annotated[Response, Item, Header()])
    with pytest.raises(StartError, match="which does not say which header it carries"):
        document_of(Annotated[Response, Item, Header])
    with pytest.raises(StartError, match="which cannot be answered: JSON cannot carry the Client"):
        document_of(Annotated[Response, dict[str, Client]])


def test_what_every_operation_may_answer() -> None:
    """A defect, an overload, a stop and a deadline can meet any request, and each has one shared description."""
    found = document_of()
    assert found["paths"]["/a"]["get"]["responses"].keys() == {"204", "400", "500", "503", "504"}
    shared = found["components"]["responses"]
    assert shared.keys() == {"BadRequest", "ServerError", "Unavailable", "DeadlinePassed"}
    for response in shared.values():
        assert response["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_a_problem() -> None:
    """The schema of a problem has the fields of the record, of which all but the faults are always there."""
    problem = document_of()["components"]["schemas"]["Problem"]
    assert list(problem["properties"]) == list(Problem.__struct_fields__)
    assert problem["required"] == [name for name in Problem.__struct_fields__ if name != "errors"]
    assert not any("default" in field for field in problem["properties"].values())


def test_what_is_raised() -> None:
    """Each class of raises= is an answer of its status: the well-known ones are shared, others say what their class does."""
    found = document_of(raises=[NotFound, SoldOut, Teapot])
    statuses = found["paths"]["/a"]["get"]["responses"]
    shared = found["components"]["responses"]
    assert statuses["404"] == {"$ref": "#/components/responses/NotFound"}
    assert statuses["409"] == {"$ref": "#/components/responses/SoldOut"}
    assert statuses["418"] == {"$ref": "#/components/responses/Teapot"}
    assert shared["NotFound"]["description"] == "The resource is absent."
    assert shared["SoldOut"]["description"] == "Nothing is left."
    assert shared["Teapot"]["description"] == "I'm a Teapot"


def test_several_answers_of_one_status() -> None:
    """Answers of one status are one response that names each, the server's own first."""

    class Locked(Unavailable):
        """The till is locked."""

    found = responses(raises=[Taken, SoldOut, Conflict, Locked, Unavailable])
    assert found["409"]["description"] == "Somebody has it. Or: Nothing is left. Or: The state of the resource forbids it."
    assert found["503"]["description"].startswith("Overloaded, ")
    assert found["503"]["description"].endswith(" unavailable. Or: The till is locked.")
    assert "retry-after" in found["503"]["headers"]


def test_two_answers_of_one_name() -> None:
    """Two classes of one name are not taken for one another."""

    def named(about: str) -> type[Answer]:
        return type("Special", (NotFound,), {"__doc__": about})

    async def handler() -> None: ...

    service = Service("stock")
    service.router.get("/a", handler, raises=[named("One.")])
    service.router.get("/b", handler, raises=[named("Other.")])
    paths = openapi(service, version="1")["paths"]
    assert paths["/a"]["get"]["responses"]["404"] == {"$ref": "#/components/responses/Special"}
    assert paths["/b"]["get"]["responses"]["404"]["description"] == "Other."


def test_what_is_raised_with_faults() -> None:
    """A handler's own 422 is the one that the server gives for wrong inputs."""
    assert responses(raises=[Invalid])["422"] == {"$ref": "#/components/responses/Invalid"}


class Gateway:
    def __init__(self, client: Client) -> None:
        self.client = client


class Slotted:
    __slots__ = ("gateways",)

    def __init__(self, client: Client) -> None:
        self.gateways = [Gateway(client)]


class Made: ...


class Alone: ...


@asynccontextmanager
async def opened(client: Client | None = None) -> AsyncIterator[Made]:
    yield Made()


def closing(client: Client) -> Callable[[], Any]:
    return lambda: opened(client)


@pytest.mark.parametrize(
    ("provide", "type", "calls"),
    [
        (lambda service, client: service.provide(Gateway(client)), Gateway, True),
        (lambda service, client: service.provide(client), Client, True),
        (lambda service, client: service.provide(Slotted(client)), Slotted, True),
        (lambda service, client: service.provide(Made, partial(opened, client)), Made, True),
        (lambda service, client: service.provide(Made, closing(client)), Made, True),
        (lambda service, client: service.provide(Made, opened), Made, False),
        (lambda service, client: service.provide(Alone()), Alone, False),
    ],
)
def test_the_failures_of_peers(provide: Callable[[Service, Client], None], type: Any, calls: bool) -> None:
    """An operation that is given a client, however wrapped, may answer 502; its neighbours, which are not, do not."""
    service = Service("stock")
    provide(service, service.client("user"))

    async def handler(value: Any) -> None: ...

    async def neighbour() -> None: ...

    handler.__annotations__ = {"value": type}
    service.router.get("/a", handler)
    service.router.get("/b", neighbour)
    paths = openapi(service, version="1")["paths"]
    assert ("502" in paths["/a"]["get"]["responses"]) is calls
    assert "502" not in paths["/b"]["get"]["responses"]


def test_a_model_that_is_read_and_written() -> None:
    """A pydantic model is described as it is read and, where that differs, as it is written."""

    async def handler(model: Model) -> Model: ...

    service = Service("stock")
    service.router.post("/a", handler)
    document = openapi(service, version="1")
    operation, schemas = document["paths"]["/a"]["post"], document["components"]["schemas"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Model"}
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] in (
        {"$ref": "#/components/schemas/Model"},
        {"$ref": "#/components/schemas/Model-Output"},
    )
    assert schemas["Model"]["properties"]["no"]["default"] == 1


def test_what_has_no_schema() -> None:
    """What can be written but not described is JSON of any kind."""

    class Odd(msgspec.Struct):
        a: int

    class Even(msgspec.Struct):
        b: int

    assert answers(list[Odd | Even]) == {"200": {"application/json": {"schema": {}}}}
