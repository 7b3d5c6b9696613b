"""The document as a whole: valid OpenAPI 3.1, ordered, with an id for every operation and a tag for every domain."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import jsonschema_rs
import msgspec
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from mizzen import Conflict, Header, NotFound, Request, Response, Router, Service, StartError
from mizzen.tools.contract import openapi, unspoken


class Item(msgspec.Struct):
    """What is for sale."""

    name: str
    tags: list[str] = []


class Missing:
    """What nobody provides."""


class Sold(Conflict):
    """Somebody was faster."""


def service_of(*routes: tuple[str, str, Callable[..., Any]], **options: Any) -> Service:
    service = Service("stock")
    for method, template, function in routes:
        service.router.route(method, template, function, **options)
    return service


def document_of(*routes: tuple[str, str, Callable[..., Any]], **options: Any) -> Any:
    return openapi(service_of(*routes, **options), version="1.2.0")


async def get_item(name: str) -> Item:
    """One item.

    What is not in stock is not there.
    """
    return Item(name)


async def put_item(item: str, new: Item, who: Annotated[str, Header("x-who")] = "nobody") -> Annotated[Response, Item]:
    return Response.json_of(new)


async def list_items(limit: Annotated[int, msgspec.Meta(ge=1)] = 20, tag: list[str] = []) -> list[Item]:  # noqa: B006
    return []


async def watch(request: Request) -> AsyncIterator[Item]:
    yield Item("tea")


async def upload(body: AsyncIterator[bytes], rest: str) -> None: ...


EVERYTHING = (
    ("GET", "/items", list_items),
    ("GET", "/items/{name}", get_item),
    ("PUT", "/items/{item}", put_item),
    ("GET", "/watch", watch),
    ("POST", "/files/{rest:path}", upload),
)


def test_the_document_is_valid() -> None:
    """A document with every kind of route is valid by OpenAPI's own schema, and so is each schema in it by JSON Schema's."""
    document = document_of(*EVERYTHING, raises=[NotFound, Sold])
    errors = jsonschema_rs.Draft202012Validator(OPENAPI_31).iter_errors(document)
    assert [error.message for error in errors] == []
    assert document["openapi"].startswith("3.1.")
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.Draft202012Validator({"$schema": "https://json-schema.org/draft/2020-12/schema", **document, **schema})


def test_every_reference_leads_somewhere() -> None:
    """Whatever a document refers to is in it."""
    document = document_of(*EVERYTHING, raises=[NotFound, Sold])
    references = [*_references(document)]
    assert len(references) > 20
    for reference in references:
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def _references(part: Any) -> Any:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for item in part:
            yield from _references(item)


def test_a_service_without_routes() -> None:
    """A service that answers nothing but the platform has a valid, empty document."""
    document = document_of()
    assert (document["paths"], document["info"]) == ({}, {"title": "stock", "version": "1.2.0"})
    assert jsonschema_rs.Draft202012Validator(OPENAPI_31).is_valid(document)


def test_the_order_is_the_contracts() -> None:
    """The same routes in another order give the same bytes, so that a document can be compared and committed."""
    written = json.dumps(document_of(*EVERYTHING))
    assert json.dumps(document_of(*EVERYTHING)) == written
    both = [route for route in EVERYTHING if route[2] is not put_item]
    assert json.dumps(document_of(*both)) == json.dumps(document_of(*reversed(both)))


def test_templates_that_differ_in_names_are_one_path() -> None:
    """OpenAPI has one path for templates of one shape: the first one's names stand for both."""
    document = document_of(*EVERYTHING)
    assert list(document["paths"]) == ["/files/{rest}", "/items", "/items/{name}", "/watch"]
    assert list(document["paths"]["/items/{name}"]) == ["get", "put"]
    parameters = document["paths"]["/items/{name}"]["put"]["parameters"]
    assert [(parameter["name"], parameter["in"]) for parameter in parameters] == [("name", "path"), ("x-who", "header")]


def test_a_rest_beside_a_parameter() -> None:
    """A template that takes the remainder has a path of its own beside one that takes a segment."""
    routes = ("GET", "/items/{name}", get_item), ("GET", "/items/{name:path}", get_item)
    document = document_of(*routes)
    assert document["paths"].keys() == {"/items/{name}", "/items/{name_rest}"} == document_of(*routes[::-1])["paths"].keys()
    [parameter] = document["paths"]["/items/{name_rest}"]["get"]["parameters"]
    assert (parameter["name"], parameter["description"]) == ("name_rest", "The remainder of the path, its slashes included.")
    assert parameter["schema"] == {"type": "string"}


def test_operation_ids_are_unique() -> None:
    """An operation is called as its function; what comes later under that name says method and path."""
    routes = [("GET", "/a", watch), ("GET", "/a-b", watch), ("GET", "/a_b", watch), ("POST", "/a", watch), ("GET", "/", watch)]
    paths = document_of(*routes)["paths"]
    ids = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert sorted(ids) == ["watch", "watch_get", "watch_get_a_b", "watch_get_a_b_", "watch_post_a"]
    [operation] = document_of(("GET", "/", lambda: None))["paths"]["/"].values()
    assert operation["operationId"] == "lambda"


def test_the_docstring_is_the_description() -> None:
    """The first paragraph of a handler's docstring is the summary, the rest the description; without one there is neither."""
    paths = document_of(("GET", "/a/{name}", get_item), ("GET", "/b", list_items))["paths"]
    assert paths["/a/{name}"]["get"]["summary"] == "One item."
    assert paths["/a/{name}"]["get"]["description"] == "What is not in stock is not there."
    assert not {"summary", "description"} & paths["/b"]["get"].keys()


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A domain `till` of the package `shop`, with a module of its own for its handlers."""
    for name, doc in {"corner": "", "corner.till": "The till: who paid.\n\nMore.", "corner.till.handlers": "No."}.items():
        module = types.ModuleType(name, doc)
        module.__package__ = name.removesuffix(".handlers")
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["corner.till"], "register_handlers", lambda router: None, raising=False)
    return sys.modules["corner.till.handlers"]


def test_tags_are_domains(domain: types.ModuleType) -> None:
    """An operation is tagged with the package whose `register_handlers` is nearest, which the document describes."""

    async def pay() -> None: ...

    async def other() -> None: ...

    pay.__module__, other.__module__ = "corner.till.handlers", "corner"
    document = document_of(("GET", "/pay", pay), ("GET", "/other", other))
    assert document["paths"]["/pay"]["get"]["tags"] == ["till"]
    assert document["tags"] == [{"name": "corner"}, {"name": "till", "description": "The till: who paid."}]


def test_a_method_that_openapi_does_not_have() -> None:
    """A method without a word in OpenAPI is left out, and told of."""
    service = service_of(("GET", "/a", watch), ("PURGE", "/a", watch))
    assert list(openapi(service, version="1")["paths"]["/a"]) == ["get"]
    assert unspoken(service) == ["PURGE /a: OpenAPI 3.1 has no such method"]


def test_an_app_is_left_out() -> None:
    """A mounted app describes itself, or does not; that it is left out is told."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    service = service_of(("GET", "/a", watch))
    service.mount_app("/old", app)
    assert list(openapi(service, version="1")["paths"]) == ["/a"]
    assert unspoken(service) == ["the app at /old: a document of it is its own to make"]


def test_a_prefix_and_a_mount() -> None:
    """Routes of mounted domains are there under their prefix."""

    def register_handlers(router: Router) -> None:
        router.get("/items", list_items)

    service = Service("stock")
    service.mount(register_handlers, prefix="/v2")
    assert list(openapi(service, version="1")["paths"]) == ["/v2/items"]


def test_a_service_that_cannot_start_has_no_document() -> None:
    """What would keep a service from starting keeps its document from being made, with the same words."""

    async def needs(missing: Missing) -> None: ...

    with pytest.raises(StartError, match="stock cannot start: needs needs Missing"):
        document_of(("GET", "/a", needs))
