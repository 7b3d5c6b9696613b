"""The server under test: streams of requests through its connections in memory, and what must be true of the outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mizzen.edges.http import Limits, Server
from mizzen.words.errors import Answer
from mizzen.words.message import Request, Response

from . import judge, second
from .grammar import Maker, reads
from .memory import Wire, settle

STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


@dataclass
class Outcome:
    """What the server made of one stream."""

    requests: list[judge.Message] = field(default_factory=list)
    """Whole requests that reached the handler, in their order."""
    statuses: list[int] = field(default_factory=list)
    """Of the answers it sent, interim ones left out."""
    closed: bool = False
    text: bytes = b""

    def summary(self) -> tuple[object, ...]:
        """What must not depend on how the stream was cut."""
        return [(m.start, m.target, m.fields, m.body) for m in self.requests], self.statuses, self.closed


class Bench:
    """Runs many streams side by side on one server; ``streaming`` hands bodies to the handler as they arrive."""

    def __init__(self, *, streaming: bool) -> None:
        self.errors: list[BaseException] = []
        self.streaming = streaming
        self.outcomes: dict[str, Outcome] = {}
        self.server = Server(
            self._handle,
            limits=Limits(connections=1_000_000),
            clock=_no_time,
            refuse=lambda status, detail, request: Response(status),
            streams=(lambda request: True) if streaming else None,
            on_error=lambda request, error: self.errors.append(error),
        )

    async def _handle(self, request: Request) -> Response:
        try:
            body = await request.read()
        except Answer as answer:
            return Response(answer.status)
        target = request.path.encode() + (b"?" + request.query.encode() if request.query else b"")
        self.outcomes[request.peer].requests.append(
            judge.Message(request.method.encode(), target, list(request.headers.raw), body)
        )
        return Response(200)

    async def run(self, streams: list[list[bytes]]) -> list[Outcome]:
        """What comes of each stream, given in reads."""
        loop = asyncio.get_running_loop()
        wires = []
        outcomes = []
        for number, pieces in enumerate(streams):
            protocol = self.server.protocol()
            wire = Wire(protocol, loop)
            name = ("peer", number)
            wire.get_extra_info = lambda key, default=None, name=name: name if key == "peername" else default  # type: ignore[method-assign]
            outcome = self.outcomes[f"peer:{number}"] = Outcome()
            protocol.connection_made(wire)
            wire.feed(pieces)
            wires.append(wire)
            outcomes.append(outcome)
        await settle(wires)
        for wire, outcome in zip(wires, outcomes, strict=True):
            outcome.text = text = bytes(wire.written)
            outcome.statuses = [status for status in map(int, STATUS.findall(text)) if status >= 200]
            outcome.closed = wire.closing or wire.ended
            wire.lose()
        await settle(wires)
        return outcomes

    def left(self) -> str:
        """What a batch left behind that it should not have."""
        if self.errors:
            return f"defects: {self.errors[:3]!r}"
        if self.server.connections or self.server.in_flight:
            return f"{self.server.connections} connections and {self.server.in_flight} requests are left"
        return ""


def _no_time() -> float:
    return 0.0


METHODS = frozenset(
    b"DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL "
    b"REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK QUERY".split()
)
"""What llhttp reads as a method of HTTP."""

STRICTER = {
    "method": "only methods that the parser knows are read; RFC 9110 §9.1 lets the others be refused",
    "protocol": "what the parser takes for another protocol, RTSP or ICE, has methods of its own",
    "extension": "whitespace around a chunk extension, which RFC 9112 §7.1.1 calls bad, is not taken",
    "coding": "no tab is taken after `chunked`: a whitespace that nobody sends there",
    "proxy": "the parser takes Proxy-Connection for Connection: the connection ends earlier than it must",
    "trailer": "the parser takes Connection and framing in a trailer for a header's: it, or what follows, is refused",
}
"""Names of well-formed requests that are refused or left unread, each with the reason; ``excuse`` tells them apart."""

SPACED = re.compile(rb"[0-9A-Fa-f][ \t]+;|;[^\r]*[ \t]")
TABBED = re.compile(rb"chunked *\t", re.IGNORECASE)
TRAILER = re.compile(rb"\r\n0+(?:;[^\r]*)?\r\n(?:[^\r]+\r\n)*?(?:connection|transfer-encoding|content-length):", re.IGNORECASE)
PROXY = re.compile(rb"proxy-connection:", re.IGNORECASE)


def excuse(data: bytes, message: judge.Message) -> str:
    """The name of a reason why a well-formed request is not read; empty when there is none."""
    if message.start not in METHODS:
        return "method"
    if "RTSP" in message.leeway:
        return "protocol"
    if "extension" in message.leeway or SPACED.search(data):
        return "extension"
    if TABBED.search(data):
        return "coding"
    if PROXY.search(data):
        return "proxy"
    if "trailer" in message.leeway or TRAILER.search(data):
        return "trailer"
    return ""


def complaint(data: bytes, outcome: Outcome, explained: dict[str, int]) -> str:
    """What is wrong with an outcome; empty when nothing is. Explained disagreements are counted."""
    verdict = judge.requests(data)
    expected = verdict.messages
    got = outcome.requests
    for position, message in enumerate(got):
        if position >= len(expected):
            return f"request {position} was answered, but it is {verdict.end} ({verdict.reason})"
        wrong = differs(message, expected[position])
        if wrong:
            return f"request {position}: {wrong}"
        for name in expected[position].leeway:
            explained[name] = explained.get(name, 0) + 1
    refusals = [status for status in outcome.statuses if status != 200]
    if outcome.statuses[: len(got)] != [200] * len(got) or len(outcome.statuses) > len(got) + 1:
        return f"answers {outcome.statuses} to {len(got)} requests"
    if refusals and (not outcome.closed or not 400 <= refusals[0] <= 505 or refusals[0] == 500):
        return f"refused with {refusals}, closed: {outcome.closed}"
    if len(got) < len(expected):
        name = excuse(data, expected[len(got)])
        if not name or not outcome.closed:
            what = f"refused with {refusals[0]}" if refusals else "not answered"
            return f"request {len(got)} was {what}, but is well-formed: {expected[len(got)]}"
        explained["stricter: " + name] = explained.get("stricter: " + name, 0) + 1
    elif verdict.end == "end" and refusals and not verdict.rest:
        return f"refused with {refusals[0]} after the end of the last request"
    elif verdict.end == "end" and expected and not expected[-1].keep and not outcome.closed:
        return "the last request asked to close, and the connection stays open"
    elif verdict.end == "bad" and not outcome.closed and not waits(data, verdict):
        return f"neither refused nor closed, but it is bad: {verdict.reason}"
    return agreement(data, got)


def waits(data: bytes, verdict: judge.Verdict) -> bool:
    """Whether what makes a stream bad may not have been seen yet by a reader that goes byte by byte."""
    # A line without a version is one of HTTP/0.9 to the parser, and which version it is counts when the last field is there.
    if verdict.reason in ("no request line", "another version", "a line end that is not CRLF"):
        return not data.endswith(b"\r\n\r\n")
    if re.search(rb"PRI [^\n]*\n(?:[^\n]+\n)*\r\n$", data):  # the parser waits for the rest of HTTP/2's preface
        return True
    return verdict.reason in ("CR without LF", "too large") or not data.endswith(b"\n")


def agreement(data: bytes, got: list[judge.Message]) -> str:
    """Where h11 accepts as well, it must find the same."""
    theirs = second.requests(data)
    for position, (message, other) in enumerate(zip(got, theirs, strict=False)):
        # h11 hands this one value over in lower case
        fields = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in message.fields]
        message = replace(message, fields=fields)
        wrong = differs(message, other)
        if wrong:
            return f"h11 disagrees on request {position}: {wrong}"
    return ""


def differs(message: judge.Message, other: judge.Message) -> str:
    """How a request that the server read differs from how another read it."""
    if message.start != other.start:
        return f"method {message.start!r}, not {other.start!r}"
    target, authority = origin(other.target)
    if message.target != target:
        return f"target {message.target!r}, not {target!r}"
    if message.body != other.body:
        return f"body {message.body!r}, not {other.body!r}"
    fields = other.fields
    if authority is not None:
        fields = [(b"host", authority), *(item for item in fields if item[0] != b"host")]
    if message.fields != fields:
        return f"fields {message.fields!r}, not {fields!r}"
    return ""


def origin(target: bytes) -> tuple[bytes, bytes | None]:
    """A target in the form of path and query, and the authority it named."""
    match = judge.ABSOLUTE.fullmatch(target)
    if match is None:
        return target.removesuffix(b"?") if target.count(b"?") == 1 else target, None
    return (match[2] or b"/") + (b"?" + match[3] if match[3] else b""), match[1]


def make(number: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """The stream of a number, and two ways of cutting it."""
    maker = Maker(number)
    data = maker.requests()
    return data, reads(data, maker.cuts(len(data))), reads(data, maker.cuts(len(data)))


def check(numbers: Iterable[int], explained: dict[str, int]) -> list[tuple[int, bytes, str]]:
    """Every number whose stream the server gets wrong, with the stream and what is wrong."""
    return asyncio.run(_check([(number, *make(number)) for number in numbers], explained))


def check_stream(data: bytes) -> str:
    """What is wrong with the server's reading of this stream, whole and byte by byte; empty when nothing is."""
    found = asyncio.run(_check([(0, data, [data], reads(data, list(range(1, len(data)))))], {}))
    return found[0][2] if found else ""


async def _check(
    batch: list[tuple[int, bytes, list[bytes], list[bytes]]], explained: dict[str, int]
) -> list[tuple[int, bytes, str]]:
    found = []
    for streaming in (False, True):
        bench = Bench(streaming=streaming)
        part = [item for item in batch if (item[0] % 4 == 3) == streaming or len(batch) == 1]
        if not part:
            continue
        outcomes = await bench.run([piece for item in part for piece in item[2:]])
        for index, (number, data, *_) in enumerate(part):
            one, two = outcomes[2 * index], outcomes[2 * index + 1]
            wrong = complaint(data, one, explained)
            if not wrong and one.summary() != two.summary():
                wrong = f"cut differently it is something else: {one.summary()} / {two.summary()}"
            if wrong:
                found.append((number, data, ("streaming: " if streaming else "") + wrong))
        left = bench.left()
        if left:
            found.append((part[0][0], part[0][1], f"in a batch of {len(part)} from {part[0][0]}: {left}"))
    return found
