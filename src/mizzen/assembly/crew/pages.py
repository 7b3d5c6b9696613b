"""Pages: the metrics page of a whole crew, put together when somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mizzen.edges.telemetry import Metrics, compose, figures_of

from .messages import Numbers, Send
from .process import WorkerProcess
from .rounds import Rounds
from .sum import Sum

PATIENCE = 0.5
"""Seconds that a page waits for the numbers of slow workers; after that those that they sent last stand."""
SUPERVISOR = -1
"""Under which the supervisor's own counters are in the sum."""


class Pages:
    """Asks every worker for its numbers and adds them up, in rounds."""

    def __init__(self, workers: Sequence[WorkerProcess], *, own: Metrics, crew: Metrics) -> None:
        """``own`` are the supervisor's metrics, of which the counters are added; ``crew`` are those of the crew itself."""
        self._workers = workers
        self._own = own
        self._crew = crew
        self._sum = Sum()
        self._round = 0
        self._awaited: set[int] = set()
        self._complete = asyncio.Event()
        self._rounds = Rounds(self._go_round)

    async def page(self) -> bytes:
        """The page, with everything that any worker had counted when it was asked for."""
        return await self._rounds.ask()

    def arrived(self, worker: WorkerProcess, numbers: Numbers) -> None:
        """A worker has sent its numbers."""
        self._sum.take(worker.number, numbers.figures)
        if numbers.round == self._round:
            self._settled(worker.number)

    def ended(self, worker: WorkerProcess) -> None:
        """A worker's life is over."""
        self._sum.end(worker.number)
        self._settled(worker.number)

    async def close(self) -> None:
        """Answer nobody any more."""
        await self._rounds.close()

    async def _go_round(self) -> bytes:
        self._round += 1
        asked = [worker for worker in self._workers if worker.hears]
        self._awaited = {worker.number for worker in asked}
        self._complete.clear()
        for worker in asked:
            worker.send(Send(self._round))
        if asked:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._complete.wait()
            except TimeoutError:
                pass
        self._sum.take(SUPERVISOR, [each for each in figures_of(self._own.families()) if each.kind != "gauge"])
        return compose([*self._sum.families(), *self._crew.families()], join=False)

    def _settled(self, number: int) -> None:
        self._awaited.discard(number)
        if not self._awaited:
            self._complete.set()
