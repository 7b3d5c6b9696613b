"""Lifespan: an app is told that it starts and that it stops, and says when it is done with either."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .scope import VERSION
from .types import App

SPEC = "2.0"
"""Of ASGI's lifespan part."""

log = logging.getLogger("mizzen.runtime")


class StartupFailed(Exception):
    """The app says that it cannot start; its message as it stands, and what it raised as the cause."""


class ShutdownFailed(Exception):
    """The app says that it could not stop properly."""


class Lifespan:
    """An async context manager around the life of ``app``, called ``name``; gives the state that it left for requests.

    An app that does not know of lifespans is as good as any. Raises ``StartupFailed`` and ``ShutdownFailed``.
    """

    def __init__(self, app: App, *, name: str) -> None:
        self._app = app
        self._name = name
        self._state: dict[str, Any] = {}
        self._supported = False
        self._error: BaseException | None = None
        self._said: asyncio.Future[str | None]  # what the app said of its start, then of its stop: None when all is well
        self._stopping = asyncio.Event()
        self._asked = False

    async def __aenter__(self) -> dict[str, Any]:
        self._said = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"lifespan-{self._name}")
        failure = await self._answer()
        if failure is not None:
            raise StartupFailed(failure) from self._error
        if not self._supported:
            why = f": it raised {type(self._error).__name__}" if self._error is not None else ""
            log.info("%s has no lifespan%s", self._name, why)
        return self._state

    async def __aexit__(self, *_: object) -> None:
        if not self._supported:
            return
        if self._task.done():
            if self._error is not None:
                raise ShutdownFailed("its lifespan ended while it was in use") from self._error
            return
        self._said = asyncio.get_running_loop().create_future()
        self._stopping.set()
        failure = await self._answer()
        if failure is not None:
            raise ShutdownFailed(failure) from self._error

    async def _answer(self) -> str | None:
        """Wait for what the app says; for its end as well, when that is all it says."""
        try:
            awaited: list[asyncio.Future[Any]] = [self._task, self._said]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            failure = self._said.result() if self._said.done() else None
            if failure is not None or self._stopping.is_set():
                await asyncio.wait({self._task})
            if self._stopping.is_set() and failure is None and self._error is not None:
                failure = str(self._error) or type(self._error).__name__
        except asyncio.CancelledError:  # its time is up
            self._task.cancel()
            await asyncio.wait({self._task})
            raise
        return failure

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": VERSION, "spec_version": SPEC}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:  # before it says anything: it does not know of lifespans
            self._error = error

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        step = "shutdown" if self._stopping.is_set() else "startup"
        if kind not in (f"lifespan.{step}.complete", f"lifespan.{step}.failed") or self._said.done():
            raise RuntimeError(f"the app sent {kind!r} during its {step}, where it has no place")
        self._supported = True
        self._said.set_result(None if kind.endswith("complete") else message.get("message") or "it does not say why")
