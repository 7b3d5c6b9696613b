"""The helper that both domains share."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from mizzen import StartError, Unavailable
from shop import database
from shop.database import open_database
from shop.order.store import open_orders


def test_an_unreachable_database_is_unavailable():
    """A statement that finds no database raises Unavailable, which is a 503."""

    async def main():
        # Port 1 is reserved and nothing listens there: the connection is refused at once.
        async with open_database("postgresql://nobody@127.0.0.1:1/none") as opened:
            with pytest.raises(Unavailable, match="no connection to the database"):
                await opened.ping()

    asyncio.run(main())


def test_a_locked_database_is_unavailable(tmp_path: Path, monkeypatch):
    """A write that another connection keeps out for too long raises Unavailable."""
    monkeypatch.setattr(database, "BUSY", 0.01)

    async def main():
        async with open_database(f"sqlite:///{tmp_path}/shop.db") as opened:
            await opened.ping()
            with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                with pytest.raises(Unavailable, match="the database is unavailable"):
                    await opened.run(text("create table late (id integer)"))

    asyncio.run(main())


def test_a_wrong_statement_is_no_outage(tmp_path: Path):
    """A statement that is wrong does not pass for an outage."""

    async def main():
        async with open_database(f"sqlite:///{tmp_path}/shop.db") as opened:
            with pytest.raises(Exception, match="no such column") as caught:
                await opened.run(text("select absent"))
            assert not isinstance(caught.value, Unavailable)

    asyncio.run(main())


def test_an_unknown_scheme_names_the_known_ones():
    """A database URL of another kind is refused, and the message shows what is allowed."""

    async def main():
        async with open_database("mysql://localhost/shop"):
            pass

    with pytest.raises(StartError, match=r"(?s)'mysql'.*sqlite:///.*postgresql://"):
        asyncio.run(main())


def test_instances_that_start_together_seed_once(tmp_path: Path):
    """Five instances on one empty database all come up, and the seed is there once."""
    url = f"sqlite:///{tmp_path}/order.db"

    async def instance() -> int:
        async with open_orders(url, seed=50) as orders:
            return (await orders.page(limit=1, offset=0)).total

    async def main():
        return await asyncio.gather(*(instance() for _ in range(5)))

    assert asyncio.run(main()) == [50] * 5
