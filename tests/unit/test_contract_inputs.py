"""What the document says that an operation takes: parameters, body, and the answers to wrong ones."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic
import pytest

from mizzen import Context, Header, Request, Service
from mizzen.tools.contract import openapi

Count = Annotated[int, msgspec.Meta(ge=1, le=100, description="How many.")]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=r"\A(?P<c>[a-z])[](?P<]?\(?P<x>(?P=c)\Z")]
    count: int = 1


@dataclass
class Span:
    start: int


class Options(TypedDict):
    size: int


class Model(pydantic.BaseModel):
    number: int = pydantic.Field(alias="no", ge=0)
    inner: Inner


class Inner(pydantic.BaseModel):
    text: str = "a"


def operation(annotations: dict[str, Any], defaults: dict[str, Any] | None = None, *, template: str = "/a") -> Any:
    """The operation of a POST whose function has these parameters, and its document's components."""

    async def handler(**_: Any) -> None: ...

    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotation,
            default=(defaults or {}).get(name, inspect.Parameter.empty),
        )
        for name, annotation in annotations.items()
    ]
    handler.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    handler.__annotations__ = annotations
    service = Service("stock")
    service.router.post(template, handler)
    document = openapi(service, version="1")
    [operations] = document["paths"].values()
    return operations["post"], document["components"]["schemas"]


def parameter(annotation: Any, *, template: str = "/a", **more: Any) -> Any:
    """What the document says of the only parameter, `value`."""
    [found] = operation({"value": annotation}, more, template=template)[0]["parameters"]
    return found


def refused(annotation: Any, *, template: str = "/a", **more: Any) -> set[str]:
    """The documented statuses that say that the only parameter, `value`, was wrong."""
    responses = operation({"value": annotation}, more, template=template)[0]["responses"]
    return {status for status in responses if status.startswith("4")}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string", "minLength": 1}),
        (int, {"type": "integer"}),
        (Count, {"type": "integer", "minimum": 1, "maximum": 100, "description": "How many."}),
        (bool, {"type": "boolean"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (dt.date, {"type": "string", "format": "date"}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Colour, {"$ref": "#/components/schemas/Colour"}),
    ],
)
def test_a_parameter_of_the_path(annotation: Any, schema: Any) -> None:
    """A path's parameter is required, and has the schema of its type; text there is never empty."""
    found = parameter(annotation, template="/a/{value}")
    assert {**found, "description": None} == {
        "name": "value", "in": "path", "required": True, "description": None, "schema": schema,
    }  # fmt: skip


def test_the_remainder_of_a_path() -> None:
    """A parameter that takes the remainder says so, since a template of OpenAPI cannot; it may be empty."""
    found = parameter(str, template="/a/{value:path}")
    assert found["description"] == "The remainder of the path, its slashes included."
    assert found["schema"] == {"type": "string"}


def test_a_parameter_of_the_query() -> None:
    """A query's parameter is required unless it has a default, which is shown; None only says that it may be left out."""
    assert parameter(int) == {"name": "value", "in": "query", "required": True, "schema": {"type": "integer"}}
    assert parameter(Count, value=20)["schema"]["default"] == 20
    assert parameter(Count, value=20)["required"] is False
    assert parameter(Colour, value=Colour.RED)["schema"] == {"$ref": "#/components/schemas/Colour", "default": "red"}
    optional = parameter(int | None, value=None)
    assert (optional["required"], optional["schema"]) == (False, {"anyOf": [{"type": "integer"}, {"type": "null"}]})
    assert parameter(list[int])["schema"] == {"type": "array", "items": {"type": "integer"}}


def test_what_a_type_says_of_itself_is_the_description() -> None:
    """The description of an annotation is the parameter's too, where readers look for it."""
    assert parameter(Count)["description"] == "How many."
    assert "description" not in parameter(int)


def test_a_parameter_of_a_header() -> None:
    """A header is called as on the wire."""
    found = parameter(Annotated[str, Header("X-Tenant")], value="none")
    schema = {"type": "string", "default": "none"}
    assert found == {"name": "x-tenant", "in": "header", "required": False, "schema": schema}


def test_what_no_request_carries_is_not_there() -> None:
    """Request, Context and provided things are no parameters."""
    found, _ = operation({"request": Request, "context": Context})
    assert not {"parameters", "requestBody"} & found.keys()


@pytest.mark.parametrize("type", [Item, Span, Options, Model])
def test_a_body(type: Any) -> None:
    """A Struct, dataclass, TypedDict or pydantic model is a JSON body, its schema among the components."""
    found, schemas = operation({"value": type})
    body = {"schema": {"$ref": f"#/components/schemas/{type.__name__}"}}
    assert found["requestBody"] == {"required": True, "content": {"application/json": body}}
    assert schemas[type.__name__]["type"] == "object"


def test_a_body_that_may_be_missing() -> None:
    """A body with a default is not required; one of another form than an object is described where it stands."""
    found, _ = operation({"value": list[Item] | None}, {"value": None})
    items = {"type": "array", "items": {"$ref": "#/components/schemas/Item"}}
    assert found["requestBody"] == {
        "required": False,
        "content": {"application/json": {"schema": {"anyOf": [items, {"type": "null"}]}}},
    }


@pytest.mark.parametrize("type", [bytes, AsyncIterator[bytes]])
def test_a_body_that_is_taken_as_it_is(type: Any) -> None:
    """Bytes, whole or as they arrive, may be of any media type and none at all, and cannot be wrong."""
    found, _ = operation({"value": type})
    assert found["requestBody"] == {"required": False, "content": {"*/*": {}}}
    assert {status for status in found["responses"] if status.startswith("4")} == {"400", "408", "413"}


def test_patterns_are_in_the_words_of_json_schema() -> None:
    """Ends and named groups of a pattern are spelt as ECMA-262 does, classes and what is escaped are left alone."""
    _, schemas = operation({"value": Item})
    assert schemas["Item"]["properties"]["name"]["pattern"] == r"^(?<c>[a-z])[\](?P<]?\(?P<x>\k<c>$"


@pytest.mark.parametrize(
    ("annotation", "options", "statuses"),
    [
        (Request, {}, "400"),
        (str, {"template": "/a/{value}"}, "400 414"),
        (int, {"template": "/a/{value}"}, "400 414 422"),
        (str, {"value": "a"}, "400 414 422"),
        (str, {}, "400 414 422"),
        (list[str], {"value": []}, "400 414"),
        (list[int], {"value": []}, "400 414 422"),
        (Annotated[str, Header()], {}, "400 422 431"),
        (Annotated[str, Header()], {"value": "a"}, "400 431"),
        (Annotated[int, Header()], {"value": 1}, "400 422 431"),
        (Item, {}, "400 408 413 415 422"),
        (Item | None, {"value": None}, "400 408 413 415 422"),
        (bytes, {}, "400 408 413"),
    ],
)
def test_the_answers_to_wrong_inputs(annotation: Any, options: dict[str, Any], statuses: str) -> None:
    """An operation has the refusals that its inputs can meet, and no others."""
    assert refused(annotation, **options) == set(statuses.split())


def test_a_model_inside_of_a_struct() -> None:
    """A pydantic model anywhere inside of another type is a component, with what it is made of."""
    inside = msgspec.defstruct("Inside", [("models", list[Model])])
    _, schemas = operation({"value": inside})
    assert schemas["Inside"]["properties"]["models"]["items"] == {"$ref": "#/components/schemas/Model"}
    assert schemas["Model"]["properties"]["no"]["minimum"] == 0
    assert schemas["Model"]["properties"]["inner"] == {"$ref": "#/components/schemas/Inner"}


def test_two_classes_of_one_name() -> None:
    """Two classes of one name, even one that describes itself and one that does not, are two components."""
    other = type("Model", (msgspec.Struct,), {"__annotations__": {"a": int}, "__module__": "elsewhere"})
    both = msgspec.defstruct("Both", [("one", Model), ("other", other)])
    _, schemas = operation({"value": both})
    assert schemas["Both"]["properties"] == {
        "one": {"$ref": "#/components/schemas/Model-2"},
        "other": {"$ref": "#/components/schemas/Model"},
    }
    third = type("Item", (msgspec.Struct,), {"__annotations__": {"a": int}, "__module__": "elsewhere"})
    _, schemas = operation({"value": msgspec.defstruct("Two", [("one", Item), ("other", third)])})
    assert {"elsewhere.Item", f"{__name__}.Item"} <= schemas.keys()
