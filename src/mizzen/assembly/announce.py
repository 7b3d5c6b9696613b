"""Announce: registers this instance, keeps it registered for ever, and withdraws it before it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from mizzen.rules.discovery import DuplicateId, Instance, Outdated, Registrar
from mizzen.rules.events import Hook, IdTaken, Registered, RegistryBack, RegistryLost, RegistryRefused, Withdrawn
from mizzen.words.clock import Clock, Random
from mizzen.words.errors import CallError, PeerError

BEAT = 5.0
"""Seconds between heartbeats: a third of the 15 s after which Consul takes us for dead."""
JITTER = 0.1
"""Share of the beat by which instances drift apart, so that they do not all beat at once."""
LOOK_EVERY = 6
"""Beats between looks at whether the registry agrees with them."""
LASTS = 2
"""Looks in a row that find a mismatch before it is logged: one may be a probe that has not run yet."""
RETRY_FIRST, RETRY_MOST = 0.25, 5.0
"""Seconds before another try at a registry that does not answer; never longer than a beat, never given up."""
WITHDRAW_LIMIT = 3.0
"""Seconds for a registration in flight and the withdrawal after it: a dead registry must not hold up the stop."""

REFUSED = (400, 401, 403)
"""What a registry answers to an entry or a token that will not do: nothing that waiting mends, so it is told as an error."""

log = logging.getLogger("mizzen.discovery")


class Announcer:
    """One instance's presence in one registry."""

    def __init__(
        self,
        registrar: Registrar,
        instance: Instance,
        *,
        registry: str,
        verdict: Callable[[], tuple[str, str]],
        failed_calls: Callable[[], int],
        serving: Callable[[], dict[str, int]],
        emit: Hook,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        random: Random,
        beat: float = BEAT,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """``beat`` in seconds, as ``BEAT`` is; ``heard`` is told of each beat that is answered as the one before was."""
        self.instance = instance
        self.registered = False
        self._registrar = registrar
        self._registry = registry
        self._verdict = verdict
        self._failed_calls = failed_calls
        self._serving = serving
        self._emit = emit
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._beat = beat
        self._heard = heard
        self._task: asyncio.Task[None] | None = None
        self._step: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._lost_at: float | None = None
        self._told: set[type[object]] = set()  # what was told of the trouble under way, each once
        self._failed_before = 0
        self._beats = 0
        self._mismatches = 0

    def start(self) -> None:
        """Announce in the background, for ever."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="announce")

    def verdict_changed(self) -> None:
        """Tell the registry at once instead of with the next beat."""
        self._changed.set()

    async def withdraw(self) -> None:
        """Stop beating, await a registration in flight, then remove this life of the instance; bounded in time."""
        task, self._task = self._task, None
        if task is None:
            return
        step = self._step
        try:
            await _cancelled(task)  # before the wait below, in whose last turn it could begin another registration
            async with asyncio.timeout(WITHDRAW_LIMIT):
                # A registration that lands after the withdrawal would leave a ghost: let it finish first.
                if step is not None:
                    await asyncio.wait([step])
                await self._registrar.withdraw(self.instance)
        except Exception as error:  # whatever the registry does, the stop goes on
            self._emit(Withdrawn(self._registry, self.instance.id, f"{type(error).__name__}: {error}"))
        else:
            self.registered = False
            self._emit(Withdrawn(self._registry, self.instance.id, ""))
        finally:
            if step is not None:
                await _cancelled(step)

    async def _run(self) -> None:
        delay = RETRY_FIRST
        while True:
            try:
                self._changed.clear()
                self._step = asyncio.get_running_loop().create_task(self._tell(), name="announce-step")
                await asyncio.shield(self._step)
            except Exception as error:
                self._lost(error)
                await self._sleep(delay * (0.5 + self._random() / 2))
                delay = min(delay * 2, RETRY_MOST, self._beat)
            else:
                delay = RETRY_FIRST
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._beat * (1 - JITTER + 2 * JITTER * self._random())):
                        await self._changed.wait()
            finally:
                self._step = None

    async def _tell(self) -> None:
        verdict, note = self._verdict()
        again, why = self.registered, ""
        try:
            known = again and await self._registrar.beat(self.instance, verdict, note)
        except Outdated as outdated:
            known, why = False, str(outdated)
        if known:
            self._back(again=False)
            await self._look()
            return
        started = self._clock()
        await self._registrar.register(self.instance, verdict, note)
        self.registered = True
        if self._lost_at is not None or again:
            self._back(again=True, took=self._clock() - started, why=why)
        else:
            self._emit(Registered(self._registry, self.instance.id, verdict))

    async def _look(self) -> None:
        self._beats += 1
        if self._beats % LOOK_EVERY:
            return
        try:
            reason = await self._registrar.mismatch(self.instance)
        except CallError:  # the beat before it arrived: a look that is refused is no outage
            return
        self._mismatches = 0 if reason is None else self._mismatches + 1
        if self._mismatches == LASTS:
            log.warning("%s", reason)

    def _lost(self, error: Exception) -> None:
        if self._lost_at is None:
            self._lost_at = self._clock()
            self._failed_before = self._failed_calls()
        event: IdTaken | RegistryRefused | RegistryLost
        if isinstance(error, DuplicateId):
            event = IdTaken(self._registry, self.instance.id, str(error))
        elif isinstance(error, PeerError) and error.status in REFUSED:
            event = RegistryRefused(self._registry, self.instance.id, str(error))
        else:
            event = RegistryLost(self._registry, 0.0, self._serving(), f"{type(error).__name__}: {error}")
        if type(event) not in self._told:
            self._told.add(type(event))
            self._emit(event)

    def _back(self, *, again: bool, took: float = 0.0, why: str = "") -> None:
        if self._lost_at is None and not again:
            self._heard()
            return
        lost = 0.0 if self._lost_at is None else self._clock() - self._lost_at
        failed = 0 if self._lost_at is None else self._failed_calls() - self._failed_before
        self._lost_at = None
        self._told.clear()
        self._emit(RegistryBack(self._registry, lost, self.instance.id if again else "", took, failed, why))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
