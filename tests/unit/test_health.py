"""Health: cached results, bounded runs, hysteresis and one verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from mizzen.rules.health import EAGER, Check, Health
from mizzen.words.context import Context, current, enter
from mizzen.words.errors import Unavailable


class World:
    """A clock that only sleeping moves, a check that does as told, and what was told of changes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.times: list[float] = []
        self.error: BaseException | None = None
        self.changes: list[tuple[str, bool, bool, str]] = []
        self.naps = 10**6
        self.health = Health(clock=lambda: self.now, sleep=self.sleep, on_change=lambda *change: self.changes.append(change))

    @property
    def runs(self) -> int:
        return len(self.times)

    async def sleep(self, seconds: float) -> None:
        for _ in range(2):  # let begin and end what is under way
            await asyncio.sleep(0)
        self.now += seconds
        self.naps -= 1
        if not self.naps:
            raise asyncio.CancelledError

    async def check(self) -> None:
        self.times.append(self.now)
        if self.error is not None:
            raise self.error

    def plain(self) -> None:
        self.times.append(self.now)
        if self.error is not None:
            raise self.error


def run(body: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine in a world of its own, and see that it leaves nothing running."""

    async def main() -> None:
        world = World()
        await body(world)
        await world.health.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_nothing_to_check_passes() -> None:
    """Without checks the verdict is passing and nothing is waited for."""

    async def body(world: World) -> None:
        await world.health.passed()
        assert (world.health.verdict, world.health.waiting(), world.health.note) == ("passing", [], "ok")
        assert world.health.report() == {"status": "ok", "checks": {}}

    run(body)


def test_required_check_is_critical_until_it_passed() -> None:
    """A required check that has not run makes the verdict critical; its first pass counts at once."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check, rise=3))
        assert (world.health.verdict, world.health.waiting()) == ("critical", ["db"])
        assert world.health.report()["checks"]["db"]["detail"] == "not checked yet"
        await world.health.refresh()
        assert (world.health.verdict, world.health.waiting()) == ("passing", [])
        assert world.changes == [("db", True, True, "")]

    run(body)


def test_plain_functions_are_checks_too() -> None:
    """A function that is no coroutine function passes by returning and fails by raising."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.plain))
        await world.health.refresh()
        assert world.health.note == "ok"
        world.error = OSError("gone")
        await world.health.refresh(force=True)
        await world.health.refresh(force=True)
        assert world.health.verdict == "critical"

    run(body)


def test_one_failure_is_not_yet_a_fall() -> None:
    """A check that passed counts as failed after ``fall`` failures in a row, and says so once."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check, fall=3))
        await world.health.refresh()
        world.error = OSError("gone")
        for expected in ("passing", "passing", "critical", "critical"):
            await world.health.refresh(force=True)
            assert world.health.verdict == expected
        assert world.changes == [("db", True, True, ""), ("db", False, True, "OSError: gone")]

    run(body)


def test_a_pass_in_between_starts_the_count_anew() -> None:
    """Failures that are not in a row never add up to a fall."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check, fall=2))
        await world.health.refresh()
        for _ in range(3):
            world.error = OSError("gone")
            await world.health.refresh(force=True)
            world.error = None
            await world.health.refresh(force=True)
        assert world.changes == [("db", True, True, "")]

    run(body)


def test_rise_is_needed_after_a_fall_and_keeps_the_reason() -> None:
    """A failed check counts as passed after ``rise`` passes in a row; until then its last reason stands."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check, fall=1, rise=2))
        await world.health.refresh()
        world.error = OSError("gone")
        await world.health.refresh(force=True)
        world.error = None
        await world.health.refresh(force=True)
        assert world.health.verdict == "critical"
        assert world.health.note == "db: OSError"
        await world.health.refresh(force=True)
        assert (world.health.verdict, world.health.note) == ("passing", "ok")

    run(body)


def test_optional_check_degrades_the_report_but_not_the_verdict() -> None:
    """An optional check that fails is shown, and the verdict that the registry gets is still a pass."""

    async def body(world: World) -> None:
        world.error = OSError("gone")
        world.health.add(Check("cache", world.check, required=False))
        await world.health.refresh()
        assert (world.health.verdict, world.health.waiting()) == ("passing", [])
        assert world.health.note == "cache (optional): OSError"
        report = world.health.report()
        assert (report["status"], report["checks"]["cache"]["ok"]) == ("degraded", False)

    run(body)


def test_report_shows_no_secret_but_our_own_words() -> None:
    """The report names the kind of a foreign error only, and the text of our own; ``describe`` has it all."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check))
        world.error = OSError("postgresql://shop:hunter2@db is gone")
        await world.health.refresh()
        assert "hunter2" not in repr(world.health.report()) + world.health.note
        assert "hunter2" in world.health.describe()["checks"]["db"]["detail"]
        world.error = Unavailable("no instance of user in consul")
        await world.health.refresh(force=True)
        assert world.health.report()["status"] == "unavailable"
        assert world.health.report()["checks"]["db"]["detail"] == "no instance of user in consul"

    run(body)


def test_results_are_cached() -> None:
    """A refresh runs only what is due; age and duration are on the clock that was handed in."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check, every=5.0))
        await world.health.refresh()
        world.now = 4.9
        await world.health.refresh()
        assert world.runs == 1
        assert world.health.report()["checks"]["db"] == {
            "ok": True, "required": True, "detail": "ok", "age_s": 4.9, "took_ms": 0.0,
        }  # fmt: skip
        world.now = 5.0
        await world.health.refresh()
        assert world.runs == 2

    run(body)


def test_checks_run_concurrently() -> None:
    """One check may wait for what another does in the same refresh."""

    async def body(world: World) -> None:
        event = asyncio.Event()

        async def sets() -> None:
            event.set()

        async def waits() -> None:
            await event.wait()

        world.health.add(Check("waits", waits))
        world.health.add(Check("sets", sets))
        await world.health.refresh()
        assert world.health.verdict == "passing"

    run(body)


def test_a_run_under_way_is_joined() -> None:
    """Two refreshes at once run each check once, and both see its result."""

    async def body(world: World) -> None:
        world.health.add(Check("db", world.check))
        await asyncio.gather(world.health.refresh(force=True), world.health.refresh(force=True))
        assert world.runs == 1

    run(body)


def test_a_check_is_bounded_in_time() -> None:
    """A check that hangs, even one that swallows its cancellation, fails after ``within``."""

    async def body(world: World) -> None:
        async def hangs() -> None:
            await asyncio.Event().wait()

        async def swallows() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

        world.health.add(Check("hangs", hangs, within=0.001))
        world.health.add(Check("swallows", swallows, within=0.001))
        await world.health.refresh()
        assert world.health.note == "hangs: no answer within 1ms; swallows: no answer within 1ms"

    run(body)


def test_a_timeout_of_the_checks_own_is_its_own_reason() -> None:
    """A TimeoutError that the check raises by itself is not taken for our limit."""

    async def body(world: World) -> None:
        world.error = TimeoutError("pool is empty")
        world.health.add(Check("db", world.check))
        await world.health.refresh()
        assert world.health.describe()["checks"]["db"]["detail"] == "TimeoutError: pool is empty"

    run(body)


def test_cancelling_one_waiter_leaves_the_run_to_the_others() -> None:
    """A caller of ``/health`` who hangs up does not take the result from those who wait with them."""

    async def body(world: World) -> None:
        go = asyncio.Event()

        async def waits() -> None:
            await go.wait()

        world.health.add(Check("db", waits))
        first = asyncio.create_task(world.health.refresh())
        second = asyncio.create_task(world.health.refresh())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        go.set()
        await second
        assert world.health.verdict == "passing"

    run(body)


def test_something_cancelled_inside_a_check_is_a_failure() -> None:
    """A cancelled future inside a check fails that check and cancels nobody else."""

    async def body(world: World) -> None:
        world.error = asyncio.CancelledError()
        world.health.add(Check("db", world.check))
        await world.health.refresh()
        assert world.health.note == "db: CancelledError"

    run(body)


def test_a_check_belongs_to_no_request() -> None:
    """A check that a request sets off does not run under that request's deadline."""

    async def body(world: World) -> None:
        seen: list[Context | None] = [Context()]

        async def looks() -> None:
            seen.append(current())

        enter(Context())
        world.health.add(Check("db", looks))
        await world.health.refresh()
        enter(None)
        assert seen[-1] is None

    run(body)


def test_background_run_is_eager_until_the_first_pass() -> None:
    """The first run is immediate; until a check has passed it runs again soon, then at its own pace."""

    async def body(world: World) -> None:
        world.error = OSError("not yet")
        world.health.add(Check("db", world.check, every=5.0))

        async def comes_up(seconds: float) -> None:
            if world.runs == 2:
                world.error = None
            await world.sleep(seconds)

        world.naps = 5
        world.health._sleep = comes_up
        with pytest.raises(asyncio.CancelledError):
            await world.health.run()
        assert world.times == [0.0, EAGER, 2 * EAGER, 2 * EAGER + 5.0]
        assert [ok for _, ok, _, _ in world.changes] == [False, True]

    run(body)


def test_cancelling_the_background_run_ends_the_checks_under_way() -> None:
    """Stopping leaves no check running."""

    async def body(world: World) -> None:
        ended = asyncio.Event()

        async def hangs() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        world.health.add(Check("db", hangs, within=60.0))
        task = asyncio.create_task(world.health.run())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert ended.is_set()
        assert world.health.waiting() == ["db"]

    run(body)


def test_passed_wakes_when_the_last_required_check_has_passed() -> None:
    """Waiting for the start ends with the last required check, whatever the optional ones do."""

    async def body(world: World) -> None:
        gate = asyncio.Event()

        async def slow() -> None:
            await gate.wait()

        async def never() -> None:
            raise OSError("down")

        world.health.add(Check("quick", world.check))
        world.health.add(Check("slow", slow))
        world.health.add(Check("optional", never, required=False))
        waiter: Awaitable[None] = asyncio.create_task(world.health.passed())
        refresh = asyncio.create_task(world.health.refresh())
        for _ in range(3):
            await asyncio.sleep(0)
        assert world.health.waiting() == ["slow"]
        gate.set()
        await asyncio.gather(waiter, refresh)

    run(body)


def test_an_error_that_cannot_be_printed_is_still_a_failure() -> None:
    """A check whose error has a broken text fails by the error's kind."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def body(world: World) -> None:
        world.error = Odd()
        world.health.add(Check("db", world.check))
        await world.health.refresh()
        assert world.health.note == "db: Odd"

    run(body)


def test_two_checks_cannot_share_a_name() -> None:
    """A name that is taken is refused: one result would hide the other."""
    world = World()
    world.health.add(Check("db", world.check))
    with pytest.raises(ValueError, match="'db' already"):
        world.health.add(Check("db", world.check))


def test_repr_reads_like_a_status_line() -> None:
    """The representation says the verdict and its reason."""
    world = World()
    world.health.add(Check("db", world.check))
    assert repr(world.health) == "<Health critical: db: not checked yet>"
