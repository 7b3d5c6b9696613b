"""Post: a worker's side of the channel, where it is told what to do and tells how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

from mizzen.assembly.probes import State
from mizzen.assembly.runtime import Runtime
from mizzen.edges.telemetry import Metrics, figures_of
from mizzen.rules.events import CheckChanged, Event, StateChanged
from mizzen.words.errors import Unavailable

from .channel import Channel
from .gate import CrewNetwork
from .messages import Accept, Ask, Duty, Numbers, Others, Page, Report, Send, Stop, ToWorker
from .rounds import Rounds

REPORT_EVERY = 1.0
"""Seconds between reports, which are small: how soon a worker that hangs is missed."""
NUMBERS_EVERY = 5
"""Reports between two pushes of all numbers: what a SIGKILL loses of the counters that nobody has looked at meanwhile. A
hundred routes cost 5 ms each time, which is a pause of every request; who looks at the page gets the present ones."""
PAGE_PATIENCE = 2.0
"""Seconds for the supervisor's page: it waits for slow workers a quarter of that."""
ORPHAN_GRACE = 5.0
"""Seconds that a worker may finish requests in after its supervisor died; longer, and a new one would wait for the port."""


class Post:
    """What one worker knows of its crew; the platform's questions are answered from it."""

    def __init__(self) -> None:
        self.duty: asyncio.Future[Duty] = asyncio.get_running_loop().create_future()
        self.channel = Channel(ToWorker, self._told, self._orphaned)
        self._runtime: Runtime | None = None
        self._network: CrewNetwork | None = None
        self._metrics: Metrics | None = None
        self._others = Others(State.STARTING.value, "unavailable", "", {})
        self._accepting: Sequence[int] = ()
        self._accept_task: asyncio.Task[None] | None = None
        self._rounds = Rounds(self._ask)
        self._page: asyncio.Future[bytes] | None = None
        self._asked = 0
        self._stops: list[bool] = []
        self._reporting = False
        self._pushing: asyncio.Task[None] | None = None

    def work(self, runtime: Runtime, network: CrewNetwork, metrics: Metrics) -> None:
        """From now on there is something to tell about and to be told to."""
        self._runtime, self._network, self._metrics = runtime, network, metrics
        self._pushing = asyncio.get_running_loop().create_task(self._push(), name="push")
        for linger in self._stops:
            self._stop(linger)

    async def close(self, seconds: float) -> None:
        """Tell the last numbers and let go of the channel."""
        if self._pushing is not None:
            self._pushing.cancel()
            await asyncio.wait({self._pushing})
        await self._rounds.close()
        if self._metrics is not None:
            self.channel.send(Numbers(figures_of(self._metrics.families())))
        await self.channel.close(seconds)

    def happened(self, event: Event) -> None:
        """A hook: what the supervisor wants to know at once."""
        if isinstance(event, StateChanged | CheckChanged) and not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_soon(self._report)  # not before the state is what the event says

    # -- what the probes ask: see ``probes.Crew``

    def state(self) -> State:
        """The crew's state, which may differ from this worker's."""
        return State(self._others.state)

    def waiting(self) -> list[str]:
        """What the crew waits for."""
        return [f"worker {number}: {text}" for number, text in self._others.workers.items() if text != State.SERVING.value]

    def health(self, own: dict[str, Any]) -> dict[str, Any]:
        """The crew's status in place of this worker's, and how each worker is; the checks stay this worker's own."""
        number = self.duty.result().number
        return {**own, "status": self._others.status, "worker": number, "workers": self._others.workers}

    async def metrics(self) -> bytes:
        """The whole crew's page; ``Unavailable`` when the supervisor does not answer."""
        return await self._rounds.ask()

    async def _ask(self) -> bytes:
        # In rounds: a page for each of many who ask at once would be more than the channel holds for us.
        self._asked += 1
        self._page = asyncio.get_running_loop().create_future()
        self.channel.send(Ask(self._asked))
        try:
            async with asyncio.timeout(PAGE_PATIENCE):
                return await self._page
        except TimeoutError:
            raise Unavailable("the supervisor of this crew does not answer") from None

    # -- from the supervisor

    def _told(self, message: Any) -> None:
        match message:
            case Duty():
                self.duty.set_result(message)
            case Others():
                self._others = message
            case Accept(sockets=sockets):
                self._accepting = sockets
                if self._accept_task is None or self._accept_task.done():
                    self._accept_task = asyncio.get_running_loop().create_task(self._accept(), name="accept")
            case Send():
                self._send_numbers(message.round)
            case Page(id=id, page=page):
                if id == self._asked and self._page is not None and not self._page.done():
                    self._page.set_result(page)
            case Stop(force=force):
                self._stop(True, force=force)

    async def _accept(self) -> None:
        while self._network is not None:
            wanted = self._accepting
            await self._network.accept(wanted)
            if wanted is self._accepting:
                return

    def _stop(self, linger: bool, *, force: bool = False) -> None:
        if self._runtime is None:
            self._stops.append(linger)
            return
        if not self._runtime.stopping:
            self._runtime.stop("the supervisor stops", linger=linger)
        if force or (not linger and self._runtime.state is State.LINGERING):
            self._runtime.stop("the supervisor stops")

    def _orphaned(self) -> None:
        """The supervisor is gone, and with it whoever would withdraw us: nobody new shall come here."""
        if not self.duty.done():
            self.duty.cancel()
        self._stop(False)

    # -- to the supervisor

    def _report(self) -> None:
        self._reporting = False
        if self._runtime is None:
            return
        running = self._runtime.running
        health = running.health
        self.channel.send(
            Report(
                state=running.state.value,
                verdict=health.verdict,
                note=health.note,
                waiting=running.waiting(),
                failed_calls=sum(peer.failed_calls for peer in running.peers.values()),
                peers={name: len(peer.store.instances) for name, peer in running.peers.items()},
            )
        )

    def _send_numbers(self, round: int) -> None:
        figures = [] if self._metrics is None else figures_of(self._metrics.families())
        self.channel.send(Numbers(figures, round))

    async def _push(self) -> None:
        for turn in count():
            self._report()
            if turn % NUMBERS_EVERY == 0 and self.channel.free:
                self._send_numbers(0)
            await asyncio.sleep(REPORT_EVERY)
