"""What both domains need of a database: an engine from a URL, one owner of the schema at a time, honest errors."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from sqlalchemy import Executable, MetaData, event, make_url, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mizzen import StartError, Unavailable

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
SCHEMA_LOCK = 7_245_001
"""The PostgreSQL advisory lock that an instance holds while it makes the schema; any number will do."""
BUSY = 5.0
"""Seconds that SQLite waits for another connection's write; also the longest wait for a pooled connection."""

Seed = Callable[[AsyncConnection], Awaitable[None]]
"""Fills a schema that was just made."""


class Database:
    """Runs statements, each in a transaction of its own; what cannot be reached is ``Unavailable``, not a crash."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def run(self, statement: Executable) -> CursorResult[Any]:
        """Run one statement and fetch what it gives; ``IntegrityError`` is for the store to explain."""
        async with self.connection() as connection:
            # Buffered by the asyncio drivers: its rows can be read after the connection went back to the pool.
            return await connection.execute(statement)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A pooled connection in autocommit: statements here stand alone, and one round trip each is enough."""
        try:
            connection = await self.engine.connect()
        except (DBAPIError, PoolTimeout, OSError) as error:  # whatever keeps us from connecting: absent, full, stopping
            raise Unavailable(f"no connection to the database ({type(error).__name__})") from error
        try:
            async with aclosing(connection):
                yield connection
        except (DBAPIError, OSError) as error:
            if _is_outage(error):
                raise Unavailable(f"the database is unavailable ({type(error).__name__})") from error
            raise

    async def ping(self) -> None:
        """Fail when the database does not answer."""
        await self.run(text("select 1"))

    async def make_schema(self, metadata: MetaData, seed: Seed) -> None:
        """Make and seed what is missing, in one transaction that one instance at a time has.

        Instances that start together take turns, and the later ones find the work done.
        """
        sqlite = self.engine.dialect.name == "sqlite"
        async with self.connection() as connection:
            await connection.exec_driver_sql("BEGIN EXCLUSIVE" if sqlite else "BEGIN")
            try:
                if not sqlite:
                    await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
                await connection.run_sync(metadata.create_all)
                await seed(connection)
            except BaseException:
                await connection.exec_driver_sql("ROLLBACK")
                raise
            await connection.exec_driver_sql("COMMIT")


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Connect to ``sqlite:///file.db`` or ``postgresql://…``; nothing is sent before the first statement."""
    engine = _engine(url)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    parsed = make_url(url)
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise StartError(
            f"database_url has the scheme {parsed.drivername!r}",
            fix="sqlite:///file.db or postgresql://user:password@host/database",
        )
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    options |= {"connect_args": {"timeout": BUSY}} if parsed.drivername == "sqlite" else {"pool_timeout": BUSY}
    engine = create_async_engine(parsed.set(drivername=driver), **options)
    if parsed.drivername == "sqlite" and parsed.database:
        event.listen(engine.sync_engine, "connect", _write_ahead)
    return engine


def _is_outage(error: Exception) -> bool:
    """Whether the database is at fault and not the statement."""
    if isinstance(error, OperationalError):
        # SQLite says OperationalError of a statement that is wrong, too; a lock or a full disk has a code of its own.
        return getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    if isinstance(error, DBAPIError):
        return isinstance(error, InterfaceError) or error.connection_invalidated
    return True


def _write_ahead(connection: Any, _record: Any) -> None:
    """Readers do not wait for a writer, nor a writer for readers."""
    cursor = connection.cursor()
    # The mode belongs to the file and stays: who cannot have the lock for it meets somebody who is setting it.
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


__all__ = ("Database", "IntegrityError", "Seed", "open_database")
