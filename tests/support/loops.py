"""The event loops that what runs on a loop is tested on, and how a test runs on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mizzen.tools.testing.virtual import run as run_virtual

Factory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, None]], None]

try:
    import uvloop

    LOOPS: dict[str, Factory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
except ImportError:
    LOOPS = {"asyncio": asyncio.new_event_loop}

LIMIT = 60.0
"""Seconds after which a test on a loop is given up: never reached unless something is broken."""
VIRTUAL_LIMIT = 3600.0
"""The same in virtual time, which passes at once: more than any test needs."""


def runner_of(factory: Factory) -> Run:
    """Runs a coroutine on a loop of its own, which is closed at the end."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_limited(main, LIMIT))

    return run


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an asynchronous test in virtual time, from another moment than zero."""

    def start() -> None:
        run_virtual(_limited(test(), VIRTUAL_LIMIT), start=1000.0)

    start.__name__ = test.__name__
    start.__doc__ = test.__doc__
    return start


async def _limited(main: Coroutine[Any, Any, None], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await main
