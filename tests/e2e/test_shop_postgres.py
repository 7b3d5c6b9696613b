"""The example system on a real PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from fleet import SHOP, Fleet, ask

from mizzen import Conflict, Unavailable, testing
from shop.order.model import User
from shop.order.service import Settings as OrderSettings
from shop.order.service import build as build_order
from shop.order.store import open_orders
from shop.order.users import Users
from shop.user.model import NewUser
from shop.user.service import Settings as UserSettings
from shop.user.service import build as build_user
from shop.user.store import open_users

CUT_OTHERS = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""
pytestmark = pytest.mark.postgres


class FakeUsers:
    """Every user exists."""

    async def find(self, id: int) -> User | None:
        return User(id, "Ada Lovelace")


def test_instances_that_start_together_on_an_empty_database_all_come_up(postgres_url):
    """Six instances that start at once on an empty database all come up, and the seed is there once."""

    async def instance() -> int:
        async with open_users(postgres_url, seed=100) as users:
            return (await users.page(limit=1, offset=0)).total

    async def main():
        return await asyncio.gather(*(instance() for _ in range(6)))

    assert asyncio.run(main()) == [100] * 6


def test_processes_that_start_together_on_an_empty_database_all_serve(postgres_url, tmp_path):
    """Two processes of the user service that start at once on an empty database come up, with every seeded row once."""
    with Fleet(tmp_path, SHOP) as fleet:
        settings = {"MIZZEN__SERVICES__USER__SETTINGS__DATABASE_URL": postgres_url, "MIZZEN__DISCOVERY__URL": "none:"}
        users = [fleet.start("user", settings=settings) for _ in range(2)]
        for user in users:
            pages = [ask(f"{user.ready().url}/users?limit=100&offset={offset}").json() for offset in range(0, 1000, 100)]
            assert {page["total"] for page in pages} == {1000}
            assert [row["id"] for page in pages for row in page["items"]] == list(range(1, 1001))
        assert [user.stop() for user in users] == [0, 0]


def test_both_domains_may_share_a_database(postgres_url):
    """Users and orders that are kept in one database make their own tables and leave each other's alone."""

    async def main():
        async with open_users(postgres_url, seed=2) as users, open_orders(postgres_url, seed=3) as orders:
            assert (await users.page(limit=10, offset=0)).total == 2
            assert (await orders.page(limit=10, offset=0)).total == 3

    asyncio.run(main())


def test_an_email_belongs_to_one_user(postgres_url):
    """What PostgreSQL says of a second user with the same email is a Conflict."""

    async def main():
        async with open_users(postgres_url) as users:
            await users.add(NewUser("Ada", "ada@example.com"))
            with pytest.raises(Conflict, match="the email ada"):
                await users.add(NewUser("Ada", "ada@example.com"))

    asyncio.run(main())


def test_a_database_that_is_gone_is_unavailable(postgres_url):
    """A database that does not exist any more raises Unavailable, and not an error of the driver's."""

    async def main():
        async with open_users(f"{postgres_url}_gone"):
            pass

    with pytest.raises(Unavailable):
        asyncio.run(main())


def test_a_lost_connection_is_an_outage_once(postgres_url):
    """A connection that the server cut is Unavailable to one statement, and the next has a new one."""

    async def main():
        async with open_orders(postgres_url, seed=1) as orders:
            async with orders.database.engine.connect() as other:
                await orders.ping()
                await other.exec_driver_sql(CUT_OTHERS)
                with pytest.raises(Unavailable):
                    await orders.find(1)
            assert (await orders.find(1)).id == 1

    asyncio.run(main())


def test_an_order_keeps_its_time_in_utc(postgres_url):
    """The time an order was placed comes back in UTC, whatever zone the server is in."""

    async def main():
        async with open_orders(postgres_url, seed=1) as orders:
            order = await orders.find(1)
            assert order is not None
            assert order.placed.isoformat() == "2026-01-01T01:00:00+00:00"

    asyncio.run(main())


def test_the_user_service_on_postgresql(postgres_url):
    """A user lives from POST to DELETE on PostgreSQL as on SQLite."""

    async def main():
        async with testing.client(build_user(UserSettings(database_url=postgres_url, seed=3))) as http:
            created = await http.post("/users", json={"name": "Ada", "email": "ada@example.com"})
            assert created.status == 201
            where = created.headers["location"]
            assert (await http.put(where, json={"name": "Ada King", "email": "ada@example.com"})).status == 200
            assert (await http.get(where)).json()["name"] == "Ada King"
            assert (await http.delete(where)).status == 204
            assert (await http.get(where)).status == 404
            assert (await http.get("/users?limit=2&offset=1")).json()["total"] == 3

    asyncio.run(main())


def test_the_order_service_on_postgresql(postgres_url):
    """An order lives from POST to DELETE on PostgreSQL as on SQLite."""

    async def main():
        service = build_order(OrderSettings(database_url=postgres_url, seed=3))
        async with testing.client(service, {Users: FakeUsers()}) as http:
            created = await http.post("/orders", json={"user_id": 1, "item": "tea"})
            assert created.status == 201
            where = created.headers["location"]
            assert (await http.get(where)).json()["user"] == {"id": 1, "name": "Ada Lovelace"}
            assert (await http.delete(where)).status == 204
            assert (await http.get(where)).status == 404

    asyncio.run(main())
