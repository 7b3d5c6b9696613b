"""The client's pool on real sockets and in memory: the test plays the peer, in raw bytes, on every event loop there is."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from memoryloop import WIRES, wire_of
from playing import OK, PATIENCE, Line, answering, keep_answering, run_on, talking, until

from mizzen.edges.http import Limits, Pool, PoolLimits, Server
from mizzen.words.errors import ConnectFailed, ConnectionLost
from mizzen.words.message import Headers, Request, Response

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=list(WIRES))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops, or in memory."""
    return partial(run_on, wire_of(request))


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request_is_written_exactly(run: Run) -> None:
    """The request's head has host, user agent and length in one exact form."""
    seen: list[bytes] = []

    async def script(line: Line) -> None:
        seen.append(await line.head())
        line.send(OK)
        seen.append(await line.head() + await line.exactly(4))
        line.send(OK)
        await line.gone()

    async def main() -> None:
        async with talking(script) as site:
            await site.pool.send(Request("GET", "/users/42", query="a=b"))
            await site.pool.send(Request("POST", "/", headers=Headers({"X-A": "1", "content-length": "9"}), body=b"data"))
            host = site.pool.address.encode()
            assert seen == [
                b"GET /users/42?a=b HTTP/1.1\r\nhost: %b\r\nuser-agent: mizzen\r\n\r\n" % host,
                b"POST / HTTP/1.1\r\nx-a: 1\r\nhost: %b\r\nuser-agent: mizzen\r\ncontent-length: 4\r\n\r\ndata" % host,
            ]

    run(main())


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/a b"),
        Request("GET", "/a\r\nX: y"),
        Request("GET", "/ä"),
        Request("GET", "a"),
        Request("GET", "/", query="a b"),
        Request("GE T", "/"),
        Request("GET\r\n", "/"),
        Request("CONNECT", "/"),
    ],
)
def test_a_request_that_would_break_apart_is_not_sent(run: Run, request_: Request) -> None:
    """A method or target with bytes that the wire gives a meaning is an error here, before any connection."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            with pytest.raises(ValueError, match=r"is not a (request target|method)"):
                await site.pool.send(request_)
            assert site.lines == []

    run(main())


def test_own_host_and_agent_are_kept(run: Run) -> None:
    """Host and user agent of the request replace the pool's."""
    seen: list[bytes] = []

    async def script(line: Line) -> None:
        seen.append(await line.head())
        line.send(OK)
        await line.gone()

    async def main() -> None:
        async with talking(script) as site:
            await site.pool.send(Request("GET", "/", headers=Headers({"Host": "h", "User-Agent": "me"})))
            assert seen == [b"GET / HTTP/1.1\r\nhost: h\r\nuser-agent: me\r\n\r\n"]

    run(main())


def test_a_body_in_pieces_is_chunked(run: Run) -> None:
    """A request body from an iterator is sent in chunks, and the iterator is closed."""
    closed: list[bool] = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"ab"
            yield b""
            yield b"c"
        finally:
            closed.append(True)

    async def script(line: Line) -> None:
        assert b"transfer-encoding: chunked\r\n\r\n" in await line.head()
        body = b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        assert await line.exactly(len(body)) == body
        line.send(OK)
        await line.gone()

    async def main() -> None:
        async with talking(script) as site:
            assert (await site.pool.send(Request("POST", "/", body=source()))).body == b"ok"
            assert closed == [True]
            assert site.pool.describe()["idle"] == 1

    run(main())


def test_a_body_that_fails_is_its_senders_error(run: Run) -> None:
    """An error of the request's own iterator comes out as it is, and the connection is closed."""

    async def source() -> AsyncIterator[bytes]:
        yield b"ab"
        raise LookupError("lost")

    async def main() -> None:
        async with talking(lambda line: line.gone()) as site:
            with pytest.raises(LookupError, match="lost"):
                await site.pool.send(Request("POST", "/", body=source()))
            await until(lambda: not site.pool._open)

    run(main())


def test_an_answer_may_come_before_the_request_is_sent(run: Run) -> None:
    """A peer that refuses a large body at once is heard, and the connection is not used again."""
    stopped = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"a" * 65536
                await asyncio.sleep(0)
        finally:
            stopped.set()

    async def script(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await line.gone()

    async def main() -> None:
        async with talking(script) as site:
            assert (await site.pool.send(Request("POST", "/", body=source()))).status == 413
            async with asyncio.timeout(PATIENCE):
                await stopped.wait()
            await until(lambda: not site.pool._open)

    run(main())


# -- answers -----------------------------------------------------------------------------------------------------------

ANSWERS = {
    "with a length": (OK, "GET", 200, b"ok", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n",
        "GET",
        200,
        b"ok",
        True,
    ),
    "after interim ones": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: y\r\n\r\n" + OK, "GET", 200, b"ok", True),
    "to HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HEAD", 200, b"", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", "GET", 304, b"", True),
    "empty": (b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n", "GET", 500, b"", True),
    "asking to close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "GET", 200, b"ok", False),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", 200, b"ok", False),
    "kept by HTTP/1.0": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "GET", 200, b"ok", True),
    "followed by another": (OK + OK, "GET", 200, b"ok", False),
    "followed by half another": (OK + b"HTTP/1.", "GET", 200, b"ok", False),
    "followed by garbage": (OK + b"xyz", "GET", 200, b"ok", False),
    "to HEAD, with a body": (OK, "HEAD", 200, b"", False),
    "without a reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "GET", 200, b"ok", True),
}


@pytest.mark.parametrize(("data", "method", "status", "body", "kept"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_read(run: Run, data: bytes, method: str, status: int, body: bytes, kept: bool) -> None:
    """Each form of an answer is read to its end, and its connection kept only where nothing speaks against it."""

    async def main() -> None:
        async with talking(answering(data)) as site:
            response = await site.pool.send(Request(method, "/"))
            assert (response.status, response.body) == (status, body)
            assert response.headers.get("x") is None
            if kept:
                assert site.pool.describe() == {
                    "address": site.pool.address,
                    "idle": 1,
                    "busy": 0,
                    "waiting": 0,
                    "closed": False,
                }
            else:
                await until(lambda: not site.pool._open)

    run(main())


def test_an_answer_may_end_with_its_connection(run: Run) -> None:
    """Without a length the end of the connection is the end of the body."""

    async def main() -> None:
        async with talking(answering(b"HTTP/1.1 200 OK\r\n\r\nto the end", close=True)) as site:
            assert (await site.pool.send(Request("GET", "/"))).body == b"to the end"
            await until(lambda: not site.pool._open)

    run(main())


GARBLED = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a folded field": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "a huge head": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000,
}


@pytest.mark.parametrize("data", GARBLED.values(), ids=GARBLED.keys())
def test_an_answer_that_makes_no_sense_is_an_error(run: Run, data: bytes) -> None:
    """Garbled and ambiguous answers are a lost connection, never half an answer."""

    async def main() -> None:
        async with talking(answering(data)) as site:
            with pytest.raises(ConnectionLost, match="makes no sense") as caught:
                await site.pool.send(Request("GET", "/"))
            assert (caught.value.idle, caught.value.sent, caught.value.peer) == (False, True, "user")
            await until(lambda: not site.pool._open)

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 2",
    ],
)
def test_a_truncated_answer_is_an_error(run: Run, data: bytes) -> None:
    """An answer that ends before its end is a lost connection that says how far it came."""

    async def main() -> None:
        async with talking(answering(data, close=True)) as site:
            with pytest.raises(ConnectionLost, match=f"cut off after {len(data)} bytes") as caught:
                await site.pool.send(Request("GET", "/"))
            assert not caught.value.idle

    run(main())


# -- the pool ----------------------------------------------------------------------------------------------------------


def test_nobody_there_is_a_failed_connect(run: Run) -> None:
    """A refused connection and a name without address are ConnectFailed: nothing was sent."""

    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            pool = Pool("127.0.0.1", taken.getsockname()[1], limits=PoolLimits(), clock=time.monotonic, peer="user")
            with pytest.raises(ConnectFailed, match=r"cannot connect to 127\.0\.0\.1:"):
                await pool.send(Request("GET", "/"))
        pool = Pool("no.such.name.invalid", 80, limits=PoolLimits(), clock=time.monotonic, peer="user")
        with pytest.raises(ConnectFailed, match=r"cannot connect to no\.such\.name\.invalid:80"):
            await pool.send(Request("GET", "/"))

    run(main())


def test_the_connection_used_last_is_used_next(run: Run) -> None:
    """Of several idle connections the latest is taken, so that the others can age away."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            await asyncio.gather(*(site.pool.send(Request("GET", "/")) for _ in range(3)))
            assert site.pool.describe()["idle"] == 3
            last = site.pool._idle[-1]
            served = last.served
            for _ in range(4):
                await site.pool.send(Request("GET", "/"))
            assert last.served == served + 4
            assert len(site.lines) == 3

    run(main())


def test_an_idle_connection_that_the_peer_closed_is_never_used(run: Run) -> None:
    """After the peer's FIN the next request goes out on a new connection."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            await site.pool.send(Request("GET", "/"))
            connection = site.pool._idle[0]
            site.lines[0].writer.close()
            await until(lambda: connection.closed)
            assert (await site.pool.send(Request("POST", "/"))).status == 200
            assert len(site.lines) == 2

    run(main())


def test_an_end_that_the_loop_has_not_told_of_is_noticed_before_a_post(run: Run) -> None:
    """A FIN that arrived since the event loop last looked costs no call that could not be sent twice."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            await site.pool.send(Request("GET", "/"))
            with socket.socket(fileno=os.dup(site.lines[0].writer.get_extra_info("socket").fileno())) as end:
                end.shutdown(socket.SHUT_WR)
            assert not site.pool._idle[0].closed
            assert (await site.pool.send(Request("POST", "/"))).status == 200
            assert len(site.lines) == 2

    run(main())


def test_words_that_nobody_asked_for_end_an_idle_connection(run: Run) -> None:
    """Bytes on an idle connection, such as a 408, are not taken for the next answer."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            await site.pool.send(Request("GET", "/"))
            site.lines[0].send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            await until(lambda: not site.pool._open)
            assert (await site.pool.send(Request("GET", "/"))).status == 200

    run(main())


def test_a_kept_connection_that_ends_under_a_request_says_so(run: Run) -> None:
    """Closed before a byte of the answer: `idle` on a kept connection, not on a fresh one; `sent` in both."""

    async def script(line: Line) -> None:
        for _ in range(1 if line.reader is first[0] else 0):
            await line.head()
            line.send(OK)
        await line.head()

    first: list[asyncio.StreamReader] = []

    async def main() -> None:
        async def following(line: Line) -> None:
            if not first:
                first.append(line.reader)
            await script(line)

        async with talking(following) as site:
            await site.pool.send(Request("GET", "/"))
            with pytest.raises(ConnectionLost) as kept:
                await site.pool.send(Request("GET", "/"))
            assert (kept.value.idle, kept.value.sent) == (True, True)
            with pytest.raises(ConnectionLost) as fresh:
                await site.pool.send(Request("GET", "/"))
            assert (fresh.value.idle, fresh.value.sent) == (False, True)

    run(main())


def test_a_reset_is_a_lost_connection(run: Run) -> None:
    """A peer that resets in the middle of an answer is a lost connection."""

    async def script(line: Line) -> None:
        await line.head()
        line.send(OK[:-1])
        await line.writer.drain()
        line.reset()

    async def main() -> None:
        async with talking(script) as site:
            with pytest.raises(ConnectionLost):
                await site.pool.send(Request("GET", "/"))

    run(main())


def test_age_and_idle_time_end_connections(run: Run) -> None:
    """A connection that is too old or was idle for too long is replaced, by the pool's own clock."""

    async def main() -> None:
        now = [0.0]
        async with talking(keep_answering, limits=PoolLimits(idle=30, age=100), clock=lambda: now[0]) as site:
            for at, connections in ((0, 1), (29, 1), (60, 2), (85, 2), (110, 2), (135, 2), (159, 2), (161, 3)):
                now[0] = at
                await site.pool.send(Request("GET", "/"))
                assert (at, len(site.lines)) == (at, connections)

    run(main())


def test_ages_are_spread(run: Run) -> None:
    """With a spread, connections opened together do not end together."""

    async def main() -> None:
        async with talking(keep_answering, limits=PoolLimits(age=100, spread=0.2), clock=lambda: 0.0) as site:
            numbers = iter((0.0, 0.5, 1.0))
            site.pool._random = lambda: next(numbers)
            await asyncio.gather(*(site.pool.send(Request("GET", "/")) for _ in range(3)))
            assert sorted(connection.expires for connection in site.pool._open) == pytest.approx([80, 100, 120])

    run(main())


def test_idle_connections_are_closed_without_a_request(run: Run) -> None:
    """The pool closes what was idle for too long by itself."""

    async def main() -> None:
        async with talking(keep_answering, limits=PoolLimits(idle=0.1)) as site:
            await asyncio.gather(*(site.pool.send(Request("GET", "/")) for _ in range(3)))
            await until(lambda: not site.pool._open)
            assert site.pool.describe()["idle"] == 0

    run(main())


def test_cancelling_closes_the_connection(run: Run) -> None:
    """A request that is given up ends its connection: a late answer must not meet another request."""
    asked = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        asked.set()
        await line.gone()

    async def main() -> None:
        async with talking(script) as site:
            task = asyncio.create_task(site.pool.send(Request("GET", "/")))
            async with asyncio.timeout(PATIENCE):
                await asked.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await until(lambda: not site.pool._open)
            assert site.pool.describe()["idle"] == 0

    run(main())


def test_a_closed_pool_lets_busy_connections_finish(run: Run) -> None:
    """close() ends idle connections at once and a busy one after its answer."""
    gate = asyncio.Event()

    async def script(line: Line) -> None:
        if b"/slow" in await line.head():
            await gate.wait()
        line.send(OK)
        await line.gone()

    async def main() -> None:
        async with talking(script) as site:
            slow = asyncio.create_task(site.pool.send(Request("GET", "/slow")))
            await until(lambda: site.pool.describe()["busy"])
            await site.pool.send(Request("GET", "/"))
            assert site.pool.describe()["idle"] == 1
            site.pool.close()
            assert site.pool.describe() == {"address": site.pool.address, "idle": 0, "busy": 1, "waiting": 0, "closed": True}
            gate.set()
            assert (await slow).body == b"ok"
            await until(lambda: not site.pool._open)

    run(main())


# -- streaming ---------------------------------------------------------------------------------------------------------


def streamed(path: str = "/") -> Request:
    """A request whose answer is wanted as it arrives."""
    request = Request("GET", path)
    request.stream = True
    return request


def test_a_streamed_answer_is_handed_over_at_its_head(run: Run) -> None:
    """The answer is there before its body, pieces arrive as they are sent, and the connection is kept at the end."""

    async def main() -> None:
        gate = asyncio.Event()

        async def script(line: Line) -> None:
            await line.head()
            line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await gate.wait()
            line.send(b"2\r\nab\r\n")
            await line.writer.drain()
            line.send(b"1\r\nc\r\n0\r\n\r\n")
            await line.gone()

        async with talking(script) as site:
            response = await site.pool.send(streamed())
            assert not isinstance(response.body, bytes)
            assert site.pool.describe()["busy"] == 1
            gate.set()
            assert await response.read() == b"abc"
            assert site.pool.describe()["idle"] == 1

    run(main())


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_a_streamed_answer_that_is_dropped_ends_its_connection(run: Run, how: str) -> None:
    """Closing an answer early, or just forgetting it, closes the connection."""

    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
        async with talking(answering(head + b"a" * 1_000_000)) as site:
            response: Response | None = await site.pool.send(streamed())
            assert response is not None
            if how == "closed":
                await response.close()
                await response.close()
            else:
                response = None
                gc.collect()
            await until(lambda: not site.pool._open)

    run(main())


def test_a_streamed_answer_may_be_forgotten_in_a_thread(run: Run) -> None:
    """An answer that is collected outside of the event loop's thread ends its connection inside of it."""

    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)  # which refuses calls from another thread
        async with talking(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")) as site:
            held = [await site.pool.send(streamed())]
            await asyncio.sleep(0)  # the turn that brought it holds it as well
            await asyncio.to_thread(held.clear)
            await until(lambda: not site.pool._open)

    run(main())


def test_a_streamed_answer_that_is_cut_off_is_an_error(run: Run) -> None:
    """What arrived is read, then the reader learns that the rest is missing."""

    async def main() -> None:
        async with talking(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", close=True)) as site:
            response = await site.pool.send(streamed())
            assert not isinstance(response.body, bytes)
            assert await anext(response.body) == b"ok"
            with pytest.raises(ConnectionLost, match="cut off"):
                await anext(response.body)
            await response.close()

    run(main())


def test_a_streamed_answer_is_not_read_faster_than_its_reader(run: Run) -> None:
    """While nobody reads, the peer cannot send without end; then everything arrives."""

    async def main() -> None:
        total = 40_000_000

        async def script(line: Line) -> None:
            await line.head()
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total + b"a" * total)
            await line.gone()

        async with talking(script) as site:
            response = await site.pool.send(streamed())
            unsent = -1
            while unsent != (unsent := site.lines[0].writer.transport.get_write_buffer_size()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert unsent > total // 2
            assert len(await response.read()) == total
            assert site.pool.describe()["idle"] == 1

    run(main())


def test_client_and_server_understand_each_other(run: Run) -> None:
    """Our own client and server exchange whole and streamed bodies of many sizes over kept connections."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            body = await request.read()
            return Response(200, body if request.path == "/whole" else in_pieces(body))

        async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
            for start in range(0, len(body), 50_000):
                yield body[start : start + 50_000]

        server = Server(
            handler,
            limits=Limits(body=10_000_000),
            clock=time.monotonic,
            refuse=lambda status, detail, request: Response(status, detail.encode()),
            streams=lambda request: request.path == "/pieces",
        )
        listener = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        pool = Pool("127.0.0.1", port, limits=PoolLimits(), clock=time.monotonic, peer="user")
        for size in (0, 1, 1000, 65_535, 65_536, 300_000, 5_000_000):
            for path in ("/whole", "/pieces"):
                for stream in (False, True):
                    for chunked in (False, True):
                        data = b"x" * size
                        request = Request("POST", path, body=in_pieces(data) if chunked else data)
                        request.stream = stream
                        assert await (await pool.send(request)).read() == data
        assert pool.describe()["idle"] == 1
        pool.close()
        listener.close()
        await server.drain(1)
        await until(lambda: not pool._open)

    run(main())
