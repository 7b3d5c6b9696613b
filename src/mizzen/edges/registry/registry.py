"""The registry as one holds it: a handler, its work in the background, and what it knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec

from mizzen.words.clock import Clock, Random
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

from .about import About
from .admission import INSTANCES, Admission
from .agent import AgentApi
from .agent_checks import AgentChecksApi
from .blocking import Waiting
from .catalog import CatalogApi
from .catalog_writes import CatalogWritesApi
from .checks import Checks, Connect
from .faults import Faults
from .guard import Guard
from .model import SERF
from .refusal import Refusal
from .routes import Endpoint, elsewhere, routes
from .state import State
from .transactions import TransactionsApi

TICK, LEAST = 0.25, 0.001
"""Seconds between looks at the timetable: at most, for what was planned meanwhile, and at least."""


class Registry:
    """An embedded registry: a handler that speaks the subset of Consul's HTTP API which the Consul driver uses.

    ``clock`` is monotonic and ``wall`` is seconds since the epoch. ``probe`` is handed the requests of HTTP checks:
    ``request.peer`` is the origin (``http://127.0.0.1:8101``), ``host`` names it too, ``request.call.timeout`` is in
    seconds. ``connect(host, port)`` serves TCP checks; without it they are refused. Without a ``token`` only
    callers on loopback are served. ``random`` spreads the ends of queries that wait. ``instances`` at most are held.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        wall: Clock,
        sleep: Callable[[float], Awaitable[None]],
        probe: Handler,
        connect: Connect | None = None,
        token: str | None = None,
        random: Random = lambda: 0.0,
        instances: int = INSTANCES,
    ) -> None:
        self._state = State(clock=clock, start=int(wall() * 1000) + 1)
        self._clock = clock
        self._sleep = sleep
        self._waiting = Waiting(self._state.index, sleep=sleep, random=random)
        self._checks = Checks(self._state, probe=probe, connect=connect)
        self._guard = Guard(token)
        self.faults = Faults(self._state, self._guard)
        self.handler: Handler = self._answer
        admission = Admission(self._state, tcp=connect is not None, instances=instances)
        self._table = routes(
            About(self._state),
            AgentApi(self._state, self._waiting, admission),
            AgentChecksApi(self._state, admission),
            CatalogApi(self._state, self._waiting, self.faults),
            CatalogWritesApi(self._state, admission),
            TransactionsApi(self._state),
        )
        self._open = sorted((path for path in self._table if path.endswith("/")), key=len, reverse=True)
        """Paths that take an id or a name after them, the longest first."""

    async def run(self) -> None:
        """Run the checks and their expiry until cancelled."""
        async with asyncio.TaskGroup() as probes:
            while True:
                for check in self._checks.step():
                    probes.create_task(self._checks.examine(check))
                due = self._state.timetable.next
                await self._sleep(TICK if due is None else min(TICK, max(LEAST, due - self._clock())))

    def close(self) -> None:
        """Let every waiting query answer at once, so that a server can drain."""
        self.faults.hang = False
        self._waiting.close()

    async def _answer(self, request: Request) -> Response:
        try:
            self._guard.check(request)
            if self.faults.concern(request.path):
                if self.faults.delay:
                    await self._sleep(self.faults.delay)
                await self.faults.thawed(request.path)
                if self.faults.status is not None:
                    raise Refusal(self.faults.status, self.faults.text)
            endpoint, rest = self._find(request)
            response = _pretty(request, await endpoint(request, rest))
            await self.faults.thawed(request.path)  # what was being waited for when it began to hang
        except Refusal as refusal:
            response = refusal.response()
        response.headers.add("x-consul-default-acl-policy", "allow")
        return response

    def _find(self, request: Request) -> tuple[Endpoint, str]:
        """The endpoint of a path, and the id or name at its end."""
        path = request.path
        known = path if path in self._table else next((each for each in self._open if path.startswith(each)), "")
        methods, rest = self._table.get(known), unquote(path[len(known) :])  # an id may have slashes in it, as in Consul
        if methods is None:
            if path.startswith("/v1/"):
                return elsewhere, ""
            raise Refusal(404, f"nothing at {path}: this is Mizzen's embedded registry, its API is under /v1/")
        if known.endswith("/") and not rest:
            raise Refusal(400, f"Missing id or name after {path}")
        endpoint = methods.get(request.method)
        if endpoint is None:
            raise Refusal(405, f"method {request.method} not allowed (expected {', '.join(methods)})", allow=", ".join(methods))
        return endpoint, rest

    def describe(self) -> dict[str, object]:
        """Services with their instances, and how the checks stand."""
        services: dict[str, list[dict[str, object]]] = {}
        for name in self._state.names():
            for each in self._state.named(name):
                checks = {check.spec.name: check.status for check in each.checks.values()}
                at = f"{each.address or each.node.address}:{each.port}"
                services.setdefault(name, []).append({"id": each.id, "at": at, "passing": each.passing(), "checks": checks})
        return {
            "index": self._state.index.value,
            "services": services,
            "nodes": sorted(self._state.nodes),
            "checks": dict(Counter(check.status for check in self._state.checks() if check.spec.id != SERF)),
            "waiting": self._waiting.count,
            "faults": repr(self.faults),
        }

    def __repr__(self) -> str:
        names = {name: len(self._state.named(name)) for name in self._state.names()}
        held = ", ".join(f"{name} {count}" for name, count in names.items()) or "empty"
        return f"<Registry {held}, {self._waiting.count} waiting>"


def _pretty(request: Request, response: Response) -> Response:
    if "pretty" in request.query and isinstance(response.body, bytes) and response.body:
        response.body = msgspec.json.format(response.body, indent=4)
    return response
