"""Where users are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import Column, Integer, MetaData, Row, String, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mizzen import Conflict
from shop.database import Database, IntegrityError, open_database

from .model import NewUser, Page, User

metadata = MetaData()
users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("email", String(200), nullable=False, unique=True),
)

_FIRST = ("Ada", "Alan", "Barbara", "Claude", "Dennis", "Edsger", "Frances", "Grace", "Ken", "Margaret")
_LAST = ("Allen", "Dijkstra", "Hamilton", "Hopper", "Liskov", "Lovelace", "Ritchie", "Shannon", "Thompson", "Turing")


class UserStore:
    """Users in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def find(self, id: int) -> User | None:
        """The user of that id, if there is one."""
        row = (await self.database.run(select(users).where(users.c.id == id))).one_or_none()
        return None if row is None else _user(row)

    async def page(self, *, limit: int, offset: int) -> Page:
        """Up to ``limit`` users by id, after the first ``offset``."""
        rows = await self.database.run(select(users).order_by(users.c.id).limit(limit).offset(offset))
        total = await self.database.run(select(func.count()).select_from(users))
        return Page([_user(row) for row in rows], total.scalar_one(), limit, offset)

    async def add(self, new: NewUser) -> User:
        """A new user; ``Conflict`` when the email belongs to another."""
        return _user((await self._write(insert(users).values(name=new.name, email=new.email), new)).one())

    async def change(self, id: int, new: NewUser) -> User | None:
        """The user with new values, if there is one; ``Conflict`` when the email belongs to another."""
        statement = update(users).where(users.c.id == id).values(name=new.name, email=new.email)
        row = (await self._write(statement, new)).one_or_none()
        return None if row is None else _user(row)

    async def remove(self, id: int) -> bool:
        """Whether there was such a user."""
        return (await self.database.run(delete(users).where(users.c.id == id))).rowcount == 1

    async def ping(self) -> None:
        """Fail when the database does not answer."""
        await self.database.ping()

    async def _write(self, statement, new: NewUser):  # type: ignore[no-untyped-def]  # insert and update have no common type with returning()
        try:
            return await self.database.run(statement.returning(users))
        except IntegrityError as error:
            raise Conflict(f"another user has the email {new.email}") from error


@asynccontextmanager
async def open_users(url: str, *, seed: int = 0) -> AsyncIterator[UserStore]:
    """The users of that database; its schema is made, and ``seed`` users put in, where there are none."""
    async with open_database(url) as database:
        await database.make_schema(metadata, partial(_seed, count=seed))
        yield UserStore(database)


async def _seed(connection: AsyncConnection, count: int) -> None:
    if count and (await connection.execute(select(users.c.id).limit(1))).first() is None:
        await connection.execute(insert(users), [_example(number) for number in range(1, count + 1)])


def _example(number: int) -> dict[str, str]:
    first, last = _FIRST[number % len(_FIRST)], _LAST[number // len(_FIRST) % len(_LAST)]
    return {"name": f"{first} {last}", "email": f"{first}.{last}.{number}@example.com".lower()}


def _user(row: Row) -> User:  # type: ignore[type-arg]  # rows are not typed by columns here
    return User(row.id, row.name, row.email)
