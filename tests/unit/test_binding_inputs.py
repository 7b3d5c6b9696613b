"""What a function is given from path, query and headers, and what a caller is told who sends something else."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote_plus

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.rules.binding import Header, plan
from mizzen.rules.router import Route
from mizzen.words.context import Context, enter
from mizzen.words.errors import BadRequest, Fault, Invalid
from mizzen.words.message import Headers, Request, Response


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Draft(msgspec.Struct):
    name: str


async def never(function: Callable[[], Any]) -> Any:
    """A pool of threads for handlers that need none."""
    raise AssertionError("an async function ran in a thread")


def call(
    function: Callable[..., Awaitable[Any]], template: str = "/x", params: tuple[str, ...] = (), *, method: str = "GET", **request: Any
) -> Any:
    """What a bound function returns for a request; it answers with ``Kept``."""
    kept: list[Any] = []

    class Kept(Response):
        """An answer that is handed through as it is, and carries what the function was given."""

    async def go() -> Response:
        message = Request(method, "/x", **request)
        message.params = params
        handler = plan(Route(method, template, function), ()).compile({}, in_thread=never)
        return await handler(message)

    del kept, Kept
    response = asyncio.run(go())
    return GIVEN.pop() if GIVEN else response
