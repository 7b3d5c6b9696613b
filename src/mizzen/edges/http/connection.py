"""One connection of a client: a request out, its answer in, and whether the connection can be used again."""

from __future__ import annotations

import asyncio
import select
import weakref
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from mizzen.words.errors import CallError, ConnectFailed, ConnectionLost
from mizzen.words.message import Body, Request, Response

from .body import BodyStream
from .framing import is_chunked
from .limits import PoolLimits
from .writing import LARGE, LAST_CHUNK, chunk

_WATCHED = frozenset({b"content-length", b"transfer-encoding"})


class Owner(Protocol):
    """The pool, as its connections see it."""

    limits: PoolLimits
    peer: str

    def release(self, connection: ClientConnection) -> None:
        """It can be used again."""

    def forget(self, connection: ClientConnection) -> None:
        """It is gone."""


class ClientConnection(asyncio.Protocol):
    """Sends one request at a time; gone for good after anything that is not a clean end of an answer."""

    __slots__ = (
        "_blocked", "_bodiless", "_fed", "_final", "_headers", "_keep", "_loop", "_owner", "_parser", "_pieces", "_poll",
        "_room", "_size", "_spent", "_status", "_stream", "_stream_wanted", "_transport", "_until_eof", "_upload", "_waiter",
        "busy", "closed", "expires", "idle_since", "served",
    )  # fmt: skip

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        self._poll: select.poll | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._blocked = False  # whether the peer does not read
        self._room: asyncio.Future[None] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._fed = 0  # bytes that arrived since the request
        self._status = 0
        self._final = False  # whether the head of the answer, not of a 1xx before it, is complete
        self._keep = False
        self._until_eof = False  # whether the body ends where the connection ends
        self._bodiless = False  # whether the request was HEAD
        self._spent = False  # whether the parser waits for a body that will not come
        self._stream_wanted = False
        # Weak, so that an answer which its reader forgot can end, and end the connection with it.
        self._stream: weakref.ref[BodyStream] | None = None
        self.busy = False
        """Whether an answer is owed."""
        self.closed = False
        """Whether nothing can be sent any more; the peer's end of sending counts."""
        self.served = 0
        """Answers so far."""
        self.expires = 0.0
        self.idle_since = 0.0

    # -- the transport's callbacks --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.close()  # nobody asked: whatever it is, it must not be taken for the next answer
            return
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._garbled("it switched to another protocol")
        except HttpParserError as error:
            self._garbled(str(error.__context__ or error))
        else:
            self._check_end()

    def _check_end(self) -> None:
        if self.busy:
            limits = self._owner.limits
            if not self._final and self._fed > limits.headers:
                self._garbled(f"its head is over {limits.headers} bytes")
        elif self._spent:
            self._spent = False
            self._parser = HttpResponseParser(self)

    def eof_received(self) -> None:
        self.closed = True
        if self.busy and self._until_eof:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(str(exc) if exc is not None else "closed by the peer")
        self._wake()
        self._owner.forget(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._wake()

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # -- a request -------------------------------------------------------------------------------------------------

    async def send(self, request: Request, head: bytes) -> Response:
        """Send a request whose head is made already and wait for its answer; cancelling closes the connection."""
        if self.closed or self._transport.is_closing():
            raise self._unsent()
        self.busy = True
        self._fed = 0
        self._final = self._until_eof = False
        self._bodiless = request.method == "HEAD"
        self._stream_wanted = request.stream
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        try:
            self._send(head, request.body)
            return await waiter
        except BaseException:
            if self._waiter is waiter:
                self._waiter = None
                self.abort()
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                await waiter.result().close()  # the answer came in the same turn in which nobody wanted it any more
            raise

    def stale(self) -> bool:
        """Whether something waits on this idle connection that the event loop has not told of yet: the peer's end of it."""
        if self._poll is None:
            line = self._transport.get_extra_info("socket")
            if line is None:  # in memory nothing is on its way unseen
                return False
            self._poll = select.poll()
            self._poll.register(line.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def _unsent(self) -> CallError:
        """What it means that the connection was closed before it took a byte of the request."""
        if self.served:
            return ConnectionLost("closed by the peer", peer=self._owner.peer, idle=True, sent=False)
        return ConnectFailed("closed by the peer as soon as it was open", peer=self._owner.peer)

    def _send(self, head: bytes, body: Body) -> None:
        transport = self._transport
        if not isinstance(body, bytes):
            transport.write(head)
            self._upload = self._loop.create_task(self._send_stream(body))
        elif not body:
            transport.write(head)
        elif len(body) < LARGE:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        if transport.is_closing():
            # The transport tried at once and failed: the kernel took nothing.
            self._give_up(self._unsent())

    async def _send_stream(self, body: Body) -> None:
        """Send a body piece by piece; in a task of its own, since the answer may come before its end."""
        assert not isinstance(body, bytes)
        transport = self._transport
        try:
            async for piece in body:
                if self.closed:
                    return
                if piece:
                    transport.write(chunk(piece))
                if self._blocked:
                    self._room = self._loop.create_future()
                    await self._room
            if not self.closed:
                transport.write(LAST_CHUNK)
        except (Exception, asyncio.CancelledError) as error:
            if not self.closed:  # the source failed, not the peer: whoever gave it learns its own error
                self._give_up(error)
        finally:
            self._upload = None
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    # -- the parser's callbacks ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self.busy:
            raise ValueError("something follows the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._final:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise ValueError(f"its status is {status}")
            self._headers = []
            return
        raw, self._headers = self._headers, []
        length = coding = None
        for name, value in raw:
            if name in _WATCHED:
                if name == b"content-length":
                    length = value
                elif coding is not None or not is_chunked(value):
                    raise ValueError("its Transfer-Encoding is not chunked")
                else:
                    coding = value
        self._status = status
        self._final = True
        self._keep = parser.should_keep_alive()
        self._size = 0
        bodiless = self._bodiless or status in (204, 304)
        self._until_eof = not bodiless and length is None and coding is None
        limit = self._owner.limits.body
        if not self._stream_wanted:
            if length is not None and not bodiless and int(length) > limit:
                raise ValueError(f"its body of {int(length)} bytes is over the limit of {limit} bytes")
            self._headers = raw
        else:
            self._hand_over(Response.of(status, self._open_stream(), raw))
        if self._bodiless:
            # llhttp cannot be told that the request was HEAD and waits for a body: it is replaced after this read.
            self._spent = True
            self._complete()

    def on_body(self, data: bytes) -> None:
        if not self.busy:
            raise ValueError("a body follows an answer without one")
        self._size += len(data)
        if self._stream_wanted:
            stream = self._stream() if self._stream is not None else None
            if stream is not None:
                stream.feed(data)
        elif self._size > self._owner.limits.body:
            raise ValueError(f"its body is over the limit of {self._owner.limits.body} bytes")
        else:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self.busy and self._final:
            self._complete()

    # -- the end of an answer --------------------------------------------------------------------------------------

    def _open_stream(self) -> BodyStream:
        stream = BodyStream(pause=self._pause, resume=self._resume, dropped=self.abort)
        self._stream = weakref.ref(stream)
        return stream

    def _pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _hand_over(self, response: Response) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    def _complete(self) -> None:
        """The last byte of the answer is here."""
        self.busy = False
        self.served += 1
        response = None
        if self._stream_wanted:
            stream = self._stream() if self._stream is not None else None
            self._stream = None
            if stream is not None:
                stream.end()
        else:
            pieces = self._pieces
            if pieces:
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                self._pieces = []
            else:
                body = b""
            raw, self._headers = self._headers, []
            response = Response.of(self._status, body, raw)
        if self._upload is not None or self._transport.get_write_buffer_size():
            self.abort()  # the peer has said all it had to say, and need not read the rest
        elif not self._keep or self.closed or self._until_eof:
            self.close()
        else:
            self._owner.release(self)
        if response is not None:
            self._hand_over(response)

    def _garbled(self, reason: str) -> None:
        if self.busy:
            self._lose(f"the answer makes no sense: {reason}")
        else:
            self.close()

    def _fail(self, reason: str) -> None:
        """The connection ended; which matters to whoever waits for an answer or its rest."""
        if self.busy:
            fresh = not self._fed
            if not fresh:
                reason = f"the answer is cut off after {self._fed} bytes: {reason}"
            self._lose(reason, idle=fresh and self.served > 0)

    def _lose(self, reason: str, *, idle: bool = False) -> None:
        self._give_up(ConnectionLost(reason, peer=self._owner.peer, idle=idle))

    def _give_up(self, error: BaseException) -> None:
        """End the connection; whoever waits for an answer or its rest meets ``error``."""
        waiter, self._waiter = self._waiter, None
        stream = self._stream() if self._stream is not None else None
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if stream is not None:
            stream.fail(error)

    def close(self) -> None:
        """Close once what was written is sent."""
        self._end()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._end()
        self._transport.abort()

    def _end(self) -> None:
        self.closed = True
        self.busy = False
        self._stream = None
        self._pieces = []
        upload = self._upload
        if upload is not None and upload is not asyncio.current_task(self._loop):
            upload.cancel()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.busy else "idle"
        return f"<ClientConnection {state}, {self.served} answers>"
