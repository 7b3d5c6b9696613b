"""The client under test: streams of answers to its connections in memory, and what must be true of the outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mizzen.edges.http import Pool, PoolLimits
from mizzen.words.errors import CallError
from mizzen.words.message import Request, Response

from . import judge, second
from .grammar import Maker, reads
from .memory import Wire, settle

NEXT = b"HTTP/1.1 299 Next\r\ncontent-length: 4\r\n\r\nnext"
"""The answer to a second request on a connection that was kept."""


@dataclass
class Outcome:
    """What the client made of one stream."""

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    error: str = ""
    kept: bool = False
    """Whether the connection could be used again."""
    at_end: bool = False
    """Whether the answer was complete only when the connection ended."""
    after: str = ""
    """What is wrong with what came after."""

    def summary(self) -> tuple[object, ...]:
        """What must not depend on how the stream was cut."""
        return self.status, self.fields, self.body, bool(self.error), self.at_end


class Play:
    """One call, its peer, and a second call where the connection is kept."""

    def __init__(self, method: str, pieces: list[bytes], *, streaming: bool) -> None:
        self.pieces = pieces
        self.wires: list[Wire] = []
        self.outcome = Outcome()
        self.pool = Pool(
            "x", 80, tls=None, connect=self._connect, limits=PoolLimits(body=judge.MAX_BODY), clock=_no_time, peer="x"
        )
        self.request = Request(method, "/")
        self.request.stream = streaming
        self.task: asyncio.Task[Response] | None = None
        self.response: Response | None = None

    async def _connect(self, factory: Any, host: str, port: int, tls: Any) -> Any:
        protocol = factory()
        wire = Wire(protocol, asyncio.get_running_loop())
        protocol.connection_made(wire)
        self.wires.append(wire)
        return wire, protocol

    async def _call(self, request: Request) -> Response:
        response = await self.pool.send(request)
        if request.stream:
            response.body = b"".join([piece async for piece in response.body])  # type: ignore[union-attr]
        return response

    def begin(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._call(self.request))

    def answer(self) -> None:
        self.wires[0].feed(self.pieces)

    def end(self) -> None:
        """The connection ends, unless it is idle, which is what it was kept for."""
        assert self.task is not None
        self.outcome.kept = self.pool.describe()["idle"] == 1
        if not self.task.done():
            self.outcome.at_end = True
            self.wires[0].lose()

    def take(self) -> None:
        outcome, task = self.outcome, self.task
        assert task is not None
        if not task.done():
            task.cancel()
            outcome.after = "the call hangs after its connection ended"
            return
        error = task.exception()
        if error is None:
            response = task.result()
            outcome.status, outcome.fields, outcome.body = response.status, list(response.headers.raw), response.body  # type: ignore[assignment]
        elif isinstance(error, CallError):
            outcome.error = str(error)
        else:
            outcome.after = f"{type(error).__name__}: {error}"

    def begin_again(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._call(Request("GET", "/next")))

    def answer_again(self) -> None:
        if len(self.wires) > 1:
            self.outcome.after = "an idle connection was not used"
        self.wires[-1].feed([NEXT])

    def take_again(self) -> None:
        task = self.task
        assert task is not None
        if not task.done() or task.exception() is not None or task.result().body != b"next":
            self.outcome.after = self.outcome.after or "what came before disturbs the next answer"
            task.cancel()

    def close(self) -> None:
        self.pool.close()
        for wire in self.wires:
            wire.lose()


def _no_time() -> float:
    return 0.0


async def play(calls: list[tuple[str, list[bytes]]], *, streaming: bool) -> list[Outcome]:
    """What comes of each call: its method, and what is answered, in reads."""
    plays = [Play(method, pieces, streaming=streaming) for method, pieces in calls]
    for part in plays:
        part.begin()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    wires = [wire for part in plays for wire in part.wires]
    for part in plays:
        part.answer()
    await settle(wires)
    for part in plays:
        part.end()
    await settle(wires)
    for part in plays:
        part.take()
    kept = [part for part in plays if part.outcome.kept]
    for step in ("begin_again", "answer_again", "take_again"):
        for part in kept:
            getattr(part, step)()
        await settle(wires)
    for part in plays:
        part.close()
    await settle(wires)
    for part in plays:
        if part.pool._open:
            part.outcome.after = part.outcome.after or "a connection is left"
    return [part.outcome for part in plays]


STRICTER = {
    "extension": "whitespace around a chunk extension, which RFC 9112 §7.1.1 calls bad, is not taken",
    "coding": "no tab is taken after `chunked`: a whitespace that nobody sends there",
    "interim": "the parser heeds version, `Connection: close` and framing of an interim answer, where they mean nothing",
    "trailer": "the parser takes framing in a trailer for a header's",
}
"""Names of well-formed answers that are errors, each with the reason; ``excuse`` tells them apart."""


INTERIM = re.compile(
    rb"/1\.0 1\d\d|/1\.\d 1\d\d[^\n]*\n(?:[^\n]+\n)*?(?:(?:proxy-)?connection:[^\n]*close|transfer-enc|content-len)",
    re.IGNORECASE,
)


def excuse(data: bytes, message: judge.Message) -> str:
    """The name of a reason why a well-formed answer is an error; empty when there is none."""
    from .servers import SPACED, TABBED

    if "extension" in message.leeway or SPACED.search(data):
        return "extension"
    if TABBED.search(data):
        return "coding"
    if INTERIM.search(data):
        return "interim"
    if "trailer" in message.leeway:
        return "trailer"
    return ""


def complaint(method: str, data: bytes, outcome: Outcome, explained: dict[str, int]) -> str:
    """What is wrong with an outcome; empty when nothing is. Explained disagreements are counted."""
    if outcome.after:
        return outcome.after
    verdict = judge.answer(data, method)
    message = verdict.messages[0] if verdict.messages else None
    if outcome.error:
        if outcome.kept:
            return "the connection of a failed call is kept"
        if message is None:
            return ""
        name = excuse(data, message)
        if not name:
            return f"an error ({outcome.error}), but it is well-formed: {message}"
        explained["stricter: " + name] = explained.get("stricter: " + name, 0) + 1
        return ""
    if message is None:
        return f"answered {outcome.status} {outcome.body!r}, but it is {verdict.end} ({verdict.reason})"
    for name in message.leeway:
        explained[name] = explained.get(name, 0) + 1
    wrong = differs(outcome, message)
    if wrong:
        return wrong
    if outcome.at_end != message.until_end:
        return f"complete at the end of the connection: {outcome.at_end}, not {message.until_end}"
    if outcome.kept and not message.keep:
        return "kept, but the answer says that it is the last one"
    if outcome.kept and verdict.rest.strip(b"\r\n"):
        return f"kept, but {verdict.rest!r} follows the answer"
    return agreement(method, data, outcome)


def agreement(method: str, data: bytes, outcome: Outcome) -> str:
    """Where h11 accepts as well, it must find the same."""
    theirs = second.answer(data, method, ended=outcome.at_end)
    if theirs is None:
        return ""
    fields = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in outcome.fields]
    wrong = differs(Outcome(outcome.status, fields, outcome.body), theirs)
    return f"h11 disagrees: {wrong}" if wrong else ""


def differs(outcome: Outcome, other: judge.Message) -> str:
    """How an answer that the client read differs from how another read it."""
    if outcome.status != int(other.start):
        return f"status {outcome.status}, not {other.start!r}"
    if outcome.body != other.body:
        return f"body {outcome.body!r}, not {other.body!r}"
    if outcome.fields != other.fields:
        return f"fields {outcome.fields!r}, not {other.fields!r}"
    return ""


def make(number: int) -> tuple[str, bytes, list[bytes], list[bytes]]:
    """The method and the stream of a number, and two ways of cutting it."""
    maker = Maker(number)
    method, data = maker.answer()
    return method, data, reads(data, maker.cuts(len(data))), reads(data, maker.cuts(len(data)))


def check(numbers: Iterable[int], explained: dict[str, int]) -> list[tuple[int, bytes, str]]:
    """Every number whose stream the client gets wrong, with the stream and what is wrong."""
    return asyncio.run(_check([(number, *make(number)) for number in numbers], explained))


def check_stream(data: bytes, method: str = "GET") -> str:
    """What is wrong with the client's reading of this stream, whole and byte by byte; empty when nothing is."""
    found = asyncio.run(_check([(0, method, data, [data], reads(data, list(range(1, len(data)))))], {}))
    return found[0][2] if found else ""


async def _check(
    batch: list[tuple[int, str, bytes, list[bytes], list[bytes]]], explained: dict[str, int]
) -> list[tuple[int, bytes, str]]:
    found = []
    for streaming in (False, True):
        part = [item for item in batch if (item[0] % 4 == 3) == streaming or len(batch) == 1]
        if not part:
            continue
        outcomes = await play([(item[1], pieces) for item in part for pieces in item[3:]], streaming=streaming)
        for index, (number, method, data, *_) in enumerate(part):
            one, two = outcomes[2 * index], outcomes[2 * index + 1]
            wrong = complaint(method, data, one, explained) or complaint(method, data, two, {})
            if not wrong and one.summary() != two.summary():
                wrong = f"cut differently it is something else: {one.summary()} / {two.summary()}"
            if wrong:
                found.append((number, data, f"{method}{' streaming' if streaming else ''}: {wrong}"))
    return found
