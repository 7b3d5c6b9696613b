"""What was published about the parser that Mizzen uses, and about Node's server and client around it: none of it holds here.

Each test names its advisory. Those about HTTP/2, TLS, the inspector or JavaScript's own objects have no counterpart.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from harsh import FINAL, PATIENCE, Harm, Run, in_time, on_loop, serving, until
from loops import LOOPS

from mizzen.edges.http import Limits, Pool, PoolLimits
from mizzen.words.errors import ConnectionLost
from mizzen.words.message import Call, Headers, Request, Response

pytestmark = pytest.mark.wire

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ADMIN = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return on_loop(request.param)


def refused(run: Run, *streams: bytes) -> None:
    """Each stream is answered with one error, and nothing of it reaches a handler."""

    async def main() -> None:
        async with serving(limits=Limits(header_read=5.0)) as harm:
            for data in streams:
                answer = await harm.talk(data + ADMIN)
                assert [status[:1] for status in FINAL.findall(answer)] in ([b"4"], [b"5"]), data
                assert b"\r\nconnection: close\r\n" in answer
                assert harm.seen == []
            assert harm.errors == []

    run(main())


@asynccontextmanager
async def peer(*answers: bytes, idle: bytes = b"") -> AsyncIterator[Pool]:
    """A pool to a peer that gives these answers to one request after another, then says ``idle`` unasked, and waits."""
    tasks, writers = [], []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        writers.append(writer)
        try:
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
            writer.write(idle)
            while await reader.read(65536):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = Pool("127.0.0.1", listener.sockets[0].getsockname()[1], limits=PoolLimits(), clock=time.monotonic, peer="user")
    try:
        yield pool
    finally:
        pool.close()
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks)
        await until(lambda: not pool._open)


def senseless(run: Run, *answers: bytes) -> None:
    """Each answer is a lost connection to the client that gets it."""

    async def main() -> None:
        for answer in answers:
            async with peer(answer) as pool:
                with pytest.raises(ConnectionLost, match="makes no sense"):
                    await in_time(pool.send(Request("GET", "/")))

    run(main())


# -- framing of requests and answers -----------------------------------------------------------------------------------


def test_malformed_fields_do_not_frame(run: Run) -> None:
    """CVE-2016-2086: fields with characters that are not allowed are refused, in requests and in answers."""
    refused(
        run,
        POST + b"Content-Length: 5\x00\r\n\r\nabcde",
        POST + b"Content\x01-Length: 5\r\n\r\nabcde",
        GET + b"A: \x08\r\n\r\n",
    )
    senseless(run, OK + b"Content-Length: 2\x00\r\n\r\nok", OK + b"A: \x01\r\nContent-Length: 2\r\n\r\nok")


def test_a_length_has_no_spaces(run: Run) -> None:
    """CVE-2018-7159: ``Content-Length: 1 2`` is not 12, in requests and in answers."""
    refused(run, POST + b"Content-Length: 1 2\r\n\r\nabcdefghijkl", POST + b"Content-Length: 1\t2\r\n\r\nabcdefghijkl")
    senseless(run, OK + b"Content-Length: 1 2\r\n\r\nabcdefghijkl")


def test_a_malformed_coding_does_not_frame(run: Run) -> None:
    """CVE-2019-15605: a Transfer-Encoding that others would not understand is refused, above all beside a length."""
    for value in (b"\x0bchunked", b"chunked\x0b", b"xchunked", b"chunked, eee", b"chunked\x00", b'"chunked"'):
        refused(run, POST + b"Content-Length: 5\r\nTransfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n")
    senseless(run, OK + b"Content-Length: 5\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n")
    senseless(run, OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")


def test_values_have_no_whitespace_around_them(run: Run) -> None:
    """CVE-2019-15606: spaces and tabs around a value are not part of it, in requests and in answers."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, repr(request.headers.get("x-role")).encode())

        async with serving(handler) as harm:
            answer = await harm.talk(GET + b"X-Role: \t admin \t \r\nConnection: close\r\n\r\n")
            assert answer.endswith(b"\r\n\r\n'admin'")
        async with peer(OK + b"X-Role: \t admin \t \r\nContent-Length: 0\r\n\r\n") as pool:
            assert (await in_time(pool.send(Request("GET", "/")))).headers["x-role"] == "admin"

    run(main())


def test_a_cr_in_a_name_is_no_hyphen(run: Run) -> None:
    """CVE-2020-8201: ``Content\\rLength`` is no Content-Length."""
    refused(run, POST + b"Content\rLength: 5\r\n\r\nabcde", POST + b"Transfer\rEncoding: chunked\r\n\r\n0\r\n\r\n")
    senseless(run, OK + b"Content\rLength: 5\r\n\r\nabcde")


def test_framing_is_said_once(run: Run) -> None:
    """CVE-2020-8287: two Transfer-Encoding fields, of which one reader heeds the first and another the last, are refused."""
    for first, second in ((b"chunked", b"eee"), (b"eee", b"chunked"), (b"chunked", b"chunked"), (b"identity", b"chunked")):
        fields = b"Transfer-Encoding: %b\r\nTransfer-Encoding: %b\r\n\r\n" % (first, second)
        refused(run, POST + fields + b"0\r\n\r\n")
        senseless(run, OK + fields + b"0\r\n\r\n")
    refused(run, POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde")


def test_no_space_stands_before_a_colon(run: Run) -> None:
    """CVE-2021-22959: a name followed by a space is not that name, and no field at all."""
    refused(run, POST + b"Content-Length : 5\r\n\r\nabcde", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")
    senseless(run, OK + b"Content-Length : 5\r\n\r\nabcde", OK + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n")


def test_chunk_extensions_end_with_their_line(run: Run) -> None:
    """CVE-2021-22960: what stands behind a chunk's size is an extension of HTTP's grammar, or the chunk is refused."""
    bad = (b"2 \n;x\r\nab\r\n", b"2;\n4c\r\nab\r\n", b"2 erf\r\nab\r\n", b"2;a\nb\r\nab\r\n", b'2;a="\n"\r\nab\r\n')
    refused(run, *(CHUNKED + chunk + b"0\r\n\r\n" for chunk in bad))
    senseless(run, *(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n" for chunk in bad))


def test_chunked_is_the_only_coding(run: Run) -> None:
    """CVE-2022-32213: of a list of codings no part is taken for chunked, nor is a value that is folded."""
    for value in (
        b"chunked , identity",
        b"chunked, chunked-false",
        b"chunkedchunked",
        b"\r\n chunked",
        b"chunked\r\n , identity",
    ):
        refused(run, POST + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n")
        senseless(run, OK + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n")


def test_only_crlf_ends_a_line(run: Run) -> None:
    """CVE-2022-32214: neither LF nor CR alone ends a line."""
    refused(
        run,
        b"GET / HTTP/1.1\r\nHost: x\nDummy: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    )
    senseless(run, OK + b"A: b\nContent-Length: 2\r\n\r\nok", OK + b"A: b\rContent-Length: 2\r\n\r\nok")


def test_a_coding_has_one_line(run: Run) -> None:
    """CVE-2022-32215: a Transfer-Encoding over several lines is refused."""
    refused(
        run,
        POST + b"Transfer-Encoding: chunked\r\n , identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    )
    senseless(run, OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n")


def test_every_field_is_ended(run: Run) -> None:
    """CVE-2022-35256: a field that CRLF does not end is refused, however empty it is."""
    refused(
        run, b"GET / HTTP/1.1\r\nHost: x\r\nA:\nB: c\r\n\r\n", GET + b"A:\rB: c\r\n\r\n", GET + b"Content-Length:\n5\r\n\r\n"
    )
    senseless(run, OK + b"A:\nContent-Length: 2\r\n\r\nok")


def test_an_empty_value_does_not_end_with_cr(run: Run) -> None:
    """CVE-2023-30589: ``A: \\rx`` does not begin a new field behind the CR."""
    refused(run, POST + b"X-Abc: \rxTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", GET + b"X:\rA: b\r\n\r\n")
    senseless(run, OK + b"X-Abc: \rxTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n")


def test_a_space_before_a_field_is_refused(run: Run) -> None:
    """CVE-2024-27982: a Content-Length with a space before it is neither heeded nor passed over."""
    refused(run, b"POST / HTTP/1.1\r\n Content-Length: 5\r\nHost: x\r\n\r\nabcde", POST + b" Content-Length: 40\r\n\r\n")
    senseless(run, OK + b" Content-Length: 2\r\n\r\nok", OK + b"A: b\r\n Content-Length: 2\r\n\r\nok")


def test_a_head_ends_with_an_empty_line(run: Run) -> None:
    """CVE-2025-23167: ``\\r\\n\\rX`` does not end a head."""
    refused(run, b"GET / HTTP/1.1\r\nHost: x\r\n\rXGET /admin HTTP/1.1\r\nHost: x\r\n\r\n", CHUNKED + b"0\r\n\rX")
    senseless(run, OK + b"Content-Length: 2\r\n\rXok")


def test_a_coding_is_not_empty(run: Run) -> None:
    """llhttp 9.4.3: an empty Transfer-Encoding is refused, beside a length above all."""
    refused(run, POST + b"Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nabcde", POST + b"Transfer-Encoding: \r\n\r\n")
    senseless(run, OK + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\nok")


def test_a_status_line_ends_with_crlf(run: Run) -> None:
    """llhttp 9.4.2: a status line that LF or CR alone ends is no status line."""
    for line in (b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200\n", b"HTTP/1.1 200 OK\r"):
        senseless(run, line + b"Content-Length: 2\r\n\r\nok")


def test_close_is_heeded_before_a_tab(run: Run) -> None:
    """llhttp 9.4.2: a connection is closed after ``Connection: close`` and a tab, on both sides."""

    async def main() -> None:
        async with serving() as harm:
            answer = await harm.talk(GET + b"Connection: close\t\r\n\r\n" + ADMIN)
            assert (FINAL.findall(answer), len(harm.seen)) == ([b"200"], 1)
        async with peer(OK + b"Connection: close\t\r\nContent-Length: 2\r\n\r\nok") as pool:
            assert (await in_time(pool.send(Request("GET", "/")))).body == b"ok"
            assert pool.describe()["idle"] == 0

    run(main())


# -- what costs too much -----------------------------------------------------------------------------------------------


def test_large_heads_are_refused_while_they_arrive(run: Run) -> None:
    """CVE-2018-12121: a head over the limit is refused before it is complete, on every connection for itself."""

    async def main() -> None:
        async with serving(limits=Limits(headers=8192)) as harm:
            large = GET + b"A: " + b"b" * 20_000
            answers = await asyncio.gather(*(harm.talk(large) for _ in range(50)))
            assert [FINAL.findall(answer) for answer in answers] == [[b"431"]] * 50
            assert (await harm.talk(LAST)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_many_small_fields_are_too_large_together(run: Run) -> None:
    """CVE-2026-58044: fields are limited by the bytes of all of them, so that none is dropped silently."""
    refused(run, GET + b"a:\r\n" * 20_000 + b"\r\n")


async def slowly(harm: Harm, first: bytes, piece: bytes) -> tuple[bytes, float]:
    """Send a beginning, then a piece every few milliseconds until the server has enough; its answer, and after how long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", harm.port)
    began = time.monotonic()
    writer.write(first)

    async def drip() -> None:
        while True:
            await asyncio.sleep(0.02)
            writer.write(piece)

    dripping = asyncio.get_running_loop().create_task(drip())
    try:
        return await in_time(reader.read()), time.monotonic() - began
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def test_slow_heads_end(run: Run) -> None:
    """CVE-2018-12122: a head that arrives byte by byte is given up when its time is over, however steadily it comes."""

    async def main() -> None:
        async with serving(limits=Limits(header_read=0.3)) as harm:
            answer, seconds = await slowly(harm, b"GET / HTTP/1.1\r\n", b"a: b\r\n")
            assert (FINAL.findall(answer), harm.seen) == ([b"408"], [])
            assert 0.29 < seconds < PATIENCE / 2

    run(main())


def test_slow_heads_end_on_kept_connections_too(run: Run) -> None:
    """CVE-2019-5737: the second request of a connection has no more time for its head than the first."""

    async def main() -> None:
        async with serving(limits=Limits(header_read=0.3)) as harm:
            answer, seconds = await slowly(harm, ADMIN + b"GET / HTTP/1.1\r\n", b"a: b\r\n")
            assert (FINAL.findall(answer), len(harm.seen)) == ([b"200", b"408"], 1)
            assert 0.29 < seconds < PATIENCE / 2

    run(main())


def test_idle_connections_end(run: Run) -> None:
    """CVE-2019-5739: a connection that stays idle after its answer is closed."""

    async def main() -> None:
        async with serving(limits=Limits(keep_alive=0.3)) as harm:
            assert FINAL.findall(await harm.talk(ADMIN)) == [b"200"]

    run(main())


def test_unfinished_requests_end(run: Run) -> None:
    """CVE-2020-8251: a request whose body stops is given up, and others are served meanwhile."""

    async def main() -> None:
        async with serving(limits=Limits(progress=0.5)) as harm:
            stuck = [asyncio.ensure_future(harm.talk(POST + b"Content-Length: 10\r\n\r\nabc")) for _ in range(20)]
            assert (await harm.talk(LAST)).startswith(b"HTTP/1.1 200 ")
            assert [FINAL.findall(answer) for answer in await asyncio.gather(*stuck)] == [[b"408"]] * 20

    run(main())


@pytest.mark.parametrize("more", [b";a=" + b"b" * 16_384, b";a" * 8_192], ids=["long", "many"])
def test_chunk_extensions_are_bounded(run: Run, more: bytes) -> None:
    """CVE-2024-22019: extensions of a chunk without end are refused after a bounded number of bytes, on both sides."""

    async def main() -> None:
        async with serving() as harm:
            answer, _ = await slowly(harm, CHUNKED + b"1" + more, more)
            assert (FINAL.findall(answer), harm.seen) == ([b"431"], [])
        async with peer(OK + b"Transfer-Encoding: chunked\r\n\r\n1" + more * 100) as pool:
            with pytest.raises(ConnectionLost, match="around its chunks"):
                await in_time(pool.send(Request("GET", "/")))

    run(main())


def test_trailers_are_bounded(run: Run) -> None:
    """CVE-2026-22815, of another server on the same parser: trailers without end are refused, on both sides."""

    async def main() -> None:
        async with serving() as harm:
            answer, _ = await slowly(harm, CHUNKED + b"0\r\nA: b", b"b" * 10_000)
            assert (FINAL.findall(answer), harm.seen) == ([b"431"], [])
        async with peer(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"b" * 1_000_000) as pool:
            with pytest.raises(ConnectionLost, match="around its chunks"):
                await in_time(pool.send(Request("GET", "/")))

    run(main())


def test_pipelining_into_a_connection_that_ends_is_harmless(run: Run) -> None:
    """CVE-2015-8027: requests that arrive while the connection is being given up neither crash anything nor are answered."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            await asyncio.sleep(0)
            return Response(200, headers={"connection": "close"})

        async with serving(handler) as harm:
            for _ in range(20):
                assert FINAL.findall(await harm.talk(ADMIN * 40)) == [b"200"]
            assert harm.errors == []

    run(main())


# -- what may not be sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/\u010d\u010aGET /x HTTP/1.1", "/a b", "/a\r\nX: y", "/\u0120HTTP/1.1\u010d\u010a", "/a\x00", "/\xe9"]
)
def test_a_path_cannot_split_a_request(run: Run, path: str) -> None:
    """CVE-2018-12116: a path with characters that could become line breaks is an error, and nothing is sent."""

    async def main() -> None:
        async with peer(OK + b"Content-Length: 0\r\n\r\n") as pool:
            with pytest.raises(ValueError, match="is not a request target"):
                await pool.send(Request("GET", path))
            assert not pool._open

    run(main())


@pytest.mark.parametrize("value", ["x\r\nX: y", "x\nX: y", "x\rX: y", "x\x00"])
def test_a_value_cannot_split_a_message(value: str) -> None:
    """CVE-2016-2216, CVE-2016-5325, CVE-2023-23936: no value with a line break gets into a message, Host's least of all."""
    for name in ("location", "host", "x-any"):
        with pytest.raises(ValueError, match="line break"):
            Headers({name: value})
        with pytest.raises(ValueError, match="line break"):
            Response(302).headers.set(name, value)


@pytest.mark.parametrize("letter", ["\u010a", "\u560a", "\u560d"])
def test_a_letter_does_not_become_a_line_break(letter: str) -> None:
    """CVE-2016-2216: a character whose lower byte is a line break is an error, never cut to that byte."""
    with pytest.raises(ValueError, match="latin-1"):
        Headers({"x": f"a{letter}X: y"})


def test_any_name_is_only_a_name(run: Run) -> None:
    """CVE-2026-21710: a field named ``__proto__`` is a field like any other."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, "+".join(request.headers.all("__proto__")).encode())

        async with serving(handler) as harm:
            answer = await harm.talk(GET + b"__proto__: a\r\n__proto__: b\r\nConnection: close\r\n\r\n")
            assert answer.endswith(b"\r\n\r\na+b")

    run(main())


# -- answers that nobody asked for -------------------------------------------------------------------------------------

POISON = OK + b"Content-Length: 6\r\n\r\npoison"
GOOD = OK + b"Content-Length: 4\r\n\r\ngood"


def request_of(idempotent: bool) -> Request:
    """A request whose call may be resent, or may not."""
    now = time.monotonic()
    call = Call(idempotent=idempotent, timeout=PATIENCE, started=now, deadline=now + PATIENCE)
    return Request("GET" if idempotent else "POST", "/", call=call)


@pytest.mark.parametrize("idempotent", [True, False])
def test_an_answer_that_comes_unasked_is_nobodys(run: Run, idempotent: bool) -> None:
    """CVE-2026-48931, CVE-2026-6733: what arrives on an idle connection ends it, and is not taken for the next answer."""

    async def main() -> None:
        async with peer(GOOD, idle=POISON) as pool:
            assert (await in_time(pool.send(request_of(idempotent)))).body == b"good"
            await until(lambda: not pool._open)
            assert (await in_time(pool.send(request_of(idempotent)))).body == b"good"

    run(main())


@pytest.mark.parametrize("idempotent", [True, False])
def test_an_answer_that_waits_unread_is_nobodys(run: Run, idempotent: bool) -> None:
    """CVE-2026-105481: neither is one that has arrived, but of which a busy event loop has not yet told."""

    async def main() -> None:
        say: list[Callable[[], int]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = writer.get_extra_info("socket")
            say.append(lambda: os.write(line.fileno(), POISON))  # past the loop, which does not run then
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(GOOD)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        pool = Pool("127.0.0.1", port, limits=PoolLimits(), clock=time.monotonic, peer="user")
        assert (await in_time(pool.send(request_of(idempotent)))).body == b"good"
        say[0]()
        time.sleep(0.02)  # noqa: ASYNC251 - what is tested: the loop does not run while the bytes arrive
        assert (await in_time(pool.send(request_of(idempotent)))).body == b"good"
        pool.close()
        listener.close()
        await until(lambda: not pool._open)
        await until(lambda: len(asyncio.all_tasks()) <= 2)

    run(main())


def test_a_second_answer_in_the_same_read_is_nobodys(run: Run) -> None:
    """CVE-2026-48931: what follows an answer ends the connection that it came on."""

    async def main() -> None:
        async with peer(GOOD + POISON) as pool:
            assert (await in_time(pool.send(Request("GET", "/")))).body == b"good"
            assert pool.describe()["idle"] == 0

    run(main())
