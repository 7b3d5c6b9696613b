"""The user service from the outside: in memory, on an SQLite file of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mizzen import testing
from shop.user.service import Settings, build

ADA = {"name": "Ada Lovelace", "email": "ada@example.com"}


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Runs a test's steps against a user service with three users in it."""

    @asynccontextmanager
    async def service() -> AsyncIterator[testing.TestClient]:
        settings = Settings(database_url=f"sqlite:///{tmp_path}/user.db", seed=3)
        async with testing.client(build(settings)) as http:
            yield http

    def run(steps: Callable[[testing.TestClient], Awaitable[None]]) -> None:
        async def main() -> None:
            async with service() as http:
                await steps(http)

        asyncio.run(main())

    return run


def test_a_seeded_user_is_found(serve):
    """A user that exists is answered whole."""

    async def steps(http):
        answer = await http.get("/users/1")
        assert answer.status == 200
        assert answer.json() == {"id": 1, "name": "Alan Allen", "email": "alan.allen.1@example.com"}

    serve(steps)


def test_an_absent_user_is_404(serve):
    """A user that does not exist is 404, and the problem says which."""

    async def steps(http):
        answer = await http.get("/users/99")
        assert answer.status == 404
        assert answer.json()["detail"] == "no user 99"

    serve(steps)


def test_a_user_lives_from_post_to_delete(serve):
    """A user that was posted is found at its Location, changed by PUT, and gone after DELETE."""

    async def steps(http):
        created = await http.post("/users", json=ADA)
        assert created.status == 201
        where = created.headers["location"]
        assert (await http.get(where)).json() == created.json() == {"id": 4, **ADA}
        changed = await http.put(where, json={**ADA, "name": "Ada King"})
        assert changed.json()["name"] == "Ada King"
        assert (await http.delete(where)).status == 204
        assert (await http.get(where)).status == 404
        assert (await http.put(where, json=ADA)).status == 404
        assert (await http.delete(where)).status == 404

    serve(steps)


def test_pages_do_not_overlap(serve):
    """A page has as many users as asked for, from the offset on, and knows the total."""

    async def steps(http):
        first = (await http.get("/users?limit=2")).json()
        second = (await http.get("/users?limit=2&offset=2")).json()
        assert [user["id"] for user in first["items"] + second["items"]] == [1, 2, 3]
        assert first["total"] == second["total"] == 3

    serve(steps)


def test_an_email_belongs_to_one_user(serve):
    """A second user with the same email is 409, on creation and on change."""

    async def steps(http):
        taken = {"name": "Someone", "email": "alan.allen.1@example.com"}
        assert (await http.post("/users", json=taken)).status == 409
        assert (await http.put("/users/2", json=taken)).status == 409

    serve(steps)


@pytest.mark.parametrize(
    ("method", "path", "body", "faults"),
    [
        ("POST", "/users", {"name": "", "email": "nobody"}, {"body.name", "body.email"}),
        ("POST", "/users", {"name": "a\x00b", "email": "a@b"}, {"body.name"}),
        ("POST", "/users", {}, {"body.name", "body.email"}),
        ("GET", "/users?limit=1000&offset=-1", None, {"query.limit", "query.offset"}),
        ("GET", "/users/ada", None, {"path.id"}),
        ("GET", "/users/99999999999999999999", None, {"path.id"}),
    ],
)
def test_what_is_wrong_is_named(serve, method, path, body, faults):
    """An invalid request is 422 and names every field at fault."""

    async def steps(http):
        answer = await (http.request(method, path) if body is None else http.request(method, path, json=body))
        assert answer.status == 422
        assert {fault["path"] for fault in answer.json()["errors"]} == faults

    serve(steps)
