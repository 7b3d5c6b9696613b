"""Handlers that use what handlers use: the standard library's asyncio, other clients, a database, traces, threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial

import aiohttp
import httpx
import msgspec
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import mizzen
from mizzen import Router, Service

BRIEF = 0.01
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Settings(msgspec.Struct):
    database: str
    """An SQLite file."""


class Ended:
    """How many waiting tasks were ended."""

    tasks = 0


class Here(msgspec.Struct):
    """Where a piece of code finds itself."""

    trace_id: str
    thread: str


def here() -> Here:
    context = mizzen.current()
    return Here("" if context is None else context.trace_id, threading.current_thread().name)


async def where() -> dict[str, str]:
    loop = type(asyncio.get_running_loop())
    return {"loop": loop.__module__.partition(".")[0], "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


# -- asyncio -----------------------------------------------------------------------------------------------------------


async def timeout() -> dict[str, bool]:
    """A limit that passes, one that does not, and one inside another."""
    inner = outer = False
    async with asyncio.timeout(60) as loose:
        await asyncio.sleep(BRIEF)
    try:
        async with asyncio.timeout(BRIEF):
            await asyncio.sleep(60)
    except TimeoutError:
        inner = True
    try:
        async with asyncio.timeout(BRIEF):
            async with asyncio.timeout(60):
                await asyncio.wait_for(asyncio.sleep(60), 60)
    except TimeoutError:
        outer = True
    return {"loose": loose.expired(), "inner": inner, "outer": outer}


async def task_group() -> list[Here]:
    """What tasks of a group find, each in its own."""

    async def child() -> Here:
        await asyncio.sleep(BRIEF)
        return here()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child()) for _ in range(3)]
    return [here(), *(task.result() for task in tasks), *await asyncio.gather(child(), child())]


async def failing_group() -> dict[str, str]:
    """A group of which one task fails: the other is cancelled, and the request goes on."""
    cancelled = "no"

    async def fail() -> None:
        await asyncio.sleep(BRIEF)
        raise LookupError("of a task")

    async def wait() -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = "yes"
            raise

    caught = ""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(wait())
    except* LookupError as errors:
        caught = str(errors.exceptions[0])
    await asyncio.sleep(BRIEF)
    return {"caught": caught, "cancelled": cancelled}


async def within_limits(ended: Ended) -> None:
    """Wait in tasks of a group, inside limits that do not pass."""

    async def wait() -> None:
        try:
            async with asyncio.timeout(60):
                await asyncio.sleep(60)
        finally:
            ended.tasks += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(wait())
        await asyncio.wait_for(wait(), 60)


async def ended_tasks(ended: Ended) -> int:
    return ended.tasks


async def context_variable(name: str) -> list[str]:
    """A variable that is set here, across waiting, in a task and in a thread; and what was in it before."""
    seen = [tenant.get()]
    token = tenant.set(name)
    await asyncio.sleep(BRIEF)
    seen += [tenant.get(), await asyncio.create_task(_tenant()), await asyncio.to_thread(tenant.get)]
    tenant.reset(token)
    return [*seen, tenant.get()]


async def _tenant() -> str:
    await asyncio.sleep(0)
    return tenant.get()


# -- threads -----------------------------------------------------------------------------------------------------------


def in_thread(name: str) -> list[str]:
    """A handler without ``async``: not on the loop's thread, and in the context of its request."""
    found = here()
    before = tenant.get()
    tenant.set(name)
    return [found.trace_id, found.thread, before, tenant.get()]


async def to_thread() -> list[Here]:
    return [here(), await asyncio.to_thread(here)]


# -- other people's libraries ------------------------------------------------------------------------------------------


async def by_httpx(url: str) -> list[int]:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(3)))
        async with client.stream("GET", url) as streamed:
            await streamed.aread()
        return [answer.status_code for answer in (*answers, streamed)]


async def by_aiohttp(url: str) -> list[int]:
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit) as session, asyncio.TaskGroup() as group:

        async def ask() -> int:
            async with session.get(url) as answer:
                await answer.read()
                return answer.status

        tasks = [group.create_task(ask()) for _ in range(3)]
        await asyncio.wait(tasks)
        return [task.result() for task in tasks]


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{settings.database}")
    try:
        async with engine.begin() as connection:
            await connection.execute(text("create table if not exists notes (name text)"))
        yield engine
    finally:
        await engine.dispose()


async def by_sqlalchemy(name: str, engine: AsyncEngine) -> int:
    """Write three rows, one of them in a transaction that is rolled back, and count what is there."""
    values = {"name": name}
    for _ in range(2):
        async with engine.begin() as connection:
            await connection.execute(text("insert into notes values (:name)"), values)
    async with engine.connect() as connection:
        await connection.execute(text("insert into notes values (:name)"), values)
        await connection.rollback()
        found = await connection.execute(text("select count(*) from notes where name = :name"), values)
        return int(found.scalar_one())


async def by_opentelemetry(name: str) -> dict[str, bool]:
    """A span and baggage stay current across waiting, in tasks and in threads, and nothing of them was there before."""
    tracer = TracerProvider().get_tracer("test")
    clean = not trace.get_current_span().get_span_context().is_valid and baggage.get_baggage("name") is None
    token = attach(baggage.set_baggage("name", name))
    try:
        with tracer.start_as_current_span(name) as span:
            await asyncio.sleep(BRIEF)
            kept = trace.get_current_span() is span
            task = await asyncio.create_task(_current(span, name))
            thread = await asyncio.to_thread(trace.get_current_span) is span
            with tracer.start_as_current_span("inner") as inner:
                await asyncio.sleep(0)
                child = inner.get_span_context().trace_id == span.get_span_context().trace_id
            back = trace.get_current_span() is span
    finally:
        detach(token)
    return {"clean": clean, "kept": kept, "task": task, "thread": thread, "child": child, "back": back}


async def _current(span: trace.Span, name: str) -> bool:
    await asyncio.sleep(0)
    return trace.get_current_span() is span and baggage.get_baggage("name") == name


def register_handlers(router: Router) -> None:
    router.get("/where", where)
    router.get("/timeout", timeout)
    router.get("/task-group", task_group)
    router.get("/failing-group", failing_group)
    router.get("/within-limits", within_limits)
    router.get("/ended", ended_tasks)
    router.get("/context-variable/{name}", context_variable)
    router.get("/in-thread/{name}", in_thread)
    router.get("/to-thread", to_thread)
    router.get("/httpx", by_httpx)
    router.get("/aiohttp", by_aiohttp)
    router.get("/sqlalchemy/{name}", by_sqlalchemy)
    router.get("/opentelemetry/{name}", by_opentelemetry)


def build(settings: Settings) -> Service:
    service = Service("libraries")
    service.provide(Ended())
    service.provide(AsyncEngine, partial(open_engine, settings))
    service.mount(register_handlers)
    return service
