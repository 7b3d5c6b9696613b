"""Client and server over the in-memory network, in virtual time: the time limits at their real values, and the faults."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from loops import virtual

from mizzen.edges.http import Limits, Pool, PoolLimits, Server
from mizzen.edges.http.protocol import AT_ONCE
from mizzen.tools.testing.memory import MemoryListener, MemoryNetwork
from mizzen.tools.testing.virtual import DeadLock, run
from mizzen.words.errors import ConnectFailed, ConnectionLost
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response
from mizzen.words.sse import ServerSentEvent

HOST, PORT = "user", 80


class Site:
    """A server in memory, a pool that talks to it, and what the hooks were told."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.server: Server
        self.listener: MemoryListener
        self.pool: Pool
        self.sent: list[tuple[str, int | None, int]] = []
        self.errors: list[BaseException] = []

    async def get(self, path: str = "/") -> Response:
        return await self.pool.send(Request("GET", path))

    async def dial(self) -> Caller:
        _, caller = await self.network.connect(Caller, HOST, PORT)
        assert isinstance(caller, Caller)
        return caller


class Caller(asyncio.Protocol):
    """A caller in raw bytes that remembers what it got, and when the connection ended."""

    def __init__(self) -> None:
        self.got = b""
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[float] = self.loop.create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(self.loop.time())


@asynccontextmanager
async def serving(handler: Handler, *, limits: Limits | None = None, **options: Any) -> AsyncIterator[Site]:
    """A server of that handler in memory."""
    site = Site()
    loop = asyncio.get_running_loop()
    site.server = Server(
        handler,
        limits=limits or Limits(),
        clock=loop.time,
        refuse=lambda status, detail, request: Response(status, detail.encode()),
        sent=lambda request, response, sent: site.sent.append((request.path, response.status if response else None, sent)),
        on_error=lambda request, error: site.errors.append(error),
        **options,
    )
    site.listener = await site.network.listen(HOST, PORT, site.server.protocol)
    site.pool = Pool(HOST, PORT, connect=site.network.connect, limits=PoolLimits(), clock=loop.time, peer="user")
    try:
        yield site
    finally:
        site.pool.close()
        site.listener.close()
        await site.server.drain(0)
        await settle()
        assert site.server.connections == 0
        assert site.server.in_flight == 0


async def settle() -> None:
    """Let everything happen that happens without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def hello(request: Request) -> Response:
    """Answers with the path, and the body when there is one."""
    return Response(200, request.path.encode() + await request.read())


def slow(seconds: float) -> Handler:
    """A handler that takes so long."""

    async def handler(request: Request) -> Response:
        await asyncio.sleep(seconds)
        return Response(200, b"slow")

    return handler


async def elapsed(work: Awaitable[Any]) -> float:
    """Virtual seconds that something takes."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    await work
    return loop.time() - before


# -- without faults ----------------------------------------------------------------------------------------------------


@virtual
async def test_the_real_protocols_run_in_memory() -> None:
    """A request is answered over the same protocol classes, and connections are kept."""
    async with serving(hello) as site:
        assert (await site.get("/a")).body == b"/a"
        assert (await site.pool.send(Request("POST", "/b", body=b"c" * 300_000))).body == b"/b" + b"c" * 300_000
        assert site.server.connections == 1
        assert site.network.describe() == {"listening": ["user:80"], "connections": 1, "faults": {}}
        assert site.sent == [("/a", 200, 2), ("/b", 200, 300_002)]


@virtual
async def test_peers_have_names() -> None:
    """The server sees an address of the caller, and each connection has one of its own."""
    peers: list[str] = []

    async def handler(request: Request) -> Response:
        peers.append(request.peer)
        await asyncio.sleep(1)
        return Response()

    async with serving(handler) as site:
        await asyncio.gather(site.get(), site.get())
        assert len(set(peers)) == 2
        assert all(peer.startswith("127.0.0.1:") for peer in peers)


@virtual
async def test_time_passes_only_where_somebody_waits() -> None:
    """A call takes as long as its handler, and the network adds nothing."""
    async with serving(slow(7.0)) as site:
        before = time.perf_counter()
        assert await elapsed(site.get()) == pytest.approx(7.0)
        assert time.perf_counter() - before < 5


@virtual
async def test_flow_control_reaches_from_end_to_end() -> None:
    """A source is stopped while its reader does not read, and nothing is lost when it goes on."""
    produced = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(100):
            produced += 1
            yield b"a" * 50_000

    async def handler(request: Request) -> Response:
        return Response(200, source())

    async with serving(handler) as site:
        request = Request("GET", "/")
        request.stream = True
        response = await site.pool.send(request)
        await settle()
        assert produced < 20
        assert len(await response.read()) == 5_000_000
        assert site.pool.describe()["idle"] == 1


@virtual
async def test_a_port_can_be_chosen_or_not() -> None:
    """Port 0 is a free one, a taken one is an error, and a wildcard host answers for every name."""
    network = MemoryNetwork()
    first = await network.listen("0.0.0.0", 0, Caller)
    second = await network.listen("0.0.0.0", 0, Caller)
    assert first.port != second.port
    with pytest.raises(OSError, match="in use"):
        await network.listen("0.0.0.0", first.port, Caller)
    transport, _ = await network.connect(Caller, "anything", first.port)
    transport.close()
    first.close()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(Caller, "anything", first.port)
    await settle()


@virtual
async def test_half_a_close_is_seen_as_such() -> None:
    """write_eof ends one direction only; close ends both, and what was written still arrives."""

    class Patient(Caller):
        def eof_received(self) -> bool:
            self.transport.write(b"heard")
            return True

    network = MemoryNetwork()
    far: list[Patient] = []
    await network.listen(HOST, PORT, lambda: far.append(Patient()) or far[-1])  # type: ignore[func-returns-value]
    transport, near = await network.connect(Caller, HOST, PORT)
    assert isinstance(near, Caller)
    transport.write(b"last words")
    transport.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        transport.write(b"more")
    await settle()
    assert (far[0].got, near.got, near.ended.done()) == (b"last words", b"heard", False)
    far[0].transport.write(b" bye")
    far[0].transport.close()
    await settle()
    assert near.got == b"heard bye"
    assert near.ended.done()
    assert far[0].ended.done()


# -- time limits of the server -----------------------------------------------------------------------------------------


@virtual
async def test_a_head_has_ten_seconds() -> None:
    """A head that trickles is a 408 ten seconds after its first byte, however many bytes follow."""
    async with serving(hello) as site:
        caller = await site.dial()
        begun = caller.loop.time()
        for byte in b"GET / HTTP/1.1\r\nHost: user\r\nX":
            if caller.transport.is_closing() or caller.got:
                break
            caller.transport.write(bytes([byte]))
            await asyncio.sleep(1)
        assert caller.got.startswith(b"HTTP/1.1 408 ")
        assert caller.loop.time() - begun == pytest.approx(11, abs=1)


@virtual
async def test_a_new_connection_has_ten_seconds_for_its_first_byte() -> None:
    """A connection on which nothing arrives ends without a word."""
    async with serving(hello) as site:
        caller = await site.dial()
        begun = caller.loop.time()
        assert await caller.ended - begun == pytest.approx(10)
        assert caller.got == b""
        assert site.sent == []


@virtual
async def test_an_idle_connection_is_kept_for_75_seconds() -> None:
    """The keep-alive time counts from the last answer."""
    async with serving(hello) as site:
        caller = await site.dial()
        for _ in range(3):
            await asyncio.sleep(9)
            caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
            await settle()
        begun = caller.loop.time()
        assert caller.got.count(b"200 OK") == 3
        assert await caller.ended - begun == pytest.approx(75)


@virtual
async def test_a_body_may_be_slow_but_not_stop() -> None:
    """A body lives as long as a byte a minute arrives, and is a 408 sixty seconds after the last one."""
    async with serving(hello) as site:
        caller = await site.dial()
        caller.transport.write(b"POST / HTTP/1.1\r\nHost: user\r\nContent-Length: 9\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(50)
            caller.transport.write(b"a")
        await settle()
        begun = caller.loop.time()
        assert not caller.got
        await caller.ended
        assert caller.got.startswith(b"HTTP/1.1 408 ")
        assert caller.loop.time() - begun == pytest.approx(60)


@virtual
async def test_a_handler_may_take_longer_than_any_idle_limit() -> None:
    """The protocol's limits are about bytes: a handler that works for ten minutes is not disturbed."""
    async with serving(slow(600.0)) as site:
        assert await elapsed(site.get()) == pytest.approx(600)


@virtual
async def test_a_streamed_answer_may_pause_but_not_stop() -> None:
    """A source that gives nothing for sixty seconds is given up and reported; one that is slower than usual is not."""
    closed: list[float] = []
    loop = asyncio.get_running_loop()

    async def source() -> AsyncIterator[bytes]:
        try:
            for pause in (0, 50, 50, 1000):
                await asyncio.sleep(pause)
                yield b"tick"
        finally:
            closed.append(loop.time())

    async def handler(request: Request) -> Response:
        return Response(200, source())

    async with serving(handler) as site:
        begun = loop.time()
        with pytest.raises(ConnectionLost):
            await site.get()
        assert closed == [pytest.approx(begun + 160)]
        assert [str(error) for error in site.errors] == ["a streamed answer made no progress in 60s"]
        assert site.sent == [("/", 200, 12)]


@virtual
async def test_a_caller_that_stops_reading_is_cut_after_a_minute() -> None:
    """An answer nobody takes is given up sixty seconds after its last progress."""

    async def handler(request: Request) -> Response:
        return Response(200, b"a" * 1_000_000)

    async with serving(handler) as site:
        caller = await site.dial()
        caller.transport.pause_reading()
        begun = caller.loop.time()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        while site.server.connections:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(1)
        assert caller.loop.time() - begun == pytest.approx(61, abs=1)


@virtual
async def test_draining_waits_as_long_as_it_may() -> None:
    """drain() returns as soon as the last answer is out, and at its limit cuts off what is left."""
    async with serving(slow(3.0)) as site:
        call = asyncio.create_task(site.get())
        await settle()
        assert await elapsed(site.server.drain(20.0)) == pytest.approx(3.0)
        assert (await call).body == b"slow"
    async with serving(slow(30.0)) as site:
        call = asyncio.create_task(site.get())
        await settle()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await site.server.drain(20.0) == 1
        assert loop.time() - begun == pytest.approx(20)
        with pytest.raises(ConnectionLost):
            await call
        assert site.sent == [("/", None, 0)]


@virtual
async def test_a_head_is_not_late_while_nobody_reads_it() -> None:
    """A caller whose pipelined requests fill the queue loses none of them to a limit that is about its own slowness."""
    async with serving(slow(3.0)) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\nX: %b\r\n\r\n" % (b"a" * 10_000) * 20)
        await asyncio.sleep(61)
        assert caller.got.count(b"200 OK") == 20
        assert not caller.ended.done()


@virtual
async def test_a_head_is_not_late_behind_a_streamed_answer() -> None:
    """The beginning of a next request does not shorten the time that a streamed answer has."""

    async def source() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b"late"

    async def handler(request: Request) -> Response:
        return Response(200, source())

    async with serving(handler) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await settle()
        caller.transport.write(b"GET /")
        await asyncio.sleep(31)
        assert caller.got.endswith(b"late\r\n0\r\n\r\n")
        assert site.errors == []
        await asyncio.sleep(10)
        assert b"HTTP/1.1 408 " in caller.got


@virtual
async def test_a_caller_that_is_owed_a_100_is_not_late() -> None:
    """A body that its sender holds back until we ask for it has its sixty seconds from then on."""

    async def handler(request: Request) -> Response:
        await asyncio.sleep(70)
        return Response(200, await request.read())

    async with serving(handler, streams=lambda request: True) as site:
        for pause, status in ((10, b"200"), (61, b"500")):
            caller = await site.dial()
            caller.transport.write(b"POST / HTTP/1.1\r\nHost: user\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            await asyncio.sleep(71)
            assert caller.got == b"HTTP/1.1 100 Continue\r\n\r\n"
            await asyncio.sleep(pause - 1)
            caller.transport.write(b"hi")
            await settle()
            assert b"HTTP/1.1 " + status in caller.got
        assert [str(error) for error in site.errors] == ["nothing of the request's body arrived in 60s"]


@virtual
async def test_a_body_in_tiny_pieces_costs_its_size() -> None:
    """A body that a caller cuts into the smallest chunks takes no more memory than another."""
    async with serving(hello) as site:
        caller = await site.dial()
        caller.transport.write(b"POST / HTTP/1.1\r\nHost: user\r\nTransfer-Encoding: chunked\r\n\r\n")
        await settle()
        tracemalloc.start()
        try:
            caller.transport.write(b"2\r\nab\r\n" * 50_000)
            await settle()
            assert tracemalloc.get_traced_memory()[0] < 300_000
        finally:
            tracemalloc.stop()
        caller.transport.write(b"0\r\n\r\n")
        await settle()
        assert caller.got.endswith(b"\r\n\r\n/" + b"ab" * 50_000)


@virtual
async def test_a_body_that_nobody_read_does_not_block_the_next_request() -> None:
    """A streamed request body that arrived whole but was not read leaves a connection that serves on."""

    async def handler(request: Request) -> Response:
        await asyncio.sleep(1)
        return Response(403)

    async with serving(handler, streams=lambda request: True) as site:
        for _ in range(2):
            assert (await site.pool.send(Request("POST", "/", body=b"a" * 100_000))).status == 403
        assert site.server.connections == 1


@virtual
async def test_a_caller_is_seen_to_leave_when_its_body_was_dropped() -> None:
    """A handler that gave up a body it does not want is cancelled when its caller leaves."""
    cancelled: list[str] = []

    async def handler(request: Request) -> Response:
        assert not isinstance(request.body, bytes)
        await asyncio.sleep(1)
        await request.body.aclose()  # type: ignore[attr-defined]  # a body stream has it
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(request.path)
            raise
        raise AssertionError

    async with serving(handler, streams=lambda request: True) as site:
        caller = await site.dial()
        caller.transport.write(b"POST / HTTP/1.1\r\nHost: user\r\nContent-Length: 900000\r\n\r\n" + b"a" * 200_000)
        await asyncio.sleep(2)
        caller.transport.close()
        await settle()
        assert cancelled == ["/"]


@virtual
async def test_draining_waits_for_handlers_whose_callers_left() -> None:
    """What a cancelled handler cleans up with is still there when its connection is not: drain() returns after it."""
    cleaned: list[str] = []

    async def handler(request: Request) -> Response:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(3)
            cleaned.append(request.path)
        raise AssertionError

    async with serving(handler) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await settle()
        caller.transport.abort()
        await settle()
        assert await elapsed(site.server.drain(20.0)) == pytest.approx(3)
        assert cleaned == ["/"]


# -- faults ------------------------------------------------------------------------------------------------------------


@virtual
async def test_a_refused_address() -> None:
    """refuse() fails new connections, open ones live on, and heal() lifts it."""
    async with serving(hello) as site:
        await site.get()
        site.network.refuse(HOST, PORT)
        assert (await site.get()).status == 200
        await asyncio.sleep(31)
        with pytest.raises(ConnectFailed, match="refused"):
            await site.get()
        site.network.heal(HOST, PORT)
        assert (await site.get()).status == 200


@virtual
async def test_a_hanging_address() -> None:
    """hang() lets nothing through, neither connects nor bytes; heal() delivers what waited."""
    async with serving(hello) as site:
        await site.get()
        site.network.hang(HOST, PORT)
        for _ in range(2):  # a kept connection, then a new one
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await site.get()
        call = asyncio.create_task(site.get())
        await asyncio.sleep(5)
        assert not call.done()
        site.network.heal(HOST, PORT)
        assert (await call).status == 200


@virtual
async def test_an_end_that_hung_is_told_of_later() -> None:
    """A close that could not get through arrives when the fault is lifted, whatever else was connected meanwhile."""
    async with serving(hello) as site:
        caller = await site.dial()
        site.network.hang(HOST, PORT)
        await site.server.drain(0)
        await settle()
        await site.network.listen("other", PORT, Caller)
        transport, _ = await site.network.connect(Caller, "other", PORT)
        assert not caller.ended.done()
        site.network.heal(HOST, PORT)
        await settle()
        assert caller.ended.done()
        transport.close()


@virtual
async def test_a_cut_answer() -> None:
    """cut() resets a connection after so many bytes of answer; both sides learn of it."""
    async with serving(hello) as site:
        site.network.cut(HOST, PORT, 20)
        with pytest.raises(ConnectionLost, match="cut off after 20 bytes"):
            await site.get()
        await settle()
        assert site.server.connections == 0
        site.network.cut(HOST, PORT, 0)
        with pytest.raises(ConnectionLost) as caught:
            await site.get()
        assert not caught.value.idle


@virtual
async def test_a_slow_network() -> None:
    """delay() makes the connect and each way later, once per message and not per piece."""
    async with serving(hello) as site:
        site.network.delay(HOST, PORT, 0.1)
        assert await elapsed(site.get()) == pytest.approx(0.3)
        assert await elapsed(site.get()) == pytest.approx(0.2)
        request = Request("POST", "/", body=b"a" * 1_000_000)
        assert await elapsed(site.pool.send(request)) == pytest.approx(0.2)


@virtual
async def test_a_client_that_gives_up_is_noticed() -> None:
    """Cancelling a call cancels its handler at the other end."""
    async with serving(slow(1000.0)) as site:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await site.get()
        await settle()
        assert site.sent == [("/", None, 0)]
        assert site.server.in_flight == 0


@virtual
async def test_cancelling_a_finished_call_keeps_its_connection() -> None:
    """An answer that arrives in the very turn of the cancellation leaves a clean connection behind."""
    async with serving(hello) as site:
        await site.get()
        connection = site.pool._idle[0]
        call = asyncio.create_task(site.get())
        while not (call.done() or connection.served == 2):  # noqa: ASYNC110 - turn by turn
            await asyncio.sleep(0)
        if not call.done():
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert site.pool.describe()["idle"] == 1
        assert (await site.get()).status == 200
        assert connection.served == 3


@virtual
async def test_a_connection_that_ends_before_anything_was_sent_says_so() -> None:
    """When a kept connection is found closed before writing, no byte was sent, and any method may be sent again."""
    async with serving(hello) as site:
        await site.get()
        site.pool._idle[0]._transport.close()
        with pytest.raises(ConnectionLost) as caught:
            await site.pool.send(Request("POST", "/"))
        assert (caught.value.idle, caught.value.sent) == (True, False)


@virtual
async def test_a_streamed_answer_that_nobody_reads_does_not_block_its_connection() -> None:
    """A streamed answer that arrived whole gives its connection back, in working order, before it is read."""

    async def handler(request: Request) -> Response:
        return Response(200, b"a" * 100_000 if request.path == "/large" else b"small")

    async with serving(handler) as site:
        request = Request("GET", "/large")
        request.stream = True
        large = await site.pool.send(request)
        await settle()
        assert await elapsed(site.get()) == 0
        assert site.server.connections == 1
        assert len(await large.read()) == 100_000


@virtual
async def test_an_answer_before_the_end_of_a_whole_body_ends_the_connection() -> None:
    """A peer that answers and reads no further does not hold the connection for the rest of the body."""

    class Curt(Caller):
        def data_received(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            self.transport.pause_reading()

    network = MemoryNetwork()
    await network.listen(HOST, PORT, Curt)
    pool = Pool(HOST, PORT, connect=network.connect, limits=PoolLimits(), clock=lambda: 0.0, peer="user")
    assert (await pool.send(Request("POST", "/", body=b"a" * 5_000_000))).status == 413
    await settle()
    assert not pool._open


@virtual
async def test_a_body_that_was_cancelled_at_its_source_is_its_senders_error() -> None:
    """When what a request's body waits for is cancelled, the call ends with that instead of waiting for ever."""

    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        raise asyncio.CancelledError

    async with serving(hello) as site:
        with pytest.raises(asyncio.CancelledError):
            await site.pool.send(Request("POST", "/", body=source()))
        await settle()
        assert not site.pool._open


@virtual
async def test_a_new_connection_that_takes_no_byte_is_a_failed_connect() -> None:
    """When the very first write fails at once nothing was sent, and any method may be sent again."""

    class Broken(asyncio.Transport):
        closing = False

        def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
            self.closing = True

        def is_closing(self) -> bool:
            return self.closing

        def abort(self) -> None:
            self.closing = True

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            """Nothing is buffered here."""

    async def connect(factory: Callable[[], asyncio.Protocol], *_: Any) -> tuple[asyncio.Transport, asyncio.Protocol]:
        transport, protocol = Broken(), factory()
        protocol.connection_made(transport)
        return transport, protocol

    pool = Pool(HOST, PORT, connect=connect, limits=PoolLimits(), clock=lambda: 0.0, peer="user")
    with pytest.raises(ConnectFailed, match="as soon as it was open"):
        await pool.send(Request("POST", "/"))


def test_waiting_for_nothing_is_found() -> None:
    """A call that can never end is a dead-lock, not a test that hangs."""

    async def main() -> None:
        network = MemoryNetwork()
        await network.listen(HOST, PORT, Caller)
        pool = Pool(HOST, PORT, connect=network.connect, limits=PoolLimits(), clock=lambda: 0.0, peer="user")
        await pool.send(Request("GET", "/"))

    with pytest.raises(DeadLock, match="nothing is ready"):
        run(main())


@virtual
async def test_an_answer_at_once_keeps_its_connection_for_the_whole_time() -> None:
    """The keep-alive time counts from it as from any other answer, and not from the connection's beginning."""
    limits = Limits(header_read=10, keep_alive=75)
    async with serving(hello, limits=limits, at_once=lambda request: Response(200, b"at once")) as site:
        caller = await site.dial()
        begun = caller.loop.time()
        await asyncio.sleep(9)
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await caller.ended
        assert caller.loop.time() - begun == pytest.approx(9 + 75)
        assert caller.got.endswith(b"at once")


@virtual
async def test_answers_at_once_and_others_go_out_in_order() -> None:
    """One read of many requests: those that need a task, and those that do not, are answered as they came."""

    def at_once(request: Request) -> Response | None:
        return None if request.path == "/task" else Response(200, request.path.encode())

    async with serving(slow(1), at_once=at_once) as site:
        caller = await site.dial()
        paths = ["/1", "/2", "/task", "/3", "/4", "/5", "/6", "/7", "/task", "/8"]
        caller.transport.write(b"".join(b"GET %b HTTP/1.1\r\nHost: user\r\n\r\n" % path.encode() for path in paths))
        await asyncio.sleep(10)
        answers = [part.partition(b"\r\n\r\n")[2] for part in caller.got.split(b"HTTP/1.1 200 OK\r\n")[1:]]
        assert len(answers) == len(paths)
        assert [answers[index] for index in (0, 1, 2)] == [b"/1", b"/2", b"slow"]
        assert [status for _, status, _ in site.sent] == [200] * len(paths)
        assert [path for path, _, _ in site.sent] == paths


@virtual
async def test_a_read_full_of_requests_answered_at_once_gives_others_their_turn() -> None:
    """Only a few are answered without a task: the rest waits for the loop, where others are served in between."""
    order: list[str] = []

    def at_once(request: Request) -> Response | None:
        order.append(request.path)
        return Response(200)

    async def handler(request: Request) -> Response:
        order.append(request.path)
        return Response(200)

    async with serving(handler, at_once=at_once) as site:
        many, other = await site.dial(), await site.dial()
        many.transport.write(b"GET /many HTTP/1.1\r\nHost: user\r\n\r\n" * 100)
        other.transport.write(b"GET /other HTTP/1.1\r\nHost: user\r\n\r\n")
        await settle()
        await asyncio.sleep(1)
        assert order.count("/many") == 100
        assert order.index("/other") <= AT_ONCE


@virtual
async def test_an_answer_at_once_that_streams_is_streamed_by_a_task() -> None:
    """What is not whole goes out at the caller's pace, as from any handler."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await asyncio.sleep(1)
            yield b"%d" % number

    async with serving(hello, at_once=lambda request: Response(200, pieces())) as site:
        begun = asyncio.get_running_loop().time()
        assert (await site.get()).body == b"012"
        assert asyncio.get_running_loop().time() - begun == pytest.approx(3)


def events(ended: list[float], *, every: float, after: float = 0.0) -> Handler:
    """A handler whose events never end, and which notes when it was closed."""

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(every)
                yield ServerSentEvent(data="tick").encode()
        finally:
            ended.append(asyncio.get_running_loop().time())

    async def handler(request: Request) -> Response:
        await asyncio.sleep(after)
        return Response(200, pieces(), content_type="text/event-stream; charset=utf-8")

    return handler


@virtual
async def test_a_stream_of_events_in_which_nothing_happens_lives() -> None:
    """Comments keep it from being taken for dead, by us and by whatever stands between, however long it takes."""
    async with serving(events([], every=100.0)) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await settle()
        assert b"200 OK" in caller.got
        await asyncio.sleep(101)
        assert caller.got.count(b"2\r\n:\n\r\n") == 6
        assert caller.got.endswith(b"data: tick\n\n\r\n")
        assert not caller.ended.done()
        caller.transport.close()


@virtual
async def test_a_stream_of_events_ends_cleanly_with_the_drain() -> None:
    """Its reader sees the end of the answer and connects again elsewhere; nothing is cut off, nobody waits."""
    ended: list[float] = []
    async with serving(events(ended, every=1.0)) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await asyncio.sleep(2.5)
        begun = caller.loop.time()
        assert await site.server.drain(20) == 0
        assert ended == [begun]
        assert await caller.ended == begun
        assert caller.got.count(b"data: tick") == 2
        assert caller.got.endswith(b"\r\n0\r\n\r\n")
        assert (site.sent[0][1], site.errors) == (200, [])


@virtual
async def test_events_that_begin_in_the_drain_end_at_once() -> None:
    """A request that was under way cannot hold up the drain with a stream that has no end."""
    ended: list[float] = []
    async with serving(events(ended, every=1.0, after=5.0)) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await settle()
        begun = caller.loop.time()
        assert await site.server.drain(20) == 0
        assert caller.loop.time() - begun == pytest.approx(5)
        assert caller.got.endswith(b"\r\n\r\n0\r\n\r\n")
        assert site.errors == []


@virtual
async def test_events_that_end_by_themselves_as_the_drain_begins_end_once() -> None:
    """The end is written once, and what was to interrupt them reaches nobody."""
    gate = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: only\n\n"
        await gate.wait()

    async def handler(request: Request) -> Response:
        return Response(200, pieces(), content_type="text/event-stream")

    async with serving(handler) as site:
        caller = await site.dial()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await settle()
        gate.set()
        assert await site.server.drain(20) == 0
        await settle()
        assert caller.got.count(b"0\r\n\r\n") == 1
        assert [status for _, status, _ in site.sent] == [200]
        assert site.errors == []


def pieces_of_events(*pieces: bytes, every: float = 20.0, **fields: str) -> Handler:
    """A handler that sends these pieces of a stream of events, with time to be asked about after each."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(every)

    async def handler(request: Request) -> Response:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return Response(200, body(), headers=headers, content_type="text/event-stream")

    return handler


@pytest.mark.parametrize(
    ("handler", "got"),
    [
        (pieces_of_events(b"data: a", b"b\n\n", every=20), b"7\r\ndata: a\r\n3\r\nb\n\n\r\n2\r\n:\n\r\n0\r\n\r\n"),
        (pieces_of_events(b"data: a\n", b"data: b\n\n", every=20), b"8\r\ndata: a\n\r\n2\r\n:\n\r\n9\r\ndata: b\n\n\r\n"),
        (pieces_of_events(b"data: a\n\n", b"data: b\n\n", content_length="18"), b"\r\n\r\ndata: a\n\ndata: b\n\n"),
        (pieces_of_events(b"\x1f\n", b"\x8b\n", content_encoding="gzip"), b"2\r\n\x1f\n\r\n2\r\n\x8b\n\r\n0\r\n\r\n"),
    ],
    ids=["within a line", "within an event", "with a length", "compressed"],
)
def test_a_comment_breaks_no_stream_of_events(handler: Handler, got: bytes) -> None:
    """It stands between lines, is no part of a length that was promised, and is not put into what is compressed."""

    @virtual
    async def play() -> None:
        async with serving(handler) as site:
            caller = await site.dial()
            caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
            await asyncio.sleep(45)
            assert got in caller.got
            assert site.errors == []

    play()


@virtual
async def test_a_reader_of_events_that_stops_reading_has_as_long_as_any_other() -> None:
    """It is asked about its progress, and not about when something was last sent."""
    async with serving(pieces_of_events(b"data: " + b"x" * 300_000 + b"\n\n")) as site:
        caller = await site.dial()
        caller.transport.pause_reading()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await asyncio.sleep(59)
        assert site.server.connections == 1
        await asyncio.sleep(10)
        assert site.server.connections == 0


@virtual
async def test_a_caller_that_does_not_read_an_answer_at_once_is_cut_after_a_minute() -> None:
    """However long an idle connection would be kept: this one is not idle."""
    answer = Response(200, b"a" * 1_000_000)
    async with serving(hello, limits=Limits(keep_alive=1000), at_once=lambda request: answer) as site:
        caller = await site.dial()
        caller.transport.pause_reading()
        caller.transport.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        await asyncio.sleep(62)
        assert site.server.connections == 0


@virtual
async def test_an_answer_at_once_whose_connection_ends_before_its_task_began_is_closed() -> None:
    """What it holds is given back, and it is told once that it did not go out."""
    closed: list[str] = []

    def at_once(request: Request) -> Response:
        response = Response(200, b"held")
        response.on_close(lambda: closed.append(request.path))
        return response

    async with serving(hello, at_once=at_once) as site:
        caller = await site.dial()
        (connection,) = site.server._open
        connection.data_received(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
        connection.cut()
        await caller.ended
        await settle()
        assert closed == ["/"]
        assert site.sent == [("/", None, 0)]
