"""Session: one WebSocket in the hands of an app, from its handshake to its end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mizzen.words.errors import Forbidden
from mizzen.words.message import Request, Response
from mizzen.words.upgrade import Upgrade

from .fields import read_fields
from .frames import Closed, Frames
from .guest import Guest, comes_of_leaving
from .handshake import Offer
from .reply import CallerGone
from .tunnel import LOST, NOBODY, Tunnel
from .types import Scope

AFTER = 60.0
"""Seconds for an app to end once its WebSocket has, before it is cancelled: one that only waits for something to send
would never notice."""

_NORMAL = 1000  # RFC 6455 §7.4.1
_OFFERED, _OPEN, _REFUSING, _ENDED = range(4)

log = logging.getLogger("mizzen.server")


class Session(Guest):
    """One WebSocket, and the app's task that speaks on it."""

    __slots__ = ("_asked", "_decided", "_message", "_offer", "_response", "_state", "_tunnel")

    def __init__(self, request: Request, offer: Offer, loop: asyncio.AbstractEventLoop, *, message: int) -> None:
        super().__init__(request, loop)
        self._offer = offer
        self._message = message
        self._state = _OFFERED
        self._asked = False  # whether the app has been told of the handshake
        self._decided: asyncio.Future[None] = loop.create_future()
        self._tunnel: Tunnel | None = None
        self._response: Upgrade | None = None

    def response(self) -> Response:
        """The answer to the handshake, once ``reply.begun`` is done."""
        return super().response() if self._response is None else self._response

    # -- the app's side --------------------------------------------------------------------------------------------

    def _returned(self) -> None:
        if self._state == _OPEN:
            self._close(_NORMAL)
        elif not self.reply.complete:
            self.reply.fail(RuntimeError("the app returned without an answer to the handshake"))

    def _failed(self, error: Exception, scope: Scope) -> None:
        if self._state in (_OFFERED, _REFUSING) and self.reply.fail(error):
            return  # told to the handler, which logs it
        if not comes_of_leaving(error):
            what = self._request.route or self._request.path
            log.error("WebSocket %s failed: %s", what, type(error).__name__, exc_info=error)
        if self._state == _OPEN:
            self._close(NOBODY)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        await asyncio.shield(self._decided)  # another one may wait for it as well
        tunnel = self._tunnel
        if tunnel is None:
            return {"type": "websocket.disconnect", "code": LOST, "reason": ""}
        await asyncio.shield(tunnel.opened)
        message = await tunnel.next()
        if isinstance(message, Closed):
            return {"type": "websocket.disconnect", "code": message.code, "reason": message.reason}
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def _send(self, message: Any) -> None:
        kind, state = message["type"], self._state
        if kind == "websocket.send" and state == _OPEN and self._tunnel is not None:
            data = message.get("bytes")
            data = message.get("text") if data is None else data
            if not isinstance(data, str | bytes | bytearray | memoryview):
                raise ValueError("websocket.send has neither bytes nor text")
            await self._tunnel.send(data if isinstance(data, str | bytes) else bytes(data))
        elif kind == "websocket.accept" and state == _OFFERED:
            await self._accept(message)
        elif kind == "websocket.close" and state == _OPEN:
            self._close(message.get("code") or _NORMAL, message.get("reason") or "")
        elif kind == "websocket.close" and state == _OFFERED:
            self._state = _ENDED
            self.reply.fail(Forbidden(message.get("reason") or "the WebSocket is refused"))
            self._over()
        elif kind == "websocket.http.response.start" and state == _OFFERED:
            self._state = _REFUSING
            self.reply.start(message)
        elif kind == "websocket.http.response.body" and state == _REFUSING:
            await self.reply.body(message)
        else:
            raise RuntimeError(
                f"the app sent {kind!r} to a WebSocket that is {('offered', 'open', 'refused', 'closed')[state]}"
            )

    async def _accept(self, message: Any) -> None:
        reply = self.reply
        raw = [(b"upgrade", b"websocket"), (b"sec-websocket-accept", self._offer.accept)]
        chosen = message.get("subprotocol")
        if chosen is not None:
            if chosen not in self._offer.subprotocols:
                raise ValueError(f"the app accepts with the subprotocol {chosen!r}, which was not offered")
            raw.append((b"sec-websocket-protocol", chosen.encode("latin-1")))
        raw += [field for field in read_fields(message.get("headers") or ()) if not field[0].startswith(b"sec-websocket-")]
        if reply.begun.done():  # whoever waited for it does no more
            raise CallerGone
        self._state = _OPEN
        self._tunnel = tunnel = Tunnel(Frames(most=self._message), self._loop)
        self._response = response = Upgrade(tunnel, raw)
        response.on_close(self._ended)
        if self._request.context is not None:
            self._request.context.deadline = None  # it was until the head: a WebSocket lasts as long as both sides want
        reply.begun.set_result(None)
        self._over()
        await asyncio.shield(tunnel.opened)

    def _close(self, code: int, reason: str = "") -> None:
        tunnel = self._tunnel
        if tunnel is not None and not tunnel.opened.done():  # it is accepted already: that cannot be taken back
            tunnel.opened.add_done_callback(lambda _: self._close(code, reason))
        elif tunnel is not None and not tunnel.gone:
            tunnel.close(code, reason)
        self._state = _ENDED

    def _over(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)

    def _ended(self) -> None:
        if self._tunnel is not None:
            self._tunnel.never()
        self._cancel_in(AFTER)
