"""A service for several workers: it says which process answers, and does to that process what a test asks for."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import prometheus_client

from mizzen import Router, Service

ASKED = prometheus_client.Counter("crew_asked", "Requests of a test.", ["worker"])
OWN = prometheus_client.Gauge("crew_own", "The process.", ["worker"])
log = logging.getLogger("crew")


class Settings(msgspec.Struct):
    crash: str = ""
    """How it fails to start: import, raise, exit, or by which signal it is ended."""
    broken: str = ""
    """A file: while it is there, no process can start."""


class Held:
    """Something that is open while the process serves."""


async def who() -> int:
    ASKED.labels("of mine").inc()
    OWN.labels("of mine").set(os.getpid())
    return os.getpid()


async def slow(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


async def say(length: int, lines: int = 1) -> int:
    """Log that many lines of that length."""
    for number in range(lines):
        log.info("%s", f"{os.getpid()}-{number}-".ljust(length, "x"))
    return os.getpid()


async def block(seconds: float) -> int:
    """Do what a handler on the loop must not do."""
    time.sleep(seconds)  # noqa: ASYNC251
    return os.getpid()


async def inherited() -> list[int]:
    """The descriptors that whatever this process starts would have as well."""
    return [each for each in range(256) if _inheritable(each)]


def _inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


async def die(text: str) -> None:
    """Write past the log, as a library in C would, and die of it."""
    os.write(1, text.encode())
    os.kill(os.getpid(), signal.SIGKILL)


def register_handlers(router: Router) -> None:
    router.get("/who", who)
    router.post("/who", who)
    router.get("/slow", slow)
    router.get("/say", say)
    router.get("/block", block)
    router.get("/inherited", inherited)
    router.get("/die", die)


def build(settings: Settings) -> Service:
    crash = settings.crash
    if settings.broken and Path(settings.broken).exists():
        crash = "raise"

    @asynccontextmanager
    async def hold() -> AsyncIterator[Held]:
        if crash == "raise":
            raise LookupError("there is nothing to hold")
        if crash == "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(7)
        if crash.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[crash])
        yield Held()

    if crash == "import":
        raise RuntimeError("this cannot be built")
    service = Service("crew")
    service.provide(Held, hold)
    service.mount(register_handlers)
    return service
