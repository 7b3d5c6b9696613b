"""Which functions can wait: what their code says decides whether a request takes a task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from mizzen.rules.binding import waits


async def computes(id: str) -> list[str]:
    return [part for part in id.split("-") if part]


async def raises() -> None:
    raise LookupError


async def awaits() -> None:
    await computes("a-b")


async def enters(lock: Any) -> None:
    async with lock:
        pass


async def loops(source: Any) -> list[int]:
    return [number async for number in source]


async def generates() -> Any:
    yield 1


def blocks() -> None:
    """Runs in a thread, which is waited for."""


def hands_over() -> Any:
    """Returns a coroutine of somebody else."""
    return awaits()


class Handlers:
    """Methods are functions as well."""

    async def computes(self) -> int:
        return 1

    async def awaits(self) -> None:
        await awaits()

    async def __call__(self) -> int:
        return 1


@pytest.mark.parametrize("function", [computes, raises, Handlers().computes])
def test_a_coroutine_without_await_cannot_wait(function: Callable[..., Any]) -> None:
    """Its code has no place at which it could stop."""
    assert not waits(function)


@pytest.mark.parametrize(
    "function",
    [
        awaits,
        enters,
        loops,
        generates,
        blocks,
        hands_over,
        Handlers().awaits,
        Handlers(),
        functools.partial(computes, "a"),
        print,
    ],
)
def test_whatever_else_may_wait(function: Callable[..., Any]) -> None:
    """Every form of await counts, and so does everything whose code is not at hand."""
    assert waits(function)
