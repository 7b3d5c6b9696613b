"""Inward: an ASGI app as a handler of ours, each request in a task of the app's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mizzen.words.message import Request, Response
from mizzen.words.upgrade import Upgrade

from .exchange import Exchange
from .guest import Guest
from .handshake import Unimplemented, is_handshake, offer_of
from .names import Names
from .scope import scope_of
from .types import App, Scope

CUT_GRACE = 1.0
"""Seconds for cancelled apps to clean up, so that what they use is not closed under them."""

log = logging.getLogger("mizzen.server")


class Inward:
    """Answers by an app that is mounted at ``root``.

    ``message`` is the most bytes of one of its WebSockets' messages; ``accepted`` is told of each that begins.
    """

    def __init__(
        self, app: App, *, root: str = "", message: int, accepted: Callable[[Request], None] = lambda request: None
    ) -> None:
        self.app = app
        self.root = root
        self.names = Names(app, root=root)
        self.state: dict[str, Any] = {}
        """What its lifespan left for its requests; each gets a copy."""
        self._message = message
        self._accepted = accepted
        self._unfinished: dict[asyncio.Task[None], Guest] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = False  # what is not installed

    async def answer(self, request: Request) -> Response:
        """Answer one request; what the app raises before its answer began is raised here."""
        if request.method == "GET" and is_handshake(request.headers.raw):
            return await self._connect(request)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        scope = scope_of(request, "http", root=self.root, state=self.state)
        exchange = Exchange(request, loop, self._name)
        return await self._begun(request, scope, exchange, exchange.begin(self.app, scope))

    async def _begun(self, request: Request, scope: Scope, guest: Guest, task: asyncio.Task[None]) -> Response:
        try:
            await guest.reply.begun
            return guest.response()
        except asyncio.CancelledError:
            left = None if request.context is None else request.context.remaining()
            guest.leave(at_once=left is not None and left <= 0)  # the deadline; else its caller is gone
            raise
        finally:
            self._name(request, scope)
            if not task.done():
                self._unfinished[task] = guest
                task.add_done_callback(self._unfinished.pop)

    def _name(self, request: Request, scope: Scope) -> None:
        """Call the request by the template of the app's own route, where the app shows it."""
        template = self.names.of(scope)
        if template is None:
            return
        request.route = self.root + template if template else ""
        if template and request.context is not None:
            request.context.route = f"{request.method} {request.route}"

    async def _connect(self, request: Request) -> Response:
        """Answer the handshake of a WebSocket."""
        try:
            from .session import Session
        except ImportError as error:
            if not self._told:  # every handshake would say the same
                self._told = True
                what = "WebSockets of the app at %s are refused with 501: %s; fix: pip install 'mizzen[asgi]'"
                log.warning(what, self.root or "/", error)
            raise Unimplemented("WebSockets are not available here") from None
        offer = offer_of(request)
        scope = scope_of(request, "websocket", root=self.root, state=self.state)
        session = Session(request, offer, asyncio.get_running_loop(), message=self._message)
        scope["subprotocols"] = list(offer.subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        response = await self._begun(request, scope, session, session.begin(self.app, scope))
        if isinstance(response, Upgrade):
            self._accepted(request)
        return response

    # -- its end ---------------------------------------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Apps' tasks that go on although their answers are out: background tasks, WebSockets, and what cleans up."""
        return len(self._unfinished)

    async def finish(self, seconds: float) -> int:
        """Wait for what goes on behind answers that are out, and cut it off after ``seconds``; how many were cut off."""
        if self._unfinished and seconds > 0:
            await asyncio.wait(list(self._unfinished), timeout=seconds)
        left = list(self._unfinished.items())
        for _, guest in left:
            guest.cancel()
        if left:
            await asyncio.wait([task for task, _ in left], timeout=CUT_GRACE)
        return sum(guest.owes for _, guest in left)

    def __repr__(self) -> str:
        return f"<Inward {self.root or '/'}: {self.unfinished} unfinished>"
