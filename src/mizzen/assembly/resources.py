"""Provided things: opened in order, checked, closed in reverse, each step with a limit and an event."""

from __future__ import annotations

import asyncio
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
REOPEN_FIRST, REOPEN_MOST = 0.25, 5.0
"""Seconds before a dependency that is not there yet is tried again; doubled each time up to the most."""

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
        self._open: list[tuple[str, AbstractAsyncContextManager[Any]]] = []
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
            try:
                manager = self._made(thing)
                async with asyncio.timeout(OPEN_LIMIT):
                    value = await manager.__aenter__()
            except (OSError, Unavailable) as error:  # TimeoutError is an OSError
                why = str(error) or type(error).__name__
                if self.waiting_for != f"{thing.name}: {why}":
                    log.warning("waiting for %s: %s; trying again until it is there", thing.name, why)
                self.waiting_for = f"{thing.name}: {why}"
                await asyncio.sleep(delay)
                delay = min(delay * 2, REOPEN_MOST)
            else:
                self._open.append((thing.name, manager))
                return value

    @staticmethod
    def _made(thing: Provided) -> AbstractAsyncContextManager[Any]:
        manager = thing.factory() if thing.factory is not None else None
        if manager is None or not hasattr(manager, "__aenter__"):
            raise StartError(
                f"the factory of {thing.name} does not give an async context manager",
                fix="decorate it with contextlib.asynccontextmanager, or return an object with __aenter__ and __aexit__",
            )
        return manager

    async def close(self) -> list[str]:
        """Close everything in reverse; the names of what failed or took too long, which stops nothing else."""
        failed = []
        while self._open:
            name, manager = self._open.pop()
            started = self._clock()
            try:
                async with asyncio.timeout(CLOSE_LIMIT):
                    await manager.__aexit__(None, None, None)
            except Exception:  # closing one thing badly must not keep the others open
                log.exception("closing %s failed", name)
                failed.append(name)
            else:
                self._emit(StepTaken(f"close {name}", self._clock() - started, CLOSE_LIMIT, ""))
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
