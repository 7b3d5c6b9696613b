"""Services that call each other, all in memory: what crosses every hop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from stage import now, settle

from mizzen import CallError, Client, Context, NotFound, Request, Response, Service, Unavailable, current, testing
from mizzen.testing import MemoryNetwork, TestClient, run

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class User(msgspec.Struct):
    id: str
    name: str = "Ann"


class Seen:
    """What one tier's handlers saw."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.left: list[float | None] = []
        self.cancelled = 0

    def note(self) -> None:
        context = current()
        assert context is not None
        self.contexts.append(context)
        self.left.append(context.remaining())


class Users:
    """What a tier needs of the one below it."""

    def __init__(self, client: Client) -> None:
        self.client = client


Serve = Callable[..., Awaitable[Any]]


class Chain:
    """Three services: shop calls order, order calls user; the lowest one does what the test says."""

    def __init__(self, bottom: Serve, *, required: bool = False) -> None:
        self.bottom = bottom
        self.shop, self.order, self.user = Seen(), Seen(), Seen()
        self.required = required

    def service(self, name: str, seen: Seen, below: str | None) -> Service:
        service = Service(name)
        if below is None:

            async def serve(id: str, request: Request) -> Any:
                seen.note()
                try:
                    return await self.bottom(id, request)
                except asyncio.CancelledError:
                    seen.cancelled += 1
                    raise
        else:
            users = Users(service.client(below, required=self.required))

            async def serve(id: str, request: Request) -> Any:
                seen.note()
                try:
                    return await users.client.call(request.method, "/users/{id}", path={"id": id}, into=User)
                except asyncio.CancelledError:
                    seen.cancelled += 1
                    raise

        for method in ("GET", "POST"):
            service.router.route(method, "/users/{id}", serve)
        return service

    @asynccontextmanager
    async def running(self, network: MemoryNetwork | None = None) -> AsyncIterator[TestClient]:
        shop = self.service("shop", self.shop, "order")
        peers = {"order": self.service("order", self.order, "user"), "user": self.service("user", self.user, None)}
        async with testing.client(shop, peers=peers, network=network) as http:
            yield http
            await settle()
            assert http.running.edge.limit.count == 0

    @property
    def tiers(self) -> list[Seen]:
        return [self.shop, self.order, self.user]


def scene(bottom: Serve, play: Callable[[Chain, TestClient], Awaitable[None]], network: MemoryNetwork | None = None) -> None:
    async def main() -> None:
        chain = Chain(bottom)
        async with chain.running(network) as http:
            await play(chain, http)
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    run(main())


async def found(id: str, request: Request) -> User:
    return User(id)


async def hang(id: str, request: Request) -> User:
    await asyncio.sleep(3600)
    raise AssertionError


def test_an_answer_comes_back_through_every_tier() -> None:
    """Each tier decodes what the one below it says, and says it on."""

    async def play(chain: Chain, http: TestClient) -> None:
        response = await http.get("/users/7")
        assert (response.status, response.json(User)) == (200, User("7"))
        assert [len(seen.contexts) for seen in chain.tiers] == [1, 1, 1]

    scene(found, play)


def test_one_trace_crosses_every_hop_with_a_span_for_each() -> None:
    """All tiers know the caller's trace id; each span's parent is the call that led to it."""

    async def play(chain: Chain, http: TestClient) -> None:
        response = await http.get("/users/7", headers={"traceparent": PARENT, "baggage": "tenant=north"})
        contexts = [seen.contexts[0] for seen in chain.tiers]
        assert {context.trace_id for context in contexts} == {TRACE, response.headers["x-trace-id"]}
        assert {context.baggage for context in contexts} == {"tenant=north"}
        spans = [context.span_id for context in contexts]
        assert len(set(spans)) == 3
        assert contexts[0].parent_id == "b7ad6b7169203331"
        assert contexts[1].parent_id not in ("", *spans)  # the span of the call lies between those of the handlers
        assert contexts[2].parent_id not in ("", *spans)

    scene(found, play)


def test_a_problem_has_the_trace_of_its_chain() -> None:
    """A failure at the bottom is found by the trace id in the top's answer."""

    async def absent(id: str, request: Request) -> User:
        raise NotFound(f"no user {id}")

    async def play(chain: Chain, http: TestClient) -> None:
        response = await http.get("/users/7", headers={"traceparent": PARENT})
        assert response.status == 503  # order's 502 is final, and that is unavailable to whoever asked shop
        assert response.json()["trace_id"] == TRACE
        assert "user answered 404 to GET /users/{id}: no user 7" in response.json()["detail"]

    scene(absent, play)


def test_the_deadline_crosses_every_hop_and_shrinks_on_its_way() -> None:
    """The lowest tier knows what is left of the top caller's time: half of half, as long as each may try again."""

    async def play(chain: Chain, http: TestClient) -> None:
        await http.get("/users/7", headers={"x-request-timeout-ms": "1600"})
        assert [seen.left[0] for seen in chain.tiers] == [pytest.approx(1.6), pytest.approx(0.8), pytest.approx(0.4)]
        await http.post("/users/7", headers={"x-request-timeout-ms": "1600"})
        assert [seen.left[1] for seen in chain.tiers] == [pytest.approx(1.6)] * 3

    scene(found, play)


def test_fifty_milliseconds_into_a_slow_chain_are_a_504_in_fifty_milliseconds() -> None:
    """The top answers in time, every tier knew how little was left, and nobody works on."""

    async def play(chain: Chain, http: TestClient) -> None:
        response = await http.get("/users/7", headers={"x-request-timeout-ms": "50"})
        assert response.status == 504
        assert now() == pytest.approx(0.05, abs=0.01)
        assert chain.user.left == [pytest.approx(0.05, abs=0.001)]  # a hurried call does not divide its time
        await asyncio.sleep(0.02)
        assert chain.user.cancelled == 1
        assert (await http.get("/health")).json()["checks"]["order"]["ok"] is True

    scene(hang, play)


def test_a_caller_that_goes_away_ends_the_work_of_every_tier() -> None:
    """Cancelling at the top cancels the handlers below, down to the last one, and no connection is left busy."""

    async def play(chain: Chain, http: TestClient) -> None:
        request = asyncio.ensure_future(http.get("/users/7"))
        await asyncio.sleep(0.2)
        assert [len(seen.contexts) for seen in chain.tiers] == [1, 1, 1]
        request.cancel()
        await asyncio.wait([request])
        await settle()
        assert [seen.cancelled for seen in chain.tiers] == [1, 1, 1]
        assert http.network.describe()["connections"] == 0
        assert now() == pytest.approx(0.2)

    scene(hang, play)


def test_a_failure_that_a_lower_tier_retried_is_not_retried_above() -> None:
    """Three attempts at the bottom, one at each tier above it: an outage is not multiplied by the tiers."""

    async def failing(id: str, request: Request) -> User:
        raise Unavailable("the database is away")

    async def play(chain: Chain, http: TestClient) -> None:
        response = await http.get("/users/7")
        assert [len(seen.contexts) for seen in chain.tiers] == [1, 1, 3]
        assert (response.status, response.headers.get("x-should-retry")) == (503, "false")
        assert response.json()["detail"].startswith(
            "order is unavailable: order answered 503 to GET /users/{id}: user is unavailable"
        )

    scene(failing, play)


def test_what_a_tier_says_in_its_own_words_is_not_retried_above_either() -> None:
    """A handler that turns its failed call into an answer of its own has still had its retries."""

    async def main() -> None:
        asked: list[str] = []

        async def failing() -> None:
            asked.append("user")
            raise Unavailable("the database is away")

        user = Service("user")
        user.router.get("/", failing)

        order = Service("order")
        below = order.client("user")

        async def translating() -> None:
            asked.append("order")
            try:
                await below.get("/")
            except CallError as error:
                raise Unavailable("orders need users, who are away") from error

        order.router.get("/", translating)

        shop = Service("shop")
        orders = shop.client("order")

        async def top() -> Response:
            return await orders.get("/")

        shop.router.get("/", top)
        async with testing.client(shop, peers={"order": order, "user": user}) as http:
            response = await http.get("/")
            assert response.status == 503
            assert "orders need users, who are away" in response.json()["detail"]
            assert asked == ["order", "user", "user", "user"]

    run(main())


def test_a_defect_below_is_a_502_and_happens_once() -> None:
    """A 500 is not tried again, at any tier."""

    async def defect(id: str, request: Request) -> User:
        raise RuntimeError("a defect")

    async def play(chain: Chain, http: TestClient) -> None:
        response = await http.get("/users/7")
        assert [len(seen.contexts) for seen in chain.tiers] == [1, 1, 1]
        assert response.status == 503
        assert "a defect" not in response.text

    scene(defect, play)


def test_a_tier_that_is_refused_is_tried_again_where_it_happens() -> None:
    """The tier next to the failure retries it, and those above do not notice."""
    network = MemoryNetwork()

    async def play(chain: Chain, http: TestClient) -> None:
        network.refuse("user", 80)
        asyncio.get_running_loop().call_later(0.01, network.heal, "user", 80)
        assert (await http.post("/users/7")).status == 200
        assert [len(seen.contexts) for seen in chain.tiers] == [1, 1, 1]

    scene(found, play, network)


def test_a_hung_tier_is_given_up_by_the_one_above_it_first() -> None:
    """Times nest: the inner call ends, and is answered for, before the outer one gives up on it."""
    network = MemoryNetwork()

    async def play(chain: Chain, http: TestClient) -> None:
        network.hang("user", 80)
        response = await http.post("/users/7")
        assert (response.status, response.headers.get("x-should-retry")) == (503, "false")
        assert now() == pytest.approx(2.0, abs=0.1)
        assert len(chain.user.contexts) == 0

    scene(found, play, network)


def test_a_peer_that_is_not_there_is_an_error_at_the_call_and_not_at_the_start() -> None:
    """A test may leave peers out: what does not need them works, what calls them gets NoInstances."""

    async def main() -> None:
        chain = Chain(found)
        async with testing.client(chain.service("shop", chain.shop, "order")) as http:
            response = await http.get("/users/7")
            assert response.status == 503
            assert "no instance of order: this test says there is none" in response.json()["detail"]

    run(main())


def test_a_required_peer_that_is_there_is_waited_for() -> None:
    """The start of a test's service ends once its required peers are known."""

    async def main() -> None:
        chain = Chain(found, required=True)
        async with chain.running() as http:
            health = (await http.get("/health")).json()
            assert health["checks"]["order"]["required"] is True
            assert health["status"] == "ok"

    run(main())


def test_a_client_is_tested_with_the_limits_that_it_was_declared_with() -> None:
    """Timeout and retries of the code hold in a test as they do in a process."""

    async def main() -> None:
        user = Service("user")

        async def slow() -> None:
            await asyncio.sleep(3600)

        user.router.get("/", slow)
        order = Service("order")
        below = order.client("user", timeout=0.3, retries=0)

        async def get() -> Response:
            return await below.get("/")

        order.router.get("/", get)
        async with testing.client(order, peers={"user": user}) as http:
            response = await http.get("/")
            assert response.status == 503
            assert "within the 300ms of this call" in response.json()["detail"]
            assert now() == pytest.approx(0.3)

    run(main())


def test_a_streamed_answer_that_calls_below_goes_on_after_its_own_deadline() -> None:
    """Calls that are made for a body have their own time: the deadline of the request was until its head."""

    async def main() -> None:
        user = Service("user")
        user.router.get("/users/{id}", get_user)
        order = Service("order")
        below = order.client("user")

        async def stream() -> AsyncIterator[User]:
            for number in range(3):
                yield await below.get("/users/{id}", path={"id": number}, into=User)
                await asyncio.sleep(6)

        order.router.get("/", stream)
        async with testing.client(order, peers={"user": user}) as http:
            response = await http.get("/")
            assert response.text.count("\n") == 3
            assert now() == pytest.approx(18)

    run(main())


async def get_user(id: str) -> User:
    return User(id)


def test_a_stream_is_handed_on_piece_by_piece_and_ends_with_its_caller() -> None:
    """A tier may hand on what the one below streams; when the caller leaves, the source stops."""

    async def main() -> None:
        made: list[int] = []
        user = Service("user")

        async def numbers() -> AsyncIterator[str]:
            for number in range(100):
                made.append(number)
                yield f"{number}\n"
                await asyncio.sleep(1)

        user.router.get("/", numbers)
        order = Service("order")
        below = order.client("user")

        async def relay() -> AsyncIterator[bytes]:
            async with below.stream("GET", "/") as answer:
                assert not isinstance(answer.body, bytes)
                async for piece in answer.body:
                    yield piece

        order.router.get("/", relay)
        shop = Service("shop")
        orders = shop.client("order")
        async with testing.client(shop, peers={"order": order, "user": user}):
            async with orders.stream("GET", "/") as answer:
                assert not isinstance(answer.body, bytes)
                got = b""
                async for piece in answer.body:
                    got += piece
                    if got.endswith(b"4\n"):
                        break
            assert got == b"0\n1\n2\n3\n4\n"
            await asyncio.sleep(10)
            assert len(made) <= 6

    run(main())


def test_the_design_pages_test_of_a_user_works() -> None:
    """Overrides by type, as a user writes them: the peer's stand-in is a class of one's own."""

    class FakeUsers(Users):
        def __init__(self) -> None:
            self.asked: list[str] = []

        async def find(self, id: str) -> User | None:
            self.asked.append(id)
            return User(id) if id == "1" else None

    fake = FakeUsers()

    async def get_order(id: str, users: Users) -> dict[str, Any]:
        assert isinstance(users, FakeUsers)
        return {"id": id, "user": await users.find(id)}

    async def main() -> None:
        order = Service("order")
        order.provide(Users(order.client("user")))
        order.router.get("/orders/{id}", get_order)
        async with testing.client(order, {Users: fake}) as http:
            assert (await http.get("/orders/1")).json() == {"id": "1", "user": {"id": "1", "name": "Ann"}}
            assert (await http.get("/orders/2")).json()["user"] is None

    run(main())
    assert fake.asked == ["1", "2"]
