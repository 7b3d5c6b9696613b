"""Document: a whole service as OpenAPI 3.1, in an order that depends on nothing but its contract."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from typing import Any

from mizzen.assembly.service import Service
from mizzen.rules.router import Route

from .operations import domain_module, domain_of, identifier, operation
from .peers import calling
from .problems import HEADERS, Problems
from .schemas import Schema, Schemas

OPENAPI = "3.1.0"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""The methods that a path of OpenAPI 3.1 can have, in its order; there are no others to say it with."""
_PARAMETER = re.compile(r"\{([^{}:]*)(:path)?\}")


def openapi(service: Service, *, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a service, ``version`` its own; raises ``StartError`` when it cannot start.

    ``/health`` and the like are the platform's and not in it; nor is what :func:`unspoken` tells.
    """
    schemas = Schemas()
    problems = Problems(schemas)
    callers = calling(service)
    paths = _Paths(service.router.routes)
    ids = _Ids()
    for route, plan in service.plans():
        method = _method(route)
        id = ids.of(route)
        if method not in METHODS:
            continue
        template, named = paths.place(route)
        paths.made[template][method] = operation(
            route,
            plan,
            id=id,
            schemas=schemas,
            problems=problems,
            named=named,
            rest=_is_rest(route),
            calls=not callers.isdisjoint(plan.needs),
        )
    named_schemas = schemas.components()
    responses = problems.components(named_schemas)
    return {
        "openapi": OPENAPI,
        "info": {"title": service.name, "version": version},
        "tags": _tags(route for route in service.router.routes if _method(route) in METHODS),
        "paths": {
            template: {method: operations[method] for method in METHODS if method in operations}
            for template, operations in sorted(paths.made.items())
        },
        "components": {"schemas": named_schemas, "responses": responses, "headers": HEADERS},
    }


def unspoken(service: Service) -> list[str]:
    """What the service answers and the document does not have: methods without a word for them, apps with their own."""
    routes = [f"{route}: OpenAPI 3.1 has no such method" for route in service.router.routes if _method(route) not in METHODS]
    return routes + [f"{each.name}: a document of it is its own to make" for each in service.apps]


class _Paths:
    """The paths of a document: templates that differ in nothing but names are one path, under the first one's names."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.made: dict[str, dict[str, Schema]] = {}
        self._templates: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._shapes = {_shape(route) for route in routes}

    def place(self, route: Route) -> tuple[str, dict[str, str]]:
        """The path of a route, and what its parameters are called there."""
        shape = _shape(route)
        if shape not in self._templates:
            names = list(route.parameters)
            if _is_rest(route) and shape.replace(":path", "") in self._shapes:
                names[-1] += "_rest"  # a path of its own, though OpenAPI cannot say what more it takes
            given = iter(names)
            template = _PARAMETER.sub(lambda _: f"{{{next(given)}}}", route.template)
            self._templates[shape] = template, tuple(names)
            self.made[template] = {}
        template, names_there = self._templates[shape]
        return template, dict(zip(route.parameters, names_there, strict=True))


class _Ids:
    """Operation ids: the function's name; for its second route, and a second function of that name, with method and path."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, route: Route) -> str:
        name = identifier(route.name) or "handler"
        if name in self._given:
            name = f"{name}_{identifier(str(route)).lower()}"
        while name in self._given:  # `/a-b` and `/a_b`
            name += "_"
        self._given.add(name)
        return name


def _tags(routes: Iterable[Route]) -> list[Schema]:
    """The domains that have an operation, each with the first paragraph of its package's docstring."""
    tags: dict[str, Schema] = {}
    for route in routes:
        name = domain_of(route)
        about = (inspect.getdoc(sys.modules.get(domain_module(route))) or "").partition("\n\n")[0]
        tags.setdefault(name, {"name": name, **({"description": " ".join(about.split())} if about else {})})
    return [tags[name] for name in sorted(tags)]


def _method(route: Route) -> str:
    return route.method.lower()


def _is_rest(route: Route) -> bool:
    """Whether its last parameter takes the remainder of the path."""
    return route.template.endswith(":path}")


def _shape(route: Route) -> str:
    """A template without its names."""
    return _PARAMETER.sub(lambda found: "{:path}" if found[2] else "{}", route.template)
