"""Scene: what callers see of one service on a broken registry, and the instances of it, each as a process of its own.

The recorder judges every change, not the end alone: an instance that lives, and was seen once, is never missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from mizzen.assembly.announce import WITHDRAW_LIMIT, Announcer
from mizzen.assembly.drivers import Backend
from mizzen.assembly.outages import Outages
from mizzen.rules.discovery import Back, EndpointStore, Instance, Lost, StoreEvent, instance_id
from mizzen.rules.events import Hook, RegistryLost
from mizzen.words.errors import NoInstances

from .rig import Rig

BEAT = 0.4
"""Seconds between heartbeats, instead of 5."""
JITTERED = BEAT * 1.1
SLACK = 1.5
"""Seconds on top of every limit: two cores may be busy with something else."""
GLANCE = 0.02
"""Seconds between looks at a condition."""


def announcer(
    backend: Backend,
    instance: Instance,
    emit: Hook,
    *,
    heard: Callable[[], None] = lambda: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Announcer:
    """The product's own, with the beat of the scenarios."""
    assert backend.registrar is not None
    return Announcer(
        backend.registrar,
        instance,
        registry=backend.url,
        verdict=lambda: ("passing", "ok"),
        failed_calls=lambda: 0,
        serving=dict,
        emit=emit,
        clock=time.monotonic,
        sleep=sleep,
        random=random.random,
        beat=BEAT,
        heard=heard,
    )


async def silence(announcer: Announcer) -> None:
    """End it without a word, as by SIGKILL."""
    task, announcer._task = announcer._task, None
    for each in (task, announcer._step):
        if each is not None:
            each.cancel()
            await asyncio.wait({each})


class Member:
    """One instance of the service: announced through the driver, or put there by others where nobody announces."""

    def __init__(self, scene: Scene, instance: Instance) -> None:
        self.instance = instance
        self.told: list[tuple[float, Any]] = []
        """What its announcer said, and when."""
        self._scene = scene
        self._announcer: Announcer | None = None
        if scene.rig.registers:
            self._drivers = scene.rig.open()
            backend = self._drivers.registering()
            self._announcer = announcer(
                backend, instance, lambda event: self.told.append((time.monotonic(), event)), sleep=scene.sleep_and_wait
            )

    @property
    def registered(self) -> bool:
        """Whether the registry took it, as far as it knows."""
        return self._announcer is None or self._announcer.registered

    @property
    def lost(self) -> bool:
        """Whether it was told that the registry is lost; where nobody announces there is nothing to tell."""
        return self._announcer is None or any(isinstance(event, RegistryLost) for _, event in self.told)

    @property
    def settled(self) -> bool:
        """Whether it is registered, and no outage that it noticed lasts."""
        return self._announcer is None or (self.registered and not isinstance(self.told[-1][1], RegistryLost))

    async def start(self) -> None:
        self._scene.living.add(place(self.instance))
        if self._announcer is not None:
            self._announcer.start()
        else:
            await asyncio.to_thread(self._scene.rig.put, self.instance)

    async def withdraw(self) -> float:
        """Leave in good order; the seconds that it took. From now on nobody expects it."""
        self._scene.living.discard(place(self.instance))
        began = time.monotonic()
        if self._announcer is None:
            await asyncio.to_thread(self._scene.rig.remove, self.instance)
        else:
            await self._announcer.withdraw()
        return time.monotonic() - began

    def __repr__(self) -> str:
        last = [f"{time.monotonic() - at:.2f}s ago {event}" for at, event in self.told[-2:]]
        return f"<Member {self.instance.id}{' registered' if self.registered else ''} {last}>"

    async def vanish(self) -> None:
        """End without a word, as by SIGKILL."""
        if self._announcer is None:
            return
        await silence(self._announcer)
        self._drivers.close()


class Callers:
    """What a client of the service sees: the product's store over the product's driver.

    One that makes calls knows who answers, and may never miss an instance that lives. One that is ``idle`` cannot know; it
    may miss some after an outage, but never has an empty set while anybody lives. One that is ``announced`` is a service
    as well, whose heartbeat notices what its watch does not.
    """

    def __init__(
        self, rig: Rig, service: str, living: AbstractSet[str], *, idle: bool = False, announced: bool = False
    ) -> None:
        self.events: list[StoreEvent] = []
        self.ids: dict[str, set[str]] = {}
        """Every id that an address was seen under."""
        self.tolerated = 0.0
        """Seconds that an instance may be away: where the registry itself says so, and is to be believed."""
        self._living = living
        self._idle = idle
        self._met: set[str] = set()
        self._away: dict[str, float] = {}
        self._gaps: list[str] = []
        self._service = service
        self._began = time.monotonic()
        self._at: list[float] = []
        self.store = EndpointStore(
            service,
            clock=time.monotonic,
            on_change=self._changed,
            on_event=self._told,
            answers=None if idle else self._answers,
            hold=rig.hold,
        )
        self._drivers = rig.open()
        self._tasks: list[asyncio.Task[None]] = []
        outages, url = Outages(lambda _: None), self._drivers.resolving().url
        self._registry = outages.user(url, service, clock=time.monotonic, doubt=self.store.doubt)
        self._announcer: Announcer | None = None
        if announced:
            itself = f"caller-{uuid.uuid4().hex[:8]}"
            instance = Instance(instance_id(itself, "10.0.1.1", 8101), itself, "10.0.1.1", 8101, meta={"boot": "b1"})
            tell, heard = outages.announcer(url, clock=time.monotonic)
            self._announcer = announcer(self._drivers.registering(), instance, tell, heard=heard)

    def start(self) -> None:
        """Watch from now on."""
        resolver = self._drivers.resolving().resolver
        self._tasks = [asyncio.ensure_future(resolver.watch(self._service, self.store)), asyncio.ensure_future(self._tick())]
        if self._announcer is not None:
            self._announcer.start()

    async def stop(self) -> None:
        if self._announcer is not None:
            await silence(self._announcer)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            assert task.cancelled(), f"a watch ended by itself: {task!r}"
        self._drivers.close()

    async def _tick(self) -> None:
        while True:
            self.store.tick(time.monotonic())
            await asyncio.sleep(GLANCE)

    @property
    def announced(self) -> bool:
        return self._announcer is not None and self._announcer.registered

    @property
    def seen(self) -> set[str]:
        return {place(instance) for instance in self.store.instances}

    def _answers(self, id: str) -> bool:
        return any(each.id == id and place(each) in self._living for each in self.store.instances)

    def _told(self, event: StoreEvent) -> None:
        self.events.append(event)
        self._at.append(time.monotonic() - self._began)
        match event:  # as a peer does
            case Lost():
                self._registry.lost(str(event.error), alone=isinstance(event.error, NoInstances))
            case Back():
                self._registry.back()

    def _changed(self, instances: Iterable[Instance]) -> None:
        now, here = time.monotonic(), set()
        for instance in instances:
            here.add(place(instance))
            self.ids.setdefault(place(instance), set()).add(instance.id)
        self._met |= here
        wanted = self._met & self._living
        missing = wanted - here if not self._idle or not here else set()
        for each in missing:
            self._away.setdefault(each, now)
        for each in self._away.keys() - missing:
            if (away := now - self._away.pop(each)) > self.tolerated:
                self._gaps.append(f"{each} for {away:.2f}s until {now - self._began:.2f}s")

    def judge(self) -> None:
        """Fail when an instance that lives was missing for longer than it may, or changed its id."""
        now = time.monotonic()
        gaps = [*self._gaps, *(f"{each} since {now - since:.2f}s, for ever" for each, since in self._away.items())]
        story = "\n".join(f"{at:.2f}s {event}" for at, event in zip(self._at, self.events, strict=True))
        who = "an idle client" if self._idle else "a client"
        assert not gaps, f"{who} missed instances that live: {gaps}\n{story}"
        twice = {at: ids for at, ids in self.ids.items() if len(ids) > 1}
        assert not twice, f"instances changed their ids: {twice}\n{story}"


class Scene:
    """One service on one rig: its callers and its members, and time."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.service = f"user-{uuid.uuid4().hex[:8]}"
        self.callers: Callers
        self.members: list[Member] = []
        self.living: set[str] = set()
        """Where instances live, that must be seen always once they were."""
        self.watching: list[Callers] = []
        self.may_register = asyncio.Event()
        """Cleared, it keeps announcers that lost the registry from trying again."""
        self.may_register.set()
        self._hosts = 0

    async def up(self, *, keep_state: bool = True) -> float:
        """Start the registry; the moment at which it answered. Where nobody announces, what it lost is put again."""
        await self.do(lambda: self.rig.up(keep_state=keep_state))
        answered = time.monotonic()
        if not keep_state or "restart with state" in self.rig.cannot:
            await self.put_again()
        return answered

    async def put_again(self) -> None:
        """What controllers and operators do after their registry lost its state, where nobody announces."""
        if self.members and not self.rig.registers:
            await self.do(lambda: self.rig.put(*(member.instance for member in self.members)))

    async def sleep_and_wait(self, seconds: float) -> None:
        """How announcers sleep before they try again."""
        await asyncio.sleep(seconds)
        await self.may_register.wait()

    def call(self, *, idle: bool = False, announced: bool = False) -> Callers:
        """Another client of the service, which begins to watch."""
        callers = Callers(self.rig, self.service, self.living, idle=idle, announced=announced)
        self.watching.append(callers)
        callers.start()
        return callers

    async def settle(self, count: int = 3, *, announced: bool = False) -> list[Member]:
        """The registry is up, so many instances are announced, and every client sees them, which may be ``announced`` too."""
        await self.up()
        self.callers, _ = self.call(announced=announced), self.call(idle=True, announced=announced)
        members = [await self.member() for _ in range(count)]
        await self.sees(*members)
        wanted = {place(member.instance) for member in members}
        await self.until(lambda: all(wanted <= each.seen for each in self.watching), "every client sees them")
        return members

    def instance(self) -> Instance:
        """Another one, that nobody knows yet."""
        self._hosts += 1
        host = f"10.0.0.{self._hosts}"
        return Instance(instance_id(self.service, host, 8101), self.service, host, 8101, meta={"boot": uuid.uuid4().hex})

    async def member(self, instance: Instance | None = None) -> Member:
        """One more instance, which begins to announce itself."""
        member = Member(self, instance or self.instance())
        self.members.append(member)
        await member.start()
        return member

    async def withdraw(self, member: Member) -> float:
        self.members.remove(member)
        seconds = await member.withdraw()
        await member.vanish()
        return seconds

    async def do(self, what: Callable[[], object]) -> None:
        """What blocks, beside the loop."""
        await asyncio.to_thread(what)

    async def until(self, true: Callable[[], object], what: str, within: float | None = None) -> None:
        """Wait for a condition; ``within`` is the rig's patience unless said."""
        limit = self.rig.patience if within is None else within
        end = time.monotonic() + limit
        while not true():
            assert time.monotonic() < end, f"not within {limit:.1f}s: {what}; {self}"
            await asyncio.sleep(GLANCE)

    def __repr__(self) -> str:
        return f"<Scene {self.callers.store.describe()}, members {self.members}>"

    async def sees(self, *members: Member) -> None:
        """Wait until callers see them."""
        wanted = {place(member.instance) for member in members}
        await self.until(lambda: wanted <= self.callers.seen, f"callers see {sorted(wanted)}")

    async def misses(self, *instances: Instance, within: float | None = None) -> None:
        """Wait until callers do not see them."""
        gone = {place(instance) for instance in instances}
        await self.until(lambda: not gone & self.callers.seen, f"callers no longer see {sorted(gone)}", within)

    async def state(self, *states: str, within: float | None = None) -> None:
        await self.until(lambda: self.callers.store.state in states, f"state {' or '.join(states)}", within)

    async def registered_since(self, moment: float, within: float) -> None:
        """Every member is registered again, that long after the registry answered."""
        left = max(0.0, moment + within - time.monotonic())
        await self.until(lambda: all(member.settled for member in self.members), "all are registered again", left)

    async def pass_by(self, seconds: float) -> None:
        """Time in which nothing may happen: the recorder judges it."""
        await asyncio.sleep(seconds)

    async def past_the_hold(self) -> None:
        """Beyond the moment at which whatever is held would be let go."""
        await self.pass_by(self.rig.hold + JITTERED)

    @contextlib.asynccontextmanager
    async def played(self) -> AsyncIterator[None]:
        """Around a scenario: ends everything, and judges what callers saw."""
        try:
            yield
        finally:
            for member in self.members:
                await member.vanish()
            for callers in self.watching:
                await callers.stop()
        for callers in self.watching:
            callers.judge()


def place(instance: Instance) -> str:
    """Where it is: what instances have in common in every registry, whatever their ids there."""
    return f"{instance.host}:{instance.port}"


WITHDRAWN = WITHDRAW_LIMIT + SLACK
