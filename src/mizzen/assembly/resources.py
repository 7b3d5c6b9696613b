"""Provided things: opened in order, checked, closed in reverse, each step with a limit and an event."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from mizzen.rules.events import Hook, StepTaken
from mizzen.words.clock import Clock
from mizzen.words.errors import StartError, Unavailable

from .service import Provided

OPEN_LIMIT = 30.0
"""Seconds that one attempt to open a thing may take: a hung database must not hang the start in silence."""
CLOSE_LIMIT = 5.0
"""Seconds that closing a thing may take: the platform kills us soon after."""
HEED_LIMIT = 1.0
"""Seconds on top for a thing to notice that its time is up; one that does not is left behind."""
REOPEN_FIRST, REOPEN_MOST = 0.25, 5.0
"""Seconds before a dependency that is not there yet is tried again; doubled each time up to the most."""
_WRONG = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors of the system that waiting does not mend."""

log = logging.getLogger("mizzen.runtime")


class Resources:
    """The provided things of one running service."""

    def __init__(
        self, things: Iterable[Provided], *, emit: Hook, clock: Clock, overrides: Mapping[type, Any] | None = None
    ) -> None:
        self._things = list(things)
        self._overrides = overrides or {}
        self._emit = emit
        self._clock = clock
        self._open: list[_Kept] = []
        self.values: dict[type, Any] = dict(self._overrides)
        """What is open, by type."""
        self.waiting_for = ""
        """The thing that is being opened, and why it is not open yet."""

    async def open(self) -> None:
        """Open everything in order; waits for what is unavailable, raises for what is wrong."""
        for thing in self._things:
            if thing.type in self._overrides:
                continue
            if thing.factory is None:
                self.values[thing.type] = thing.value
                continue
            started = self._clock()
            self.values[thing.type] = await self._open_one(thing)
            self._emit(StepTaken(f"open {thing.name}", self._clock() - started, OPEN_LIMIT, ""))
        self.waiting_for = ""

    async def _open_one(self, thing: Provided) -> Any:
        delay = REOPEN_FIRST
        while True:
            self.waiting_for = thing.name if not self.waiting_for.startswith(thing.name) else self.waiting_for
            kept = _Kept(thing.name, self._made(thing))
            self._open.append(kept)  # before it is open: who stops us meanwhile has to end it
            try:
                return await kept.opened()
            except (OSError, Unavailable) as error:  # TimeoutError is an OSError
                self._open.remove(kept)
                if isinstance(error, _WRONG):
                    raise
                why = str(error) or type(error).__name__
                if self.waiting_for != f"{thing.name}: {why}":
                    log.warning("waiting for %s: %s; trying again until it is there", thing.name, why)
                self.waiting_for = f"{thing.name}: {why}"
                await asyncio.sleep(delay)
                delay = min(delay * 2, REOPEN_MOST)
            except Exception:
                self._open.remove(kept)
                raise

    @staticmethod
    def _made(thing: Provided) -> AbstractAsyncContextManager[Any]:
        manager: Any = thing.factory() if thing.factory is not None else None
        if not isinstance(manager, AbstractAsyncContextManager):
            if inspect.iscoroutine(manager):
                manager.close()  # or Python warns that it was never awaited, beside our own message
            raise StartError(
                f"the factory of {thing.name} does not give an async context manager",
                fix="decorate it with contextlib.asynccontextmanager, or return an object with __aenter__ and __aexit__",
            )
        return manager  # an object with both methods is one

    async def close(self) -> list[str]:
        """Close everything in reverse; the names of what failed or took too long, which stops nothing else."""
        failed = []
        while self._open:
            kept = self._open.pop()
            started = self._clock()
            if await kept.close():
                self._emit(StepTaken(f"close {kept.name}", self._clock() - started, CLOSE_LIMIT, ""))
            else:
                failed.append(kept.name)
        return failed

    def checks(self) -> list[tuple[str, Callable[[], Awaitable[None] | None], bool]]:
        """Name, function and whether it is required, of every opened thing that has a check."""
        return [
            (thing.name, _bound(thing.check, self.values[thing.type]), thing.required)
            for thing in self._things
            if thing.check is not None and thing.type not in self._overrides
        ]


def _bound(check: Callable[[Any], Awaitable[None] | None], value: Any) -> Callable[[], Awaitable[None] | None]:
    return lambda: check(value)


class _Kept:
    """One thing, opened, held and closed in a task of its own.

    Task groups, cancel scopes and context variables that a factory enters must be left in the task that entered them.
    And one that neither opens nor closes, cancelled or not, holds up nobody but itself.
    """

    def __init__(self, name: str, manager: AbstractAsyncContextManager[Any]) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self._value: asyncio.Future[Any] = loop.create_future()
        self._closing = asyncio.Event()
        self._task = loop.create_task(self._live(manager), name=f"keep-{name}")
        self._task.add_done_callback(self._ended)

    async def opened(self) -> Any:
        """Wait until it is open, and give it; raises what kept it from opening."""
        await asyncio.wait({self._task, self._value}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.cancelled():  # by something inside of it: passed on, it would look as if the start were
            raise StartError(
                f"opening {self.name} was cancelled from inside its factory",
                fix="catch asyncio.CancelledError there, and raise what is wrong",
            )
        return self._value.result() if self._value.done() else self._task.result()

    async def close(self) -> bool:
        """Close it, or cancel its opening; whether that was done properly, and in time."""
        if self._task.done():
            return False  # told when it happened
        self._closing.set()
        if not self._value.done():
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSE_LIMIT + HEED_LIMIT)
        if not self._task.done():
            log.error("%s neither closes nor heeds its cancellation: left behind", self.name)
            return False
        if self._task.cancelled():  # as asked while it opened; once it was open nobody asked
            error: BaseException | None = asyncio.CancelledError() if self._value.done() else None
        else:
            error = self._task.exception()
        if error is not None:
            log.error("closing %s failed", self.name, exc_info=error)
        return error is None

    async def _live(self, manager: AbstractAsyncContextManager[Any]) -> None:
        async with asyncio.timeout(OPEN_LIMIT) as limit, manager as value:
            if limit.expired():  # it went on although its time was up
                raise TimeoutError
            limit.reschedule(None)
            self._value.set_result(value)
            await self._closing.wait()
            limit.reschedule(asyncio.get_running_loop().time() + CLOSE_LIMIT)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._value.done() and not self._closing.is_set() and not task.cancelled():
            log.error("%s ended while it was in use", self.name, exc_info=task.exception())
