"""The event loop of a process: uvloop where it can be had, asyncio's own otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

DESCRIPTORS = 65_536
"""As many as a process may have open, where its hard limit allows it. The soft limit of most systems is 1,024 (macOS: 256),
for the sake of programs that use ``select``; a service has 10,000 connections."""

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that ``main`` makes to its end on a loop of its own, and return what it returns."""
    _raise_descriptors()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; None stands for asyncio's own."""
    try:
        import uvloop
    except ImportError:  # not installed, or not made for this platform
        return None
    return uvloop.new_event_loop


def _raise_descriptors() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # what the kernel of macOS allows is less than the hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
