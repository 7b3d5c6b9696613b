"""Blocking queries: an answer that waits until there is news of its own topic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mizzen.words.clock import Random

from .index import Index
from .query import Block

SPREAD = 16
"""A query waits up to a sixteenth longer than it asked for, at random, so that those that began together end apart."""


class Waiting:
    """Queries that wait for a topic to move."""

    def __init__(self, index: Index, *, sleep: Callable[[float], Awaitable[None]], random: Random) -> None:
        self._index = index
        self._sleep = sleep
        self._random = random
        self._closing: set[Callable[[], None]] = set()
        self._closed = False
        self.count = 0

    async def until(self, topic: str, block: Block) -> None:
        """Wait until the index of ``topic`` is above what the query has seen, its time is over, or the past is abandoned.

        An index above ours waits as well, as in Consul: a client that keeps one of a former life must notice itself.
        """
        if block.index:
            await self.unless(lambda: self._index.of(topic) > block.index, topic, block.wait)

    async def unless(self, news: Callable[[], bool], topic: str, wait: float) -> None:
        """Wait until a change of ``topic`` makes it ``news()``, ``wait`` seconds are over, or the past is abandoned."""
        generation = self._index.generation
        if self._closed or news():
            return
        woken = asyncio.Event()
        timer = asyncio.ensure_future(self._over(wait + self._random() * wait / SPREAD, woken))
        stop = self._index.watch(topic, woken.set)
        self._closing.add(woken.set)
        self.count += 1
        try:
            while not news() and generation == self._index.generation and not self._closed:
                woken.clear()
                await woken.wait()
                if timer.done():
                    timer.result()  # a sleep that failed is a defect, not an answer
                    return
        finally:
            self.count -= 1
            stop()
            self._closing.discard(woken.set)
            timer.cancel()

    async def _over(self, seconds: float, woken: asyncio.Event) -> None:
        try:
            await self._sleep(seconds)
        finally:
            woken.set()

    def close(self) -> None:
        """Let every query answer now, and none wait from now on."""
        self._closed = True
        for wake in tuple(self._closing):
            wake()
