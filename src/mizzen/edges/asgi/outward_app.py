"""The application that another ASGI server is given: its lifespan is a life of ours, its requests are that life's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from mizzen.words.errors import MizzenError, StartError

from .types import Receive, Scope, Send

log = logging.getLogger("mizzen.runtime")


class Life(Protocol):
    """What is opened at the beginning of a lifespan and closed at its end."""

    async def start(self) -> None:
        """Open everything; raises what keeps it from starting, with nothing left open."""

    async def stop(self) -> bool:
        """Close everything; whether that was done properly."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""


class Application:
    """An ASGI 3 application; one life at a time, made anew for each lifespan."""

    def __init__(self, name: str, make: Callable[[], Life]) -> None:
        self.name = name
        self._make = make
        self._life: Life | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Live, answer a request, or turn a WebSocket away."""
        kind = scope["type"]
        if kind == "http":
            if self._life is None:
                raise StartError(
                    f"{self.name} was not started: the server runs it without its lifespan, so nothing would open or close",
                    fix="switch the lifespan on: uvicorn --lifespan on, granian --interface asgi",
                )
            await self._life.answer(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})  # before it is accepted: a 403
        else:
            raise ValueError(f"{self.name} answers http and lifespan, not {kind!r}")

    async def _live(self, receive: Receive, send: Send) -> None:
        if self._life is not None:
            raise StartError(f"{self.name} runs already in this process", fix="make one application for each server")
        await receive()
        try:
            life = self._make()
            await life.start()
        except Exception as error:
            if not isinstance(error, MizzenError):
                log.critical("%s cannot start", self.name, exc_info=error)
            await send({"type": "lifespan.startup.failed", "message": str(error) or type(error).__name__})
            return
        self._life = life
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            try:
                done = await life.stop()
            finally:
                self._life = None
        if done:
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "lifespan.shutdown.failed", "message": f"{self.name} did not end properly: its log says why"})

    def __repr__(self) -> str:
        return f"<ASGI application {self.name}, {'running' if self._life is not None else 'not running'}>"
