"""Names: what the routes of an app are called, by what the app writes into the scope or by matching as it does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from mizzen.edges.asgi.names import Names


async def endpoint(request: Request) -> PlainTextResponse:
    return PlainTextResponse("")


async def other(request: Request) -> PlainTextResponse:
    return PlainTextResponse("")


class Copying:
    """A middleware that hands a copy of the scope on: nothing comes back in ours."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


def starlette() -> Starlette:
    inner = Router([Route("/{id:int}/parts", endpoint), Route("/same", endpoint)])
    return Starlette(
        routes=[
            Route("/", endpoint),
            Route("/users/{id}", endpoint, methods=["GET"]),
            Route("/users/{id}", other, methods=["DELETE"]),
            Route("/files/{path:path}", other),
            Mount("/api", inner),
            Mount("/again", inner),
            Mount("/{tenant}/static", app=PlainTextResponse("")),
            Host("api.test", Router([Route("/by-host", endpoint)])),
            WebSocketRoute("/ws/{room}", endpoint),
        ]
    )


def fastapi() -> FastAPI:
    app, sub = FastAPI(), FastAPI()
    router = APIRouter(prefix="/things")
    router.add_api_route("/{id}", endpoint)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    sub.include_router(router)
    app.mount("/sub", sub)
    app.add_api_route("/plain/{id}", endpoint)
    return app


def ask(app: Any, method: str, path: str, *, root: str = "", host: str = "a.test", names: Names | None = None) -> str | None:
    """Let the app answer, and give what the request is called then."""
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": root + path, "root_path": root, "headers": [(b"host", host.encode())],
        "query_string": b"", "asgi": {"version": "3.0", "spec_version": "2.4"},
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None: ...

    asyncio.run(app(scope, receive, send))
    return (names or Names(app, root=root)).of(scope)


STARLETTE = [
    ("GET", "/", "/"),
    ("GET", "/users/7", "/users/{id}"),
    ("POST", "/users/7", "/users/{id}"),
    ("GET", "/files/a/b", "/files/{path}"),
    ("GET", "/api/7/parts", "/api/{id}/parts"),
    ("GET", "/again/7/parts", "/again/{id}/parts"),
    ("GET", "/again/same", "/again/same"),
    ("GET", "/acme/static/x.css", "/{tenant}/static/{path}"),
    ("GET", "/nothing", ""),
]
FASTAPI = [
    ("GET", "/v1/things/7", "/v1/things/{id}"),
    ("GET", "/v2/things/7", "/v2/things/{id}"),
    ("GET", "/sub/things/7", "/sub/things/{id}"),
    ("GET", "/plain/7", "/plain/{id}"),
    ("GET", "/openapi.json", "/openapi.json"),
    ("GET", "/nothing/7", ""),
]


@pytest.mark.parametrize("root", ["", "/legacy"])
@pytest.mark.parametrize("around", [lambda app: app, Copying], ids=["bare", "copied-scope"])
@pytest.mark.parametrize(
    ("make", "method", "path", "template"),
    [(starlette, *case) for case in STARLETTE] + [(fastapi, *case) for case in FASTAPI],
)
def test_a_request_is_called_by_its_template(make: Any, around: Any, root: str, method: str, path: str, template: str) -> None:
    """Routes, mounts and included routers give the template, whether the scope tells it or a match has to."""
    assert ask(around(make()), method, path, root=root) == template


def test_a_route_of_a_host_is_named() -> None:
    """Where an app routes by host, what is inside has its own template."""
    assert ask(starlette(), "GET", "/by-host", host="api.test") == "/by-host"


def test_a_route_that_is_added_later_is_named() -> None:
    """An app may add routes when it starts, or at any time."""
    app = FastAPI()
    names = Names(app)
    app.add_api_route("/a/{id}", endpoint)
    assert ask(app, "GET", "/a/1", names=names) == "/a/{id}"
    app.add_api_route("/b/{id}", endpoint)
    assert ask(app, "GET", "/b/1", names=names) == "/b/{id}"


def test_the_known_routes_are_looked_up_and_not_matched() -> None:
    """The second request for a route costs a look into a dict, however many routes there are."""
    app = starlette()
    names = Names(app)
    assert ask(app, "GET", "/files/a", names=names) == "/files/{path}"
    names.all = None  # type: ignore[method-assign, assignment]  # whoever looks all routes through fails now
    assert ask(app, "GET", "/files/b", names=names) == "/files/{path}"


async def bare(scope: Any, receive: Any, send: Any) -> None: ...


class Foreign:
    """An app of another make, whose routes are its own affair."""

    routes: tuple[object, ...] | list[object] = [object()]  # noqa: RUF012  # as such an app has them

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("app", [bare, Foreign()])
def test_an_app_that_shows_nothing_names_nothing(app: Any) -> None:
    """Nobody can tell: the caller calls it by where the app is mounted."""
    assert ask(app, "GET", "/users/7") is None


def test_apps_in_a_circle_are_looked_through_once() -> None:
    """A middleware around itself is no reason to hang."""
    circle = Copying(None)
    circle.app = circle
    assert Names(circle).all() == []


def test_all_routes_are_told() -> None:
    """Templates, methods and endpoints of everything that an app shows, mounted apps and WebSockets too."""
    told = {(named.template, named.methods) for named in Names(starlette()).all()}
    assert {("/users/{id}", ("GET", "HEAD")), ("/users/{id}", ("DELETE",)), ("/api/same", ("GET", "HEAD"))} <= told
    assert ("/ws/{room}", ()) in told
    assert {named.template for named in Names(fastapi()).all()} >= {"/v1/things/{id}", "/v2/things/{id}", "/sub/things/{id}"}
