"""One connection of a client: a request out, its answer in, and whether the connection can be used again."""

from __future__ import annotations

import asyncio
import select
import weakref
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from mizzen.words.errors import CallError, ConnectFailed, ConnectionLost, PeerError
from mizzen.words.message import Body, Request, Response

from .body import BodyStream
from .framing import CHUNK_OVERHEAD, is_chunked, may_keep
from .limits import PoolLimits
from .refused import HandshakeRefused
from .writing import LARGE, LAST_CHUNK, chunk

_WATCHED = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_LF = ord("\n")


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
        "_blocked", "_bodiless", "_body", "_chunks", "_fed", "_final", "_headers", "_keep", "_loop", "_owner", "_parser",
        "_poll", "_refused", "_room", "_size", "_spent", "_status", "_stream", "_stream_wanted", "_transport", "_until_eof",
        "_upload", "_waiter", "busy", "closed", "expires", "idle_since", "served",
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
        self._body: bytes | bytearray = b""
        self._size = 0
        self._fed = 0  # bytes that arrived since the request
        self._chunks = 0
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
        self._refused = ""
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
            if self._spent:
                self._spent = False
                self._parser = HttpResponseParser(self)
                if data[-1] != _LF:  # a head ends with one: this is more than the answer to HEAD
                    self.close()
            elif self._fed - self._size - CHUNK_OVERHEAD * self._chunks > self._owner.limits.headers and self.busy:
                what = "what stands around its chunks" if self._final else "its head"
                self._garbled(f"{what} is over {self._owner.limits.headers} bytes")

    def eof_received(self) -> None:
        self.closed = True
        if self.busy and self._until_eof:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if isinstance(exc, HandshakeRefused):
            self._refused = f"cannot connect: {exc}"
            if self.busy and not self._fed:
                self._give_up(self._unsent())  # whatever was sent, nobody has read it
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

    def ask(self, request: Request, head: bytes) -> asyncio.Future[Response]:
        """Send a request whose head is made already; who no longer waits for its answer must say so to :meth:`leave`."""
        transport = self._transport
        if self.closed or transport.is_closing():
            raise self._unsent()
        self.busy = True
        self._fed = self._size = self._chunks = 0
        self._final = False
        self._bodiless = request.method == "HEAD"
        self._stream_wanted = request.stream
        self._waiter = waiter = self._loop.create_future()
        body = request.body
        if not body:
            transport.write(head)
        elif not isinstance(body, bytes):
            transport.write(head)
            self._upload = self._loop.create_task(self._send_stream(body))
        elif len(body) < LARGE:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        if transport.is_closing() and not self._fed:
            # The transport tried at once and failed: the kernel took nothing.
            self._give_up(self._unsent())
        return waiter

    async def leave(self, waiter: asyncio.Future[Response]) -> None:
        """Nobody waits for that answer any more: the connection ends, since it must not meet another request."""
        if self._waiter is waiter:
            self._waiter = None
            self.abort()
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            await waiter.result().close()  # it came in the same turn in which nobody wanted it any more

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
        return ConnectFailed(self._refused or "closed by the peer as soon as it was open", peer=self._owner.peer)

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
        elif name.lower() in _WATCHED:  # in a trailer they mean nothing, but the parser heeds them when the next answer comes
            self._keep = False

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise ValueError(f"its status is {status}")
            self._headers = []
            return
        raw, self._headers = self._headers, []
        length = coding = connection = None
        for name, value in raw:
            if name in _WATCHED:
                if name == b"content-length":
                    length = value
                elif name == b"connection":
                    connection = value if connection is None else connection + b", " + value
                elif coding is not None or not is_chunked(value):
                    raise ValueError("its Transfer-Encoding is not chunked")
                else:
                    coding = value
        self._status = status
        self._final = True
        keep = parser.should_keep_alive()
        if connection is not None or not keep:  # what HTTP/1.1 does without being asked needs no look at the version
            keep = may_keep(keep, parser.get_http_version(), coding, connection)
        self._keep = keep
        bodiless = self._bodiless or status in (204, 304)
        self._until_eof = not bodiless and length is None and coding is None
        if not self._stream_wanted:
            if length is not None and not bodiless and int(length) > self._owner.limits.body:
                raise self._oversized(int(length))
            self._headers = raw
        else:
            self._hand_over(Response.of(status, self._open_stream(), raw))
        if self._bodiless:
            # llhttp cannot be told that the request was HEAD and waits for a body: it is replaced after this read.
            self._spent = True
            self._complete()

    def on_chunk_header(self) -> None:
        if not (self.busy and self._final):
            raise ValueError("a body follows an answer without one")
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        if not (self.busy and self._final):
            raise ValueError("a body follows an answer without one")
        self._size += len(data)
        if self._stream_wanted:
            stream = self._stream() if self._stream is not None else None
            if stream is not None:
                stream.feed(data)
        elif self._size > self._owner.limits.body:
            raise self._oversized(None)
        elif not self._body:
            self._body = data
        else:  # in one place: a list of tiny pieces would take many times their size
            if self._body.__class__ is bytes:
                self._body = bytearray(self._body)
            self._body += data

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
            body, self._body = self._body, b""
            raw, self._headers = self._headers, []
            response = Response.of(self._status, body if body.__class__ is bytes else bytes(body), raw)
        if self._upload is not None or self._transport.get_write_buffer_size():
            self.abort()  # the peer has said all it had to say, and need not read the rest
        elif not self._keep or self.closed or self._until_eof:
            self.close()
        else:
            self._owner.release(self)
        if response is not None:
            waiter, self._waiter = self._waiter, None
            if waiter is not None and not waiter.done():
                waiter.set_result(response)

    def _oversized(self, size: int | None) -> ValueError:
        """Tell whoever waits that the answer is too large; the error is for the parser, which is to stop."""
        peer, limit = self._owner.peer, self._owner.limits.body
        shown = "a body" if size is None else f"a body of {size} bytes, which is"
        detail = f"{peer} answered {self._status} with {shown} over the {limit} bytes that are read whole"
        advice = f"set clients.{peer}.max_answer, or read it as it arrives: client.stream(...)"
        self._give_up(PeerError(f"{detail}; {advice}", peer=peer, status=self._status))
        return ValueError("too large")

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
        self._body = b""
        upload = self._upload
        if upload is not None and upload is not asyncio.current_task(self._loop):
            upload.cancel()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.busy else "idle"
        return f"<ClientConnection {state}, {self.served} answers>"
