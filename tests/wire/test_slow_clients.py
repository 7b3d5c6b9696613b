"""Callers that hold a connection and do little with it: each costs its connection for a time, and nobody waits for them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
from harsh import FINAL, PATIENCE, Run, in_time, on_loop, reset, resident, serving, until
from loops import LOOPS

from mizzen.edges.http import Limits
from mizzen.words.message import Request, Response

pytestmark = pytest.mark.wire

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return on_loop(request.param)


STUCK = {
    "nothing at all": (b"", []),
    "an empty line": (b"\r\n", []),
    "half a first line": (b"GET / HT", [b"408"]),
    "half a head": (b"GET / HTTP/1.1\r\nHost: x\r\n", [b"408"]),
    "half a body": (POST + b"Content-Length: 10\r\n\r\nabc", [b"408"]),
    "half a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\na\r\nabc", [b"408"]),
    "no end of chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", [b"408"]),
    "half a trailer": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b", [b"408"]),
    "half a head after an answer": (GET + b"GET /", [b"200", b"408"]),
    "nothing after an answer": (GET, [b"200"]),
    "the beginning of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", [b"408"]),
}


@pytest.mark.parametrize(("data", "statuses"), STUCK.values(), ids=STUCK.keys())
def test_a_caller_that_stops_is_given_up(run: Run, data: bytes, statuses: list[bytes]) -> None:
    """Wherever a caller stops without a word, as a half-open connection does, it is told and closed when its time is over."""

    async def main() -> None:
        async with serving(limits=Limits(header_read=0.3, progress=0.3, keep_alive=0.3)) as harm:
            began = time.monotonic()
            assert FINAL.findall(await harm.talk(data)) == statuses
            assert 0.29 < time.monotonic() - began < PATIENCE / 2

    run(main())


def test_slow_callers_delay_nobody(run: Run) -> None:
    """While three hundred callers send their requests byte by byte, another one is answered at once, again and again."""

    async def main() -> None:
        async with serving(limits=Limits(header_read=1.0, progress=1.0)) as harm:
            done = asyncio.Event()

            async def slow(data: bytes) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", harm.port)
                answer = asyncio.ensure_future(reader.read())
                for byte in data:
                    if answer.done() or done.is_set():
                        break
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.1)
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)
                return (await asyncio.gather(answer, return_exceptions=True))[0] or b""

            head = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 1000
            body = POST + b"Content-Length: 1000\r\n\r\n"
            callers = [asyncio.ensure_future(slow(head if number % 2 else body)) for number in range(300)]
            await until(lambda: harm.server.connections == 300)
            longest = 0.0
            for _ in range(30):
                began = time.monotonic()
                assert FINAL.findall(await harm.talk(LAST)) == [b"200"]
                longest = max(longest, time.monotonic() - began)
            done.set()
            await in_time(asyncio.gather(*callers))
            assert longest < 0.9  # less than the time limit of those that are slow: nobody waited for it

    run(main())


async def endless(count: int, piece: bytes) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield piece


@pytest.mark.parametrize("streamed", [True, False])
def test_a_caller_that_does_not_read_is_cut_off(run: Run, streamed: bool) -> None:
    """A large answer that nobody reads is held back, costs little memory while it streams, and is given up in the end."""

    async def main() -> None:
        whole = b"a" * 50_000_000

        async def handler(request: Request) -> Response:
            if request.path == "/last":
                return Response(200)
            return Response(200, endless(50_000, b"a" * 20_000) if streamed else whole)

        async with serving(handler, limits=Limits(progress=0.5)) as harm:
            before = resident()
            reader, writer = await asyncio.open_connection("127.0.0.1", harm.port, limit=1024)
            writer.write(GET)
            await until(lambda: harm.server.connections)
            assert FINAL.findall(await harm.talk(LAST)) == [b"200"]
            grown = 0
            while harm.server.connections:
                grown = max(grown, resident() - before)
                await asyncio.sleep(0.01)
            assert grown < (16_000_000 if streamed else 64_000_000)
            writer.close()
            await asyncio.gather(writer.wait_closed(), reader.read(), return_exceptions=True)

    run(main())


def test_a_slow_reader_gets_its_answer(run: Run) -> None:
    """A caller that reads slowly, but does read, is not given up: what counts is that bytes move."""

    async def main() -> None:
        total = 20_000_000

        async def handler(request: Request) -> Response:
            return Response(200, endless(total // 10_000, b"a" * 10_000), headers={"content-length": str(total)})

        async with serving(handler, limits=Limits(progress=1.0)) as harm:
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # little of the answer fits between the two
            line.setblocking(False)
            await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", harm.port))
            reader, writer = await asyncio.open_connection(sock=line, limit=10_000)
            writer.write(LAST)
            got, began = 0, time.monotonic()
            while piece := await in_time(reader.read(200_000)):
                got += len(piece)
                if time.monotonic() - began < 2.5:  # longer than a caller is waited for that does not read
                    await asyncio.sleep(0.02)
            assert got > total
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_handler_that_never_returns_holds_nobody(run: Run) -> None:
    """Handlers that hang cost their own connections; a caller that leaves ends its handler, and draining ends the rest."""

    async def main() -> None:
        ended = 0

        async def handler(request: Request) -> Response:
            nonlocal ended
            if request.path == "/last":
                return Response(200)
            try:
                await asyncio.Event().wait()
            finally:
                ended += 1
            raise AssertionError("unreachable")

        async with serving(handler) as harm:
            lines = [await asyncio.open_connection("127.0.0.1", harm.port) for _ in range(100)]
            for _, writer in lines:
                writer.write(GET)
            await until(lambda: harm.server.in_flight == 100)
            assert FINAL.findall(await harm.talk(LAST)) == [b"200"]
            for number, (_, writer) in enumerate(lines[:60]):
                if number % 2:
                    reset(writer)
                else:
                    writer.close()
            await until(lambda: (harm.server.in_flight, ended) == (40, 60))
            assert await in_time(harm.server.drain(0.2)) == 40
            assert ended == 100
            for _, writer in lines:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for _, writer in lines), return_exceptions=True)

    run(main())
