"""Running: what a service is made of while it runs: opened things, connected peers, checks and the server's stack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from mizzen.edges.http import Limits, Server
from mizzen.rules.binding import Plan
from mizzen.rules.config import ServiceConfig
from mizzen.rules.events import CheckChanged, StepTaken
from mizzen.rules.health import Check, Health
from mizzen.rules.limit import Limit
from mizzen.rules.router import Route, Table
from mizzen.words.clock import Clock, monotonic
from mizzen.words.handler import Handler
from mizzen.words.message import Request

from .edge import Edge, Leaf
from .observing import Telemetry
from .probes import Crew, Probes, State
from .resources import HEED_LIMIT, Resources
from .service import Service

if TYPE_CHECKING:
    from mizzen.edges.http import Certificates

    from .apps import Apps  # loaded by services that mount some
    from .peers import Peer  # loaded by services that have some

THREADS = 32
"""Handlers without ``async`` that run at once; more wait their turn, so that they cannot exhaust the machine."""
PEER_CHECK_EVERY = 1.0
"""Seconds between looks at a peer's breaker and endpoints, which cost nothing."""

_REFUSING = {State.STARTING: "starting", State.DRAINING: "draining", State.CLOSED: "draining"}
"""How requests are refused, by state; in the others they are served."""


class Running:
    """The live parts of one service, opened by :meth:`start` and closed in reverse by :meth:`close`."""

    def __init__(
        self,
        service: Service,
        config: ServiceConfig,
        *,
        peers: Mapping[str, Peer],
        telemetry: Telemetry,
        about: dict[str, str],
        clock: Clock = monotonic,
        overrides: Mapping[type, Any] | None = None,
        tls: Certificates | None = None,
        crew: Crew | None = None,
    ) -> None:
        """``tls`` is for the service's port; a port of its own for the platform's questions speaks HTTP.

        ``crew`` is of whom this is one worker, if it is.
        """
        self.service = service
        self.config = config
        self.peers = dict(peers)
        self.state = State.STARTING
        self.on_verdict: Callable[[], None] = _nothing
        self._plans = service.plans(list(overrides or ()))
        self._emit = telemetry.emit
        self._telemetry = telemetry
        self._clock = clock
        self._tls = tls
        self._threads: ThreadPoolExecutor | None = None
        self._background: list[asyncio.Task[None]] = []
        self._apps = self._mounted()
        things = [*service.provided.values(), *(self._apps.lifespans() if self._apps is not None else ())]
        self._resources = Resources(things, emit=telemetry.emit, clock=clock, overrides=overrides)
        self.health = Health(clock=clock, sleep=asyncio.sleep, on_change=self._check_changed)
        self._probes = Probes(
            state=lambda: self.state,
            health=self.health,
            waiting=self.waiting,
            about=about,
            metrics=telemetry.metrics,
            discovery=lambda: {name: peer.report() for name, peer in self.peers.items()},
            crew=crew,
        )
        self._own_probes = self._probe_leaves() if config.admin.port is None else []
        self.edge = self._edge(self._own_probes)
        self.enter(State.STARTING)

    def server(self) -> Server:
        """The server that speaks HTTP for this service."""
        server = self._server(self.edge, self._tls)
        self._telemetry.active(lambda: server.in_flight)
        return server

    def admin_server(self) -> Server:
        """The server that answers the platform's questions alone, where these have a port of their own."""
        return self._server(self._edge(self._probe_leaves()))

    def _mounted(self) -> Apps | None:
        if not self.service.apps:
            return None
        from .apps import Apps

        limits = self.config.limits

        def accepted(request: Request) -> None:
            if request.admitted:  # a WebSocket is mostly idle: it counts as a connection, not as a request in flight
                request.admitted = False
                self.edge.limit.leave()

        return Apps(self.service.name, self.service.apps, body=limits.body, timeout=limits.handler, accepted=accepted)

    def _edge(self, leaves: list[tuple[Route, Leaf]]) -> Edge:
        return Edge(
            Table(leaves),
            limit=Limit(self.config.limits.in_flight),
            max_body=self.config.limits.body,
            clock=self._clock,
            observe=self._telemetry.observe,
        )

    def _server(self, edge: Edge, tls: Certificates | None = None) -> Server:
        limits = self.config.limits
        return Server(
            edge.answer,
            limits=Limits(
                body=limits.body,
                headers=limits.headers,
                url=limits.url,
                connections=limits.connections,
                header_read=limits.header_read,
                keep_alive=limits.keep_alive,
                progress=limits.progress,
            ),
            clock=self._clock,
            streams=edge.streams,
            max_body=edge.max_body,
            refuse=edge.refuse,
            sent=edge.sent,
            at_once=edge.at_once,
            wall=time.time,
            tls=None if tls is None else tls.context,
        )

    def enter(self, state: State, *, refuse: bool = True) -> None:
        """Be in ``state`` from now on: it decides what probes answer and whether requests are refused, which may come later."""
        self.state = state
        if refuse:
            self.edge.refusing = _REFUSING.get(state)

    async def start(self) -> None:
        """Connect the peers, open everything provided in order, and wait until every required check has passed once."""
        for name, peer in self.peers.items():
            self.service.clients[name].line = peer
            peer.start()
        await self._resources.open()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="handler")
        entries = self._own_probes + self._leaves()
        self.edge.table = Table(entries) if self._apps is None else self._apps.table(entries, probes=bool(self._own_probes))
        if self.peers:
            from .peers import FIRST_SNAPSHOT

            started = self._clock()
            await asyncio.gather(*(peer.known(FIRST_SNAPSHOT) for peer in self.peers.values()))
            self._emit(StepTaken("find peers", self._clock() - started, FIRST_SNAPSHOT))
        self._add_checks()
        self._background.append(asyncio.get_running_loop().create_task(self.health.run(), name="health"))
        await self.health.passed()

    def waiting(self) -> list[str]:
        """What a start still waits for."""
        if self._resources.waiting_for:
            return [self._resources.waiting_for]
        return list(self.health.waiting())

    async def finish(self, seconds: float) -> int:
        """Wait for what mounted apps do behind their answers, cut it off after ``seconds``; how many were cut off."""
        return 0 if self._apps is None else await self._apps.finish(seconds)

    async def close(self) -> list[str]:
        """Stop what runs in the background, then close everything in reverse; the names of what failed to."""
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background, timeout=HEED_LIMIT)
        await self.finish(0)
        failed = await self._resources.close()
        await asyncio.gather(*(peer.stop() for peer in self.peers.values()))
        for name in self.peers:
            self.service.clients[name].line = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        return failed

    def describe(self) -> dict[str, Any]:
        """Checks, limit and peers as they are now."""
        return {
            "service": self.service.name,
            "health": self.health.report(),
            "limit": self.edge.limit.describe(),
            "peers": [peer.describe() for peer in self.peers.values()],
        }

    def _add_checks(self) -> None:
        for name, function, required in self._resources.checks():
            self.health.add(Check(name, function, required=required))
        for own in self.service.checks:
            self.health.add(Check(own.name, own.function, required=own.required))
        for name, peer in self.peers.items():
            self.health.add(Check(name, peer.check, required=peer.required, every=PEER_CHECK_EVERY, fall=1))

    def _check_changed(self, name: str, ok: bool, required: bool, detail: str) -> None:
        self._emit(CheckChanged(name, ok, required, detail))
        self.on_verdict()

    def _probe_leaves(self) -> list[tuple[Route, Leaf]]:
        timeout = self.config.limits.handler
        return [(route, Leaf(route, handler, False, timeout, True, _name(route))) for route, handler in self._probes.routes()]

    def _leaves(self) -> list[tuple[Route, Leaf]]:
        return [(route, self._leaf(route, plan)) for route, plan in self._plans]

    def _leaf(self, route: Route, plan: Plan) -> Leaf:
        handler: Handler = plan.compile(self._resources.values, in_thread=self._in_thread)
        for layer in reversed(route.layers):
            handler = layer(handler)
        timeout = self.config.limits.handler if route.timeout is None else route.timeout
        by_hand = None if route.layers else plan.compile_by_hand(self._resources.values)
        return Leaf(route, handler, plan.streams_body, timeout, False, _name(route), by_hand)

    def _in_thread(self, work: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


def _name(route: Route) -> str:
    return f"{route.method} {route.template}"


def _nothing() -> None:
    """Nobody to tell."""
