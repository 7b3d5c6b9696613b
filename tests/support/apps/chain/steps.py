"""Three things that are opened and closed, and handlers that last: each step is a line in a diary, any may hang."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from mizzen import Router, Service, Unavailable

FOREVER = 3600.0


class Settings(msgspec.Struct):
    diary: str
    """The file that every step is written to."""
    hang: str = ""
    """The step that never ends, such as ``open second``."""
    fail: str = ""
    """The step that fails."""
    late: float = 0.0
    """Seconds that it takes to fail."""
    stubborn: bool = False
    """Whether what hangs cannot be cancelled either."""


class Diary:
    def __init__(self, settings: Settings) -> None:
        self._file = Path(settings.diary)
        self._settings = settings

    def note(self, step: str) -> None:
        with self._file.open("a") as file:
            file.write(f"{step}\n")

    async def step(self, step: str) -> None:
        """Note a step that begins, and hang in it if that is wanted."""
        self.note(step)
        if self._settings.fail == step:
            await asyncio.sleep(self._settings.late)
            raise RuntimeError(f"the test fails {step}")
        while self._settings.hang == step:
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                if not self._settings.stubborn:
                    raise


class First: ...


class Second: ...


class Third: ...


@asynccontextmanager
async def opened(diary: Diary, kind: type) -> AsyncIterator[object]:
    name = kind.__name__.lower()
    try:
        await diary.step(f"open {name}")
        yield kind()
    finally:
        await diary.step(f"close {name}")


async def slow(seconds: float, diary: Diary, first: First, third: Third) -> str:
    try:
        await diary.step("begin slow")
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        diary.note("slow was cancelled")
        raise
    diary.note("end slow")
    return "done"


def blocked(seconds: float, diary: Diary) -> str:
    diary.note("begin blocked")
    time.sleep(seconds)
    return "done"


async def in_thread(seconds: float, diary: Diary) -> str:
    diary.note("begin blocked")
    await asyncio.to_thread(time.sleep, seconds)
    return "done"


def register_handlers(router: Router) -> None:
    router.get("/slow/{seconds}", slow, timeout="1m")
    router.get("/blocked/{seconds}", blocked, timeout="1m")
    router.get("/in-thread/{seconds}", in_thread, timeout="1m")


def build(settings: Settings) -> Service:
    diary = Diary(settings)
    diary.note("build")
    if settings.hang == "build":
        time.sleep(FOREVER)

    def check(thing: object) -> None:
        if settings.hang == "check":
            raise Unavailable("the test says so")

    service = Service("steps")
    service.provide(diary)
    for kind in (First, Second, Third):
        service.provide(kind, partial(opened, diary, kind), check=check if kind is Second else None)
    service.mount(register_handlers)
    return service
