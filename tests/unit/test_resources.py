"""Provided things: opened in order, closed in reverse, whatever goes wrong with one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest

from mizzen.assembly.resources import CLOSE_LIMIT, HEED_LIMIT, OPEN_LIMIT, REOPEN_FIRST, REOPEN_MOST, Resources
from mizzen.assembly.service import Provided
from mizzen.rules.events import Event, StepTaken
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import StartError, Unavailable


class Store: ...


class Cache: ...


class Mail: ...


KINDS: dict[str, type] = {"Store": Store, "Cache": Cache, "Mail": Mail}


class Site:
    """Resources whose opening and closing the test plays, and what happened in which order."""

    def __init__(self, *names: str, overrides: dict[type, Any] | None = None) -> None:
        self.happened: list[str] = []
        self.failures: dict[str, list[BaseException]] = {}
        """What opening a thing raises, time after time, before it succeeds."""
        self.close_failures: dict[str, BaseException] = {}
        self.takes: dict[str, float] = {}
        self.close_takes: dict[str, float] = {}
        self.events: list[Event] = []
        things = [Provided(KINDS[name], None, self.factory(name), None, True) for name in names]
        self.resources = Resources(things, emit=self.events.append, clock=now, overrides=overrides)

    def factory(self, name: str) -> Callable[[], AbstractAsyncContextManager[Any]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Any]:
            self.happened.append(f"try {name}")
            await asyncio.sleep(self.takes.get(name, 0.0))
            if self.failures.get(name):
                raise self.failures[name].pop(0)
            self.happened.append(f"open {name}")
            try:
                yield KINDS[name]()
            finally:
                await asyncio.sleep(self.close_takes.get(name, 0.0))
                self.happened.append(f"close {name}")
                if name in self.close_failures:
                    raise self.close_failures[name]

        return opened

    def steps(self) -> list[str]:
        return [event.step for event in self.events if isinstance(event, StepTaken)]


def now() -> float:
    return asyncio.get_running_loop().time()


def scene(site: Site, play: Callable[[Site], Awaitable[None]]) -> Site:
    async def main() -> Site:
        await play(site)
        return site

    return run(main())


def test_things_open_in_order_and_close_in_reverse() -> None:
    """What was provided first is there for what comes after it, and outlives it."""

    async def play(site: Site) -> None:
        await site.resources.open()
        assert {kind.__name__: type(value) for kind, value in site.resources.values.items()} == KINDS
        assert await site.resources.close() == []

    site = scene(Site("Store", "Cache", "Mail"), play)
    moments = [what for what in site.happened if not what.startswith("try")]
    assert moments == ["open Store", "open Cache", "open Mail", "close Mail", "close Cache", "close Store"]
    assert site.steps() == [f"{what[:5].strip()} {what[5:].strip()}" for what in moments]


def test_each_step_is_told_with_its_time_and_limit() -> None:
    """An event says how long opening and closing took, and how long they may."""
    site = Site("Store")
    site.takes["Store"], site.close_takes["Store"] = 1.5, 0.5

    async def play(site: Site) -> None:
        await site.resources.open()
        await site.resources.close()

    told = [(event.step, event.seconds, event.limit) for event in scene(site, play).events if isinstance(event, StepTaken)]
    assert told == [("open Store", 1.5, OPEN_LIMIT), ("close Store", 0.5, CLOSE_LIMIT)]


def test_values_need_no_opening() -> None:
    """A thing that was provided as a value is there from the start and is not closed."""

    async def main() -> None:
        store = Store()
        resources = Resources([Provided(Store, store, None, None, True)], emit=print, clock=now)
        await resources.open()
        assert resources.values == {Store: store}
        assert await resources.close() == []

    run(main())


def test_overrides_stand_for_things_that_are_then_not_opened() -> None:
    """A test's own thing replaces the real one, whose factory and check are not touched."""
    fake = Store()

    async def play(site: Site) -> None:
        await site.resources.open()
        assert site.resources.values[Store] is fake
        await site.resources.close()

    site = scene(Site("Store", "Cache", overrides={Store: fake}), play)
    assert site.happened == ["try Cache", "open Cache", "close Cache"]


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError("no database there"), OSError(5, "I/O error"), Unavailable("not yet")]
)
def test_what_is_not_there_yet_is_waited_for(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A dependency that is away is tried again until it is there; meanwhile everybody can see what is waited for."""
    site = Site("Store", "Cache")
    site.failures["Store"] = [error] * 20

    async def play(site: Site) -> None:
        opening = asyncio.ensure_future(site.resources.open())
        await asyncio.sleep(10)
        assert site.resources.waiting_for == f"Store: {error}"
        assert "try Cache" not in site.happened
        await opening
        assert site.resources.waiting_for == ""
        await site.resources.close()

    scene(site, play)
    assert site.happened.count("try Store") == 21
    assert caplog.messages == [f"waiting for Store: {error}; trying again until it is there"]


def test_waiting_begins_short_and_grows() -> None:
    """Tries follow after 0.25, 0.5, 1, 2, 4 and then every 5 seconds."""
    site = Site("Store")
    site.failures["Store"] = [OSError("away")] * 8

    async def play(site: Site) -> None:
        await site.resources.open()
        assert now() == pytest.approx(REOPEN_FIRST + 0.5 + 1 + 2 + 4 + 3 * REOPEN_MOST)
        await site.resources.close()

    scene(site, play)


def test_another_reason_is_another_line(caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line for each reason in a row, not one for each try."""
    site = Site("Store")
    site.failures["Store"] = [OSError("no route"), OSError("no route"), OSError("refused"), OSError("refused")]

    async def play(site: Site) -> None:
        await site.resources.open()
        await site.resources.close()

    scene(site, play)
    assert [message.split("; ")[0] for message in caplog.messages] == [
        "waiting for Store: no route",
        "waiting for Store: refused",
    ]


def test_a_hung_thing_is_tried_again_and_said_to_hang() -> None:
    """Opening has a limit: a database that accepts and says nothing does not hang the start in silence."""
    site = Site("Store")
    site.takes["Store"] = 1000

    async def play(site: Site) -> None:
        opening = asyncio.ensure_future(site.resources.open())
        await asyncio.sleep(OPEN_LIMIT - 1)
        assert site.resources.waiting_for == "Store"
        await asyncio.sleep(2)
        assert site.resources.waiting_for == "Store: TimeoutError"
        site.takes["Store"] = 0
        await asyncio.sleep(OPEN_LIMIT + 1)
        await opening
        await site.resources.close()

    scene(site, play)
    assert site.happened[-2:] == ["open Store", "close Store"]


@pytest.mark.parametrize("error", [ValueError("bad url"), StartError("wrong"), RuntimeError("defect")])
def test_what_is_wrong_is_raised_at_once_and_what_is_open_is_closed(error: Exception) -> None:
    """A mistake does not go away by waiting: the start fails, and what was opened before is closed."""
    site = Site("Store", "Cache", "Mail")
    site.failures["Cache"] = [error]

    async def play(site: Site) -> None:
        with pytest.raises(type(error)):
            await site.resources.open()
        assert now() == 0
        await site.resources.close()

    scene(site, play)
    assert site.happened == ["try Store", "open Store", "try Cache", "close Store"]


def test_a_factory_that_is_cancelled_from_inside_is_wrong_and_not_a_stop() -> None:
    """A cancellation of the factory's own making fails the start by name: nobody asked the service to stop."""
    site = Site("Store")
    site.failures["Store"] = [asyncio.CancelledError()]

    async def play(site: Site) -> None:
        with pytest.raises(StartError, match="opening Store was cancelled from inside its factory"):
            await site.resources.open()
        assert await site.resources.close() == []

    scene(site, play)


def test_a_start_that_is_cancelled_leaves_nothing_open() -> None:
    """A stop while something opens ends that, and closing closes what was open before it."""
    site = Site("Store", "Cache")
    site.takes["Cache"] = 10

    async def play(site: Site) -> None:
        opening = asyncio.ensure_future(site.resources.open())
        await asyncio.sleep(1)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        await site.resources.close()

    scene(site, play)
    assert site.happened == ["try Store", "open Store", "try Cache", "close Store"]


async def _coroutine() -> Store:
    return Store()


def _generator() -> Any:
    yield Store()


@pytest.mark.parametrize("factory", [Store, _generator, lambda: None])
def test_a_factory_that_gives_something_else_is_refused(factory: Any) -> None:
    """The error names the thing and says how a factory is written."""

    async def main() -> None:
        resources = Resources([Provided(Store, None, factory, None, True)], emit=print, clock=now)
        with pytest.raises(StartError) as raised:
            await resources.open()
        assert raised.value.what == "the factory of Store does not give an async context manager"
        assert "contextlib.asynccontextmanager" in raised.value.fix

    run(main())


def test_a_coroutine_as_factory_is_refused_without_a_warning() -> None:
    """`async def` without the decorator is the usual slip; Python's own warning about it does not come on top."""

    async def main() -> None:
        resources = Resources([Provided(Store, None, _coroutine, None, True)], emit=print, clock=now)  # type: ignore[arg-type]
        with pytest.raises(StartError, match="does not give an async context manager"):
            await resources.open()

    run(main())


@pytest.mark.parametrize("failure", [RuntimeError("stuck"), OSError("gone"), ExceptionGroup("two", [ValueError("x")])])
def test_a_thing_that_does_not_close_stops_no_other(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged and named, and everything else is closed in its order."""
    site = Site("Store", "Cache", "Mail")
    site.close_failures["Cache"] = failure

    async def play(site: Site) -> None:
        await site.resources.open()
        assert await site.resources.close() == ["Cache"]
        assert await site.resources.close() == []

    scene(site, play)
    assert site.happened[-3:] == ["close Mail", "close Cache", "close Store"]
    assert caplog.messages == ["closing Cache failed"]
    assert "close Cache" not in site.steps()


def test_a_thing_that_hangs_while_closing_is_given_up() -> None:
    """Closing has a limit of 5 seconds, after which the next thing is closed."""
    site = Site("Store", "Cache")
    site.close_takes["Cache"] = 1000

    async def play(site: Site) -> None:
        await site.resources.open()
        assert await site.resources.close() == ["Cache"]
        assert now() == pytest.approx(CLOSE_LIMIT)

    assert scene(site, play).happened[-1] == "close Store"


def test_a_cancellation_from_inside_a_close_stops_no_other() -> None:
    """A library that ends its own tasks by cancelling may let that through: the rest is closed all the same."""
    site = Site("Store", "Cache")
    site.close_failures["Cache"] = asyncio.CancelledError()

    async def play(site: Site) -> None:
        await site.resources.open()
        assert await site.resources.close() == ["Cache"]

    assert scene(site, play).happened[-1] == "close Store"


def test_checks_are_those_of_opened_things() -> None:
    """A check looks at the opened value; a thing that a test replaced is not checked."""

    async def main() -> None:
        looked: list[Any] = []
        store, cache = Store(), Cache()
        things = [
            Provided(Store, store, None, looked.append, True),
            Provided(Cache, cache, None, looked.append, False),
            Provided(Mail, Mail(), None, None, True),
        ]
        resources = Resources(things, emit=print, clock=now, overrides={Cache: Cache()})
        await resources.open()
        [(name, function, required)] = resources.checks()
        function()
        assert (name, required, looked) == ("Store", True, [store])

    run(main())


def test_a_thing_is_closed_by_the_task_that_opened_it() -> None:
    """A factory may hold a task group and set a context variable: both are left where they were entered."""
    happened: list[str] = []
    variable: ContextVar[str] = ContextVar("variable")

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            happened.append("work ended")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        token = variable.set("inside")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work())
            yield Store()
            task.cancel()
        variable.reset(token)
        happened.append("closed")

    async def main() -> None:
        resources = Resources([Provided(Store, None, opened, None, True)], emit=print, clock=now)
        await asyncio.create_task(resources.open())
        await asyncio.sleep(1)
        assert await resources.close() == []

    run(main())
    assert happened == ["work ended", "closed"]


def test_a_thing_that_breaks_while_in_use_is_told_and_named_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """What a thing's own task failed with is logged when it happens, and the thing counts as one that did not close."""

    async def work() -> None:
        await asyncio.sleep(1)
        raise RuntimeError("lost")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            yield Store()

    async def main() -> None:
        resources = Resources([Provided(Store, None, opened, None, True)], emit=print, clock=now)
        await resources.open()
        await asyncio.sleep(2)
        assert caplog.messages == ["Store ended while it was in use"]
        assert await resources.close() == ["Store"]

    run(main())
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("when", ["opening", "closing"])
def test_a_thing_that_swallows_its_cancellation_is_left_behind(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """What neither opens nor closes, nor heeds that it was cancelled, is waited for six seconds and named."""
    free = asyncio.Event()

    async def hang() -> None:
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Cache]:
        if when == "opening":
            await hang()
        yield Cache()
        await hang()

    async def main() -> None:
        site = Site("Store")
        resources = Resources(
            [Provided(Store, None, site.factory("Store"), None, True), Provided(Cache, None, opened, None, True)],
            emit=print,
            clock=now,
        )
        opening = asyncio.ensure_future(resources.open())
        await asyncio.sleep(1)
        opening.cancel()
        began = now()
        assert await resources.close() == ["Cache"]
        assert now() - began == pytest.approx(CLOSE_LIMIT + HEED_LIMIT)
        assert site.happened[-1] == "close Store"
        free.set()

    run(main())
    assert caplog.messages == ["Cache neither closes nor heeds its cancellation: left behind"]
