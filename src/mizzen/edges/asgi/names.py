"""Names: what an app's routes are called in metrics and access lines, as far as the app shows them.

Starlette and what is built on it (FastAPI) keep their routes in ``routes`` and write into the scope which one matched.
Nothing of them is imported: what is looked at is what they show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

DEPTH = 32
"""Middlewares around an app, and apps inside of one another, that are looked through; more is a circle."""


class Named(NamedTuple):
    """One route of an app."""

    template: str
    methods: tuple[str, ...]
    """In alphabetical order; empty where it answers any, such as a mounted app or a WebSocket."""
    endpoint: Any
    route: Any
    """The object that the app writes into the scope, or matches by."""
    prefix: str
    """What of the template belongs to the mounts that it stands in."""


class Names:
    """The names of the routes of an app that is mounted at ``root``."""

    def __init__(self, app: Any, *, root: str = "") -> None:
        self._mounted_at = root
        self._root = _router(app)
        self._known: dict[int, tuple[Any, str | None]] = {}

    @property
    def shown(self) -> bool:
        """Whether the app shows its routes at all."""
        return self._root is not None

    def all(self) -> list[Named]:
        """Every route that the app shows now; one may be added at any time."""
        return [] if self._root is None else list(_walk(self._root.routes, "", DEPTH))

    def of(self, scope: Mapping[str, Any]) -> str | None:
        """The template of the route that answered ``scope``; empty when none did, None when nobody can tell."""
        if self._root is None:
            return None
        found = _matched(scope)
        if found is not None:
            known = self._known.get(id(found)) or self._learn(found)
            if known[1] is not None:
                return known[1]
        elif "router" in scope:  # its routing looked, and found nothing
            return ""
        return self._match(scope)

    def _learn(self, found: Any) -> tuple[Any, str | None]:
        """Look all routes through for the one that is not known yet; what has two names is found by matching."""
        for named in self.all():
            for key in (named.route, named.endpoint):
                if key is None:
                    continue
                known = self._known.get(id(key))
                self._known[id(key)] = (key, named.template if known is None or known[1] == named.template else None)
        return self._known.setdefault(id(found), (found, None))

    def _match(self, scope: Mapping[str, Any]) -> str | None:
        """Match as the app does; for what writes nothing into the scope, or into a copy of it."""
        partial, looked = "", False
        path = scope["path"].removeprefix(self._mounted_at)
        for named in self.all():
            if not hasattr(named.route, "matches"):
                continue
            looked = True
            if not path.startswith(named.prefix):  # a mount with parameters is not looked into
                continue
            given = {key: scope[key] for key in ("type", "method", "path", "headers")}
            given["root_path"] = self._mounted_at + named.prefix  # the scope's own was changed on the way
            how, _ = named.route.matches(given)
            if how.name == "FULL":
                return named.template
            if how.name == "PARTIAL":
                partial = partial or named.template
        return partial if looked else None


def _matched(scope: Mapping[str, Any]) -> Any:
    inner = scope.get("fastapi")  # where routers are included by reference, the route alone lacks their prefix
    if isinstance(inner, dict) and inner.get("effective_route_context") is not None:
        return inner["effective_route_context"]
    route = scope.get("route")
    return scope.get("endpoint") if route is None else route


def _router(app: Any) -> Any:
    """The app below its middlewares that shows its routes; None when none does."""
    for _ in range(DEPTH):
        if isinstance(getattr(app, "routes", None), list):
            return app
        app = getattr(app, "app", None)
        if app is None:
            return None
    return None


def _walk(routes: Any, prefix: str, depth: int) -> Iterator[Named]:
    for route in routes if depth else ():
        if hasattr(route, "effective_route_contexts"):  # a router included by reference
            for context in route.effective_route_contexts():
                shown = getattr(context, "starlette_route", None) or context
                for named in _one(shown, prefix, depth):
                    yield named
                    if named.route is shown and shown is not context:  # the scope may have either of them
                        yield named._replace(route=context)
        else:
            yield from _one(route, prefix, depth)


def _one(route: Any, prefix: str, depth: int) -> Iterator[Named]:
    template = getattr(route, "path_format", None)
    if template is None:
        template = getattr(route, "path", "")
    inside = _router(getattr(route, "app", None)) if not hasattr(route, "endpoint") else None
    if inside is not None:
        yield from _walk(inside.routes, prefix + getattr(route, "path", ""), depth - 1)
    methods = tuple(sorted(getattr(route, "methods", None) or ()))
    endpoint = getattr(route, "endpoint", None) or getattr(route, "app", None)
    if template:
        yield Named(prefix + template, methods, endpoint, route, prefix)
