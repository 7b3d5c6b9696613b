"""Rounds: work that is done once for all who ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Rounds:
    """Whoever asks while a round is under way is served by the next one: what he gets is never older than his question."""

    def __init__(self, work: Callable[[], Awaitable[bytes]]) -> None:
        self._work = work
        self._running: asyncio.Task[bytes] | None = None
        self._next: asyncio.Task[bytes] | None = None

    async def ask(self) -> bytes:
        """What the next round to begin brings, or raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._go(self._running), name="round")
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Answer nobody any more."""
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _go(self, before: asyncio.Task[bytes] | None) -> bytes:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = asyncio.current_task(), None
        try:
            return await self._work()
        finally:
            self._running = None

    def __repr__(self) -> str:
        return f"<Rounds: {'one' if self._running else 'none'} under way>"
