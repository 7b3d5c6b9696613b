"""One service under `mizzen dev`: kept running until it is told to stop, and what is known of it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mizzen.assembly.children import describe_exit
from mizzen.rules.config import ServiceConfig
from mizzen.rules.restart import Backoff
from mizzen.words.clock import Clock, format_duration, monotonic

from .child import Child
from .lifeline import GRACE
from .probe import Place, is_ready, waits_for
from .screen import Screen

if TYPE_CHECKING:
    from mizzen.edges.http import Tls

HOST = "127.0.0.1"
RESTART_AFTER = 0.5
"""Seconds before a crashed service is first started again: soon enough for an accident."""
POLL = 0.1
"""Seconds between looks at /ready: a person does not notice less."""
PATIENCE = 1.0
"""Seconds after which a start is slow enough to say what it waits for."""


class Unit:
    """A service, its child process of the moment, and whether that is ready."""

    def __init__(
        self,
        name: str,
        config: ServiceConfig,
        peers: Sequence[Unit],
        *,
        make: Callable[[Unit], Child],
        tls: Callable[[str], Tls | None] = lambda name: None,
        screen: Screen,
        clock: Clock = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.config = config
        self.peers = list(peers)
        """Those that must be ready before this one starts, and that stop after it."""
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.waiting = ""
        """What its start waits for, when that is known."""
        self.child: Child | None = None
        self._make = make
        self._tls = tls
        self._screen = screen
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(RESTART_AFTER)
        self._wake = asyncio.Event()
        self._stopping = False
        self._restarting = False

    async def keep(self) -> None:
        """Start it once its peers are ready, and start it again whenever it ends, until :meth:`stop`."""
        try:
            await self._until_peers_ready()
            while not self._stopping:
                await self._live()
        finally:
            self.ended.set()

    async def restart(self) -> None:
        """End it and start it again at once, since its code has changed."""
        self._restarting = True
        self._backoff.reset()
        self._wake.set()
        await self._end(GRACE)

    async def stop(self, grace: float) -> None:
        """End it for good: asked first, killed after ``grace`` seconds."""
        self._stopping = True
        self._wake.set()
        await self._end(grace)

    def kill(self) -> None:
        """End it for good, at once."""
        self._stopping = True
        self._wake.set()
        if self.child is not None:
            self.child.kill()

    def place(self) -> Place:
        """Where its probes answer."""
        if self.config.admin.port is not None:
            return Place(HOST, self.config.admin.port)
        tls = self._tls(self.name) if self.config.tls is not None else None
        return Place(HOST, self.config.port, self.config.socket, tls.context() if tls is not None else None)

    async def _live(self) -> None:
        """One life of the child, and the wait after it."""
        self._restarting = False
        self._wake.clear()
        began = self._clock()
        child = self.child = self._make(self)
        try:
            await child.start()
            look = asyncio.ensure_future(self._look(began))
            try:
                code = await child.wait()
            finally:
                look.cancel()
                await asyncio.wait({look})
        finally:
            self.ready.clear()
            child.kill()
        if self._stopping or self._restarting:
            return
        alive = self._clock() - began
        wait = self._backoff.after(alive)
        self._tell_crash(code, alive, wait, child.last_errors)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()

    async def _look(self, began: float) -> None:
        """Look at /ready until it is, and say what the start waits for when that takes long."""
        said = ""
        while not await is_ready(place := self.place()):
            if self._clock() - began > PATIENCE:
                self.waiting = await waits_for(place)
                if self.waiting != said:
                    said = self.waiting
                    self._screen.say(f"{self.name} is starting ({said})")
            await self._sleep(POLL)
        self.waiting = ""
        self.ready.set()
        self._screen.say(f"{self.name} is ready after {format_duration(self._clock() - began)}")

    async def _until_peers_ready(self) -> None:
        said = ""
        while missing := [peer for peer in self.peers if not peer.ready.is_set()]:
            if self._stopping:
                return
            reasons = [f"{peer.name} ({peer.waiting})" if peer.waiting else peer.name for peer in missing]
            if (text := f"{self.name} waits for {', '.join(reasons)}") != said:
                said = text
                self._screen.say(text)
            await self._sleep(POLL)

    async def _end(self, grace: float) -> None:
        child = self.child
        if child is None or not child.alive:
            return
        child.terminate()
        ends = self._clock() + grace
        while child.alive:
            if self._clock() >= ends:
                self._screen.say(f"{self.name} did not stop within {format_duration(grace)}: killed", wrong=True)
                child.kill()
                return
            await self._sleep(0.02)

    def _tell_crash(self, code: int, alive: float, wait: float, errors: Sequence[str]) -> None:
        """One line: what it wrote to stderr stands above it already, so only the line that says most is repeated."""
        said = [line.strip() for line in errors if line.strip()]
        why = next((line for line in said if line.startswith("error: ")), said[-1] if said else "")
        what = f"{self.name} {describe_exit(code)} after {format_duration(alive)}{f' ({why})' if why else ''}"
        self._screen.say(f"{what}; starts again in {format_duration(wait)}", wrong=True)

    def __repr__(self) -> str:
        return f"<Unit {self.name} {'ready' if self.ready.is_set() else 'not ready'}>"
