"""Which function answers a method and path, and what is refused before a service starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.rules.router import Route, Router, Table
from mizzen.words.errors import BadRequest, NotFound, StartError
from mizzen.words.handler import Handler


async def answer() -> None:
    """A function to route to."""


class Answerer:
    """An object to route to."""

    async def __call__(self) -> None:
        """Answer."""


def layer(handler: Handler) -> Handler:
    """A layer that changes nothing."""
    return handler


def other_layer(handler: Handler) -> Handler:
    """Another one."""
    return handler


def table(*lines: str) -> Table[str]:
    """A table of lines such as ``GET /users``, each of which is its own entry."""
    return Table([(Route(line.split()[0], line.split()[1], answer), line) for line in lines])


def test_a_literal_path_is_found() -> None:
    """A path without parameters is found as it is, and nothing near it is."""
    routes = table("GET /", "GET /users", "GET /users/")
    assert routes.match("GET", "/") == ("GET /", ())
    assert routes.match("GET", "/users") == ("GET /users", ())
    assert routes.match("GET", "/users/") == ("GET /users/", ())
    for path in ("/user", "/users/1", "//users", "users", "*", "", "/users//"):
        assert routes.match("GET", path) is None


def test_parameters_are_one_segment_each_and_in_the_templates_order() -> None:
    """Each parameter takes one segment that is not empty; the values stand in the order of the template."""
    routes = table("GET /orders/{id}/lines/{n}", "GET /{a}/{b}/{c}/{d}/{e}")
    assert routes.match("GET", "/orders/7/lines/2") == ("GET /orders/{id}/lines/{n}", ("7", "2"))
    assert routes.match("GET", "/1/2/3/4/5") == ("GET /{a}/{b}/{c}/{d}/{e}", ("1", "2", "3", "4", "5"))
    assert routes.match("GET", "/orders//lines/2") is None
    assert routes.match("GET", "/orders/7/lines/") is None
    assert routes.match("GET", "/orders/7/lines/2/3/4") is None


def test_a_rest_takes_what_remains_with_its_slashes() -> None:
    """A parameter with ``:path`` takes the remainder, slashes and emptiness included, but not the slash before it."""
    routes = table("GET /files/{rest:path}", "GET /of/{owner}/{rest:path}")
    assert routes.match("GET", "/files/a/b//c/") == ("GET /files/{rest:path}", ("a/b//c/",))
    assert routes.match("GET", "/files/") == ("GET /files/{rest:path}", ("",))
    assert routes.match("GET", "/files") is None
    assert routes.match("GET", "/of/ann/a/b/c/d/e/f/g") == ("GET /of/{owner}/{rest:path}", ("ann", "a/b/c/d/e/f/g"))
    assert routes.match("GET", "/of//a") is None


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/a/b", "GET /a/b"),
        ("/a/x", "GET /a/{x}"),
        ("/x/b", "GET /{x}/b"),
        ("/x/y", "GET /{x}/{y}"),
        ("/a/b/c", "GET /a/{x:path}"),
        ("/x/b/c", "GET /{x}/b/c"),
        ("/x/y/z", "GET /{x:path}"),
        ("/a/", "GET /a/{x:path}"),
        ("/x", "GET /{x:path}"),
    ],
)
def test_literals_win_over_parameters_and_parameters_over_a_rest(path: str, line: str) -> None:
    """The more literal template wins from left to right, and what does not fit in the end is no obstacle."""
    routes = table(
        "GET /{x:path}", "GET /{x}/{y}", "GET /{x}/b", "GET /{x}/b/c", "GET /a/{x:path}", "GET /a/{x}", "GET /a/b"
    )  # fmt: skip
    found = routes.match("GET", path)
    assert found is not None
    assert found[0] == line


def test_another_methods_literal_does_not_hide_a_parameter() -> None:
    """A literal path of one method leaves the same path to the parameters of another."""
    routes = table("GET /users/me", "DELETE /users/{id}")
    assert routes.match("DELETE", "/users/me") == ("DELETE /users/{id}", ("me",))


def test_head_falls_back_to_get() -> None:
    """HEAD is answered by GET's route unless it has one of its own."""
    routes = table("GET /users/{id}", "GET /own", "HEAD /own", "POST /made")
    assert routes.match("HEAD", "/users/1") == ("GET /users/{id}", ("1",))
    assert routes.match("HEAD", "/own") == ("HEAD /own", ())
    assert routes.match("HEAD", "/made") is None
    assert table("POST /made").match("HEAD", "/made") is None


def test_parameters_are_decoded_after_the_path_is_split() -> None:
    """Percent-encoding is undone in parameters, so that an encoded slash stays inside of one."""
    routes = table("GET /users/{id}", "GET /files/{rest:path}")
    assert routes.match("GET", "/users/a%2Fb%20c+d") == ("GET /users/{id}", ("a/b c+d",))
    assert routes.match("GET", "/users/%C3%A9") == ("GET /users/{id}", ("é",))
    assert routes.match("GET", "/files/%C3%A9/a%20b") == ("GET /files/{rest:path}", ("é/a b",))


def test_literals_match_however_they_are_encoded() -> None:
    """A literal segment is found in whatever form a caller encodes it, and an encoded slash never parts segments."""
    routes = table("GET /café/menu", "GET /a%20b/{id}")
    assert routes.match("GET", "/caf%C3%A9/menu") == ("GET /café/menu", ())
    assert routes.match("GET", "/caf%c3%a9/m%65nu") == ("GET /café/menu", ())
    assert routes.match("GET", "/a%20b/1") == ("GET /a%20b/{id}", ("1",))
    assert routes.match("GET", "/caf%C3%A9%2Fmenu") is None


@pytest.mark.parametrize("bad", ["%FF", "%", "%2", "%zz", "a%C3"])
def test_what_cannot_be_decoded_is_a_bad_request_only_where_a_parameter_takes_it(bad: str) -> None:
    """A parameter that cannot be decoded is a bad request; elsewhere such a path does not exist."""
    routes = table("GET /users/{id}", "GET /files/{rest:path}")
    for path in (f"/users/{bad}", f"/files/a/{bad}/b"):
        with pytest.raises(BadRequest, match="not UTF-8"):
            routes.match("GET", path)
        assert routes.methods(path) == ("GET", "HEAD", "OPTIONS")
    assert routes.match("GET", f"/{bad}/1") is None


def test_methods_of_a_path_are_those_of_every_template_that_matches() -> None:
    """The methods of a path come from every template it matches, with HEAD for GET and OPTIONS always."""
    routes = table("GET /users/me", "DELETE /users/{id}", "PUT /users/{id}", "POST /users")
    assert routes.methods("/users/me") == ("DELETE", "GET", "HEAD", "OPTIONS", "PUT")
    assert routes.methods("/users/1") == ("DELETE", "OPTIONS", "PUT")
    assert routes.methods("/users") == ("OPTIONS", "POST")
    assert routes.methods("/nothing") == ()


def test_an_entry_may_be_anything() -> None:
    """What a table holds is its user's: None and nothing are told apart."""
    routes: Table[None] = Table([(Route("GET", "/a/{b}", answer), None)])
    assert routes.match("GET", "/a/1") == (None, ("1",))
    assert Table([]).match("GET", "/") is None


segments = st.text(min_size=1, max_size=5).filter(lambda text: "\x00" not in text)


@settings(deadline=None)  # a busy machine is no fault
@given(segments, segments)
def test_any_text_survives_a_path(first: str, second: str) -> None:
    """Whatever text a client percent-encodes into a path arrives unchanged."""
    routes = table("GET /a/{x}/{y}", "GET /b/{x}/c/{rest:path}")
    one, two = quote(first.encode("utf-8", "surrogatepass"), safe=""), quote(second.encode("utf-8", "surrogatepass"), safe="")
    assert routes.match("GET", f"/a/{one}/{two}") == ("GET /a/{x}/{y}", (first, second))
    assert routes.match("GET", f"/b/{one}/c/{two}/{one}") == ("GET /b/{x}/c/{rest:path}", (first, f"{second}/{first}"))


parts = st.sampled_from(["a", "b", "{x}", "{y}"])
templates = st.lists(st.lists(parts, min_size=1, max_size=3), min_size=1, max_size=8)
paths = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3)


@settings(deadline=None)
@given(templates, paths)
def test_the_table_finds_what_a_walk_with_backtracking_finds(routes: list[list[str]], path: list[str]) -> None:
    """The table finds the match that a walk, literals first and with backtracking, would find."""
    shapes = {tuple("{}" if part[0] == "{" else part for part in route): route for route in routes}
    named = {shape: [part if part != "{}" else f"{{p{index}}}" for index, part in enumerate(shape)] for shape in shapes}
    entries = [(Route("GET", "/" + "/".join(route), answer), shape) for shape, route in named.items()]

    def walk(done: tuple[str, ...]) -> tuple[str, ...] | None:
        if len(done) == len(path):
            return done if done in shapes else None
        return walk((*done, path[len(done)])) or walk((*done, "{}"))

    found = Table(entries).match("GET", "/" + "/".join(path))
    assert (None if found is None else found[0]) == walk(())


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("users", "does not begin with a slash"),
        ("", "does not begin with a slash"),
        ("/users?all", "a path has no"),
        ("/users#top", "a path has no"),
        ("/a b", "white space"),
        ("/a//b", "empty segment"),
        ("/users/{id", "not one whole parameter"),
        ("/users/{id}.json", "a parameter takes a whole segment"),
        ("/users/{}", "cannot be the name"),
        ("/users/{user-id}", "cannot be the name"),
        ("/users/{id:int}", "annotate id in the function"),
        ("/{rest:path}/end", "not its end"),
        ("/{id}/{id}", "two parameters {id}"),
        ("/%zz", "broken percent-encoding"),
    ],
)
def test_a_bad_template_is_refused_with_place_and_fix(template: str, why: str) -> None:
    """A bad template is refused with what is wrong, where the function stands and what to do."""
    with pytest.raises(StartError) as caught:
        Table([(Route("GET", template, answer), 1)])
    assert why in str(caught.value)
    assert "test_router.py:" in caught.value.where[0]
    assert caught.value.fix


def test_routes_that_answer_the_same_paths_collide() -> None:
    """Two routes of one method and shape collide, and the message shows both."""
    with pytest.raises(StartError) as caught:
        table("GET /users/{id}", "GET /users/{name}")
    assert caught.value.what == "GET /users/{name} answers the paths of GET /users/{id}"
    assert [line.split("  ")[1] for line in caught.value.where] == ["GET /users/{id}", "GET /users/{name}"]
    with pytest.raises(StartError, match="POST /users is there twice"):
        table("POST /users", "POST /users")


def test_other_methods_and_shapes_do_not_collide() -> None:
    """Another method, a literal in place of a parameter, or a rest in place of one is another route."""
    table("GET /users/{id}", "PUT /users/{id}", "GET /users/me", "GET /users/{rest:path}", "GET /{kind}/me")


def test_a_router_keeps_what_is_said_of_a_route() -> None:
    """A router keeps every option of a route, durations in seconds."""
    router = Router()
    router.post("/users", answer, status=201, raises=[NotFound], timeout="250ms", max_body=10, layers=[layer])
    (route,) = router.routes
    assert (route.method, route.template, route.function, route.status) == ("POST", "/users", answer, 201)
    assert (route.raises, route.timeout, route.max_body, route.layers) == ((NotFound,), 0.25, 10, (layer,))
    assert route.name == "answer"
    assert repr(route) == f"<Route POST /users -> answer at {route.where}>"


def test_what_is_not_said_of_a_route_is_left_to_the_server() -> None:
    """A route without options leaves time-out and body limit to the server and answers with 200."""
    route = Route("GET", "/users/{id}/{rest:path}", answer)
    assert (route.status, route.raises, route.timeout, route.max_body, route.layers) == (200, (), None, None, ())
    assert route.parameters == ("id", "rest")


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete", "head", "options"])
def test_every_verb_routes_its_method(verb: str) -> None:
    """Each verb of a router routes the method of its name."""
    router = Router()
    getattr(router, verb)("/x", answer)
    router.route("purge", "/x", answer)
    assert [route.method for route in router.routes] == [verb.upper(), "PURGE"]


def test_a_mounted_domain_adds_its_routes_under_its_prefix() -> None:
    """A mounted domain's routes begin with its prefix and stand in the order in which they were added."""

    def inner(router: Router) -> None:
        router.get("", answer)
        router.get("/{id}", answer)

    def outer(router: Router) -> None:
        router.mount(inner, prefix="/inner")
        router.get("/end", answer)

    router = Router()
    router.get("/first", answer)
    router.mount(outer, prefix="/outer")
    assert [route.template for route in router.routes] == ["/first", "/outer/inner", "/outer/inner/{id}", "/outer/end"]


def test_a_route_added_after_its_domain_was_mounted_is_not_lost() -> None:
    """A domain that keeps its router may add routes later."""
    kept: list[Router] = []
    router = Router()
    router.mount(kept.append, prefix="/late")
    kept[0].get("/x", answer)
    assert [route.template for route in router.routes] == ["/late/x"]


def test_layers_stand_around_every_route_of_their_router() -> None:
    """A router's layers stand outside of its domains' layers, and those outside of a route's own."""

    def domain(router: Router) -> None:
        router.use(other_layer)
        router.get("/in", answer, layers=[layer])

    router = Router()
    router.use(layer)
    router.mount(domain)
    router.get("/out", answer)
    assert [route.layers for route in router.routes] == [(layer, other_layer, layer), (layer,)]


def test_a_layer_after_a_route_is_refused() -> None:
    """A layer that would leave earlier routes out is refused."""
    router = Router()
    router.get("/x", answer)
    with pytest.raises(StartError, match="GET /x would go without it"):
        router.use(layer)


def test_a_place_is_relative_to_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function's place is relative to the working directory when it is below, and whole otherwise."""
    code = answer.__code__
    folder, _, base = code.co_filename.rpartition("/")
    monkeypatch.chdir(folder)
    assert Route("GET", "/", answer).where == f"{base}:{code.co_firstlineno}"
    monkeypatch.chdir("/")
    assert Route("GET", "/", answer).where == f"{code.co_filename.removeprefix('/')}:{code.co_firstlineno}"


def test_a_place_outside_of_the_working_directory_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A function from elsewhere, such as a library's, is shown with its whole path."""
    monkeypatch.chdir(tmp_path)
    assert Route("GET", "/", answer).where == f"{answer.__code__.co_filename}:{answer.__code__.co_firstlineno}"


def test_what_wraps_a_function_does_not_hide_it() -> None:
    """Partials, decorators and objects are shown by the function that they run."""

    @functools.wraps(answer)
    async def wrapped() -> None:
        await answer()

    wheres = {Route("GET", "/", function).where for function in (answer, wrapped, functools.partial(answer))}
    assert wheres == {Route("GET", "/", answer).where}
    assert Route("GET", "/", Answerer()).name == "Answerer"
    assert Route("GET", "/", Answerer()).where.endswith(f":{Answerer.__call__.__code__.co_firstlineno}")
    assert Route("GET", "/", len).where == "builtins"


def refusals() -> list[tuple[Callable[[Router], object], str]]:
    """What a router refuses, and what it says then."""
    mount: Any = Router.mount
    return [
        (lambda router: router.get("/x", answer()), "got a coroutine instead of a function"),
        (lambda router: router.get("/x", "answer"), "got 'answer' instead of a function"),
        (lambda router: router.get("/x", answer, timeout="soon"), 'expected a duration such as "250ms"'),
        (lambda router: router.get("/x", answer, timeout=0), "no request could be answered"),
        (lambda router: router.get("/x", answer, max_body=-1), "max_body of GET /x is -1"),
        (lambda router: router.get("/x", answer, layers=["auth"]), "'auth' among the layers"),
        (lambda router: router.route("GET IT", "/x", answer), "'GET IT' is not a method"),
        (lambda router: mount(router, pytest), "mount(pytest.register_handlers)"),
        (lambda router: router.mount(lambda _: None, prefix="shop"), "'shop' is not a prefix"),
        (lambda router: router.mount(lambda _: None, prefix="/shop/"), "'/shop/' is not a prefix"),
    ]


@pytest.mark.parametrize(("add", "why"), refusals())
def test_a_router_refuses_what_could_only_fail_later(add: Callable[[Router], object], why: str) -> None:
    """What could only fail later is refused when it is declared."""
    with pytest.raises(StartError) as caught:
        add(Router())
    assert why in str(caught.value)


def test_an_async_domain_is_refused() -> None:
    """A ``register_handlers`` that nobody would await is refused."""

    async def register_handlers(router: Router) -> None:
        router.get("/x", answer)

    with pytest.raises(StartError, match="register_handlers is async"):
        Router().mount(register_handlers)


def test_a_router_reads_like_a_status_line() -> None:
    """A router's repr says how much it holds."""
    router = Router()
    router.get("/x", answer)
    assert repr(router) == "<Router: 1 routes>"
