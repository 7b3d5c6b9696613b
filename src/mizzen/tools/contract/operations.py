"""Operations: what one route takes and answers."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

from mizzen.rules.binding import REQUIRED, Plan
from mizzen.rules.binding.forms import ANYTHING, Form, forms_of
from mizzen.rules.router import Route
from mizzen.words.where import plain

from .inputs import body_of, parameters_of, refusals
from .problems import TRACE_ID, Problems, header, phrase
from .schemas import Schema, Schemas

ALWAYS = (500, 503, 504)
"""What every operation may answer: a defect, an overload or a stop, its deadline."""
CALLS = (502,)
"""What one may answer beside it that calls another service."""


def operation(
    route: Route,
    plan: Plan,
    *,
    id: str,
    schemas: Schemas,
    problems: Problems,
    named: Mapping[str, str],
    rest: bool,
    calls: bool,
) -> Schema:
    """The operation of one route; ``calls`` says that it depends on another service."""
    made: Schema = {"operationId": id, "tags": [domain_of(route)]}
    summary, description = _docs(route)
    if summary:
        made["summary"] = summary
    if description:
        made["description"] = description
    if parameters := parameters_of(plan, schemas, named, rest):
        made["parameters"] = parameters
    if (body := body_of(plan, schemas)) is not None:
        made["requestBody"] = body
    made["responses"] = _responses(route, plan, schemas, problems, calls)
    return made


def domain_of(route: Route) -> str:
    """The package that declares the route's domain: the nearest one around its function with ``register_handlers``."""
    return domain_module(route).rpartition(".")[2]


def domain_module(route: Route) -> str:
    """The whole name of that package; without one, of the package or module of the function."""
    module = getattr(plain(route.function), "__module__", None) or type(route.function).__module__
    name = module
    while name:
        if hasattr(sys.modules.get(name), "register_handlers"):
            return name
        name = name.rpartition(".")[0]
    return getattr(sys.modules.get(module), "__package__", None) or module


def _docs(route: Route) -> tuple[str, str]:
    """The first paragraph of the handler's docstring in one line, and the rest."""
    first, _, rest = (inspect.getdoc(plain(route.function)) or "").partition("\n\n")
    return " ".join(first.split()), rest.strip()


def _responses(route: Route, plan: Plan, schemas: Schemas, problems: Problems, calls: bool) -> dict[str, Schema]:
    made: dict[int, Schema] = {}
    for form in forms_of(plan.returns, route.status):
        made[form.status] = _joined(made.get(form.status), _success(form, schemas))
    by_itself = {*refusals(plan), *ALWAYS, *(CALLS if calls else ())}
    for status in sorted({*by_itself, *(kind.status for kind in route.raises)}):
        raised = [kind for kind in route.raises if kind.status == status]
        failure = problems.answer(status, raised, own=status in by_itself)
        made.setdefault(status, failure)  # a route may answer plainly with what is a failure elsewhere
    return {str(status): made[status] for status in sorted(made)}


def _success(form: Form, schemas: Schemas) -> Schema:
    made: Schema = {"description": phrase(form.status), "headers": {TRACE_ID: header(TRACE_ID)}}
    for name in form.headers:
        made["headers"][name] = {"required": True, "schema": {"type": "string"}}
    if form.content_type:
        made["content"] = {form.content_type.partition(";")[0]: _media(form, schemas)}
    return made


def _media(form: Form, schemas: Schemas) -> Schema:
    kind = form.content_type.partition(";")[0]
    if kind in (ANYTHING, "application/octet-stream") or form.type is REQUIRED:
        return {}
    if kind == "text/plain":
        return {"schema": {"type": "string"} if form.streams else schemas.written(form.type)}
    if form.streams:  # OpenAPI 3.1 has no word for the schema of each line
        text = "One JSON document on each line."
        return {"schema": {"type": "string", "description": text}, "x-item-schema": schemas.written(form.type)}
    return {"schema": schemas.written(form.type)}


def _joined(one: Schema | None, other: Schema) -> Schema:
    """Two forms of one status: either's media types, and where these are the same, either's schema."""
    if one is None:
        return other
    content = dict(one.get("content", {}))
    for kind, media in other.get("content", {}).items():
        content[kind] = {"schema": {"anyOf": _either(content[kind]) + _either(media)}} if kind in content else media
    # a header that only one of them has is not always there
    headers = {**other["headers"], **one["headers"]}
    for name in one["headers"].keys() ^ other["headers"].keys():
        headers[name] = {"schema": headers[name]["schema"]}
    return {**one, "headers": headers, **({"content": content} if content else {})}


def _either(media: Schema) -> list[Any]:
    # only an anyOf of ours has no place of its own yet: a type's schema is filled in at the end
    schema = media.get("schema", {})
    return list(schema["anyOf"]) if schema.keys() == {"anyOf"} else [schema]


def identifier(text: str) -> str:
    """A text as an identifier of any language."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
