"""Virtual time: an event loop whose clock jumps to the next timer when nothing is ready, so that no test waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

THREAD_PATIENCE = 30.0
"""Real seconds that the loop waits for work in threads before it calls the test dead-locked."""


class DeadLock(RuntimeError):
    """Every task waits for something that can no longer happen; the message says what each waits for."""


class _Selector(selectors.DefaultSelector):
    """Never blocks: where it would wait for a timer, time moves instead."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        loop = self.loop
        if ready or loop is None or (timeout is not None and timeout <= 0):
            return ready
        if loop.threads:  # their work takes real time and none of ours; a wake-up follows when one is done
            ready = super().select(THREAD_PATIENCE)
            if not ready:
                raise DeadLock(f"{loop.threads} calls in threads did not end within {THREAD_PATIENCE:g} real seconds")
            return ready
        if timeout is None:
            raise DeadLock(_describe(loop))
        loop.advance(timeout)
        return ready


def _describe(loop: asyncio.AbstractEventLoop) -> str:
    lines = ["nothing is ready and no timer is set:"]
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        stack = task.get_stack(limit=1)
        where = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "an unknown place"
        lines.append(f"  {task.get_name()} waits in {getattr(task.get_coro(), '__qualname__', '?')} at {where}")
    return "\n".join(lines)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own that starts at ``start`` seconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self.threads = 0
        """Calls that run in threads just now: time stands still for them."""
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock; only the selector does, when nothing is ready."""
        self._now += seconds

    def run_in_executor(  # type: ignore[override]  # the base declares a plain method that returns a future
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self.threads -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # The base waits for a thread in loop time, which would jump past it.
        executor = getattr(self, "_default_executor", None)
        if executor is not None:
            executor.shutdown(wait=True)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed() else "running" if self.is_running() else "stopped"
        return f"<VirtualLoop {state} at {self._now:.3f}s>"


def run(main: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """Run a coroutine to its end in virtual time, as ``asyncio.run`` does in real time.

    `DeadLock` when everything waits and no timer is set. Threads may be used, sockets may not: time would jump past them.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(main)
