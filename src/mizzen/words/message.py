"""Request, Response and Headers: the only values that cross every boundary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .json import read, write
from .lazy import pattern

if TYPE_CHECKING:
    from .context import Context
    from .link import Link
    from .outcome import Outcome

Body = bytes | AsyncIterator[bytes]
"""A whole body, or one that arrives in pieces and can be read once."""

FAIR = 256 * 1024
"""Bytes of a streamed body after which others get their turn: a source that never waits would not let them."""

_NAME = pattern(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.1: token
_FORBIDDEN = pattern(rb"[\x00\r\n]")


class Headers:
    """Case-insensitive, ordered header fields; a name may stand more than once.

    ``raw`` holds lower-case names and values as bytes, as the wire has them.
    """

    __slots__ = ("raw",)

    def __init__(self, items: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self.raw: list[tuple[bytes, bytes]] = []
        for name, value in items.items() if isinstance(items, Mapping) else items:
            self.add(name, value)

    @classmethod
    def of(cls, raw: list[tuple[bytes, bytes]]) -> Headers:
        """Wrap fields that a parser has checked already; takes the list over, names must be lower-case."""
        headers = cls.__new__(cls)
        headers.raw = raw
        return headers

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of that name."""
        key = name.lower().encode("latin-1")
        for field, value in self.raw:
            if field == key:
                return value.decode("latin-1")
        return default

    def all(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        key = name.lower().encode("latin-1")
        return [value.decode("latin-1") for field, value in self.raw if field == key]

    def add(self, name: str, value: str) -> None:
        """Append a field; ``ValueError`` for a name or value that could break the message apart."""
        field, data = name.lower().encode("latin-1"), str(value).encode("latin-1")
        if not _NAME.fullmatch(field):
            raise ValueError(f"{name!r} is not a header name")
        if _FORBIDDEN.search(data):
            raise ValueError(f"the value of header {name!r} has a line break or NUL in it")
        self.raw.append((field, data))

    def set(self, name: str, value: str) -> None:
        """Replace every field of that name by one."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Drop every field of that name."""
        key = name.lower().encode("latin-1")
        self.raw = [item for item in self.raw if item[0] != key]

    def copy(self) -> Headers:
        return Headers.of(self.raw.copy())

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable, so never a key

    def __repr__(self) -> str:
        return f"<Headers {' '.join(name.decode() for name, _ in self.raw)}>"


class Call:
    """What the call side knows of a request beyond the message: how it may be sent, and how it went so far."""

    __slots__ = (
        "deadline", "declared", "endpoint", "idempotent", "inherited", "last", "notes", "outcome", "parent", "started",
        "timeout", "tried",
    )  # fmt: skip

    def __init__(
        self,
        *,
        idempotent: bool,
        timeout: float,
        started: float,
        deadline: float,
        inherited: bool = False,
        declared: frozenset[int] = frozenset(),
    ) -> None:
        self.idempotent = idempotent
        self.declared = declared
        """Statuses besides 2xx that the caller expects."""
        self.timeout = timeout
        """Seconds this call was given by its own configuration."""
        self.deadline = deadline
        """When the call ends, on the client's clock: the least of timeout and inherited deadline."""
        self.inherited = inherited
        """Whether that end is the deadline of the request we work for, and not our own timeout."""
        self.started = started
        self.last = True
        """Whether the attempt under way is the last one: it may use all the time that is left."""
        self.tried: list[str] = []
        """Ids of the instances tried so far, oldest first."""
        self.endpoint: Any = None
        """The endpoint picked for the attempt under way (``rules.balance.Endpoint``)."""
        self.outcome: Outcome | None = None
        """What the latest attempt came to; set by whoever raises or returns it."""
        self.parent: Context | None = None
        """The context of the work that the call is made for."""
        self.notes: list[str] | None = None
        """Lines for ``mizzen call --explain``; None when nobody asked."""

    @classmethod
    def of(
        cls,
        idempotent: bool,
        timeout: float,
        started: float,
        deadline: float,
        inherited: bool,
        declared: frozenset[int],
        parent: Context | None,
    ) -> Call:
        """The same from what a client knows."""
        call = cls.__new__(cls)  # slots set directly: this is on the path of every call
        call.idempotent = idempotent
        call.declared = declared
        call.timeout = timeout
        call.deadline = deadline
        call.inherited = inherited
        call.started = started
        call.last = True
        call.tried = []
        call.parent = parent
        call.endpoint = call.outcome = call.notes = None
        return call


class Request:
    """A request on either side of the wire. ``path`` is percent-encoded and without its query."""

    __slots__ = (
        "admitted", "body", "call", "context", "headers", "leaf", "link", "method", "params", "path", "peer", "query",
        "route", "started", "stream",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Body = b"",
        context: Context | None = None,
        peer: str = "",
        call: Call | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = Headers.of([]) if headers is None else headers
        self.body = body
        self.context = context
        self.peer = peer
        """Address of the caller on the server side, name of the called service on the client side."""
        self.call = call
        self.params: tuple[str, ...] = ()
        """Decoded path parameters in the order of the route's template."""
        self.route: str = ""
        """The route's template: once matched on the server side, as written by the caller on the client side."""
        self.started = 0.0
        """When the server side began with it, on its clock."""
        self.admitted = False
        """Whether it holds a place under the server's limit in flight."""
        self.leaf: Any = None
        """What the server side found for it, and will hand it to (``assembly.edge.Leaf``)."""
        self.link: Link | None = None
        """What it came over, on the server side where it has a task of its own; None elsewhere."""
        self.stream = False
        """Whether the caller wants the answer's body as it arrives, rather than whole."""

    @classmethod
    def of(cls, method: str, path: str, query: str, raw: list[tuple[bytes, bytes]], peer: str) -> Request:
        """Put together what a parser has checked; takes the list of fields over, names must be lower-case."""
        request = cls.__new__(cls)  # slots set directly: this is on the path of every request
        request.method = method
        request.path = path
        request.query = query
        request.headers = headers = Headers.__new__(Headers)
        headers.raw = raw
        request.body = b""
        request.peer = peer
        request.route = ""
        request.params = ()
        request.context = request.call = request.leaf = request.link = None
        request.started = 0.0
        request.admitted = request.stream = False
        return request

    async def read(self) -> bytes:
        """The whole body; gathered once, kept for the next reader."""
        if not isinstance(self.body, bytes):
            self.body = b"".join([piece async for piece in self.body])
        return self.body

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"


class Response:
    """An answer: status, headers and a body that is whole or streamed."""

    __slots__ = ("_on_close", "body", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        body: Body = b"",
        *,
        headers: Headers | Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers if isinstance(headers, Headers) else Headers(headers or ())
        if content_type is not None:
            self.headers.set("content-type", content_type)
        self._on_close: list[Callable[[], None]] | None = None

    @classmethod
    def of(cls, status: int, body: Body, raw: list[tuple[bytes, bytes]]) -> Response:
        """Put together parts that are known to be right; takes the list of fields over, names must be lower-case."""
        response = cls.__new__(cls)  # slots set directly: this is on the path of every request
        response.status = status
        response.body = body
        response.headers = headers = Headers.__new__(Headers)
        headers.raw = raw
        response._on_close = None
        return response

    @classmethod
    def json_of(cls, value: Any, status: int = 200) -> Response:
        """An answer with ``value`` as its JSON body."""
        return cls.of(status, write(value), [(b"content-type", b"application/json")])

    async def read(self) -> bytes:
        """The whole body; gathered once, kept for the next reader."""
        if not isinstance(self.body, bytes):
            try:
                whole = b"".join([piece async for piece in self.body])
            finally:
                await self.close()
            self.body = whole
        return self.body

    @property
    def text(self) -> str:
        """The whole body as UTF-8 text."""
        if not isinstance(self.body, bytes):
            raise TypeError("this answer streams its body: await response.read() first")
        return self.body.decode()

    def json(self, into: Any = Any) -> Any:
        """The JSON body as ``into``; ``ValueError`` for one that does not fit.

        The body must be whole: ``await read()`` first when it streams.
        """
        if not isinstance(self.body, bytes):
            raise TypeError("this answer streams its body: await response.read() first")
        return read(self.body, into)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the answer is done with: its body at its end, or dropped."""
        if self._on_close is None:
            self._on_close = []
        self._on_close.append(callback)

    async def close(self) -> None:
        """Give back what the answer holds, such as its connection; safe to call twice."""
        callbacks, self._on_close = self._on_close, None
        try:
            close = getattr(self.body, "aclose", None)
            if close is not None:
                await close()
        finally:
            for callback in callbacks or ():
                callback()

    def __repr__(self) -> str:
        return f"<Response {self.status}>"
