"""Bytes into requests: the parser's callbacks, and every check of what a caller sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from mizzen.words.errors import BadRequest, RequestTimeout, TooLarge
from mizzen.words.message import Headers, Request

from .body import BodyStream
from .framing import CHUNK_OVERHEAD, Refused, is_authority, is_chunked, says_close, split_target
from .limits import Limits

_WATCHED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"connection", b"upgrade"})
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_SLASH, _HASH = b"/#"


def _as_error(refused: Refused) -> Exception:
    """What a handler that reads its body meets when the rest of it is refused."""
    if refused.status == 413:
        return TooLarge(refused.detail)
    if refused.status == 408:
        return RequestTimeout(refused.detail)
    return BadRequest(refused.detail)


class Sink(Protocol):
    """Where requests go, in the order of their arrival."""

    def offer(self, request: Request, keep: bool, old: bool) -> None:
        """A request that can be answered: ``keep`` its connection afterwards, ``old`` means HTTP/1.0."""

    def refuse(self, status: int, detail: str, request: Request) -> None:
        """A request that is not read; nothing follows it."""

    def proceed(self) -> None:
        """The caller waits for a 100 before it sends the body under way."""

    def pause(self) -> None:
        """Stop reading: a body waits for its reader."""

    def resume(self) -> None:
        """Read on."""

    def failed(self, error: BaseException) -> None:
        """A judgement of ours raised; not the caller's fault."""


class RequestReader:
    """The requests of one connection. After a refusal or a last request it is deaf."""

    __slots__ = (
        "_before", "_chunk_size", "_chunked", "_chunks", "_gathered", "_has_body", "_headers", "_host", "_keep", "_late",
        "_limits", "_max_body", "_most", "_muted", "_old", "_parser", "_peer", "_replay", "_sink", "_size", "_streams",
        "_url", "_wire", "deaf", "ended", "owes", "partial", "request", "stream",
    )  # fmt: skip

    def __init__(
        self,
        sink: Sink,
        *,
        limits: Limits,
        peer: str,
        streams: Callable[[Request], bool] | None,
        max_body: Callable[[Request], int] | None,
    ) -> None:
        self._sink = sink
        self._limits = limits
        self._peer = peer
        self._streams = streams
        self._max_body = max_body
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._host = b""  # the last value found to be good: it hardly ever changes
        self._before = 0  # bytes of the reads before the latest that the head under way may have
        self._chunk_size = 0  # of the latest read
        self._late = 0  # bytes of the head under way that came after its first read
        self._keep = True
        self._old = False
        self._gathered = bytearray()  # no list: a million pieces of one byte would cost many times their size
        self._size = 0  # bytes of body so far
        self._has_body = False
        self._most = 0
        self._chunked = False
        self._chunks = 0
        self._wire = 0  # bytes read since the body began, framing included
        self._replay = b""  # a head that makes a fresh parser read the body under way
        self._muted = False
        self.request: Request | None = None
        """The request whose body is under way."""
        self.stream: BodyStream | None = None
        """Its body, when the handler takes it as it arrives."""
        self.ended = False
        """Whether a request ended in the latest read."""
        self.partial = False
        """Whether the beginning of a head has arrived."""
        self.owes = False
        """Whether its caller waits for a 100 (Continue)."""
        self.deaf = False

    @property
    def begun(self) -> bool:
        """Whether a part of a request has arrived and not all of it."""
        return self.partial or self.request is not None

    def feed(self, data: bytes) -> None:
        """Read; whatever comes of it goes to the sink."""
        self._chunk_size = size = len(data)
        self.ended = False
        if self._chunked:
            self._wire += size
        while data and not self.deaf:
            try:
                self._parser.feed_data(data)
                break
            except HttpParserUpgrade as pause:
                data = data[pause.args[0] :]
                self._ignore_upgrade()
            except HttpParserError as error:
                self._garbled(error)
        if self.deaf:
            return
        if self.request is not None:
            if self._chunked and self._wire - self._size - CHUNK_OVERHEAD * self._chunks > self._limits.headers:
                self.stop(431, f"over {self._limits.headers} bytes around the chunks of the body")
        elif self._url or not self.ended:
            self._still_in_head(size, blank=not self._url and not data.strip(b"\r\n"))

    def _still_in_head(self, size: int, *, blank: bool) -> None:
        # How much of a read that completed a request belongs to the next head is unknown, and bounded by one read.
        self._late = 0 if self.ended else self._late + size
        self._before += size
        self.partial = self.partial or not blank  # empty lines before a request are allowed, and no beginning
        if self._late > self._limits.headers + self._limits.url:
            self.stop(431, f"the request's head is over {self._limits.headers} bytes")

    def stop(self, status: int, detail: str) -> None:
        """Refuse what is under way, and read nothing after it."""
        if self.deaf:
            return
        self.deaf = True
        self.partial = False
        request, stream = self.request, self.stream
        self.request = self.stream = None
        if stream is not None:
            stream.fail(_as_error(Refused(status, detail)))
        else:
            self._sink.refuse(status, detail, request or self._unread())

    def _unread(self) -> Request:
        """Stands for a request whose head could not be read, as far as it came."""
        method = self._parser.get_method().decode("ascii") if self._url else ""
        path = self._url[:200].decode("latin-1").partition("?")[0]
        return Request(method, path, headers=Headers.of(self._headers), peer=self._peer)

    def _garbled(self, error: HttpParserError) -> None:
        if isinstance(error, HttpParserCallbackError):
            cause = error.__context__
            if isinstance(cause, Refused):
                self.stop(cause.status, cause.detail)
            else:  # not the caller's fault: a callback of ours failed
                self._sink.failed(cause or error)
                self.stop(500, "the request could not be judged")
        else:
            self.stop(400, f"malformed request: {error}")

    # -- the parser's callbacks ---------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        if self._muted:
            return
        self._url = self._url + url if self._url else url
        if len(self._url) > self._limits.url:
            raise Refused(414, f"the request target is over {self._limits.url} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        parser = self._parser
        raw = self._headers
        url = self._url
        if self._before + self._chunk_size > self._limits.headers:
            self._measure(raw)
        if self._before:
            self.partial = False
            self._late = self._before = 0
        verb = parser.get_method()
        method = _METHODS.get(verb) or verb.decode("ascii")
        host = length = coding = expect = connection = upgrade = None
        for name, value in raw:
            if name in _WATCHED:
                if name == b"host":
                    if host is not None:
                        raise Refused(400, "more than one Host")
                    host = value
                elif name == b"content-length":
                    if length is not None or not value.isdigit():
                        raise Refused(400, "Content-Length is not one number")
                    length = int(value)
                elif name == b"transfer-encoding":
                    if coding is not None or not is_chunked(value):
                        raise Refused(501, "a Transfer-Encoding other than chunked")
                    coding = value
                elif name == b"expect":
                    if expect is None or value.lower() != b"100-continue":
                        expect = value
                elif name == b"connection":
                    connection = value if connection is None else connection + b", " + value
                else:
                    upgrade = value
        keep = parser.should_keep_alive()
        # Kept without having asked for it is what only HTTP/1.1 gives; the version is asked for in all other cases.
        old = False if keep and connection is None else self._is_old(parser.get_http_version())
        if old and keep and connection is not None and says_close(connection):
            keep = False  # the parser lets keep-alive win in HTTP/1.0; RFC 9112 §9.3 lets close win
        if host is None:
            if not old:
                raise Refused(400, "no Host")
        elif host != self._host:
            if not is_authority(host):
                raise Refused(400, "Host is not a host and port")
            self._host = host
        if url[0] == _SLASH and method != "CONNECT" and _HASH not in url:  # as split_target does, without the call
            path, _, query = url.decode("ascii").partition("?")
        else:
            path, query, authority = split_target(method, url)
            if authority is not None:
                self._put_host(raw, authority)
        self._url = b""
        self._headers = []  # what follows now are trailers, which change nothing
        self._keep = keep
        self._old = old
        self.request = request = Request.of(method, path, query, raw, self._peer)
        if expect is not None and not old and expect.lower() != b"100-continue":
            raise Refused(417, "an expectation other than 100-continue")
        if coding is not None or length:
            self._begin_body(request, length, coding)
            if upgrade is not None and parser.should_upgrade():
                # llhttp takes what follows for another protocol; we speak none, so the body is read by a fresh parser.
                framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
                self._replay = b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing
            if expect is not None and not old:
                self.owes = True
            if self.stream is not None:
                self._sink.offer(request, keep, old)
            elif self.owes:
                self._sink.proceed()

    def _measure(self, raw: list[tuple[bytes, bytes]]) -> None:
        if sum(len(name) + len(value) + 4 for name, value in raw) > self._limits.headers:
            raise Refused(431, f"the request's headers are over {self._limits.headers} bytes")

    def _is_old(self, version: str) -> bool:
        if version == "1.1":
            return False
        if version != "1.0":
            raise Refused(505, f"HTTP/{version} is not spoken here")
        return True

    def _put_host(self, raw: list[tuple[bytes, bytes]], authority: bytes) -> None:
        """In absolute form the target's authority counts, whatever Host says (RFC 9112 §3.2.2)."""
        raw[:] = [(name, value) for name, value in raw if name != b"host"]
        raw.insert(0, (b"host", authority))

    def _begin_body(self, request: Request, length: int | None, coding: bytes | None) -> None:
        if coding is not None and (self._old or length is not None):
            raise Refused(400, "Transfer-Encoding together with Content-Length or HTTP/1.0")
        self._has_body = True
        self._size = 0
        self._most = self._limits.body if self._max_body is None else self._max_body(request)
        if length is not None and length > self._most:
            raise Refused(413, f"a body of {length} bytes is over the limit of {self._most} bytes")
        if coding is not None:
            self._chunked = True
            self._chunks = self._wire = 0
        if self._streams is not None and self._streams(request):
            sink = self._sink
            self.stream = BodyStream(pause=sink.pause, resume=sink.resume, wanted=sink.proceed)
            request.body = self.stream

    def _ignore_upgrade(self) -> None:
        """Go on with HTTP/1.1 where the parser expects another protocol."""
        replay, self._replay = self._replay, b""
        if replay:
            self._parser = HttpRequestParser(self)
            self._muted = True
            self._parser.feed_data(replay)
            self._muted = False

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        self.owes = False
        self._size += len(data)
        if self._size > self._most:
            raise Refused(413, f"the body is over the limit of {self._most} bytes")
        if self.stream is None:
            self._gathered += data
        else:
            self.stream.feed(data)

    def on_message_complete(self) -> None:
        request = self.request
        if self._replay or request is None:
            return
        self.ended = True
        self.request = None
        if not self._keep:
            self.deaf = self._muted = True  # the parser may go on: it does not know of every reason to end
        if self._has_body:
            self._has_body = self._chunked = self.owes = False
            self._headers = []
            if self.stream is not None:
                stream, self.stream = self.stream, None
                stream.end()
                return
            request.body = bytes(self._gathered)
            self._gathered = bytearray()
        self._sink.offer(request, self._keep, self._old)
