"""The last requests of a service that stops, in virtual time: who has come before the listener closed is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from loops import virtual

from mizzen import Router, Service
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.probes import State
from mizzen.assembly.running import Running
from mizzen.assembly.runtime import Runtime
from mizzen.edges.http.server import HEARING
from mizzen.rules.config import ServiceConfig
from mizzen.rules.events import Event, StepTaken
from mizzen.tools.testing.memory import MemoryNetwork

HOST, PORT = "user", 80
LINGER, DRAIN = 5.0, 20.0
HEAD = b"GET /items HTTP/1.1\r\nhost: user\r\n"


class Caller(asyncio.Protocol):
    """A caller in raw bytes that remembers what it got, and when the connection ended."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(asyncio.get_running_loop().time())

    @property
    def status(self) -> int:
        return int(self.got.split(b" ", 2)[1]) if self.got else 0


class Stage:
    """A service that is told to stop: its listener closes ``LINGER`` seconds after that."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.events: list[Event] = []
        service = Service("user")
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        service.mount(self._routes)
        telemetry = Telemetry("user", version="test")
        config = ServiceConfig(port=PORT)
        clock = asyncio.get_running_loop().time
        self.running = Running(service, config, peers={}, telemetry=telemetry, about={}, clock=clock)
        self.runtime = Runtime(
            self.running,
            network=self.network,
            host=HOST,
            port=PORT,
            linger=LINGER,
            drain=DRAIN,
            emit=self.events.append,
            announcer=lambda port: None,
            clock=clock,
        )
        self.closes = 0.0
        """When the listener does."""
        self.ended = 0.0

    async def dial(self) -> Caller:
        _, caller = await self.network.connect(Caller, HOST, PORT)
        assert isinstance(caller, Caller)
        return caller

    def stop(self) -> None:
        self.closes = asyncio.get_running_loop().time() + LINGER
        self.runtime.stop()

    async def until(self, after: float) -> None:
        """Wait until so long after the listener closed."""
        await asyncio.sleep(self.closes + after - asyncio.get_running_loop().time())

    def steps(self) -> list[str]:
        return [event.step for event in self.events if isinstance(event, StepTaken)]

    def _routes(self, router: Router) -> None:
        async def items() -> str:
            return "items"

        async def held() -> str:
            self.asked.set()
            await self.gate.wait()
            return "held"

        router.get("/items", items)
        router.get("/held", held)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A service that serves; at the end it has stopped and cut off nobody."""
    staged = Stage()
    started = asyncio.Event()
    life = asyncio.ensure_future(staged.runtime.run(signals=False, started=started.set))
    await started.wait()
    await asyncio.sleep(0)
    yield staged
    assert await life == 0
    staged.ended = asyncio.get_running_loop().time()


@virtual
async def test_the_first_request_of_a_connection_is_answered() -> None:
    """Who connected just before the listener closed, and asks just after it, gets an answer, the last one there."""
    async with stage() as staged:
        staged.stop()
        await staged.until(-0.001)
        caller, begun = await staged.dial(), await staged.dial()
        begun.transport.write(HEAD)
        await staged.until(0.2)
        assert staged.runtime.state is State.DRAINING
        with pytest.raises(ConnectionRefusedError):
            await staged.dial()
        caller.transport.write(HEAD + b"\r\n")
        begun.transport.write(b"\r\n")
        await asyncio.sleep(0.1)
        assert [caller.status, begun.status] == [200, 200]
        assert b"connection: close\r\n" in caller.got
        assert caller.ended.done()
    assert staged.ended < staged.closes + 0.5
    assert "last requests" in staged.steps()


@virtual
async def test_who_asks_too_late_is_sent_elsewhere() -> None:
    """After a moment a connection that has said nothing is closed, and a request that was begun is refused unseen."""
    async with stage() as staged:
        silent, slow = await staged.dial(), await staged.dial()
        slow.transport.write(HEAD)
        staged.stop()
        await staged.until(HEARING + 0.5)
        assert silent.ended.done()
        assert silent.got == b""
        slow.transport.write(b"\r\n")
        await asyncio.sleep(0.1)
        assert slow.status == 503
        assert b"x-rejected: draining\r\n" in slow.got


@virtual
async def test_nobody_waits_for_idle_connections() -> None:
    """One that has had its answers is closed with the listener: a stop takes no longer than the linger."""
    async with stage() as staged:
        idle = await staged.dial()
        idle.transport.write(HEAD + b"\r\n")
        await asyncio.sleep(0.1)
        assert idle.status == 200
        staged.stop()
    assert staged.ended == pytest.approx(staged.closes, abs=0.01)
    assert idle.ended.done()
    assert "last requests" not in staged.steps()


@virtual
async def test_a_request_that_takes_its_time_is_not_waited_for_twice() -> None:
    """The first answer may take as long as the drain; it is no request that is on its way any more."""
    async with stage() as staged:
        caller = await staged.dial()
        staged.stop()
        await staged.until(-1)
        caller.transport.write(HEAD.replace(b"items", b"held") + b"\r\n")
        await staged.asked.wait()
        await staged.until(0.1)
        assert staged.running.edge.refusing == "draining"
        await staged.until(8)
        staged.gate.set()
        assert await caller.ended == pytest.approx(staged.closes + 8, abs=0.1)
        assert caller.status == 200
    assert "last requests" not in staged.steps()
