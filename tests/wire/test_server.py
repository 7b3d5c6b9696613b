"""The HTTP server on real sockets and in memory: the test plays the caller, in raw bytes, on every event loop there is."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from loops import Run, runner_of
from memoryloop import WIRES, wire_of

from mizzen.edges.http import Limits, Server
from mizzen.words.errors import Answer
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

pytestmark = pytest.mark.wire

PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""


@pytest.fixture(params=list(WIRES))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops, or in memory."""
    return runner_of(WIRES[wire_of(request)])


class Site:
    """A running server and what its hooks were told."""

    def __init__(self) -> None:
        self.port = 0
        self.server: Server
        self.refusals: list[tuple[int, str, str]] = []
        self.sent: list[tuple[str, int | None, int]] = []
        self.errors: list[BaseException] = []

    def refuse(self, status: int, detail: str, request: Request | None) -> Response:
        self.refusals.append((status, detail, request.path if request else ""))
        return Response(status, detail.encode(), content_type="text/plain")

    def on_sent(self, request: Request, response: Response | None, sent: int) -> None:
        self.sent.append((request.path, response.status if response else None, sent))

    async def dial(self) -> Caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Caller(reader, writer)

    async def talk(self, data: bytes) -> bytes:
        """Send, and read until the server closes."""
        async with asyncio.timeout(PATIENCE):
            caller = await self.dial()
            caller.send(data)
            answer = await caller.rest()
            await caller.close()
            return answer


class Caller:
    """A caller in raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of one answer that has a length."""
        head = await self.until(b"\r\n\r\n")
        status = int(head.split()[1])
        length = re.search(rb"content-length: (\d+)", head)
        body = b""
        if length:
            async with asyncio.timeout(PATIENCE):
                body = await self.reader.readexactly(int(length[1]))
        return status, head, body

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is plain state of what is tested
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(handler: Handler, *, limits: Limits | None = None, **options: Any) -> AsyncIterator[Site]:
    """A server of that handler on a port of its own."""
    site = Site()
    site.server = Server(
        handler,
        limits=limits or Limits(),
        clock=time.monotonic,
        refuse=site.refuse,
        sent=site.on_sent,
        on_error=lambda request, error: site.errors.append(error),
        **options,
    )
    listener = await asyncio.get_running_loop().create_server(site.server.protocol, "127.0.0.1", 0)
    site.port = listener.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        listener.close()
        await site.server.drain(0)
        await until(lambda: not site.server.connections)
        assert site.server.in_flight == 0


async def echo(request: Request) -> Response:
    """Answers with what it was asked."""
    body = await request.read()
    text = f"{request.method} {request.path}?{request.query} host={request.headers.get('host')} body={body.decode()}"
    return Response(200, text.encode(), content_type="text/plain")


GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\n"


# -- requests and answers ----------------------------------------------------------------------------------------------


def test_a_request_is_answered_and_the_connection_kept(run: Run) -> None:
    """Two requests, one after the other, are answered on one connection with their exact lengths."""

    async def main() -> None:
        async with serving(echo) as site:
            caller = await site.dial()
            for _ in range(2):
                caller.send(GET)
                status, head, body = await caller.answer()
                assert (status, body) == (200, b"GET /a?b=c host=x body=")
                assert b"connection:" not in head
            await caller.close()
            assert site.sent == [("/a", 200, 23)] * 2

    run(main())


def test_pieces_of_a_request_are_put_together(run: Run) -> None:
    """A request that arrives byte by byte is the same request."""

    async def main() -> None:
        async with serving(echo) as site:
            caller = await site.dial()
            for byte in POST + b"Content-Length: 2\r\n\r\nhi":
                caller.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await caller.answer())[2] == b"POST /p? host=x body=hi"
            await caller.close()

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    """Requests that arrive together are answered in their order, however many and however long the first takes."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handler(request: Request) -> Response:
            if request.path == "/0":
                await gate.wait()
            return Response(200, request.path.encode())

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)))
            await until(lambda: site.server.in_flight == 1)
            gate.set()
            answers = [(await caller.answer())[2] for _ in range(50)]
            assert answers == [b"/%d" % number for number in range(50)]
            await caller.close()

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET http://other:81/x?y HTTP/1.1\r\nHost: x\r\n", b"GET /x?y host=other:81 body="),
        (b"GET http://other HTTP/1.1\r\nHost: x\r\n", b"GET /? host=other body="),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n", b"OPTIONS *? host=x body="),
        (b"\r\nGET / HTTP/1.1\r\nHost: x\r\n", b"GET /? host=x body="),
        (b"GET / HTTP/1.1\r\nHost:\r\n", b"GET /? host= body="),
        (b"PROPFIND /d HTTP/1.1\r\nHost: x\r\n", b"PROPFIND /d? host=x body="),
    ],
)
def test_forms_of_a_target_are_read(run: Run, request_bytes: bytes, expected: bytes) -> None:
    """Absolute form overrules Host, * is for OPTIONS, and an empty line before a request is passed over."""

    async def main() -> None:
        async with serving(echo) as site:
            answer = await site.talk(request_bytes + b"Connection: close\r\n\r\n")
            assert answer.endswith(b"\r\n\r\n" + expected)

    run(main())


def test_a_chunked_body_is_put_together_and_its_trailers_are_dropped(run: Run) -> None:
    """Chunks become one body, extensions and trailers nothing, and the next request is not disturbed."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, f"{await request.read()!r} {request.headers.get('x-late')}".encode())

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(POST + b"Transfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-Late: 1\r\n\r\n" + GET)
            assert (await caller.answer())[2] == b"b'hello' None"
            assert (await caller.answer())[2] == b"b'' None"
            await caller.close()

    run(main())


def test_an_offer_to_upgrade_is_ignored(run: Run) -> None:
    """A request that offers another protocol is answered in HTTP/1.1, its body is read, and so is what follows."""

    async def main() -> None:
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        async with serving(echo) as site:
            caller = await site.dial()
            caller.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
            caller.send(POST + upgrade + b"Content-Length: 5\r\n\r\nhello" + GET)
            caller.send(POST + upgrade + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + GET)
            bodies = [(await caller.answer())[2] for _ in range(5)]
            assert bodies == [
                b"GET /1? host=x body=",
                b"POST /p? host=x body=hello",
                b"GET /a?b=c host=x body=",
                b"POST /p? host=x body=hello",
                b"GET /a?b=c host=x body=",
            ]
            await caller.close()

    run(main())


def test_head_has_the_length_of_a_body_that_is_not_sent(run: Run) -> None:
    """The answer to HEAD says how long the body would be and ends with its head; a given length is kept."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, headers={"content-length": "77"}) if request.path == "/claimed" else Response(200, b"12345")

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nHEAD /claimed HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)
            assert b"content-length: 5\r\n" in await caller.until(b"\r\n\r\n")
            assert b"content-length: 77\r\n" in await caller.until(b"\r\n\r\n")
            assert (await caller.rest()).endswith(b"\r\n\r\n12345")
            await caller.close()

    run(main())


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_no_length_either(run: Run, status: int) -> None:
    """204 and 304 carry neither body nor framing, even when the handler gave one."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(status, b"no", headers={"content-length": "2", "x-kept": "1"})

        async with serving(handler) as site:
            answer = await site.talk(LAST)
            assert answer.endswith(b"x-kept: 1\r\nconnection: close\r\n\r\n")
            assert b"content-length" not in answer

    run(main())


def test_framing_belongs_to_the_connection(run: Run) -> None:
    """A handler's own length, coding or keep-alive field never reaches the wire; its wish to close does."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            own = {"content-length": "999", "transfer-encoding": "chunked", "keep-alive": "x", "connection": "close"}
            return Response(200, b"hi", headers=own)

        async with serving(handler) as site:
            answer = await site.talk(GET)
            assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"

    run(main())


def test_http_1_0_is_spoken(run: Run) -> None:
    """HTTP/1.0 needs no Host, closes unless keep-alive was asked for, and gets a stream without chunks."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, pieces(b"a", b"b")) if request.path == "/stream" else Response(200, b"whole")

        async with serving(handler) as site:
            assert await site.talk(b"GET / HTTP/1.0\r\n\r\n") == (
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwhole"
            )
            caller = await site.dial()
            caller.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert b"connection: keep-alive\r\n" in (await caller.answer())[1]
            caller.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert await caller.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nab"
            await caller.close()

    run(main())


def test_the_date_is_sent_where_a_wall_clock_is_given(run: Run) -> None:
    """With a wall clock each answer carries the date of RFC 9110."""

    async def main() -> None:
        async with serving(echo, wall=lambda: 784111777.5) as site:
            assert b"\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in await site.talk(LAST)

    run(main())


# -- refusals ----------------------------------------------------------------------------------------------------------

BAD = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "host with userinfo": (b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n", 400),
    "both lengths": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "both lengths, other order": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "a signed length": (POST + b"Content-Length: +3\r\n\r\nabc", 400),
    "a negative length": (POST + b"Content-Length: -3\r\n\r\nabc", 400),
    "a huge length": (POST + b"Content-Length: 99999999999999999999\r\n\r\nabc", 400),
    "another coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked not last": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "almost chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk size in disguise": (POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk with bare LF": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
    "a folded field": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    "a control in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x07c\r\n\r\n", 400),
    "a bad name": (b"GET / HTTP/1.1\r\nHost: x\r\nA(: b\r\n\r\n", 400),
    "a field without a name": (b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400),
    "a fragment": (b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a byte over 7 bits in the target": (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a relative target": (b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "* for GET": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "userinfo in the target": (b"GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "another scheme": (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "connect": (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501),
    "an unknown method": (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "another expectation": (POST + b"Expect: miracles\r\nContent-Length: 3\r\n\r\n", 417),
    "a long target": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "long headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: %b\r\n" % (b"b" * 1000) * 33 + b"\r\n", 431),
    "one long header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: %b" % (b"b" * 50_000), 431),
    "long trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", 431),
    "too long a body": (POST + b"Content-Length: 1048577\r\n\r\n", 413),
    "too long a chunked body": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % (b"a" * 65536) * 17, 413),
}


@pytest.mark.parametrize(("data", "status"), BAD.values(), ids=BAD.keys())
def test_what_could_be_misunderstood_is_refused(run: Run, data: bytes, status: int) -> None:
    """A request that two parsers might read differently, or that is too large, gets one answer, and the connection ends."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            raise AssertionError("the handler must not see this")

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(data)
            if data.endswith(b"\r\n0\r\n"):  # trailers without end, some at a time so that they arrive in several reads
                for _ in range(200):
                    caller.send(b"X-T: %b\r\n" % (b"v" * 500))
                    await asyncio.sleep(0)
            answer = await caller.rest()
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nconnection: close\r\n" in answer
            assert answer.count(b"HTTP/1.1 ") == 1 + answer.partition(b"\r\n\r\n")[2].count(b"HTTP/1.1 ")
            assert [refusal[0] for refusal in site.refusals] == [status]
            assert [sent[1] for sent in site.sent] == [status]
            assert site.errors == []
            await caller.close()

    run(main())


def test_a_refusal_waits_for_the_answers_before_it(run: Run) -> None:
    """Requests before a bad one are answered first, those after it never."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handler(request: Request) -> Response:
            await gate.wait()
            return Response(200, request.path.encode())

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET + b"GET / HTTP/1.1\r\n\r\n" + GET)
            await until(lambda: site.refusals)
            gate.set()
            assert re.findall(rb"HTTP/1.1 (\d+)", await caller.rest()) == [b"200", b"400"]
            await caller.close()
            assert [sent[:2] for sent in site.sent] == [("/a", 200), ("/", 400)]

    run(main())


def test_a_refusal_survives_a_caller_that_goes_on_sending(run: Run) -> None:
    """A caller that sends megabytes before it reads still gets its 413, not a reset."""

    async def main() -> None:
        async with serving(echo) as site:
            caller = await site.dial()
            caller.send(POST + b"Content-Length: 5000000\r\n\r\n" + b"a" * 5_000_000)
            assert (await caller.rest()).startswith(b"HTTP/1.1 413 ")
            await caller.close()

    run(main())


def test_connections_over_the_limit_are_told_so(run: Run) -> None:
    """One connection too many is answered 503 and closed; a place that is free again can be taken."""

    async def main() -> None:
        async with serving(echo, limits=Limits(connections=1)) as site:
            first = await site.dial()
            first.send(GET)
            assert (await first.answer())[0] == 200
            second = await site.dial()
            assert (await second.rest()).startswith(b"HTTP/1.1 503 ")
            await second.close()
            await first.close()
            await until(lambda: not site.server.connections)
            assert (await site.talk(LAST)).startswith(b"HTTP/1.1 200 ")

    run(main())


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_caller_that_waits_for_100_gets_it(run: Run) -> None:
    """Expect: 100-continue is answered before the body is sent; a body over the limit is refused instead."""

    async def main() -> None:
        async with serving(echo, limits=Limits(body=10)) as site:
            caller = await site.dial()
            caller.send(POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
            assert await caller.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            caller.send(b"hi")
            assert (await caller.answer())[2].endswith(b"body=hi")
            caller.send(POST + b"Expect: 100-continue\r\nContent-Length: 11\r\n\r\n")
            assert (await caller.rest()).startswith(b"HTTP/1.1 413 ")
            await caller.close()

    run(main())


def test_100_waits_for_the_answers_before_it(run: Run) -> None:
    """A pipelined request's 100 is not sent into an earlier answer."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handler(request: Request) -> Response:
            await gate.wait()
            return Response(200, await request.read())

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET + POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            await until(lambda: site.server.in_flight)
            gate.set()
            assert (await caller.answer())[0] == 200
            assert (await caller.answer())[0] == 100
            caller.send(b"hi")
            assert (await caller.answer())[2] == b"hi"
            await caller.close()

    run(main())


def test_a_streamed_body_is_asked_for_when_it_is_read(run: Run) -> None:
    """With a streaming handler the 100 comes when the body is first read, and pieces arrive as they are sent."""

    async def main() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()
        gate = asyncio.Event()

        async def handler(request: Request) -> Response:
            await gate.wait()
            if not isinstance(request.body, bytes):  # a request without a body has an empty one, streaming or not
                async for piece in request.body:
                    got.put_nowait(piece)
            return Response(200, b"done")

        async with serving(handler, streams=lambda request: True) as site:
            caller = await site.dial()
            caller.send(POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
            await until(lambda: site.server.in_flight)
            gate.set()
            assert (await caller.answer())[0] == 100
            caller.send(b"3\r\nabc\r\n")
            async with asyncio.timeout(PATIENCE):
                assert await got.get() == b"abc"
            caller.send(b"0\r\n\r\n" + LAST)
            assert (await caller.answer())[2] == b"done"
            assert (await caller.answer())[2] == b"done"
            await caller.close()

    run(main())


def test_a_streamed_body_is_not_read_faster_than_its_handler_reads(run: Run) -> None:
    """While a handler does not read, the caller cannot send without end; then everything arrives."""

    async def main() -> None:
        gate = asyncio.Event()
        total = 40_000_000

        async def handler(request: Request) -> Response:
            await gate.wait()
            assert not isinstance(request.body, bytes)
            return Response(200, str(sum([len(piece) async for piece in request.body])).encode())

        async with serving(handler, streams=lambda request: True, max_body=lambda request: total) as site:
            caller = await site.dial()
            caller.send(POST + b"Content-Length: %d\r\n\r\n" % total + b"a" * total)
            unsent = -1
            while unsent != (unsent := caller.writer.transport.get_write_buffer_size()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert unsent > total // 2
            gate.set()
            assert (await caller.answer())[2] == str(total).encode()
            await caller.close()

    run(main())


def test_a_streaming_handler_meets_the_limits_as_errors(run: Run) -> None:
    """A streamed body that grows over its limit, is malformed or stops raises in the handler; the connection ends."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            try:
                return Response(200, await request.read())
            except Answer as answer:
                return Response(answer.status)

        head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
        async with serving(handler, streams=lambda request: True, limits=Limits(body=5, progress=0.2)) as site:
            assert (await site.talk(head + b"6\r\nabcdef\r\n")).startswith(b"HTTP/1.1 413 ")
            assert (await site.talk(head + b"2\r\nab\r\nxyz")).startswith(b"HTTP/1.1 400 ")
            assert (await site.talk(head + b"2\r\nab\r\n")).startswith(b"HTTP/1.1 408 ")
            assert [sent[1] for sent in site.sent] == [413, 400, 408]
            assert site.refusals == []

    run(main())


def test_a_handler_may_answer_before_the_body_is_there(run: Run) -> None:
    """An answer to a body that nobody read ends the connection, and what is still sent does not destroy it."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(401)

        async with serving(handler, streams=lambda request: True) as site:
            answer = await site.talk(POST + b"Content-Length: 900000\r\n\r\n" + b"a" * 800_000)
            assert answer == b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    run(main())


async def pieces(*items: bytes) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for item in items:
        yield item


def test_a_streamed_answer_is_chunked(run: Run) -> None:
    """Pieces become chunks, empty ones nothing; with a length given they are sent as they are."""

    async def main() -> None:
        closed: list[str] = []

        async def handler(request: Request) -> Response:
            headers = {"content-length": "3"} if request.path == "/last" else {}
            response = Response(200, pieces(b"ab", b"", b"c"), headers=headers)
            response.on_close(lambda: closed.append(request.path))
            return response

        async with serving(handler) as site:
            assert await site.talk(GET + LAST) == (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc"
            )
            assert closed == ["/a", "/last"]
            assert site.sent == [("/a", 200, 3), ("/last", 200, 3)]

    run(main())


@pytest.mark.parametrize(("claimed", "message"), [("2", "longer than"), ("4", "has 3 bytes")])
def test_a_streamed_answer_that_breaks_its_promise_is_cut(run: Run, claimed: str, message: str) -> None:
    """A body that does not fit its own length ends the connection before the caller could take it for whole."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, pieces(b"ab", b"c"), headers={"content-length": claimed})

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET)
            with suppress(ConnectionError):
                await caller.rest()
            await until(lambda: site.errors)
            assert message in str(site.errors[0])
            await caller.close()

    run(main())


def test_an_error_in_a_streamed_answer_truncates_it(run: Run) -> None:
    """A source that raises leaves the chunked body without its end, and the error is reported."""

    async def main() -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"ab"
            raise RuntimeError("the source broke")

        async def handler(request: Request) -> Response:
            return Response(200, broken())

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET)
            await caller.until(b"2\r\nab\r\n")
            try:
                rest = await caller.rest()
            except ConnectionError:
                rest = b""
            assert rest == b""
            await until(lambda: site.sent)
            assert [str(error) for error in site.errors] == ["the source broke"]
            assert site.sent == [("/a", 200, 2)]
            await caller.close()

    run(main())


def endless(closed: asyncio.Event) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose answer has no end."""

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"a" * 65536
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, source())

    return handler


def test_a_caller_that_does_not_read_is_cut(run: Run) -> None:
    """An answer of which nothing was taken for the progress limit is given up, and its source closed."""

    async def main() -> None:
        closed = asyncio.Event()
        async with serving(endless(closed), limits=Limits(progress=0.3)) as site:
            caller = await site.dial()
            caller.writer.transport.pause_reading()
            caller.send(GET)
            async with asyncio.timeout(PATIENCE):
                await closed.wait()
            await until(lambda: site.sent)
            assert site.sent[0][1] == 200
            assert site.sent[0][2] < 50_000_000
            caller.writer.transport.abort()

    run(main())


def test_an_endless_answer_ends_with_its_caller(run: Run) -> None:
    """When the caller leaves, the source of a streamed answer is closed."""

    async def main() -> None:
        closed = asyncio.Event()
        async with serving(endless(closed)) as site:
            caller = await site.dial()
            caller.send(GET)
            await caller.until(b"\r\n\r\n")
            caller.writer.transport.abort()
            async with asyncio.timeout(PATIENCE):
                await closed.wait()
            await until(lambda: site.sent)

    run(main())


def test_an_endless_answer_does_not_starve_others(run: Run) -> None:
    """While one caller reads without end, another is answered."""

    async def main() -> None:
        closed = asyncio.Event()
        stream = endless(closed)

        async def handler(request: Request) -> Response:
            return Response(200) if request.path == "/last" else await stream(request)

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET)
            await caller.until(b"\r\n\r\n")
            reading = asyncio.create_task(caller.reader.read(-1))
            assert (await site.talk(LAST)).startswith(b"HTTP/1.1 200 ")
            caller.writer.transport.abort()
            await asyncio.gather(reading, return_exceptions=True)

    run(main())


def test_a_large_answer_arrives_whole(run: Run) -> None:
    """Ten megabytes pass through a caller that reads slowly, and the next request waits for them."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, b"a" * 10_000_000)

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET + GET)
            for _ in range(2):
                assert len((await caller.answer())[2]) == 10_000_000
            await caller.close()

    run(main())


# -- time and ends -----------------------------------------------------------------------------------------------------


def test_time_limits_end_connections(run: Run) -> None:
    """A head or body that does not come is a 408; a connection on which nothing was ever sent, or is idle, just ends."""

    async def main() -> None:
        limits = Limits(header_read=0.2, keep_alive=0.2, progress=0.2)
        async with serving(echo, limits=limits) as site:
            assert await site.talk(b"") == b""
            assert (await site.talk(b"GET / HT")).startswith(b"HTTP/1.1 408 ")
            assert (await site.talk(POST + b"Content-Length: 5\r\n\r\nab")).startswith(b"HTTP/1.1 408 ")
            caller = await site.dial()
            caller.send(GET)
            assert (await caller.answer())[0] == 200
            assert await caller.rest() == b""
            await caller.close()

    run(main())


def test_a_handler_is_cancelled_when_its_caller_leaves(run: Run) -> None:
    """Work that nobody waits for stops, and counts as an answer that was never given."""

    async def main() -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def handler(request: Request) -> Response:
            started.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

        async with serving(handler) as site:
            caller = await site.dial()
            caller.send(GET + LAST)
            async with asyncio.timeout(PATIENCE):
                await started.wait()
                await caller.close()
                await cancelled.wait()
            await until(lambda: len(site.sent) == 2)
            assert sorted(site.sent) == [("/a", None, 0), ("/last", None, 0)]
            assert site.errors == []

    run(main())


def test_a_handler_that_raises_is_a_500(run: Run) -> None:
    """An exception that reaches the protocol is reported, answered with a bare 500, and the connection goes on."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            if request.path == "/a":
                raise LookupError("lost")
            return Response(99)

        async with serving(handler) as site:
            answers = await site.talk(GET + LAST)
            assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"500", b"500"]
            assert [str(error) for error in site.errors] == ["lost", "99 is not the status of an answer"]

    run(main())


def test_lingering_answers_say_that_they_are_the_last(run: Run) -> None:
    """After linger() a kept connection still serves one request, and is closed by its answer."""

    async def main() -> None:
        async with serving(echo) as site:
            caller = await site.dial()
            caller.send(GET)
            assert b"connection: close" not in (await caller.answer())[1]
            site.server.linger()
            assert site.server.connections == 1
            caller.send(GET)
            assert b"\r\nconnection: close\r\n" in await caller.rest()
            await caller.close()

    run(main())


def test_draining_closes_idle_connections_and_waits_for_busy_ones(run: Run) -> None:
    """drain() ends idle connections at once, lets a request finish, and reports that nothing was cut off."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handler(request: Request) -> Response:
            if request.path == "/slow":
                await gate.wait()
            return Response(200, b"done")

        async with serving(handler) as site:
            idle, busy = await site.dial(), await site.dial()
            idle.send(GET)
            await idle.answer()
            busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: site.server.in_flight)
            draining = asyncio.create_task(site.server.drain(PATIENCE))
            assert await idle.rest() == b""
            assert not draining.done()
            gate.set()
            assert (await busy.rest()).endswith(b"connection: close\r\n\r\ndone")
            assert await draining == 0
            await idle.close()
            await busy.close()

    run(main())


def test_draining_cuts_off_what_is_left(run: Run) -> None:
    """At the end of the drain handlers are cancelled and counted; they have cleaned up when drain() returns."""

    async def main() -> None:
        cleaned: list[str] = []

        async def handler(request: Request) -> Response:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0.01)
                cleaned.append(request.path)
            raise AssertionError

        async with serving(handler) as site:
            callers = [await site.dial() for _ in range(3)]
            for caller in callers[:2]:
                caller.send(GET)
            await until(lambda: site.server.in_flight == 2)
            assert await site.server.drain(0.05) == 2
            assert cleaned == ["/a", "/a"]
            assert site.server.describe() == {"state": "draining", "connections": 0, "in_flight": 0}
            for caller in callers:
                await caller.close()

    run(main())
