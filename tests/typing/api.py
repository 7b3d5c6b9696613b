"""What a type checker sees of the public API; checked and never run.

A line that must not type-check says so with the error that it has to give: an ignore that nothing needs is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, assert_type

import msgspec

import mizzen
from mizzen import (
    Answer,
    CallError,
    Client,
    Context,
    Fault,
    Handler,
    Header,
    Headers,
    Invalid,
    Layer,
    NotFound,
    Outcome,
    PeerError,
    Problem,
    Request,
    Response,
    Router,
    Service,
    classify,
    current,
    testing,
)


class Settings(msgspec.Struct):
    database_url: str = "sqlite:///order.db"


class User(msgspec.Struct):
    id: str


class Store:
    async def find(self, id: str) -> User | None:
        return None


class Users:
    def __init__(self, client: Client) -> None:
        self.client = client

    async def find(self, id: str) -> User | None:
        return await self.client.get("/users/{id}", path={"id": id}, into=User, absent=None)


class FakeUsers(Users):
    def __init__(self) -> None: ...


@asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    yield Store()


async def ping(store: Store) -> None: ...


# -- a service, as the design's page shows it


async def get_user(id: str, store: Store, tenant: Annotated[str, Header("x-tenant")] = "") -> User:
    user = await store.find(id)
    if user is None:
        raise NotFound(f"no user {id}", headers={"cache-control": "no-store"})
    return user


def register_handlers(router: Router) -> None:
    router.get("/users/{id}", get_user, raises=[NotFound])
    router.post("/users", get_user, status=201, timeout="250ms", max_body=1024, layers=[logging])
    router.route("PURGE", "/users/{id}", get_user, timeout=0.5)
    router.use(logging)
    router.mount(register_handlers, prefix="/v2")
    router.get("/users", get_user, statuses=[404])  # type: ignore[call-arg]
    router.post("/users", get_user, status="201")  # type: ignore[arg-type]
    router.get("/users", get_user, raises=[PeerError])  # type: ignore[list-item]
    router.get("/users", "get_user")  # type: ignore[arg-type]


def logging(following: Handler) -> Handler:
    async def send(request: Request) -> Response:
        return await following(request)

    return send


def build(settings: Settings) -> Service:
    service = Service("order")
    service.provide(Store, open_store, check=ping)
    service.provide(Users(service.client("user", required=True, timeout=0.8, retries=1)), required=False)
    service.check("disk", lambda: None, required=False)
    service.mount(register_handlers)
    service.mount(register_handlers, prefix="/v2")
    service.provide(Store, open_store, checks=ping)  # type: ignore[call-arg]
    service.provide(Store(), None, ping)  # type: ignore[call-arg]
    service.client("user", require=True)  # type: ignore[call-arg]
    service.client("user", timeout="800ms")
    service.client("user", timeout=[0.8])  # type: ignore[arg-type]
    service.client("user", True)  # type: ignore[call-arg]
    service.mount("shop.user")  # type: ignore[arg-type]
    assert_type(service.client("stock"), Client)
    assert_type(service.required_peers(), list[str])
    return service


# -- calls


async def reading(client: Client) -> None:
    assert_type(await client.get("/users/{id}", path={"id": 7}), Response)
    assert_type(await client.get("/users/{id}", path={"id": 7}, into=User), User)
    assert_type(await client.get("/users/{id}", path={"id": 7}, into=User, absent=None), User | None)
    assert_type(await client.get("/users/{id}", path={"id": 7}, into=User, absent=0), User | int)
    assert_type(await client.get("/users/{id}", path={"id": 7}, absent=None), Response | None)
    assert_type(await client.get("/users", into=list[User]), list[User])
    assert_type(await client.get("/users", into=dict[str, Any]), dict[str, Any])
    assert_type(await client.head("/users"), Response)
    await client.get("/users", query={"limit": 3}, headers={"x-tenant": "a"}, statuses={409}, timeout=0.5, idempotent=True)
    await client.get("/users", params={"limit": 3})  # type: ignore[call-overload]
    await client.get("/users", id=7)  # type: ignore[call-overload]
    await client.get("/users", body={})  # type: ignore[call-overload]
    await client.get("/users", timeout="1s")  # type: ignore[call-overload]
    await client.get("/users", {"limit": 3})  # type: ignore[call-overload]
    await client.get("/users", headers={"x-tenant": 1})  # type: ignore[dict-item]
    await client.head("/users", into=User)  # type: ignore[call-arg]


async def writing(client: Client) -> None:
    assert_type(await client.post("/users", body=User("7")), Response)
    assert_type(await client.post("/users", body=User("7"), into=User), User)
    assert_type(await client.put("/users/7", body=b"raw", into=User), User)
    assert_type(await client.patch("/users/7", body={"id": "8"}, into=User), User)
    assert_type(await client.delete("/users/7", statuses=[404]), Response)
    await client.post("/users", body={}, idempotent=True, headers={"idempotency-key": "k"})
    await client.post("/users", json={})  # type: ignore[call-overload]
    await client.put("/users", data=b"")  # type: ignore[call-overload]
    await client.delete("/users", retries=3)  # type: ignore[call-overload]


async def streaming(client: Client) -> None:
    async with client.stream("GET", "/log", query={"n": 1}, timeout=5) as response:
        assert_type(response, Response)
    async with client.stream("GET", "/log", into=User):  # type: ignore[call-arg]
        pass


# -- what happens


def caught(error: CallError) -> None:
    assert_type(error.peer, str)
    assert_type(error.detail, str)
    assert_type(error.outcome, Outcome | None)
    if isinstance(error, PeerError):
        assert_type(error.status, int)
        assert_type(error.problem, Problem | None)
        assert_type(error.headers, dict[str, str])


def answered(answer: Answer) -> None:
    assert_type(answer.status, int)
    assert_type(answer.errors, list[Fault])
    raise Invalid("two fields", errors=[Fault("body.a", "missing")])


def misused() -> None:
    raise NotFound("no user", error=[])  # type: ignore[call-arg]


def judge(request: Request, result: Response | BaseException) -> Outcome:
    return classify(request, result)


def families() -> None:
    ours: type[Answer] = NotFound
    theirs: type[CallError] = PeerError
    ours = PeerError  # type: ignore[assignment]
    theirs = NotFound  # type: ignore[assignment]
    mizzen.NotFoundError  # type: ignore[attr-defined]  # noqa: B018
    assert ours
    assert theirs


# -- messages and context


async def messages(request: Request) -> None:
    assert_type(request.headers.get("x-tenant"), str | None)
    assert_type(await request.read(), bytes)
    assert_type(request.context, Context | None)
    assert_type(current(), Context | None)
    context = current()
    if context is not None:
        assert_type(context.trace_id, str)
        assert_type(context.remaining(), float | None)
    assert_type(Response(204).headers, Headers)
    assert_type(Response.json_of(User("7"), 201), Response)
    Response(200, b"", content_type="text/plain", headers={"x-own": "1"})
    Response(200, "text")  # type: ignore[arg-type]


def kinds() -> None:
    handler: Handler = answer
    layer: Layer = logging
    assert_type(layer(handler), Callable[[Request], Awaitable[Response]])


async def answer(request: Request) -> Response:
    return Response(204)


# -- tests of the user's


async def tested() -> None:
    async with testing.client(build(Settings()), {Users: FakeUsers()}, peers={"user": Service("user")}) as http:
        assert_type(http, testing.TestClient)
        response = await http.get("/orders/1", headers={"x-tenant": "a"}, query={"a": 1})
        assert_type(response, Response)
        assert_type(response.status, int)
        assert_type(await http.post("/orders", json={}), Response)
        await http.get("/orders", params={"limit": 3})  # type: ignore[call-arg]
        await http.put("/orders", body="text")  # type: ignore[arg-type]
    testing.client(build(Settings()), override={})  # type: ignore[call-arg]
    assert_type(testing.run(value()), int)


async def value() -> int:
    return 7
