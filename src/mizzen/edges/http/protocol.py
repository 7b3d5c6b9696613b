"""One connection of a server: order of answers, flow control, time limits and the ways in which it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from mizzen.words.errors import BadRequest
from mizzen.words.message import Request, Response
from mizzen.words.sse import PING_EVERY
from mizzen.words.upgrade import Successor, Upgrade

from .body import BodyStream
from .framing import peer_name
from .handover import cannot_upgrade, hand_over
from .outflow import Outflow
from .pacing import Patience
from .reading import RequestReader
from .writing import CONTINUE, answer_head

if TYPE_CHECKING:
    from .server import Server

PIPELINE = 8
"""Requests that may wait behind the one under way before the connection is no longer read."""

AT_ONCE = 4
"""Requests of one read that are answered without a task; those that follow let other connections have their turn."""

_PIPELINE, _BODY = 1, 2  # why reading is held


class ServerConnection(asyncio.Protocol):
    """Reads requests, has each answered in a task of its own, one after another, and writes the answers in order."""

    __slots__ = (
        "_at_once", "_begun", "_closing", "_ending", "_gone", "_held", "_keep_alive", "_loop", "_out", "_patience", "_peer",
        "_queue", "_reader", "_server", "_successor", "_transport", "_turn", "_unsent", "task",
    )  # fmt: skip

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport
        self._reader: RequestReader
        self._peer = ""
        self._queue: deque[tuple[Request, bool, bool, Response | None]] = deque()
        self.task: asyncio.Task[None] | None = None
        self._turn: Request | None = None
        self._at_once = -1  # how many more requests of the latest read may be answered without a task; -1: of none yet
        self._begun = False  # whether the task has run: one that is cancelled before cannot settle its request
        self._ending = False  # whether the task only closes its answer: no longer cancelled
        self._successor: Successor | None = None  # what speaks on this connection, once it is no longer ours
        self._closing = False  # nothing more is answered
        self._gone = False  # and nobody is there to be answered
        self._held = 0  # why we do not read
        self._unsent = 0  # bytes in the transport's buffer when their progress was last looked at
        self._keep_alive = server.limits.keep_alive
        self._patience = Patience(loop, server.clock, self._expired)
        self._out = Outflow(loop, self._progressed)

    # -- the transport's callbacks --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self._transport = self._out.transport = cast("asyncio.Transport", transport)
        self._peer = peer_name(transport.get_extra_info("peername"))
        self._reader = RequestReader(
            self, limits=server.limits, peer=self._peer, streams=server.streams, max_body=server.max_body
        )
        if server.join(self):
            self._patience.expect(server.limits.header_read)
        else:
            self._reader.stop(503, f"{server.limits.connections} connections are open here already")

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader.deaf:
            return
        waited = reader.partial
        self._at_once = AT_ONCE
        reader.feed(data)
        if reader.request is not None:
            self._patience.expect(self._server.limits.progress)
        elif reader.partial and (reader.ended or not waited) and not (self._out.streaming or self._out.blocked):
            # Behind an answer that is on its way the head's time begins when that is out: until then progress counts.
            self._patience.expect(self._server.limits.header_read)

    def eof_received(self) -> None:
        # Whoever closes the sending side has left, as far as one can tell: nobody waits for the answer.
        self._leave()
        self._watch_flush(self._server.limits.progress)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._patience.cancel()
        if self.task is None:
            self._server.leave(self)
        else:  # its handler cleans up: a server that drains waits for that as well
            self.task.add_done_callback(lambda _: self._server.leave(self))

    def pause_writing(self) -> None:
        self._out.blocked = True
        self._unsent = self._transport.get_write_buffer_size()
        self._patience.expect(self._server.limits.progress)

    def resume_writing(self) -> None:
        self._out.unblock()
        if self.task is None:
            self._next()

    # -- what the reader says --------------------------------------------------------------------------------------

    def offer(self, request: Request, keep: bool, old: bool) -> None:
        if self.task is None and not self._queue and not self._out.blocked and not self._closing:
            response = None
            if self._at_once and self._server.at_once is not None and request.body.__class__ is bytes:
                self._at_once -= 1
                response = self._server.at_once(request)
                if response is not None and response._on_close is None and response.body.__class__ is bytes:
                    self._answer_whole(request, response, keep, old)
                    return
            self._begin(request, keep, old, response)
            return
        self._queue.append((request, keep, old, None))
        if len(self._queue) >= PIPELINE:
            self._hold(_PIPELINE)

    def refuse(self, status: int, detail: str, request: Request) -> None:
        response = self._server.refusal(status, detail, request)
        self._queue.append((request, False, False, response))
        if self.task is None and not self._out.blocked:
            self._next()

    def failed(self, error: BaseException) -> None:
        self._server.report(self._reader.request, error)

    def proceed(self) -> None:
        """Say 100, unless answers that come before it are not out yet, or the answer itself has begun."""
        reader = self._reader
        turn = self.task is None and not self._queue if reader.stream is None else not self._out.streaming
        if reader.owes and turn and not self._closing:
            reader.owes = False
            self._transport.write(CONTINUE)
            self._patience.expect(self._server.limits.progress)

    def pause(self) -> None:
        self._hold(_BODY)

    def resume(self) -> None:
        self._release(_BODY)

    def _hold(self, reason: int) -> None:
        if not self._held and not self._transport.is_closing():
            self._transport.pause_reading()
        self._held |= reason

    def _release(self, reason: int) -> None:
        held, self._held = self._held, self._held & ~reason
        if held and not self._held and not self._transport.is_closing():
            self._transport.resume_reading()
            self._await_caller()

    def _await_caller(self) -> None:
        """Give the caller its time for what is under way from its side, or for its next request."""
        reader, limits = self._reader, self._server.limits
        if reader.request is not None:
            self._patience.expect(limits.progress)
        else:
            self._patience.expect(limits.header_read if reader.partial else self._keep_alive)

    # -- one request after another ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is under way, read or answered."""
        return self.task is not None or bool(self._queue) or self._reader.request is not None

    @property
    def awaited(self) -> bool:
        """Whether a request is on its way: one that is begun, or the first of all."""
        return (self._at_once < 0 or self._reader.begun) and self.task is None and not self._closing

    def _begin(self, request: Request, keep: bool, old: bool, response: Response | None = None) -> None:
        self._server.in_flight += 1
        self._begun = False
        self._ending = response is not None  # such an answer is closed by the task, which must get to begin
        self._turn = request
        request.link = (self._transport, old)
        self.task = self._loop.create_task(self._answer(request, keep, old, response))

    def _next(self) -> None:
        """Begin the request that waits longest, or wait for one."""
        if self._closing or self._out.blocked:
            return
        if self._queue:
            request, keep, old, refusal = self._queue.popleft()
            if self._held and len(self._queue) < PIPELINE:
                self._release(_PIPELINE)
            if refusal is None:
                self._begin(request, keep, old)
            else:
                self._deny(request, refusal)
            return
        if self._reader.owes:
            self.proceed()
        self._await_caller()

    def _deny(self, request: Request, refusal: Response) -> None:
        head = answer_head(refusal, request.method, False, False, self._server.date())
        self._out.write(head, cast("bytes", refusal.body))  # the server saw to it that refusals are whole
        self._server.settle(request, refusal, self._out.sent)
        self.close(rude=True)

    def _answer_whole(self, request: Request, response: Response, keep: bool, old: bool) -> None:
        """Send an answer that was made at once."""
        server = self._server
        try:
            keep = keep and not server.closing
            head = answer_head(response, request.method, keep, old, server.date(request.started))
        except Exception as error:  # as in _answer: a defect
            server.report(request, error)
            response = Response(500)
            head = answer_head(response, request.method, keep, old, server.date())
        out = self._out
        out.write(head, response.body)  # type: ignore[arg-type]  # the caller saw to it that it is whole
        server.settle(request, response, out.sent)
        if head[1]:
            self.close(rude=False)
        elif not out.blocked:
            self._patience.expect(self._keep_alive, request.started)

    async def _answer(self, request: Request, keep: bool, old: bool, response: Response | None) -> None:
        self._begun = True
        self._ending = False
        self._out.sent = 0
        server = self._server
        source = request.body
        out = False  # whether the head of the answer was handed over
        close = True
        try:
            try:
                if response is None:
                    response = await server.handler(request)
                    if response.__class__ is Upgrade and not self._closing:
                        refused = self._cannot_upgrade(request, keep, old)
                        if refused is None:
                            out = self._closing = self._ending = True  # from here on it ends as its successor says
                            self._reader.deaf = True
                            self._patience.cancel()
                            self._successor = response.successor
                            self._out.sent = await hand_over(response, self._transport, self.connection_lost)
                            return
                        await self._end(request, response)
                        response, keep = refused, False
                keep = keep and not server.closing and (source.__class__ is bytes or self._keeps(source, response))
                head = answer_head(response, request.method, keep, old, server.date() if server.dated else b"")
            except Exception as error:  # a handler that answers must not raise: a defect, told to whoever watches
                server.report(request, error)
                await self._end(request, response)
                response = Response(500)
                keep = keep and self._keeps(source, response)
                head = answer_head(response, request.method, keep, old, server.date())
            if not self._closing:
                out = True
                close = head[1]
                body = response.body
                if isinstance(body, bytes):
                    self._out.write(head, body)
                else:
                    await self._out.stream(head, response, over=server.draining)
        except asyncio.CancelledError:
            self._abort()
            raise
        except Exception as error:  # the head is out: only a truncated body can tell the caller
            server.report(request, error)
            self._abort()
        finally:
            try:
                # Most answers are whole and nobody waits for their end: an await less on the path of each request.
                if response is not None and (response._on_close is not None or not isinstance(response.body, bytes)):
                    self._ending = True
                    await self._end(request, response)
            finally:
                self._ending = self._out.streaming = False
                self.task = self._turn = None
                server.in_flight -= 1
                server.settle(request, response if out else None, self._out.sent)
                if not self._closing:
                    read = not isinstance(source, BodyStream) or source.ended
                    if close or not read or server.closing:
                        self.close(rude=not read or bool(self._queue))
                    else:
                        self._next()

    def _cannot_upgrade(self, request: Request, keep: bool, old: bool) -> Response | None:
        why = cannot_upgrade(request, more=bool(self._queue) or self._reader.begun, keep=keep, old=old)
        return self._server.refusal(400, why, request) if why else None

    def _keeps(self, source: object, response: Response) -> bool:
        """Whether the connection may go on: not after a whole answer to a body that is still under way."""
        return not isinstance(source, BodyStream) or source.ended or not isinstance(response.body, bytes)

    async def _end(self, request: Request, response: Response | None) -> None:
        if response is not None:
            try:
                await response.close()
            except Exception as error:  # the answer is out, or will never be: there is nothing left to change
                self._server.report(request, error)

    # -- time ------------------------------------------------------------------------------------------------------

    def _progressed(self) -> None:
        self._patience.expect(PING_EVERY if self._out.eventful else self._server.limits.progress)

    def _expired(self) -> None:
        limits = self._server.limits
        reader = self._reader
        unsent = self._transport.get_write_buffer_size()
        if (self._closing or self._out.blocked) and 0 < unsent < self._unsent:
            self._unsent = unsent
            self._patience.expect(limits.progress)
        elif self._closing or self._out.blocked:
            self._abort()
        elif self._out.eventful:
            self._progressed()
            self._out.ping()
        elif self._out.streaming:
            self._server.report(self._turn, TimeoutError(f"a streamed answer made no progress in {limits.progress:g}s"))
            self._abort()
        elif self._held or reader.owes:
            return  # the caller waits for us, not we for the caller
        elif reader.request is not None:
            reader.stop(408, f"nothing of the request's body arrived in {limits.progress:g}s")
        elif reader.partial:
            reader.stop(408, f"the request's head did not arrive within {limits.header_read:g}s")
        elif not self.busy:
            self.close(rude=False)

    # -- ways to end -----------------------------------------------------------------------------------------------

    def close(self, *, rude: bool) -> None:
        """Close once everything is sent; ``rude`` when the caller may still be sending, which must not cost it the answer."""
        self._closing = True
        self._reader.deaf = True
        transport = self._transport
        if transport.is_closing():
            return
        if rude and transport.can_write_eof():
            self._release(self._held)
            transport.write_eof()
            self._watch_flush(self._server.limits.discard)
        else:
            transport.close()
            self._watch_flush(self._server.limits.progress)

    def _watch_flush(self, seconds: float) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._patience.expect(self._server.limits.progress if self._unsent else seconds)

    def close_if_idle(self) -> None:
        """Close a connection on which nothing is under way, not even the beginning of a head; end what has no end."""
        if self._successor is not None:
            self._successor.leave()
        elif self._out.eventful:
            self._out.finish()
        elif not self.busy and not self._reader.partial and not self._closing:
            self.close(rude=False)

    def cut(self) -> bool:
        """End at once; whether a request was under way."""
        busy = self.busy and not self._closing
        self._leave()
        self._transport.abort()
        return busy

    def _abort(self) -> None:
        self._closing = True
        self._reader.deaf = True
        self._transport.abort()

    def _leave(self) -> None:
        """Nobody waits for an answer any more: what is under way is cancelled, once."""
        if self._gone:
            return
        self._gone = self._closing = True
        reader = self._reader
        reader.deaf = True
        if reader.stream is not None:
            reader.stream.fail(BadRequest("the caller went away before the end of the body"))
        task = self.task
        if task is not None and not self._ending:
            task.cancel()
            if not self._begun and self._turn is not None:
                self._server.in_flight -= 1
                request, self.task, self._turn = self._turn, None, None
                self._server.settle(request, None, 0)
        while self._queue:
            self._server.settle(self._queue.popleft()[0], None, 0)
