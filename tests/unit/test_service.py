"""Service: a declaration in which everything wrong is found before it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from mizzen.assembly.client import Client
from mizzen.assembly.service import Service
from mizzen.rules.router import Router
from mizzen.words.errors import StartError


class Store:
    """A thing of the service."""


class Users:
    """What a service needs of another one."""

    def __init__(self, client: Client) -> None:
        self.client = client


class User(msgspec.Struct):
    id: str


@asynccontextmanager
async def open_store() -> Any:
    yield Store()


async def get_user(id: str, store: Store) -> User:
    return User(id)


async def list_users(limit: int = 20) -> list[User]:
    return []


def routes(router: Router) -> None:
    router.get("/users/{id}", get_user)
    router.get("/users", list_users)


def complete() -> Service:
    service = Service("order")
    service.provide(Store, open_store)
    service.provide(Users(service.client("user", required=True)))
    service.mount(routes)
    return service


def error_of(declare: Callable[[Service], object]) -> StartError:
    def whole() -> None:
        service = Service("order")
        declare(service)
        service.plans()

    with pytest.raises(StartError) as raised:
        whole()
    return raised.value


def getting(template: str, function: Callable[..., Any], **options: Any) -> Callable[[Service], object]:
    return lambda service: service.router.get(template, function, **options)


@pytest.mark.parametrize("name", ["order", "stock-keeper", "a1", "a-1"])
def test_a_name_is_a_dns_label(name: str) -> None:
    """A service is called what a host can be called."""
    assert Service(name).name == name


@pytest.mark.parametrize("name", ["Order", "stock_keeper", "1a", "-a", "a-", "a--b", "", "größe", "a b"])
def test_a_name_that_no_registry_could_hold_is_refused(name: str) -> None:
    """The error shows the name and what one looks like."""
    with pytest.raises(StartError) as raised:
        Service(name)
    assert raised.value.what == f"{name!r} is not a service name"
    assert "lower-case letters, digits and single dashes" in raised.value.fix


def test_a_complete_declaration_has_a_plan_for_every_route() -> None:
    """Nothing is opened or called by declaring and planning."""
    assert [str(route) for route, _ in complete().plans()] == ["GET /users/{id}", "GET /users"]


def test_a_value_is_provided_under_its_own_type() -> None:
    """Whoever asks for the type gets the value."""
    store = Store()
    service = Service("order")
    service.provide(store, required=False)
    [thing] = service.provided.values()
    assert (thing.type, thing.value, thing.factory, thing.required, thing.name) == (Store, store, None, False, "Store")


@pytest.mark.parametrize(
    ("declare", "what", "fix"),
    [
        (
            lambda service: service.provide(Store),
            "order provides the type Store without saying how it is made",
            "service.provide(Store, factory) with an async context manager, or give a value",
        ),
        (
            lambda service: (service.provide(Store()), service.provide(Store, open_store)),
            "order provides Store twice",
            "provide each type once",
        ),
        (
            lambda service: service.provide("store", open_store),
            "order provides 'store' with a factory, but it is not a type",
            "service.provide(SomeType, factory) or service.provide(value)",
        ),
        (
            lambda service: service.provide(Store, "open_store"),
            f"order provides {Store!r} with a factory, but it is not a type",
            "service.provide(SomeType, factory) or service.provide(value)",
        ),
        (
            lambda service: service.provide("postgresql://…"),
            "order provides a str, which no handler can ask for: that type means an input",
            "wrap it in a class of your own",
        ),
        (
            lambda service: service.client("user", timeout="soon"),
            (
                "the timeout of the client 'user' of order cannot be: "
                """expected a duration such as "250ms", "2s" or "1m30s", got 'soon'"""
            ),
            "",
        ),
        (
            lambda service: service.client("user", timeout=0),
            "the timeout of the client 'user' of order is 0: no call could be answered",
            "leave it out, or give it time",
        ),
        (
            lambda service: service.client("user", retries=-1),
            "the client 'user' of order has -1 retries",
            "0 for none, or leave it out",
        ),
        (
            lambda service: (service.client("user"), service.check("user", list)),
            "order cannot start: two checks are called 'user': /health could not tell them apart",
            "a check is called like its client or type",
        ),
        (
            lambda service: (service.provide(Store(), check=print), service.check("Store", list)),
            "order cannot start: two checks are called 'Store': /health could not tell them apart",
            "a check is called like its client or type",
        ),
        (
            lambda service: (service.client("user"), service.client("user")),
            "order declares the client 'user' twice",
            "declare it once and hand it on",
        ),
        (
            lambda service: service.mount("shop.user"),
            "'shop.user' cannot be mounted: it is not a function",
            "mount('shop.user'",
        ),
        (lambda service: service.mount(routes, prefix="shop/"), "'shop/' is not a prefix", "it begins with a slash"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_where_it_stands(
    declare: Callable[[Service], object], what: str, fix: str
) -> None:
    """The error is raised by the very call, so that a traceback names the line; it says what is wrong and the fix."""
    error = error_of(declare)
    assert error.what == what
    assert error.fix.startswith(fix)


async def needs_users(id: str, users: Users) -> User: ...
async def forgets_id(store: Store) -> User: ...
async def takes_all(*args: str) -> User: ...
async def same(id: str) -> User: ...
async def other(id: str) -> User: ...


@pytest.mark.parametrize(
    ("declare", "what", "function", "fix"),
    [
        (
            getting("/orders/{id}", needs_users),
            "order cannot start: needs_users needs Users; nothing provides it",
            needs_users,
            'service.provide(Users(service.client("user")))',
        ),
        (
            lambda service: (service.provide(Store()), service.router.get("/users/{id}", forgets_id)),
            "order cannot start: forgets_id does not take id, a path parameter of /users/{id}",
            forgets_id,
            "add id: str to forgets_id",
        ),
        (getting("/users", takes_all), "order cannot start: takes_all takes *args", takes_all, ""),
        (getting("users", list_users), "order cannot start: 'users' is not a path template", list_users, '"/users"'),
    ],
)
def test_a_route_that_cannot_work_names_file_line_and_fix(
    declare: Callable[[Service], object], what: str, function: Callable[..., Any], fix: str
) -> None:
    """A mistake in a handler or its route is an error at start with the place of the function."""
    error = error_of(declare)
    assert error.what.startswith(what)
    assert re.search(rf"test_service\.py:{function.__code__.co_firstlineno}  ", error.where[0])
    assert error.fix.startswith(fix)
    assert error.fix


def test_routes_that_collide_name_both_functions() -> None:
    """Two functions for the same paths are shown with their places, and one of them has to go."""

    def declare(service: Service) -> None:
        service.router.get("/users/{id}", same)
        service.router.get("/users/{id}", other)

    error = error_of(declare)
    assert error.what.startswith("order cannot start: GET /users/{id} ")
    for function, place in zip((same, other), error.where, strict=True):
        assert place.endswith(f"test_service.py:{function.__code__.co_firstlineno}  GET /users/{{id}}")
    assert error.fix == "keep one of them"


def test_the_text_of_an_error_is_what_where_and_fix() -> None:
    """What is printed is the sentence, the places below it, and the fix last."""
    text = str(error_of(getting("/orders/{id}", needs_users)))
    first, place, fix = text.splitlines()
    assert first == "order cannot start: needs_users needs Users; nothing provides it"
    assert re.fullmatch(r"  .*test_service\.py:\d+  needs_users\(id: str, users: Users\).*", place)
    assert fix.startswith("  fix: service.provide(Users(")


def test_a_test_may_provide_more() -> None:
    """Types that a test puts on top count as provided."""
    service = Service("order")
    service.router.get("/orders/{id}", needs_users)
    assert len(service.plans([Users])) == 1


def test_a_mounted_domain_may_have_a_prefix() -> None:
    """The same domain is served below another path."""
    service = Service("order")
    service.provide(Store())
    service.mount(routes, prefix="/shop")
    assert [str(route) for route, _ in service.plans()] == ["GET /shop/users/{id}", "GET /shop/users"]


def test_required_peers_come_first() -> None:
    """Only clients that are required hold up the start."""
    service = Service("order")
    service.client("user", required=True)
    service.client("stock")
    assert service.required_peers() == ["user"]


def test_checks_of_its_own_are_kept() -> None:
    """A check that belongs to no thing has a name, a function and whether it is required."""
    service = Service("order")
    service.check("disk", list, required=False)
    assert [(check.name, check.function, check.required) for check in service.checks] == [("disk", list, False)]


def test_a_client_is_a_handle_until_its_service_runs() -> None:
    """Declaring makes no connection; using it before is an error that says so."""
    client = Service("order").client("user", timeout="800ms", retries=1)
    assert repr(client) == "<Client user, not connected>"
    assert client.settings() == {"timeout": 0.8, "retries": 1}
    with pytest.raises(RuntimeError, match="the client 'user' is not connected: its service is not running"):
        client.get("/users/1").send(None)


def test_a_declaration_describes_itself() -> None:
    """Routes with their places, both stacks with their reasons, and what is provided: for people and tools."""
    service = complete()
    described = service.describe()
    assert described["name"] == "order"
    assert described["routes"][0] | {"where": ""} == {
        "method": "GET", "template": "/users/{id}", "handler": f"{get_user.__module__}.get_user", "where": "", "status": 200,
    }  # fmt: skip
    assert described["routes"][0]["where"].endswith(f"test_service.py:{get_user.__code__.co_firstlineno}")
    assert [layer["layer"] for layer in described["stack"]] == ["edge", "shed", "deadline", "route", "layers"]
    assert described["provided"] == ["Store", "Users"]
    client = described["clients"]["user"]
    assert [layer["layer"] for layer in client["stack"]] == ["edge", "breaker", "retry", "attempt"]
    assert all(layer["why"] for layer in (*described["stack"], *client["stack"]))
    assert (client["required"], client["settings"]) == (True, {"timeout": 2.0, "retries": 2})
    assert repr(service) == "<Service order: 2 routes, clients user>"
    assert repr(Service("user")) == "<Service user: 0 routes, clients none>"
