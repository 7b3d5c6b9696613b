"""A desk where requests come in: typed input to get wrong, and handlers that do to stdout what user code does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from enum import Enum
from typing import Annotated

import msgspec
import prometheus_client

from mizzen import NotFound, Router, Service

TICKETS = prometheus_client.Counter("desk_tickets", "Tickets taken.", ["colour"])

library = logging.getLogger("some.library")
library.addHandler(logging.StreamHandler(sys.stdout))
library.propagate = False

print("the desk is imported")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    name: str
    price: float


class Ticket(msgspec.Struct):
    title: str
    colour: Colour
    count: Annotated[int, msgspec.Meta(ge=1)]
    items: list[Item] = []


async def post_ticket(ticket: Ticket) -> Ticket:
    TICKETS.labels(ticket.colour.value).inc()
    return ticket


async def get_ticket(id: int, limit: int = 10, colour: Colour | None = None) -> Ticket:
    if id == 0:
        raise NotFound("no ticket 0")
    return Ticket("a ticket", colour or Colour.RED, limit)


async def put_ticket(id: int, ticket: Ticket) -> Ticket:
    return ticket


async def hold(body: AsyncIterator[bytes]) -> int:
    """Last for as long as the caller takes to send its body."""
    return len(b"".join([piece async for piece in body]))


async def crash() -> None:
    raise RuntimeError("a handler's defect\nwith two lines")


async def warn() -> None:
    warnings.warn("a library's warning", stacklevel=1)
    library.warning("a library's record: %s", "ü\n")


async def say() -> None:
    print("one line", 'and "another"', sep="\n")
    print("no end", end="")
    print(" yet", end="", flush=True)
    sys.stdout.buffer.write("bytes ü\n".encode())
    logging.StreamHandler(sys.stdout).emit(logging.makeLogRecord({"msg": "a handler's line"}))


def say_in_thread() -> None:
    print("from a thread")


async def lose_task() -> None:
    async def fail() -> None:
        raise ValueError("in a task that nobody awaits")

    asyncio.get_running_loop().create_task(fail(), name="lost")


async def lose_thread() -> None:
    def fail() -> None:
        raise ValueError("in a thread that nobody joins")

    threading.Thread(target=fail, name="lost").start()


def register_handlers(router: Router) -> None:
    router.post("/tickets", post_ticket, status=201)
    router.get("/tickets/{id}", get_ticket, raises=[NotFound])
    router.put("/tickets/{id}", put_ticket)
    router.post("/hold", hold)
    router.get("/crash", crash)
    router.get("/warn", warn)
    router.get("/say", say)
    router.get("/say/in-thread", say_in_thread)
    router.get("/lose/task", lose_task)
    router.get("/lose/thread", lose_thread)


def build() -> Service:
    service = Service("desk")
    service.mount(register_handlers)
    return service
