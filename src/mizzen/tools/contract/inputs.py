"""Inputs: the parameters and the body of an operation, and what the server says when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_origin

import msgspec

from mizzen.rules.binding import Parameter, Plan
from mizzen.words.json import encode

from .schemas import Schema, Schemas

_TEXTS = ("path", "query", "header")
_ANY_TEXT = (
    str, str | None, list, set, frozenset, tuple,
    list[str], set[str], frozenset[str], tuple[str, ...], list[str] | None, set[str] | None, tuple[str, ...] | None,
)  # fmt: skip
SEGMENT = Annotated[str, msgspec.Meta(min_length=1)]
"""Text in a path: an empty segment is another path."""


def parameters_of(plan: Plan, schemas: Schemas, named: Mapping[str, str], rest: bool) -> list[Schema]:
    """The parameters of an operation, in the order of its function.

    ``named`` maps the function's path parameters to those of the document's path; with ``rest`` the last one takes the
    remainder of the path.
    """
    return [
        _parameter(parameter, schemas, named, rest and parameter.name == plan.route.parameters[-1])
        for parameter in plan.parameters
        if parameter.source in _TEXTS
    ]


def _parameter(parameter: Parameter, schemas: Schemas, named: Mapping[str, str], rest: bool) -> Schema:
    in_path = parameter.source == "path"
    type = SEGMENT if in_path and not rest and _any_text(parameter.type) else parameter.type
    made: Schema = {
        "name": named[parameter.field] if in_path else parameter.field,
        "in": parameter.source,
        "required": parameter.required,
    }
    if rest:
        made["description"] = "The remainder of the path, its slashes included."
    if (said := _said(parameter.type)) is not None:
        made["description"] = said
    made["schema"] = schemas.read(type, **_default(parameter))
    return made


def _said(annotation: Any) -> str | None:
    """The description that an annotation carries, for readers who do not look into the schema."""
    if get_origin(annotation) is not Annotated:
        return None
    metas = [meta for meta in annotation.__metadata__ if isinstance(meta, msgspec.Meta)]
    return next((meta.description for meta in metas if meta.description), None)


def _default(parameter: Parameter) -> Schema:
    """The default where it says more than that the parameter may be left out."""
    if parameter.required or parameter.default is None:
        return {}
    try:
        return {"default": msgspec.json.decode(encode(parameter.default))}
    except (TypeError, ValueError):  # no value that a caller could send
        return {}


def body_of(plan: Plan, schemas: Schemas) -> Schema | None:
    """The request body of an operation; None when it takes none."""
    body = _body(plan)
    if body is None:
        return None
    if is_raw(body):  # whatever it says it is, and also none
        return {"required": False, "content": {"*/*": {}}}
    schema = schemas.read(body.type, **_default(body))
    return {"required": body.required, "content": {"application/json": {"schema": schema}}}


def is_raw(body: Parameter) -> bool:
    """Whether a body is taken as it is."""
    return body.streams or body.type is bytes


def refusals(plan: Plan) -> Iterator[int]:
    """Statuses of what the server says by itself about an operation's inputs."""
    sources = {parameter.source for parameter in plan.parameters}
    body = _body(plan)
    yield 400
    if sources & {"path", "query"}:
        yield 414
    if "header" in sources:
        yield 431
    if body is not None:
        yield from (408, 413) if is_raw(body) else (408, 413, 415)
    if any(_may_be_wrong(parameter) for parameter in plan.parameters):
        yield 422


def _may_be_wrong(parameter: Parameter) -> bool:
    """Whether a request can carry it in a way that is not taken."""
    match parameter.source:
        case "path":
            return not _any_text(parameter.type)
        case "query":  # one that is wanted once may be given twice
            return parameter.required or not (parameter.many and _any_text(parameter.type))
        case "header":
            return parameter.required or not _any_text(parameter.type)
        case "body":
            return not is_raw(parameter)
    return False


def _any_text(annotation: Any) -> bool:
    """Whether every text, or every row of such, is a value of it."""
    if get_origin(annotation) is Annotated:
        if any(isinstance(said, msgspec.Meta) for said in annotation.__metadata__):
            return False
        annotation = annotation.__origin__
    return annotation in _ANY_TEXT


def _body(plan: Plan) -> Parameter | None:
    return next((parameter for parameter in plan.parameters if parameter.source == "body"), None)
