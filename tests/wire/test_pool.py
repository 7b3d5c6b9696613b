"""The client's pool at its limits: too much, too many, given up, cut off; on real sockets and every event loop there is."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from memoryloop import WIRES, wire_of
from playing import OK, PATIENCE, Line, Site, answering, keep_answering, run_on, talking, until

from mizzen.assembly.client import Client
from mizzen.assembly.network import SocketNetwork
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.peers import Peer
from mizzen.assembly.service import Service
from mizzen.edges.http import Pool, PoolLimits, connect
from mizzen.edges.resolvers import StaticResolver
from mizzen.rules.config import ClientConfig
from mizzen.rules.discovery import Instance
from mizzen.words.clock import monotonic
from mizzen.words.errors import CallTimeout, ConnectionLost, PeerError
from mizzen.words.message import Call, Request
from mizzen.words.outcome import CLOSED_UNSENT, classify

pytestmark = pytest.mark.wire

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=list(WIRES))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops, or in memory."""
    return partial(run_on, wire_of(request))


def streamed() -> Request:
    request = Request("GET", "/")
    request.stream = True
    return request


# -- too much ----------------------------------------------------------------------------------------------------------

HUGE = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "a body of 1001 bytes, which is over the 1000 bytes"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n" + b"a" * 1001, "a body over the 1000 bytes"),
    "without end": (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 1001, "a body over the 1000 bytes"),
}


@pytest.mark.parametrize(("data", "words"), HUGE.values(), ids=HUGE.keys())
def test_an_answer_over_the_limit_is_an_error_that_says_what_to_do(run: Run, data: bytes, words: str) -> None:
    """The peer did answer: it is no lost connection, and no reason to send the request again."""

    async def main() -> None:
        async with talking(answering(data), limits=PoolLimits(body=1000)) as site:
            with pytest.raises(PeerError, match=f"user answered 200 with {words}.*set clients.user.max_answer, or") as caught:
                await site.pool.send(Request("GET", "/"))
            assert (caught.value.status, caught.value.peer) == (200, "user")
            await until(lambda: not site.pool._open)

    run(main())


def test_a_stream_has_no_limit(run: Run) -> None:
    """What is read as it arrives needs no memory, however long it is."""

    async def main() -> None:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000
        async with talking(answering(data), limits=PoolLimits(body=1000)) as site:
            response = await site.pool.send(streamed())
            assert not isinstance(response.body, bytes)
            assert sum([len(piece) async for piece in response.body]) == 100_000
            assert site.pool.describe()["idle"] == 1

    run(main())


def test_a_request_is_not_produced_faster_than_it_is_read(run: Run) -> None:
    """While the peer does not read, a body in pieces waits; then it arrives whole."""

    async def main() -> None:
        produced = [0]
        gate = asyncio.Event()
        received = [0]

        async def source() -> AsyncIterator[bytes]:
            while produced[0] < 40_000_000:
                produced[0] += 100_000
                yield b"a" * 100_000

        async def script(line: Line) -> None:
            await line.head()
            await gate.wait()
            while (size := int(await line.reader.readline(), 16)) > 0:
                received[0] += len(await line.exactly(size))
                await line.exactly(2)
            await line.exactly(2)
            line.send(OK)
            await line.gone()

        async with talking(script) as site:
            sending = asyncio.ensure_future(site.pool.send(Request("POST", "/", body=source())))
            before = -1
            while before != (before := produced[0]):  # noqa: ASYNC110 - until nothing moves any more
                await asyncio.sleep(0.1)
            assert 0 < before < 20_000_000
            gate.set()
            assert (await sending).body == b"ok"
            assert received[0] == 40_000_000
            assert site.pool.describe()["idle"] == 1

    run(main())


# -- too many ----------------------------------------------------------------------------------------------------------


class Desk:
    """A peer that answers when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.tickets = asyncio.Semaphore(0)

    async def __call__(self, line: Line) -> None:
        try:
            while True:
                await line.head()
                self.asked += 1
                await self.tickets.acquire()
                line.send(OK)
        except asyncio.IncompleteReadError:
            pass

    def answer(self, count: int) -> None:
        for _ in range(count):
            self.tickets.release()


def test_more_calls_than_connections_wait_their_turn(run: Run) -> None:
    """No more connections than the limit are open, and whoever came first goes first."""

    async def main() -> None:
        desk = Desk()
        done: list[int] = []

        async def call(site: Site, number: int) -> None:
            await site.pool.send(Request("GET", "/"))
            done.append(number)

        async with talking(desk, limits=PoolLimits(connections=2)) as site:
            calls = [asyncio.ensure_future(call(site, number)) for number in range(6)]
            await until(lambda: desk.asked == 2)
            assert site.pool.describe() | {"address": ""} == {
                "address": "", "idle": 0, "busy": 2, "waiting": 4, "closed": False,
            }  # fmt: skip
            for number in range(1, 7):
                desk.answer(1)
                await until(lambda number=number: len(done) == number)
            await asyncio.gather(*calls)
            assert sorted(done[:2]) == [0, 1]
            assert sorted(done[2:4]) == [2, 3]
            assert len(site.lines) == 2
            assert site.pool.describe()["idle"] == 2

    run(main())


def test_who_waits_gets_the_place_of_a_connection_that_ends(run: Run) -> None:
    """A connection that is lost, refused or given up makes room for another."""

    async def main() -> None:
        desk = Desk()
        async with talking(desk, limits=PoolLimits(connections=1)) as site:
            first = asyncio.ensure_future(site.pool.send(Request("GET", "/")))
            await until(lambda: desk.asked == 1)
            second = asyncio.ensure_future(site.pool.send(Request("GET", "/")))
            await until(lambda: site.pool.describe()["waiting"] == 1)
            first.cancel()
            await until(lambda: desk.asked == 2)
            third = asyncio.ensure_future(site.pool.send(Request("GET", "/")))
            await until(lambda: site.pool.describe()["waiting"] == 1)
            site.lines[1].reset()
            with pytest.raises(ConnectionLost):
                await second
            await until(lambda: desk.asked == 3)
            desk.answer(3)
            assert (await third).body == b"ok"
            assert len(site.lines) == 3

    run(main())


def test_who_waits_and_gives_up_takes_nothing_along(run: Run) -> None:
    """Also in the very turn in which it would have been given a connection: that one goes to the next."""

    async def main() -> None:
        desk = Desk()
        async with talking(desk, limits=PoolLimits(connections=1)) as site:
            for _ in range(3):
                first = asyncio.ensure_future(site.pool.send(Request("GET", "/")))
                await until(lambda: site.pool.describe()["busy"] == 1)
                second, third = (asyncio.ensure_future(site.pool.send(Request("GET", "/"))) for _ in range(2))
                await until(lambda: site.pool.describe()["waiting"] == 2)
                release = site.pool.release

                def releasing(connection: Any, second: asyncio.Task[Any] = second, release: Any = release) -> None:
                    site.pool.release = release  # type: ignore[method-assign]
                    release(connection)
                    second.cancel()

                site.pool.release = releasing  # type: ignore[method-assign]
                desk.answer(2)
                assert (await first).body == (await third).body == b"ok"
                assert second.cancelled()
                assert site.pool.describe() | {"address": ""} == {
                    "address": "", "idle": 1, "busy": 0, "waiting": 0, "closed": False,
                }  # fmt: skip
            assert len(site.lines) == 1

    run(main())


def test_who_waits_when_the_pool_is_closed_is_sent_elsewhere(run: Run) -> None:
    """Nothing of theirs was sent, and any method may be tried at another instance at once; what is busy is answered."""

    async def main() -> None:
        desk = Desk()
        async with talking(desk, limits=PoolLimits(connections=1)) as site:
            first = asyncio.ensure_future(site.pool.send(Request("GET", "/")))
            await until(lambda: desk.asked == 1)
            others = [asyncio.ensure_future(site.pool.send(Request("POST", "/"))) for _ in range(3)]
            await until(lambda: site.pool.describe()["waiting"] == 3)
            site.pool.close()
            others[0].cancel()  # in the very turn in which it is told
            for waiting in others[1:]:
                with pytest.raises(ConnectionLost, match="was withdrawn before a connection to it was free") as lost:
                    await waiting
                assert classify(Request("POST", "/"), lost.value) is CLOSED_UNSENT
            with pytest.raises(asyncio.CancelledError):
                await others[0]
            desk.answer(9)
            assert (await first).body == b"ok"
            await until(lambda: not site.pool._open)
            assert desk.asked == 1

    run(main())


def test_a_crowd_that_comes_and_goes_leaves_the_pool_as_it_was(run: Run) -> None:
    """Calls that are answered, cut off and given up at random never exceed the limit, and nothing is left of them."""

    async def main() -> None:
        dice = random.Random(7)
        most = [0]

        async def script(line: Line) -> None:
            while True:
                await line.head()
                if dice.random() < 0.1:
                    return
                await asyncio.sleep(dice.random() * 0.003)
                line.send(OK)

        async def call(site: Site) -> None:
            await asyncio.sleep(dice.random() * 0.05)
            most[0] = max(most[0], len(site.pool._open))
            try:
                async with asyncio.timeout(dice.random() * 0.05):
                    await site.pool.send(Request("GET", "/"))
            except (TimeoutError, ConnectionLost):
                pass

        async with talking(script, limits=PoolLimits(connections=4)) as site:
            await asyncio.gather(*(call(site) for _ in range(300)))
            assert 1 < most[0] <= 4
            assert site.pool.describe()["waiting"] == site.pool.describe()["busy"] == 0
            assert site.pool._promised == 0
            await until(lambda: len(site.pool._open) == site.pool.describe()["idle"])

    run(main())


# -- again -------------------------------------------------------------------------------------------------------------


def test_a_second_attempt_at_the_same_address_takes_a_new_connection(run: Run) -> None:
    """Behind a virtual address every connection leads to one instance: the same one would fail it again."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            request = Request("GET", "/", call=Call(idempotent=True, timeout=1, started=0, deadline=1))
            assert request.call is not None
            for tried, connections in ((["a"], 1), (["a"], 1), (["b", "a"], 1), (["a", "a"], 2), (["a", "b", "a"], 3)):
                request.call.tried = tried
                await site.pool.send(request)
                assert (tried, len(site.lines)) == (tried, connections)

    run(main())


def test_a_request_is_with_the_kernel_when_it_is_said_to_be(run: Run) -> None:
    """No turn of the loop lies between looking whether the peer is there and handing the bytes to the socket."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            pool = Pool(
                "127.0.0.1", listener.getsockname()[1], connect=connect, limits=PoolLimits(), clock=monotonic, peer="user"
            )
            sending = asyncio.ensure_future(pool.send(Request("GET", "/")))
            peer, _ = await loop.sock_accept(listener)
            with peer:
                assert (await loop.sock_recv(peer, 65536)).startswith(b"GET / ")
                await loop.sock_sendall(peer, OK)
                await sending
                seen: list[bytes] = []
                posting = asyncio.ensure_future(pool.send(Request("POST", "/", body=b"data")))
                loop.call_soon(lambda: seen.append(peer.recv(65536)))  # in the same turn, right behind the task's first step
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert seen[0].startswith(b"POST / ")
                assert seen[0].endswith(b"\r\n\r\ndata")
                await loop.sock_sendall(peer, OK)
                assert (await posting).body == b"ok"
                pool.close()
                await until(lambda: not pool._open)

    run(main())


def test_a_reset_that_the_loop_has_not_told_of_is_noticed_before_a_post(run: Run) -> None:
    """A connection that the peer's kernel has dropped meanwhile costs no call that could not be sent twice."""

    async def main() -> None:
        async with talking(keep_answering) as site:
            await site.pool.send(Request("GET", "/"))
            with socket.socket(fileno=os.dup(site.lines[0].writer.get_extra_info("socket").fileno())) as end:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                os.close(os.dup(end.fileno()))
                end.shutdown(socket.SHUT_RDWR)
            assert not site.pool._idle[0].closed
            assert (await site.pool.send(Request("POST", "/"))).status == 200
            assert len(site.lines) == 2

    run(main())


# -- cut off and given up ----------------------------------------------------------------------------------------------

SEVERAL = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nhello, \r\n5\r\nworld\r\n0\r\nX-T: 1\r\n\r\n",
    "after hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("data", SEVERAL.values(), ids=SEVERAL.keys())
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_an_answer_that_is_cut_at_any_byte_is_an_error(run: Run, data: bytes, stream: bool, how: str) -> None:
    """There is no byte of an answer after which its end would be taken for a whole answer, or would be left unnoticed."""

    async def main() -> None:
        cut = [0]

        async def script(line: Line) -> None:
            await line.head()
            line.send(data[: cut[0]])
            await line.writer.drain()
            if how == "reset":
                line.reset()
            else:
                line.writer.close()

        async with talking(script) as site:
            for cut[0] in range(len(data)):
                request = streamed() if stream else Request("GET", "/")
                with pytest.raises(ConnectionLost):
                    await (await site.pool.send(request)).read()
                await until(lambda: not site.pool._open)

    run(main())


def open_sockets() -> int:
    """Sockets of this process; Linux and macOS both show its descriptors there."""
    count = 0
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the listing's own
            count += stat.S_ISSOCK(os.fstat(int(path.name)).st_mode)
    return count


def pending() -> int:
    """Futures that somebody could still wait for; tasks count as well."""
    gc.collect()
    return sum(isinstance(thing, asyncio.Future) and not thing.done() for thing in gc.get_objects())


def timers() -> list[str]:
    """Timers of ours that are set, where the loop shows its timers."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [repr(timer) for timer in scheduled if not timer.cancelled() and "mizzen" in repr(timer)]


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[tuple[Client, Peer]]:
    """A client of ``user``, with the way that a service has to its peer."""
    client = Service("order").client("user")
    peer = Peer(
        client,
        ClientConfig(retries=0),
        StaticResolver({}),
        backend="static",
        network=SocketNetwork(),
        telemetry=Telemetry("order", version="test"),
        clock=monotonic,
        random=random.Random(7).random,
    )
    client.line = peer
    peer.balancer.update([Instance("user-1", "user", "127.0.0.1", port)])
    try:
        yield client, peer
    finally:
        await peer.stop()


async def given_up(call: Coroutine[Any, Any, None], end: str, reached: asyncio.Event, gone: Callable[[], None]) -> None:
    """Run a call until it times out, or is cancelled where it has come to; see that nothing is left of it."""
    sockets, tasks, futures = open_sockets(), len(asyncio.all_tasks()), pending()
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
        if end == "cancelled":
            await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.wait([task])
    assert task.cancelled() if end == "cancelled" else isinstance(task.exception(), CallTimeout)
    del task
    gone()
    await until(lambda: open_sockets() == sockets)
    await until(lambda: len(asyncio.all_tasks()) == tasks)
    assert pending() == futures
    assert timers() == []


@pytest.mark.parametrize("moment", ["asked", "in the head", "in the body", "in a stream", "uploading"])
@pytest.mark.parametrize("end", ["cancelled", "timed out"])
def test_a_call_that_is_given_up_leaves_nothing(run: Run, moment: str, end: str) -> None:
    """Wherever it stands when its time is up or its caller goes: no socket, task, future or timer is left of it."""

    async def main() -> None:
        reached = asyncio.Event()

        async def script(line: Line) -> None:
            await line.head()
            if moment == "in the head":
                line.send(b"HTTP/1.1 200 OK\r\nContent-")
            elif moment in ("in the body", "in a stream"):
                line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            reached.set()
            await line.gone()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"a" * 1000
                await asyncio.sleep(0)

        async with talking(script) as site, calling(site.pool.port) as (client, peer):

            async def call() -> None:
                timeout = 0.3 if end == "timed out" else PATIENCE
                if moment != "in a stream":
                    await client.call("POST", "/", body=endless() if moment == "uploading" else None, timeout=timeout)
                    return
                async with client.stream("GET", "/") as response:
                    assert not isinstance(response.body, bytes)
                    assert await anext(response.body) == b"half"
                    try:
                        async with asyncio.timeout(timeout):
                            await anext(response.body)
                    except TimeoutError:
                        raise CallTimeout("its reader's own") from None

            await given_up(call(), end, reached, lambda: [line.writer.transport.abort() for line in site.lines] and None)
            assert peer.balancer.endpoints[0].in_flight == 0

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not leave a full queue of connections unanswered")
@pytest.mark.parametrize("end", ["cancelled", "timed out"])
def test_a_call_that_is_given_up_while_it_connects_leaves_nothing(run: Run, end: str) -> None:
    """A peer that does not accept costs a call its time, and no socket, task, future or timer after that."""

    async def main() -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(4):  # fill its queue, which nobody empties
                other = stack.enter_context(socket.socket())
                other.setblocking(False)
                other.connect_ex(listener.getsockname())
            async with calling(listener.getsockname()[1]) as (client, peer):
                reached = asyncio.Event()

                async def call() -> None:
                    reached.set()
                    await client.get("/", timeout=0.3 if end == "timed out" else PATIENCE)

                await asyncio.sleep(0.05)
                await given_up(call(), end, reached, lambda: None)
                assert peer.balancer.endpoints[0].in_flight == 0

    run(main())
