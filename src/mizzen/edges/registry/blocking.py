"""Blocking queries: an answer that waits until there is news."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .query import Block
from .state import State


class Waiting:
    """Queries that wait for the index to move."""

    def __init__(self, state: State, *, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._state = state
        self._sleep = sleep
        self._closed = False
        self.count = 0

    async def until(self, index: Callable[[], int], block: Block) -> None:
        """Wait until ``index()`` is above what the query has seen, its time is over, or the past is abandoned.

        An index above ours waits as well, as in Consul: a client that keeps one of a former life must notice itself.
        """
        generation = self._state.generation
        if not block.index or self._closed:
            return
        news = asyncio.Event()
        timer = asyncio.ensure_future(self._over(block.wait, news))
        self._state.watchers.add(news.set)
        self.count += 1
        try:
            while index() <= block.index and generation == self._state.generation and not self._closed:
                news.clear()
                await news.wait()
                if timer.done():
                    timer.result()  # a sleep that failed is a defect, not an answer
                    return
        finally:
            self.count -= 1
            self._state.watchers.discard(news.set)
            timer.cancel()

    async def _over(self, seconds: float, news: asyncio.Event) -> None:
        try:
            await self._sleep(seconds)
        finally:
            news.set()

    def close(self) -> None:
        """Let every query answer now, and none wait from now on."""
        self._closed = True
        for watcher in tuple(self._state.watchers):
            watcher()
