"""TLS on one connection, on either side: a transport to the protocol above it, a protocol to the socket's transport below.

The event loops bring their own. This one chooses its certificates per connection, so that new files need neither a new
listener nor a restart; it lets a server count and bound those who still shake hands; it can close one direction, so that
the answer to a refused upload arrives; a body that ends with its connection is whole only if TLS says so (RFC 9112 §9.8);
and it holds no 256 KiB buffer for each idle connection. It behaves alike on every loop, and in memory.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from .refused import HandshakeRefused, is_refusal

HANDSHAKE = 10.0
"""Seconds for a handshake: what a server gives for a head, and nobody who means it needs."""
RECORD = 16 * 1024
"""Bytes that one read asks for: what a TLS record has at most (RFC 8446 §5.1)."""
OWED = 16 * 1024
"""Bytes that TLS itself may owe the other side: the answers to hundreds of new keys (RFC 8446 §4.6.3), which nobody means
who does not read them."""

_HELLO = 22  # the first byte of every TLS handshake (RFC 8446 §5.1)
_PLAIN_TEXT = b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"this port speaks https, not http"}'
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_PLAIN_TEXT), _PLAIN_TEXT)
)
"""What a caller gets who speaks plain HTTP to a port that speaks TLS: he would not understand an alert."""

Done = Callable[["TlsConnection", BaseException | None], None]
"""Told once how a handshake ended: with nothing when it succeeded."""


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """One connection's TLS; the protocol above is connected once the handshake succeeded, and never if it did not."""

    __slots__ = (
        "_above", "_admit", "_answered", "_below", "_bye", "_closing", "_done", "_error", "_explain", "_fresh", "_goodbye",
        "_incoming", "_loop", "_open", "_outgoing", "_over", "_owed", "_paused", "_ragged", "_server", "_timer", "_tls",
        "_within",
    )  # fmt: skip

    def __init__(
        self,
        above: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        name: str | None,
        done: Done,
        admit: Callable[[TlsConnection], bool] | None = None,
        explain: Callable[[BaseException], str] = str,
        within: float = HANDSHAKE,
    ) -> None:
        """A client's side has the ``name`` of its peer, a server's has none. ``admit`` is asked before the costly part,
        ``explain`` when a server refuses us after the handshake.
        """
        super().__init__()
        self._above: asyncio.BaseProtocol = above
        self._below: asyncio.Transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = name is None
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=self._server, server_hostname=name)
        self._done: Done | None = done
        self._admit = admit
        self._explain = explain
        self._within = within
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fresh = True  # nothing arrived yet
        self._answered = False  # whether anything arrived that is for the protocol above
        self._open = False  # whether the handshake succeeded and the protocol above knows of us
        self._paused = False
        self._owed = 0  # bytes of TLS's own that the other side has not read, as far as one can tell
        self._goodbye = False  # whether the other side said that nothing more comes from it
        self._ragged = False  # whether the other side ended without saying so, behind what is not read yet
        self._bye = False  # whether we said that nothing more comes from us; what comes to us is dropped since
        self._closing = False
        self._over = False  # whether nothing is read or written any more
        self._error: BaseException | None = None

    # -- a protocol, to what is below ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast("asyncio.Transport", transport)
        if self._admit is not None and not self._admit(self):
            self._error = ConnectionRefusedError("there are too many connections")
            self.abort()
            return
        self._timer = self._loop.call_later(self._within, self._late)
        if not self._server:
            self._shake()

    def data_received(self, data: bytes) -> None:
        if self._over or self._bye or self._goodbye:
            return
        fresh, self._fresh = self._fresh, False
        if fresh and self._server and data[0] != _HELLO:
            self._refuse_plain(data)
            return
        self._incoming.write(data)
        if self._open or self._shake():
            self._pump()

    def eof_received(self) -> bool | None:
        if self._over or self._bye:
            return None
        if self._goodbye:
            return True  # the protocol above wanted to go on writing
        if not self._open:
            self._fail(ConnectionResetError("the other side closed the connection during the handshake"))
        elif self._incoming.pending or self._tls.pending():
            self._ragged = True
            return True
        else:
            self._break(_cut_short())
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        if self._open:
            if self._goodbye and self._closing:
                exc = None  # both had said that it is over: that ours came too late to be read is no error
            self._above.connection_lost(cast("Exception | None", self._error or exc))
        else:
            self._settle(self._error or exc or ConnectionResetError("the connection was lost during the handshake"))

    def pause_writing(self) -> None:
        if self._open:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._open:
            self._above.resume_writing()

    # -- the handshake ---------------------------------------------------------------------------------------------

    def _shake(self) -> bool:
        """Go on with the handshake; whether it is complete."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._fail(error)
            return False
        self._flush()
        self._settle(None)
        if self._over:
            return False
        self._open = True
        cast("asyncio.Protocol", self._above).connection_made(self)
        return True

    def _settle(self, error: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done, self._done = self._done, None
        if done is not None:
            done(self, error)

    def _fail(self, error: BaseException) -> None:
        self._over = True
        self._error = error
        below = self._below
        if below.get_write_buffer_size():
            below.abort()  # whoever does not even read an alert is not waited for
        else:
            below.close()
        self._settle(error)

    def _late(self) -> None:
        self._timer = None
        self._fail(TimeoutError(f"no handshake within {self._within:g}s"))

    def _refuse_plain(self, data: bytes) -> None:
        if data[:1].isalpha():
            self._below.write(PLAIN_ANSWER)
        self._fail(ConnectionError("it does not speak TLS"))

    # -- what arrives ----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Hand on what has arrived, as long as it is wanted."""
        tls, incoming = self._tls, self._incoming
        ended = False
        try:
            while not (self._paused or self._bye or self._goodbye or self._over):
                data = tls.read(RECORD)
                if not data:
                    ended = True
                    break
                self._answered = True
                cast("asyncio.Protocol", self._above).data_received(data)
                if not (incoming.pending or tls.pending()):
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            self._flush()
            self._break(self._blamed(error))
            return
        except BaseException as error:  # the protocol above failed: as on a plain connection, it does not go on
            self._break(error)
            raise
        self._reply()
        if ended:
            self._goodbye = True
            if not cast("asyncio.Protocol", self._above).eof_received():
                self.close()
        elif self._ragged and not (self._paused or self._bye or self._goodbye or self._over):
            self._break(_cut_short())

    def _reply(self) -> None:
        """Send what TLS itself has to answer; what the protocol above writes is never left for here."""
        owed = self._outgoing.pending
        if not owed or self._below.is_closing():
            return
        self._owed = owed + (self._owed if self._below.get_write_buffer_size() else 0)
        if self._owed > OWED:
            self._break(ConnectionAbortedError("it asks for new keys again and again"))
        else:
            self._flush()

    def _blamed(self, error: ssl.SSLError) -> OSError:
        if self._server or self._answered or not is_refusal(error.reason or ""):
            return error
        return HandshakeRefused(self._explain(error))

    def _break(self, error: BaseException) -> None:
        if not self._over:
            self._over = True
            self._error = error
            self._below.abort()

    # -- a transport, to the protocol above ------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        if self._bye or self._over:
            return
        try:
            for data in list_of_data:
                size = len(data)
                sent = self._tls.write(data) if size else 0
                while sent < size:
                    sent += self._tls.write(memoryview(data)[sent:])
        except ssl.SSLError as error:
            self._break(error)
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._below.is_closing():
            self._below.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes; what the other side still sends is taken and dropped."""
        if not (self._bye or self._over):
            self._say_bye()
            if self._below.can_write_eof():
                self._below.write_eof()

    def _say_bye(self) -> None:
        self._bye = True
        with suppress(ssl.SSLError):  # it wants the other side's goodbye, for which nobody waits
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        """Send what is written and a goodbye, then close."""
        if self._closing:
            return
        self._closing = True
        if not self._open:
            self.abort()
            return
        if not (self._bye or self._over):
            self._say_bye()
        self._below.close()

    def abort(self) -> None:
        """End at once; what is unsent is lost."""
        self._closing = self._over = True
        self._below.abort()

    def is_closing(self) -> bool:
        return self._closing or self._over or self._below.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        if not self._below.is_closing():
            self._below.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if not self._below.is_closing():
            self._below.resume_reading()
        if not self._over and (self._ragged or self._incoming.pending or self._tls.pending()):
            self._loop.call_soon(self._pump)

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._below.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._above = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._above

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        if name == "peercert":
            return self._tls.getpeercert()
        return self._below.get_extra_info(name, default)

    def __repr__(self) -> str:
        state = "closed" if self._over else "open" if self._open else "shaking hands"
        return f"<TlsConnection {'server' if self._server else 'client'}, {state}>"


def _cut_short() -> ConnectionError:
    return ConnectionResetError("closed without TLS's own goodbye, so it may be cut short")
