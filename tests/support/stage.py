"""A client on a stage: its whole stack over the in-memory network, with peers that the test plays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mizzen.assembly.client import Client
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.peers import Peer
from mizzen.assembly.probes import State
from mizzen.assembly.running import Running
from mizzen.assembly.service import Service
from mizzen.edges.http import Limits, Pool, PoolLimits, Server
from mizzen.edges.resolvers import StaticResolver
from mizzen.rules.config import ClientConfig, ServiceConfig
from mizzen.rules.discovery import Instance
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response
from mizzen.words.outcome import Classifier, classify

PORT = 80


def now() -> float:
    """Seconds on the loop's own clock, which is virtual here."""
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)


class Played:
    """One instance that the test plays: it answers by a script, or by a handler, and remembers what reached it."""

    def __init__(self, number: int, script: Sequence[Any] | Handler) -> None:
        self.host = f"10.0.0.{number}"
        self.id = f"user-{self.host}-{PORT}"
        self.script = script
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self.cancelled = 0
        self.server = Server(
            self._handle, limits=Limits(), clock=now, refuse=lambda status, detail, request: Response(status, detail.encode())
        )

    async def _handle(self, request: Request) -> Response:
        self.requests.append(request)
        self.times.append(now())
        self.bodies.append(await request.read())
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _answer(self, request: Request) -> Response:
        if callable(self.script):
            return await self.script(request)
        answer = self.script[min(len(self.requests), len(self.script)) - 1]
        if isinstance(answer, int):
            return Response(answer, b"{}", content_type="application/json")
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return Response(200, b"{}", content_type="application/json")
        assert isinstance(answer, Response)
        return Response(answer.status, answer.body, headers=answer.headers.copy())

    @property
    def timeouts(self) -> list[int]:
        """What each request said is left for it, in milliseconds."""
        return [int(request.headers["x-request-timeout-ms"]) for request in self.requests]

    @property
    def instance(self) -> Instance:
        return Instance(self.id, "user", self.host, PORT)


class Stage:
    """A client of ``user`` with its peers; its caller is a service in front of it, where the test wants one."""

    def __init__(self, *scripts: Sequence[Any] | Handler, config: ClientConfig, judge: Classifier, seed: int) -> None:
        self.network = MemoryNetwork()
        self.played = [Played(number, script) for number, script in enumerate(scripts, 1)]
        self.telemetry = Telemetry("order", version="test")
        self.events: list[Any] = []
        self.telemetry.emit = self.events.append
        self.service = Service("order")
        self.client: Client = self.service.client("user", classify=judge)
        self.peer = Peer(
            self.client,
            config,
            StaticResolver({"user": [f"http://{played.host}:{PORT}" for played in self.played]}),
            backend="static",
            network=self.network,
            telemetry=self.telemetry,
            clock=now,
            random=random.Random(seed).random,
        )
        self.client.line = self.peer

    @property
    def asked(self) -> int:
        """Requests that reached any instance."""
        return sum(len(played.requests) for played in self.played)

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def timers(self) -> list[asyncio.TimerHandle]:
        """Timers that are set, those of servers apart: these belong to the played peers."""
        scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled() and "Patience" not in repr(timer)]

    async def listen(self) -> None:
        for played in self.played:
            await self.network.listen(played.host, PORT, played.server.protocol)

    @asynccontextmanager
    async def in_front(self, handler: Callable[..., Awaitable[Any]], *, method: str = "GET") -> AsyncIterator[Pool]:
        """Run ``order`` in front of the client, with one route ``/``; gives a pool that calls it."""
        self.service.router.route(method, "/", handler)
        running = Running(
            self.service, ServiceConfig(port=PORT), peers={"user": self.peer}, telemetry=self.telemetry, about={}, clock=now
        )
        server = running.server()
        listener = await self.network.listen("order", PORT, server.protocol)
        pool = Pool("order", PORT, connect=self.network.connect, limits=PoolLimits(), clock=now, peer="order")
        try:
            await running.start()
            running.enter(State.SERVING)
            yield pool
            assert running.edge.limit.count == 0
        finally:
            pool.close()
            listener.close()
            await server.drain(0)
            await running.close()


@asynccontextmanager
async def stage(
    *scripts: Sequence[Any] | Handler, config: ClientConfig | None = None, judge: Classifier = classify, seed: int = 1
) -> AsyncIterator[Stage]:
    """A stage whose peers are known; nothing may be left of it at its end.

    A script is a list of answers, of which the last is repeated: a status, seconds to wait before a 200, or a response.
    """
    made = Stage(*scripts, config=config or ClientConfig(), judge=judge, seed=seed)
    await made.listen()
    made.peer.store.snapshot([played.instance for played in made.played])
    try:
        yield made
    finally:
        await made.peer.stop()
        for played in made.played:
            await played.server.drain(0)
        await settle()
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == [], f"tasks left: {left}"
        assert made.network.describe()["connections"] == 0
        assert all(played.server.in_flight == 0 for played in made.played)
