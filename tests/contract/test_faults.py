"""The fault matrix: every registry broken in every way it can be, one scenario per fault, written once for all drivers.

Each scenario opens the registry through the product's own drivers, over real sockets, breaks the real server, and says
what must be true; `Scene` judges the whole of what callers saw meanwhile. The table at the end of the run has what
passed, and why the rest cannot be made.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from loops import LOOPS
from rigs import RIGS, ConsulRig, EmbeddedRig, table
from rigs.rig import FAULTS, Fault, Rig
from rigs.scene import JITTERED, SLACK, WITHDRAWN, Scene, place

from mizzen.rules.discovery import Lost

Scenario = Callable[[Scene], Awaitable[None]]
AGAIN = JITTERED + SLACK
"""Seconds within which everything is registered again once the registry answers: one heartbeat and its jitter."""


async def down_at_start(scene: Scene) -> None:
    """A registry that is away is told, nothing is made up, and everything comes by itself once it is there."""
    await scene.up()
    places = [scene.instance() for _ in range(3)]
    if not scene.rig.registers:
        await scene.do(lambda: scene.rig.put(*places))
    await scene.do(scene.rig.down)
    scene.callers, _ = scene.call(), scene.call(idle=True)
    store = scene.callers.store
    members = [await scene.member(each) for each in places] if scene.rig.registers else []
    await scene.until(lambda: store.last_error, "the outage is told")
    assert (store.state, store.first, store.instances) == ("never", False, ())
    await scene.up()
    if not scene.rig.registers:
        members = [await scene.member(each) for each in places]
    await scene.sees(*members)
    await scene.state("fresh")
    await scene.until(lambda: all(member.registered for member in members), "all are registered")


async def down_later(scene: Scene) -> None:
    """The last set stays for as long as the registry is away; it comes back with the same instances under the same ids."""
    members = await scene.settle()
    await scene.do(scene.rig.down)
    await scene.state("stale")
    await scene.past_the_hold()
    assert scene.callers.store.state == "stale"
    answered = await scene.up()
    await scene.registered_since(answered, AGAIN)
    await scene.state("fresh")
    await scene.past_the_hold()
    await scene.sees(*members, await scene.member())


async def slow(scene: Scene) -> None:
    """A registry that takes its time is not lost: instances come and go as ever."""
    members = await scene.settle()
    before = len(scene.callers.events)
    await scene.do(lambda: scene.rig.slow(0.2))
    began = time.monotonic()
    await scene.sees(await scene.member())
    assert time.monotonic() - began > 0.2
    leaver = members[0]
    await scene.withdraw(leaver)
    await scene.misses(leaver.instance)
    await scene.pass_by(3 * JITTERED)
    assert not [event for event in scene.callers.events[before:] if isinstance(event, Lost)]
    await scene.do(lambda: scene.rig.slow(0.0))
    await scene.state("fresh")


async def hung(scene: Scene) -> None:
    """A hang is told within the driver's limit on silence; what stops meanwhile stops in time and leaves no ghost.

    One that is over before, but not before the registry has given everybody up, takes nobody away either.
    """
    members = await scene.settle(announced=scene.rig.registers)
    if scene.rig.registers and (longer := scene.rig.ttl + JITTERED) < scene.rig.silence:
        await scene.until(lambda: all(callers.announced for callers in scene.watching), "callers are registered as well")
        await scene.do(scene.rig.freeze)
        try:
            await scene.pass_by(longer)
        finally:
            await scene.do(scene.rig.thaw)
        await scene.pass_by(4 * JITTERED)
        await scene.state("fresh")
        await scene.registered_since(time.monotonic(), AGAIN)
    leaver = members.pop()
    await scene.do(scene.rig.freeze)
    try:
        await scene.state("stale", within=scene.rig.silence + SLACK)
        if scene.rig.registers:
            assert await scene.withdraw(leaver) < WITHDRAWN
        else:
            members.append(leaver)
            await scene.past_the_hold()
    finally:
        await scene.do(scene.rig.thaw)
    await scene.state("fresh", "held")
    if scene.rig.registers:
        await scene.misses(leaver.instance, within=scene.rig.ttl + scene.rig.hold + scene.rig.patience)
    await scene.past_the_hold()
    await scene.sees(*members, await scene.member())


async def empty(scene: Scene) -> None:
    """What a registry loses while it runs is back with the next beat; a service that ended is empty, and soon."""
    members = await scene.settle()
    await scene.past_the_hold()  # of an error before anybody was there: in that doubt, who answers would stay
    before = len(scene.callers.events)
    for callers in scene.watching:
        callers.tolerated = AGAIN + scene.rig.lag
    await scene.do(lambda: scene.rig.empty(scene.service))
    if not scene.rig.registers:
        await scene.until(lambda: not scene.callers.seen, "callers see that there is none")
        await scene.do(lambda: scene.rig.put(*(member.instance for member in members)))
    await scene.pass_by(AGAIN)
    await scene.sees(*members)
    for member in members:
        await scene.withdraw(member)
    await scene.until(lambda: not scene.callers.seen, "callers see that there is none")
    await scene.state("fresh")
    assert not [event for event in scene.callers.events[before:] if isinstance(event, Lost)]
    await scene.sees(await scene.member())


async def filtered(scene: Scene) -> None:
    """Rights that are missing are an error and never an empty set, at the start too."""
    members = await scene.settle()
    await scene.do(lambda: scene.rig.filtered(True))
    await scene.state("stale")
    second = scene.call().store
    await scene.until(lambda: second.last_error, "the second client is told")
    await scene.past_the_hold()
    assert (scene.callers.store.state, second.state, second.first) == ("stale", "never", False)
    await scene.do(lambda: scene.rig.filtered(False))
    await scene.state("fresh")
    await scene.sees(*members, await scene.member())
    await scene.until(lambda: len(second.instances) == 4, "the second client sees them as well")


async def flapping(scene: Scene) -> None:
    """A registry that comes and goes, and an instance that does, take nobody else's traffic."""
    members = await scene.settle()
    for _ in range(3):
        await scene.do(scene.rig.down)
        await scene.pass_by(JITTERED)
        await scene.up()
    await scene.state("fresh")
    await scene.past_the_hold()
    flapper = scene.instance()
    for _ in range(3):
        member = await scene.member(flapper)
        await scene.sees(member)
        await scene.withdraw(member)
        await scene.misses(flapper)
    await scene.sees(*members)


async def mass_removal(scene: Scene) -> None:
    """Most of a set that is removed at once is gone after the hold at the latest, and what lives stays."""
    members = await scene.settle(1)
    others = [scene.instance() for _ in range(5)]
    await scene.do(lambda: scene.rig.put(*others))
    await scene.until(lambda: {place(each) for each in others} <= scene.callers.seen, "callers see the others")
    await scene.do(lambda: scene.rig.remove(*others))
    await scene.misses(*others, within=scene.rig.hold + scene.rig.lag + SLACK)
    await scene.state("fresh")
    await scene.sees(*members)


async def restart_with_state(scene: Scene) -> None:
    """A restart that keeps the state is an outage and nothing more."""
    members = await scene.settle()
    await scene.do(scene.rig.down)
    await scene.state("stale")
    answered = await scene.up(keep_state=True)
    await scene.registered_since(answered, AGAIN)
    await scene.state("fresh", "held")
    await scene.past_the_hold()
    assert scene.callers.store.state == "fresh"
    await scene.sees(*members, await scene.member())


async def restart_without_state(scene: Scene) -> None:
    """A registry that is honestly empty after a restart is not believed; all are back within a beat and its jitter."""
    members = await scene.settle()
    await scene.do(scene.rig.down)
    await scene.state("stale")
    scene.may_register.clear()
    await scene.until(lambda: all(member.lost for member in members), "every announcer is told")
    before = [(callers.store, callers.store.errors) for callers in scene.watching]
    await scene.do(lambda: scene.rig.up(keep_state=False))
    # the empty registry is read before anybody is back in it; DNS says of a name it lost that there is none, an error
    await scene.until(lambda: all(store.held or store.errors > count + 1 for store, count in before), "callers read it")
    answered = time.monotonic()
    scene.may_register.set()
    await scene.put_again()
    await scene.registered_since(answered, AGAIN)
    await scene.past_the_hold()
    await scene.state("fresh")
    await scene.sees(*members, await scene.member())


async def auth_expiry(scene: Scene) -> None:
    """Credentials that end take nothing away; new ones are used without a restart."""
    members = await scene.settle()
    await scene.do(scene.rig.expire_auth)
    if not scene.rig.renews:
        await scene.state("stale")
    await scene.past_the_hold()
    renewed = time.monotonic()
    await scene.do(scene.rig.renew_auth)
    await scene.state("fresh")
    if not scene.rig.renews:
        await scene.registered_since(renewed, AGAIN + scene.rig.lag)
    await scene.sees(*members, await scene.member())
    leaver = members.pop()
    await scene.withdraw(leaver)
    await scene.misses(leaver.instance)


async def index_regress(scene: Scene) -> None:
    """A past that comes back hides nothing: what changes afterwards is seen, and nobody is dropped."""
    members = await scene.settle()
    await scene.do(lambda: scene.rig.regress(scene.service))
    await scene.past_the_hold()
    await scene.sees(*members, await scene.member())
    leaver = members.pop()
    await scene.withdraw(leaver)
    await scene.misses(leaver.instance)
    await scene.state("fresh")


async def compaction(scene: Scene) -> None:
    """A watch that cannot resume lists anew: what came in the gap is there, and nobody was dropped."""
    members = await scene.settle()
    other = scene.instance()
    await scene.do(lambda: scene.rig.compact(other))
    await scene.until(lambda: place(other) in scene.callers.seen, "callers see what came in the gap")
    await scene.past_the_hold()
    await scene.sees(*members, await scene.member())
    await scene.state("fresh")


async def duplicate_id(scene: Scene) -> None:
    """The later of two lives under one id is the one that is seen, and the earlier one's late farewell leaves it alone."""
    (first,) = await scene.settle(1)
    second = await scene.member(msgspec.structs.replace(first.instance, meta={"boot": "b2"}))

    def boots() -> list[str]:
        return [each.boot for each in scene.callers.store.instances]

    await scene.until(lambda: boots() == ["b2"], "callers see the second life")
    for _ in range(3):  # while both beat
        await scene.pass_by(JITTERED)
        assert boots() == ["b2"]
    await scene.withdraw(first)
    scene.living.add(place(second.instance))  # where the first one was
    await scene.past_the_hold()
    assert second.registered
    assert boots() == ["b2"]


async def shutdown_during_outage(scene: Scene) -> None:
    """A registry that is away does not hold up a stop, and what stopped is no ghost in it afterwards."""
    members = await scene.settle()
    leaver = members.pop()
    await scene.do(scene.rig.down)
    await scene.state("stale")
    assert await scene.withdraw(leaver) < WITHDRAWN
    answered = await scene.up()
    await scene.registered_since(answered, AGAIN)
    await scene.misses(leaver.instance, within=scene.rig.ttl + scene.rig.hold + scene.rig.lag + SLACK)
    await scene.past_the_hold()
    assert scene.callers.seen == {place(member.instance) for member in members}


SCENARIOS: dict[Fault, Scenario] = {
    "down at start": down_at_start,
    "down later": down_later,
    "slow": slow,
    "hung": hung,
    "empty": empty,
    "filtered": filtered,
    "flapping": flapping,
    "mass removal": mass_removal,
    "restart with state": restart_with_state,
    "restart without state": restart_without_state,
    "auth expiry": auth_expiry,
    "index regress": index_regress,
    "compaction": compaction,
    "duplicate id": duplicate_id,
    "shutdown during outage": shutdown_during_outage,
}
CELLS = [
    pytest.param(
        rig,
        fault,
        id=f"{fault}-{rig.name}".replace(" ", "_").replace("×", "x"),
        marks=[pytest.mark.servers] if rig.real else [],
    )
    for fault in FAULTS
    for rig in RIGS
    if fault not in rig.cannot
]


@pytest.mark.parametrize(("made", "fault"), CELLS)
def test_a_registry_that_fails_takes_no_traffic_away(
    made: type[Rig], fault: Fault, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Whatever happens to the registry, instances that live stay in what callers see, and the truth is told in time."""
    record_property("fault", fault)
    record_property("rig", made.name)
    with made(tmp_path, fault) as rig, asyncio.Runner(loop_factory=LOOPS.get("uvloop")) as runner:
        runner.run(_play(rig, SCENARIOS[fault]))
        record_property("version", rig.version)


async def _play(rig: Rig, scenario: Scenario) -> None:
    scene = Scene(rig)
    async with scene.played():
        await scenario(scene)


class _Report(NamedTuple):
    user_properties: list[tuple[str, object]]
    failed: bool = False
    skipped: bool = False


def test_the_table_has_a_word_for_every_cell() -> None:
    """What passed, failed, is absent, was not run or cannot be made is told apart, and the worst of a test's phases counts."""

    def cell(fault: Fault, rig: type[Rig], **how: bool) -> _Report:
        return _Report([("fault", fault), ("rig", rig.name), ("version", "1.2")], **how)

    broken = _Report([("fault", "slow"), ("rig", EmbeddedRig.name)], failed=True)
    reports = [
        cell("hung", EmbeddedRig),
        broken,
        cell("slow", EmbeddedRig),
        _Report([("fault", "hung"), ("rig", ConsulRig.name)], skipped=True),
        _Report([]),
    ]
    said = {row[0]: row[1:] for row in (re.split("  +", line) for line in table.lines(reports))}
    assert said["fault"] == ["embedded 1.2", "consul"]
    assert said["hung"] == ["pass", "absent"]
    assert said["slow"] == ["FAIL", "not run"]
    assert said["compaction"] == ["[2]", "[2]"]
    assert table.lines([_Report([])]) == []
