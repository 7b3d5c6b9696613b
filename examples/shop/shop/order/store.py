"""Where orders are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Column, DateTime, Integer, MetaData, Row, String, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shop.database import Database, open_database

from .model import NewOrder, Order, Page

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", Integer, nullable=False),  # no foreign key: users live in another service
    Column("item", String(100), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("placed", DateTime(timezone=True), nullable=False),
)

_ITEMS = ("tea", "compass", "rope", "lantern", "sextant", "canvas", "biscuits", "chart", "barometer", "anchor")


class OrderStore:
    """Orders in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def find(self, id: int) -> Order | None:
        """The order of that id, if there is one."""
        row = (await self.database.run(select(orders).where(orders.c.id == id))).one_or_none()
        return None if row is None else _order(row)

    async def page(self, *, limit: int, offset: int) -> Page:
        """Up to ``limit`` orders by id, after the first ``offset``."""
        rows = await self.database.run(select(orders).order_by(orders.c.id).limit(limit).offset(offset))
        total = await self.database.run(select(func.count()).select_from(orders))
        return Page([_order(row) for row in rows], total.scalar_one(), limit, offset)

    async def add(self, new: NewOrder) -> Order:
        """A new order, placed now."""
        values = _values(new) | {"placed": datetime.now(UTC)}
        return _order((await self.database.run(insert(orders).values(values).returning(orders))).one())

    async def change(self, id: int, new: NewOrder) -> Order | None:
        """The order with new values, if there is one."""
        statement = update(orders).where(orders.c.id == id).values(_values(new)).returning(orders)
        row = (await self.database.run(statement)).one_or_none()
        return None if row is None else _order(row)

    async def remove(self, id: int) -> bool:
        """Whether there was such an order."""
        return (await self.database.run(delete(orders).where(orders.c.id == id))).rowcount == 1

    async def ping(self) -> None:
        """Fail when the database does not answer."""
        await self.database.ping()


@asynccontextmanager
async def open_orders(url: str, *, seed: int = 0) -> AsyncIterator[OrderStore]:
    """The orders of that database; its schema is made, and ``seed`` orders put in, where there are none."""
    async with open_database(url) as database:
        await database.make_schema(metadata, partial(_seed, count=seed))
        yield OrderStore(database)


async def _seed(connection: AsyncConnection, count: int) -> None:
    if count and (await connection.execute(select(orders.c.id).limit(1))).first() is None:
        await connection.execute(insert(orders), [_example(number) for number in range(1, count + 1)])


def _example(number: int) -> dict[str, object]:
    return {
        "user_id": number,
        "item": _ITEMS[number % len(_ITEMS)],
        "quantity": number % 7 + 1,
        "placed": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number),
    }


def _values(new: NewOrder) -> dict[str, object]:
    return {"user_id": new.user_id, "item": new.item, "quantity": new.quantity}


def _order(row: Row) -> Order:  # type: ignore[type-arg]  # rows are not typed by columns here
    # SQLite keeps no zone: what went in was UTC.
    return Order(row.id, row.user_id, row.item, row.quantity, row.placed.replace(tzinfo=UTC))
