"""Connections that are torn down at every byte, in both directions: nothing is left of them, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from harsh import FINAL, Harm, Run, descriptors, in_time, on_loop, reset, serving, until
from loops import LOOPS

from mizzen.edges.http import Pool, PoolLimits
from mizzen.words.errors import ConnectionLost
from mizzen.words.message import Request, Response

pytestmark = pytest.mark.wire

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REQUESTS = {
    "with a length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "in chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
    "pipelined": GET + GET + b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
}


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return on_loop(request.param)


class Bystander:
    """Somebody else on the same server, whose every request is answered."""

    def __init__(self, harm: Harm) -> None:
        self.answers = 0
        self._task = asyncio.get_running_loop().create_task(self._ask(harm.port))

    async def _ask(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                writer.write(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
                head = await in_time(reader.readuntil(b"\r\n\r\n"))
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert await in_time(reader.readexactly(2)) == b"ok"
                self.answers += 1
                await asyncio.sleep(0.001)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def leave(self) -> None:
        assert not self._task.done(), self._task
        before = self.answers
        await until(lambda: self.answers > before)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_caller_may_go_at_every_byte_of_its_request(run: Run, data: bytes, streaming: bool, how: str) -> None:
    """A connection that ends after any byte of a request leaves no handler, task, connection or descriptor behind."""

    async def main() -> None:
        async with serving(streams=(lambda request: True) if streaming else None) as harm:
            bystander = Bystander(harm)
            for size in range(len(data) + 1):
                _, writer = await asyncio.open_connection("127.0.0.1", harm.port)
                writer.write(data[:size])
                if size % 3:
                    await asyncio.sleep(0.001)  # with and without the server having read it
                if how == "reset":
                    reset(writer)
                else:
                    writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            await until(lambda: harm.server.connections == 1)
            await bystander.leave()
            assert harm.errors == []

    run(main())


async def trickle(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.0005)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_caller_may_go_at_every_byte_of_its_answer(run: Run, chunked: bool, how: str) -> None:
    """A connection that ends after any byte of an answer ends the body's source as well, which is closed once."""

    async def main() -> None:
        begun, closed = 0, 0

        async def handler(request: Request) -> Response:
            nonlocal begun
            if request.path == "/other":
                return Response(200, b"ok")
            begun += 1
            pieces = [b"%d" % (number % 10) for number in range(40)]
            response = Response(200, trickle(pieces), headers={} if chunked else {"content-length": "40"})

            def count() -> None:
                nonlocal closed
                closed += 1

            response.on_close(count)
            return response

        async with serving(handler) as harm:
            bystander = Bystander(harm)

            async def leave_after(size: int) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", harm.port)
                writer.write(GET)
                await in_time(reader.readexactly(size))
                if how == "reset":
                    reset(writer)
                else:
                    writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

            framing = b"transfer-encoding: chunked" if chunked else b"content-length: 40"
            total = len(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n") + (40 * 6 + 5 if chunked else 40)
            for start in range(0, total + 1, 20):
                await asyncio.gather(*(leave_after(size) for size in range(start, min(start + 20, total + 1))))
            await until(lambda: harm.server.connections == 1)
            await until(lambda: closed == begun)
            await bystander.leave()
            assert begun >= total
            assert harm.errors == []

    run(main())


ANSWERS = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "in chunks": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_peer_may_go_at_every_byte_of_its_answer(run: Run, data: bytes, stream: bool, how: str) -> None:
    """A call whose peer goes after any byte of its answer is a lost connection or the whole answer, and leaves nothing."""

    async def main() -> None:
        sent = b""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
            await writer.drain()
            if len(sent) % 2:
                await asyncio.sleep(0.001)
            if how == "reset":
                reset(writer)
            else:
                writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = Pool("127.0.0.1", listener.sockets[0].getsockname()[1], limits=PoolLimits(), clock=time.monotonic, peer="user")
        outcomes = []
        files = 0
        for size in range(len(data) + 1):
            sent = data[:size]
            request = Request("GET", "/")
            request.stream = stream
            try:
                response = await in_time(pool.send(request))
                outcomes.append(await in_time(response.read()))
            except ConnectionLost:
                outcomes.append(None)
            await until(lambda: not pool._open)
            files = files or descriptors()
        await in_time(asyncio.gather(*tasks))
        await until(lambda: descriptors() <= files)
        assert outcomes[:-1] == [None] * len(data)
        assert outcomes[-1] in ((b"hello",) if how == "closed" else (b"hello", None))  # a reset may overtake what was sent
        pool.close()
        listener.close()

    run(main())


def test_a_thousand_resets_at_once_are_survived(run: Run) -> None:
    """A thousand connections that are reset in the middle of their answers leave the server as it was."""

    async def main() -> None:
        async with serving() as harm:
            bystander = Bystander(harm)
            for _ in range(10):
                lines = [await asyncio.open_connection("127.0.0.1", harm.port) for _ in range(100)]
                for _, writer in lines:
                    writer.write(GET * 5)
                    reset(writer)
                await asyncio.gather(*(writer.wait_closed() for _, writer in lines), return_exceptions=True)
            await until(lambda: harm.server.connections == 1)
            await bystander.leave()
            assert FINAL.findall(await harm.talk(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [b"200"]

    run(main())
