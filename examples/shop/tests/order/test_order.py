"""The order service from the outside: in memory, with a user service that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mizzen import ConnectFailed, testing
from shop.order.model import User
from shop.order.service import Settings, build
from shop.order.users import Users

ADA = User(1, "Ada Lovelace")


class FakeUsers:
    """Users that the test knows, or none to be had."""

    def __init__(self, *users: User) -> None:
        self.users = {user.id: user for user in users}
        self.down = False

    async def find(self, id: int) -> User | None:
        if self.down:
            raise ConnectFailed("connection refused", peer="user")
        return self.users.get(id)


@pytest.fixture
def users() -> FakeUsers:
    return FakeUsers(ADA)


@pytest.fixture
def serve(tmp_path: Path, users: FakeUsers) -> Callable[..., Any]:
    """Runs a test's steps against an order service with three orders in it, of users 1 to 3."""

    def run(steps: Callable[[testing.TestClient], Awaitable[None]]) -> None:
        async def main() -> None:
            settings = Settings(database_url=f"sqlite:///{tmp_path}/order.db", seed=3)
            async with testing.client(build(settings), {Users: users}) as http:
                await steps(http)

        asyncio.run(main())

    return run


def test_an_order_has_its_user_in_it(serve):
    """An order is answered with its user, in the words of orders."""

    async def steps(http):
        answer = await http.get("/orders/1")
        assert answer.status == 200
        assert answer.json() == {
            "id": 1,
            "item": "compass",
            "quantity": 2,
            "placed": "2026-01-01T01:00:00Z",
            "user": {"id": 1, "name": "Ada Lovelace"},
        }

    serve(steps)


def test_an_order_outlives_its_user(serve):
    """An order whose user was deleted shows none."""

    async def steps(http):
        answer = await http.get("/orders/2")
        assert answer.status == 200
        assert answer.json()["user"] is None

    serve(steps)


def test_an_absent_order_is_404(serve):
    """An order that does not exist is 404, and the problem says which."""

    async def steps(http):
        answer = await http.get("/orders/99")
        assert answer.status == 404
        assert answer.json()["detail"] == "no order 99"

    serve(steps)


def test_an_order_lives_from_post_to_delete(serve):
    """An order that was posted is found at its Location, changed by PUT, and gone after DELETE."""

    async def steps(http):
        created = await http.post("/orders", json={"user_id": 1, "item": "tea", "quantity": 2})
        assert created.status == 201
        where = created.headers["location"]
        assert (await http.get(where)).json()["user"]["name"] == "Ada Lovelace"
        changed = await http.put(where, json={"user_id": 1, "item": "rope"})
        assert (changed.json()["item"], changed.json()["quantity"]) == ("rope", 1)
        assert (await http.delete(where)).status == 204
        assert (await http.get(where)).status == 404
        assert (await http.put(where, json={"user_id": 1, "item": "rope"})).status == 404
        assert (await http.delete(where)).status == 404

    serve(steps)


@pytest.mark.parametrize(("method", "path"), [("POST", "/orders"), ("PUT", "/orders/1")])
def test_an_order_needs_a_user_that_exists(serve, method, path):
    """An order for an absent user is 422 and names the field."""

    async def steps(http):
        answer = await http.request(method, path, json={"user_id": 77, "item": "tea"})
        assert answer.status == 422
        assert answer.json()["errors"] == [{"path": "body.user_id", "reason": "no user 77"}]

    serve(steps)


def test_without_users_orders_are_unavailable_but_listed(serve, users):
    """With the user service down, what needs it is 503 and what does not is answered."""
    users.down = True

    async def steps(http):
        assert (await http.get("/orders/1")).status == 503
        assert (await http.post("/orders", json={"user_id": 1, "item": "tea"})).status == 503
        assert (await http.get("/orders?limit=2")).json()["total"] == 3
        assert (await http.delete("/orders/1")).status == 204

    serve(steps)


def test_the_real_client_tells_absent_from_unavailable(tmp_path):
    """Without any instance of the user service, an order is 503 through the real client, not an order without user."""

    async def main():
        async with testing.client(build(Settings(database_url=f"sqlite:///{tmp_path}/order.db", seed=1))) as http:
            answer = await http.get("/orders/1")
            assert answer.status == 503
            assert answer.headers["content-type"] == "application/problem+json"

    asyncio.run(main())
