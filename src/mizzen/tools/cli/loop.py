"""The event loop of a process: uvloop where it can be had, asyncio's own otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that ``main`` makes to its end on a loop of its own, and return what it returns."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; None stands for asyncio's own."""
    try:
        import uvloop
    except ImportError:  # not installed, or not made for this platform
        return None
    return uvloop.new_event_loop
