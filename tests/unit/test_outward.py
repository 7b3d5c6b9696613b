"""Outward: a service as an ASGI application, with the test as the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from stage import settle

from mizzen.edges.asgi import Application, Outward
from mizzen.edges.asgi.outward_messages import announces_body, answer_fields, caller_of, path_of, request_of
from mizzen.edges.http import Limits, Server
from mizzen.testing import run
from mizzen.words.errors import BadRequest, StartError
from mizzen.words.message import Request, Response

Message = dict[str, Any]


def scope_of(method: str = "GET", path: str = "/", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": [], **more}


class Caller:
    """What an ASGI server is for one request: messages to receive, messages that were sent."""

    def __init__(self, *messages: Message, failing: int | None = None) -> None:
        self.sent: list[Message] = []
        self.waiting = 0
        self._messages = list(messages)
        self._failing = failing
        self._more = asyncio.Event()

    async def receive(self) -> Message:
        while not self._messages:
            self.waiting += 1
            self._more.clear()
            await self._more.wait()
        return self._messages.pop(0)

    def tell(self, *messages: Message) -> None:
        self._messages += messages
        self._more.set()

    def leave(self) -> None:
        self.tell({"type": "http.disconnect"})

    async def send(self, message: Message) -> None:
        if self._failing is not None and len(self.sent) >= self._failing:
            raise OSError("gone")
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def fields(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


def piece(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


class Rig:
    """A handler behind an outward edge, and what was settled there."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response]], *, streams: bool = False, most: int = 100) -> None:
        self.settled: list[tuple[int | None, int]] = []
        self.reported: list[BaseException] = []
        self.server = Server(
            handler,
            limits=Limits(),
            clock=asyncio.get_running_loop().time,
            refuse=lambda status, detail, request: Response(status, detail.encode()),
            sent=lambda request, response, sent: self.settled.append((None if response is None else response.status, sent)),
            streams=lambda request: streams,
            max_body=lambda request: most,
            on_error=lambda request, error: self.reported.append(error),
        )
        self.outward = Outward(self.server, body=most, progress=60.0)

    async def ask(self, scope: dict[str, Any], caller: Caller) -> None:
        await self.outward(scope, caller.receive, caller.send)
        assert (self.server.in_flight, self.server.connections) == (0, 0)


async def ok(request: Request) -> Response:
    return Response(200, b"ok")


async def hang(request: Request) -> Response:
    await asyncio.sleep(3600)
    return Response(200)


async def echo(request: Request) -> Response:
    return Response(200, await request.read())


# -- words


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b"}, "/a%20b"),
        ({"path": "/a/b", "raw_path": b"/a%2Fb"}, "/a%2Fb"),
        ({"path": "/a", "raw_path": b"/a?x=1"}, "/a"),
        ({"path": "/ü &%;"}, "/%C3%BC%20&%25;"),
        ({"path": "/api/a", "raw_path": b"/api/a", "root_path": "/api"}, "/a"),
        ({"path": "/api", "raw_path": b"/api", "root_path": "/api/"}, "/"),
        ({"path": "/apia", "raw_path": b"/apia", "root_path": "/api"}, "/apia"),
        ({"path": "/a", "raw_path": b"/a", "root_path": "/api"}, "/a"),
        ({"path": "/ü/a", "raw_path": b"/%C3%BC/a", "root_path": "/ü"}, "/a"),
        ({"path": "http://host/a", "raw_path": b"http://host/a"}, "/a"),
        ({"path": "http://host", "raw_path": b"http://host"}, "/"),
        ({"path": "*", "raw_path": b"*"}, "*"),
        ({"path": "", "raw_path": b""}, "/"),
        ({"path": "/a", "raw_path": None}, "/a"),
    ],
)
def test_the_path_is_the_callers(scope: dict[str, Any], path: str) -> None:
    """The path stays percent-encoded as it was sent, below the place where a server put the application."""
    assert path_of(scope) == path


def test_the_rest_of_a_scope() -> None:
    """Query, fields in order, and the caller's address as we write it, or none."""
    scope = scope_of("POST", "/x", query_string=b"a=%20&b", headers=[[b"a", b"1"], (b"a", b"2")], client=["::1", 7])
    request = request_of(scope)
    assert (request.method, request.query, request.headers.all("a"), request.peer) == ("POST", "a=%20&b", ["1", "2"], "[::1]:7")
    assert [caller_of({"client": client}) for client in (("10.0.0.1", 5), None, ("", 0))] == ["10.0.0.1:5", "", ""]


@pytest.mark.parametrize(
    ("version", "fields", "announced"),
    [
        ("1.1", [], (False, None)),
        ("1.1", [(b"content-length", b"0")], (False, 0)),
        ("1.1", [(b"content-length", b"7")], (True, 7)),
        ("1.1", [(b"transfer-encoding", b"chunked")], (True, None)),
        ("2", [], (True, None)),
        ("3", [(b"content-length", b"0")], (False, 0)),
    ],
)
def test_whether_a_body_follows(version: str, fields: list[tuple[bytes, bytes]], announced: tuple[bool, int | None]) -> None:
    """HTTP/1 says before a body that there is one; later versions need not."""
    scope = scope_of(headers=fields, http_version=version)
    assert announces_body(scope, request_of(scope)) == announced


@pytest.mark.parametrize(
    ("response", "method", "length", "empty"),
    [
        (Response(200, b"abc"), "GET", 3, False),
        (Response(200, b"abc"), "HEAD", 3, True),
        (Response(200, b"", headers={"content-length": "7"}), "HEAD", 7, True),
        (Response(200, b"abc", headers={"content-length": "7"}), "GET", 3, False),
        (Response(204, b"abc"), "GET", None, True),
        (Response(304, b"", headers={"content-length": "7"}), "GET", None, True),
        (Response(200, b""), "GET", 0, False),
    ],
)
def test_the_length_of_an_answer(response: Response, method: str, length: int | None, empty: bool) -> None:
    """A whole body has its own length, HEAD that of the body it leaves out, 204 and 304 none."""
    fields, promised, without = answer_fields(response, method, last=False)
    said = [value for name, value in fields if name == b"content-length"]
    assert said == ([] if length is None else [b"%d" % length])
    assert without is empty
    assert empty or promised == length


@pytest.mark.parametrize("response", [Response(99), Response(600), Response(200, headers={"content-length": "many"})])
def test_an_answer_that_cannot_be_sent(response: Response) -> None:
    """A status or a length that is none becomes a 500, told to whoever watches."""

    async def main() -> None:
        async def wrong(request: Request) -> Response:
            return response

        rig, caller = Rig(wrong), Caller()
        await rig.ask(scope_of(), caller)
        assert (caller.status, caller.body, caller.complete) == (500, b"", True)
        assert [type(error) for error in rig.reported] == [ValueError]
        assert rig.settled == [(500, 0)]

    run(main())


# -- requests


def test_a_whole_answer_takes_two_messages_and_no_look_at_the_caller() -> None:
    """A prompt answer is a head and a body; nothing was received for it, no task and no timer is left of it."""

    async def main() -> None:
        rig, caller = Rig(ok), Caller()
        await rig.ask(scope_of(), caller)
        assert [message["type"] for message in caller.sent] == ["http.response.start", "http.response.body"]
        assert (caller.status, caller.body, caller.fields["content-length"], caller.waiting) == (200, b"ok", "2", 0)
        assert rig.settled == [(200, 2)]
        assert len(asyncio.all_tasks()) == 1
        assert all(timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    run(main())


def test_a_body_in_pieces_is_gathered() -> None:
    """A handler that takes the body whole is begun when all of it is there."""

    async def main() -> None:
        rig, caller = Rig(echo), Caller(piece(b"ab", more=True), piece(b"", more=True), piece(b"c"))
        await rig.ask(scope_of(headers=[(b"content-length", b"3")]), caller)
        assert caller.body == b"abc"

    run(main())


@pytest.mark.parametrize(
    ("fields", "messages", "detail"),
    [
        ([(b"content-length", b"101")], [], b"a body of 101 bytes is over the limit of 100 bytes"),
        ([(b"transfer-encoding", b"chunked")], [piece(b"x" * 99, more=True), piece(b"xx", more=True)],
         b"the body is over the limit of 100 bytes"),
    ],
)  # fmt: skip
def test_a_body_over_the_limit_is_refused(fields: list[Any], messages: list[Message], detail: bytes) -> None:
    """What is too large is a 413 before its end, and before anything of it is read where its length says so."""

    async def main() -> None:
        rig, caller = Rig(echo), Caller(*messages)
        await rig.ask(scope_of(headers=fields), caller)
        assert (caller.status, caller.body, caller.waiting) == (413, detail, 0)
        assert rig.settled == [(413, len(detail))]

    run(main())


def test_a_body_that_does_not_come_is_given_up() -> None:
    """Nothing of a body in a minute is a 408; a piece begins another minute."""

    async def main() -> None:
        rig, caller = Rig(echo), Caller(piece(b"a", more=True))
        loop = asyncio.get_running_loop()
        loop.call_later(50, lambda: caller.tell(piece(b"b", more=True)))
        await rig.ask(scope_of(headers=[(b"content-length", b"9")]), caller)
        assert (caller.status, caller.body) == (408, b"nothing of the request's body arrived in 60s")
        assert loop.time() == pytest.approx(110)

    run(main())


def test_a_caller_that_leaves_within_its_body_is_not_answered() -> None:
    """Nothing was begun, nothing is counted: as on our own server."""

    async def main() -> None:
        rig, caller = Rig(echo), Caller(piece(b"a", more=True), {"type": "http.disconnect"})
        await rig.ask(scope_of(headers=[(b"content-length", b"9")]), caller)
        assert (caller.sent, rig.settled) == ([], [])

    run(main())


def test_too_many_requests_at_once() -> None:
    """What is over the limit of connections is refused as shed."""

    async def main() -> None:
        rig, caller = Rig(ok), Caller()
        rig.server.limits = Limits(connections=0)
        await rig.ask(scope_of(), caller)
        assert (caller.status, rig.settled) == (503, [(503, 39)])

    run(main())


def test_a_lingering_server_says_so() -> None:
    """While it lingers each answer of HTTP/1 ends its connection; later versions have no such field."""

    async def main() -> None:
        rig = Rig(ok)
        rig.server.linger()
        for version, said in (("1.1", "close"), ("2", None)):
            caller = Caller(piece(b""))
            await rig.ask(scope_of(http_version=version), caller)
            assert caller.fields.get("connection") == said

    run(main())


# -- streams


def test_a_streamed_answer() -> None:
    """Each piece is a message, empty ones are left out, and the end is one of its own."""

    async def main() -> None:
        async def stream(request: Request) -> Response:
            return Response(200, _pieces([b"a", b"", b"b"]))

        rig, caller = Rig(stream), Caller()
        await rig.ask(scope_of(), caller)
        assert [message.get("body") for message in caller.sent] == [None, b"a", b"b", b""]
        assert caller.complete
        assert "content-length" not in caller.fields
        assert rig.settled == [(200, 2)]

    run(main())


async def _pieces(pieces: Iterable[bytes], closed: list[str] | None = None) -> AsyncIterator[bytes]:
    try:
        for each in pieces:
            yield each
    finally:
        if closed is not None:
            closed.append("closed")


@pytest.mark.parametrize(("length", "why"), [("1", "longer"), ("3", "content-length says 3")])
def test_a_stream_that_breaks_its_promise(length: str, why: str) -> None:
    """A body that is not as long as its length says never ends, so that the server cuts it off."""

    async def main() -> None:
        async def stream(request: Request) -> Response:
            return Response(200, _pieces([b"ab"]), headers={"content-length": length})

        rig, caller = Rig(stream), Caller()
        with pytest.raises(ValueError, match=why):
            await rig.ask(scope_of(), caller)
        assert not caller.complete
        assert rig.server.in_flight == 0

    run(main())


def test_a_stream_without_progress_is_cut() -> None:
    """A stream that gives nothing for a minute is given up, and its source is closed."""

    async def main() -> None:
        closed: list[str] = []

        async def stream(request: Request) -> Response:
            async def slow() -> AsyncIterator[bytes]:
                try:
                    yield b"a"
                    await asyncio.sleep(59)
                    yield b"b"
                    await asyncio.sleep(61)
                finally:
                    closed.append("closed")

            return Response(200, slow())

        rig, caller = Rig(stream), Caller()
        with pytest.raises(TimeoutError, match="no progress in 60s"):
            await rig.ask(scope_of(), caller)
        assert (caller.body, caller.complete, closed) == (b"ab", False, ["closed"])
        assert asyncio.get_running_loop().time() == pytest.approx(119)

    run(main())


def test_a_timeout_of_the_source_is_its_own() -> None:
    """A TimeoutError that a source raises is not taken for ours, nor for a caller that is gone."""

    async def main() -> None:
        async def stream(request: Request) -> Response:
            async def failing() -> AsyncIterator[bytes]:
                yield b"a"
                raise TimeoutError("the database's")

            return Response(200, failing())

        with pytest.raises(TimeoutError, match="the database's"):
            await Rig(stream).ask(scope_of(), Caller())

    run(main())


def test_head_of_a_stream_does_not_begin_it() -> None:
    """HEAD leaves the source alone and closes it."""

    async def main() -> None:
        response = Response(200, _pieces([b"a"]))
        ended: list[str] = []
        response.on_close(lambda: ended.append("closed"))

        async def stream(request: Request) -> Response:
            return response

        caller = Caller()
        await Rig(stream).ask(scope_of("HEAD"), caller)
        assert (caller.body, caller.complete, ended) == (b"", True, ["closed"])

    run(main())


def test_a_source_that_never_waits_lets_others_run() -> None:
    """A stream of megabytes gives way now and then."""

    async def main() -> None:
        async def stream(request: Request) -> Response:
            return Response(200, _pieces([bytes(65536)] * 64))

        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await Rig(stream).ask(scope_of(), Caller())
        task.cancel()
        assert turns >= 12

    run(main())


EVENTS = {"content-type": "text/event-stream"}


def test_a_stream_of_events_in_which_nothing_happens_lives() -> None:
    """Silence is filled by comments, and no time without an event ends it."""

    async def main() -> None:
        async def events(request: Request) -> Response:
            async def source() -> AsyncIterator[bytes]:
                yield b"data: 1\n\n"
                await asyncio.sleep(200)
                yield b"data: 2\n\n"

            return Response(200, source(), headers=EVENTS)

        rig, caller = Rig(events), Caller()
        await rig.ask(scope_of(), caller)
        assert caller.body == b"data: 1\n\n" + b":\n" * 13 + b"data: 2\n\n"
        assert caller.complete
        await settle()
        assert (len(asyncio.all_tasks()), rig.reported) == (1, [])

    run(main())


@pytest.mark.parametrize(
    "headers",
    [EVENTS, {**EVENTS, "content-length": "9"}, {**EVENTS, "content-encoding": "gzip"}],
    ids=["cut", "length", "coded"],
)
def test_a_comment_breaks_no_stream_of_events(headers: dict[str, str]) -> None:
    """None is put into a line, over a length that was promised, or into what is compressed."""

    async def main() -> None:
        async def events(request: Request) -> Response:
            async def source() -> AsyncIterator[bytes]:
                for piece in (b"data: 1\n\n",) if len(headers) > 1 else (b"data: ", b"1\n\n"):
                    yield piece
                    await asyncio.sleep(20 if piece[-1:] != b"\n" or len(headers) > 1 else 0)

            return Response(200, source(), headers=headers)

        rig, caller = Rig(events), Caller()
        await rig.ask(scope_of(), caller)
        assert (caller.body, caller.complete, rig.reported) == (b"data: 1\n\n", True, [])

    run(main())


def test_a_stream_of_events_ends_with_the_drain() -> None:
    """A drain ends it as if its source had, and one that begins meanwhile ends at once; nothing is cut off."""

    async def main() -> None:
        closed: list[str] = []

        async def events(request: Request) -> Response:
            async def source() -> AsyncIterator[bytes]:
                try:
                    yield b"data: 1\n\n"
                    await asyncio.sleep(3600)
                finally:
                    closed.append("closed")

            return Response(200, source(), headers=EVENTS)

        rig, caller = Rig(events), Caller()
        task = asyncio.create_task(rig.ask(scope_of(), caller))
        await settle()
        assert await rig.server.drain(5) == 0
        await task
        assert (caller.body, caller.complete, closed, rig.settled) == (b"data: 1\n\n", True, ["closed"], [(200, 9)])
        late = Caller()
        await rig.ask(scope_of(), late)
        assert late.complete

    run(main())


def test_a_caller_that_leaves_a_stream_of_events() -> None:
    """The source of events is ended, by a look or by a comment that cannot be sent; a drain meanwhile changes nothing."""

    async def main() -> None:
        async def events(request: Request) -> Response:
            async def source() -> AsyncIterator[bytes]:
                yield b"data: 1\n\n"
                await asyncio.sleep(3600)

            return Response(200, source(), headers=EVENTS)

        rig, caller = Rig(events), Caller()
        asyncio.get_running_loop().call_later(1, caller.leave)
        await rig.ask(scope_of(), caller)
        assert (caller.complete, rig.settled) == (False, [(200, 9)])
        rig, caller = Rig(events), Caller()
        task = asyncio.create_task(rig.ask(scope_of(), caller))
        await asyncio.sleep(1)
        caller.leave()
        await rig.server.drain(5)
        await task
        assert rig.server.in_flight == 0

    run(main())


# -- callers that leave


def test_a_caller_that_leaves_cancels_the_handler() -> None:
    """A handler whose caller disconnects is cancelled; the server's task ends in peace, and nothing is sent."""

    async def main() -> None:
        rig, caller = Rig(hang), Caller()
        asyncio.get_running_loop().call_later(1, caller.leave)
        await rig.ask(scope_of(), caller)
        assert asyncio.get_running_loop().time() == pytest.approx(1)
        assert (caller.sent, rig.settled) == ([], [(None, 0)])
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main())


def test_a_handler_that_answers_all_the_same() -> None:
    """One that swallows its cancellation has its answer dropped."""

    async def main() -> None:
        async def stubborn(request: Request) -> Response:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return Response(200, b"too late")
            return Response(500)

        rig, caller = Rig(stubborn), Caller()
        asyncio.get_running_loop().call_later(1, caller.leave)
        await rig.ask(scope_of(), caller)
        assert (caller.sent, rig.settled) == ([], [(None, 0)])

    run(main())


def test_a_caller_that_leaves_a_stream() -> None:
    """A source that waits is ended when the caller leaves, and one that sends when a send says so."""

    async def main() -> None:
        closed: list[str] = []

        async def silent(request: Request) -> Response:
            async def source() -> AsyncIterator[bytes]:
                try:
                    yield b"a"
                    await asyncio.sleep(50)
                finally:
                    closed.append("silent")

            return Response(200, source())

        async def loud(request: Request) -> Response:
            return Response(200, _pieces([b"a", b"b"], closed))

        rig, caller = Rig(silent), Caller()
        asyncio.get_running_loop().call_later(1, caller.leave)
        await rig.ask(scope_of(), caller)
        assert (closed, caller.complete, rig.settled) == (["silent"], False, [(200, 1)])
        rig, caller = Rig(loud), Caller(failing=2)
        await rig.ask(scope_of(), caller)
        assert (closed, caller.body) == (["silent", "closed"], b"a")

    run(main())


def test_a_caller_that_leaves_a_body_that_is_taken_as_it_arrives() -> None:
    """The handler that waits for the next piece is cancelled."""

    async def main() -> None:
        met: list[str] = []

        async def take(request: Request) -> Response:
            try:
                await request.read()
            except asyncio.CancelledError:
                met.append("cancelled")
                raise
            return Response(200)

        rig, caller = Rig(take, streams=True), Caller(piece(b"a", more=True), {"type": "http.disconnect"})
        await rig.ask(scope_of(headers=[(b"content-length", b"9")]), caller)
        assert (met, caller.sent, rig.settled) == (["cancelled"], [], [(None, 0)])

    run(main())


def test_another_task_that_reads_is_told_that_the_caller_left() -> None:
    """A body that a task of the handler's reads raises there, while the handler itself is cancelled."""

    async def main() -> None:
        met: list[str] = []

        async def take(request: Request) -> Response:
            async def read() -> None:
                try:
                    await request.read()
                except BadRequest as error:
                    met.append(error.detail)

            reader = asyncio.ensure_future(read())
            try:
                await asyncio.shield(reader)
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                met.append("cancelled")
                raise
            return Response(200)

        rig, caller = Rig(take, streams=True), Caller(piece(b"a", more=True), {"type": "http.disconnect"})
        await rig.ask(scope_of(headers=[(b"content-length", b"9")]), caller)
        await settle()
        assert sorted(met) == ["cancelled", "the caller went away before the end of the body"]

    run(main())


def test_a_look_does_not_take_a_body_from_its_reader() -> None:
    """While a body is taken as it arrives nobody else receives; afterwards the caller is watched."""

    async def main() -> None:
        async def take(request: Request) -> Response:
            await asyncio.sleep(1)
            assert await request.read() == b"ab"
            await asyncio.sleep(3600)
            return Response(200)

        rig, caller = Rig(take, streams=True), Caller(piece(b"a", more=True), piece(b"b"))
        asyncio.get_running_loop().call_later(2, caller.leave)
        await rig.ask(scope_of(headers=[(b"content-length", b"2")]), caller)
        assert asyncio.get_running_loop().time() == pytest.approx(2)

    run(main())


def test_the_servers_own_cancellation_passes_through() -> None:
    """A server that ends its patience cancels its task, and sees it cancelled."""

    async def main() -> None:
        rig, caller = Rig(hang), Caller()
        task = asyncio.create_task(rig.ask(scope_of(), caller))
        await settle()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (rig.settled, rig.server.in_flight) == ([(None, 0)], 0)

    run(main())


def test_a_drain_ends_what_is_left() -> None:
    """Requests are what connections are on our own server: a drain waits for them, then cuts them off."""

    async def main() -> None:
        rig, caller = Rig(hang), Caller()
        task = asyncio.create_task(rig.ask(scope_of(), caller))
        await settle()
        assert rig.server.connections == 1
        assert await rig.server.drain(5) == 1
        await task
        assert asyncio.get_running_loop().time() == pytest.approx(5)
        assert rig.settled == [(None, 0)]

    run(main())


# -- the application


class Life:
    """A life that the test plays."""

    def __init__(self, diary: list[str], *, fails: Exception | None = None, done: bool = True) -> None:
        self.diary = diary
        self._fails = fails
        self._done = done

    async def start(self) -> None:
        self.diary.append("start")
        if self._fails is not None:
            raise self._fails

    async def stop(self) -> bool:
        self.diary.append("stop")
        return self._done

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.diary.append(scope["path"])


async def lifespan(app: Application, *messages: str) -> list[Message]:
    caller = Caller(*({"type": message} for message in messages))
    await app({"type": "lifespan"}, caller.receive, caller.send)
    return caller.sent


def test_a_lifespan_is_a_life() -> None:
    """It starts, answers, stops, and says each; afterwards another may begin."""

    async def main() -> None:
        diary: list[str] = []
        app = Application("order", lambda: Life(diary))
        for _ in range(2):
            caller = Caller({"type": "lifespan.startup"})
            task = asyncio.create_task(app({"type": "lifespan"}, caller.receive, caller.send))
            await settle()
            assert [message["type"] for message in caller.sent] == ["lifespan.startup.complete"]
            await app(scope_of(path="/x"), caller.receive, caller.send)
            caller.tell({"type": "lifespan.shutdown"})
            await task
            assert caller.sent[-1]["type"] == "lifespan.shutdown.complete"
        assert diary == ["start", "/x", "stop"] * 2

    run(main())


def test_a_start_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot start says what and the fix to the server; what is no error of ours is logged whole."""

    async def main() -> None:
        error = StartError("order cannot start: no", fix="yes")
        sent = await lifespan(Application("order", lambda: Life([], fails=error)), "lifespan.startup")
        assert sent == [{"type": "lifespan.startup.failed", "message": "order cannot start: no\n  fix: yes"}]
        assert not caplog.records
        sent = await lifespan(Application("order", lambda: Life([], fails=RuntimeError("a defect"))), "lifespan.startup")
        assert sent == [{"type": "lifespan.startup.failed", "message": "a defect"}]
        assert [(record.levelno, record.message) for record in caplog.records] == [(logging.CRITICAL, "order cannot start")]

    run(main())


def test_an_end_that_is_not_proper_is_told() -> None:
    """What was cut off or did not close makes the server's exit tell."""

    async def main() -> None:
        sent = await lifespan(Application("order", lambda: Life([], done=False)), "lifespan.startup", "lifespan.shutdown")
        assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]

    run(main())


def test_a_lifespan_that_is_cancelled_stops_the_service() -> None:
    """A server that drops the lifespan without a word leaves nothing open."""

    async def main() -> None:
        diary: list[str] = []
        app, caller = Application("order", lambda: Life(diary)), Caller({"type": "lifespan.startup"})
        task = asyncio.create_task(app({"type": "lifespan"}, caller.receive, caller.send))
        await settle()
        task.cancel()
        await asyncio.wait([task])
        assert diary == ["start", "stop"]

    run(main())


def test_no_lifespan_is_an_error_that_says_so() -> None:
    """A request to what was never started names the option that is missing."""

    async def main() -> None:
        with pytest.raises(StartError, match="without its lifespan") as caught:
            await Application("order", lambda: Life([]))(scope_of(), Caller().receive, Caller().send)
        assert "--lifespan on" in caught.value.fix

    run(main())


def test_what_is_not_spoken() -> None:
    """A WebSocket is turned away before it is accepted; a scope nobody knows is an error."""

    async def main() -> None:
        app, caller = Application("order", lambda: Life([])), Caller({"type": "websocket.connect"})
        await app({"type": "websocket"}, caller.receive, caller.send)
        assert [message["type"] for message in caller.sent] == ["websocket.close"]
        with pytest.raises(ValueError, match="'telepathy'"):
            await app({"type": "telepathy"}, caller.receive, caller.send)

    run(main())
