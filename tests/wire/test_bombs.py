"""More than a server should take: it takes a bounded part of it, says so, and serves the others as before."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest
from harsh import FINAL, Run, in_time, on_loop, resident, serving, until
from loops import LOOPS

from mizzen.edges.http import Limits
from mizzen.words.message import Request, Response

pytestmark = pytest.mark.wire

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PIECE = 64 * 1024
ROOM = 24 * 1024 * 1024
"""Bytes by which memory may grow while much more than that is sent: buffers of both ends, which live in one process here."""


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return on_loop(request.param)


BOMBS = {
    "a target": (b"GET /", b"a" * PIECE, b"414"),
    "a query": (b"GET /?", b"a=b&" * (PIECE // 4), b"414"),
    "a value": (HEAD + b"A: ", b"b" * PIECE, b"431"),
    "a name": (HEAD, b"a" * PIECE, b"431"),
    "many fields": (HEAD, b"A: b\r\n" * (PIECE // 6), b"431"),
    "many empty lines": (HEAD[:0], b"\r\n" * (PIECE // 2), b"431"),
    "many cookies": (HEAD, b"Cookie: a=b\r\n" * (PIECE // 13), b"431"),
    "a chunk extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * PIECE, b"431"),
    "a trailer": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"b" * PIECE, b"431"),
    "leading zeros of a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * PIECE, b"431"),
    "one chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n", b"a" * PIECE, b"413"),
    "many chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n%b\r\n" % (b"a" * 1024) * 60, b"413"),
}


@pytest.mark.parametrize(("first", "more", "status"), BOMBS.values(), ids=BOMBS.keys())
def test_what_has_no_end_is_refused(run: Run, first: bytes, more: bytes, status: bytes) -> None:
    """Whatever part of a request goes on and on, it is refused soon, its bytes are not kept, and others are served."""

    async def main() -> None:
        async with serving() as harm:
            before = resident()
            reader, writer = await asyncio.open_connection("127.0.0.1", harm.port)
            writer.write(first)
            answer = asyncio.ensure_future(reader.read())
            sent = 0
            while not answer.done() and sent < 100_000_000:
                writer.write(more)
                sent += len(more)
                if not harm.settled and sent > 8_000_000:
                    raise AssertionError(f"{sent} bytes were taken without a word")
                try:
                    await in_time(writer.drain())
                except ConnectionError:
                    break
                await asyncio.sleep(0)
                if harm.settled:
                    break
            with suppress(ConnectionError):  # where we sent on after the refusal for longer than it was put up with
                assert FINAL.findall(await in_time(answer)) == [status]
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            assert harm.settled == [int(status)]
            assert harm.seen == []
            assert resident() - before < ROOM
            assert (await harm.talk(LAST)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_a_thousand_requests_at_once_are_answered_in_order(run: Run) -> None:
    """A thousand pipelined requests are answered in their order, one at a time."""

    async def main() -> None:
        under_way, most = 0, 0

        async def handler(request: Request) -> Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return Response(200, request.path.encode())

        async with serving(handler) as harm:
            stream = b"".join(b"GET /%04d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(1000))
            answer = await harm.talk(stream + LAST)
            bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
            assert bodies == [b"/%04d" % number for number in range(1000)] + [b"/last"]
            assert most == 1

    run(main())


def test_requests_that_wait_take_no_memory(run: Run) -> None:
    """While a handler does not answer, pipelined requests behind it stay with their sender; then all are answered."""

    async def main() -> None:
        gate = asyncio.Event()
        count = 0

        async def handler(request: Request) -> Response:
            nonlocal count
            count += 1
            await gate.wait()
            return Response(204)

        async with serving(handler) as harm:
            reader, writer = await asyncio.open_connection("127.0.0.1", harm.port)
            one = HEAD + b"A: " + b"b" * 1000 + b"\r\n\r\n"
            total = 40_000
            writer.write(one * total)
            unsent = -1
            while unsent != (unsent := writer.transport.get_write_buffer_size()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert unsent > total * len(one) // 2  # the kernel's buffers hold the rest
            assert (count, harm.settled) == (1, [])
            gate.set()
            answered = 0
            while answered < total:
                answered += (await in_time(reader.read(PIECE))).count(b"HTTP/1.1 204")
            assert count == total
            writer.close()
            await writer.wait_closed()

    run(main())


def test_many_bodies_at_once_are_bounded_by_their_limit(run: Run) -> None:
    """A hundred callers that announce a body and send it slowly cost what they sent, not what they announced."""

    async def main() -> None:
        async with serving(limits=Limits(body=1 << 30)) as harm:
            before = resident()
            lines = [await asyncio.open_connection("127.0.0.1", harm.port) for _ in range(100)]
            for _, writer in lines:
                writer.write(POST + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 1000)
            await until(lambda: harm.server.connections == 100)
            assert (await harm.talk(LAST)).startswith(b"HTTP/1.1 200 ")
            assert resident() - before < ROOM
            for _, writer in lines:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for _, writer in lines), return_exceptions=True)

    run(main())


@pytest.mark.parametrize("size", [20_000, 100_000, 400_000])
def test_answers_that_nobody_reads_are_bounded(run: Run, size: int) -> None:
    """A caller that asks and asks and reads nothing is answered until the buffers are full, whatever an answer's size."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, b"a" * size)

        async with serving(handler) as harm:
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            line.setblocking(False)
            await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", harm.port))
            most = 12_000_000 // size  # what a kernel may buffer, and more
            asking = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(line, (HEAD + b"\r\n") * 3 * most))
            before, quiet = -1, 0
            while quiet < 10:
                await asyncio.sleep(0.02)
                quiet = quiet + 1 if len(harm.settled) == before else 0
                before = len(harm.settled)
            assert 0 < len(harm.settled) < most
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            line.close()

    run(main())
