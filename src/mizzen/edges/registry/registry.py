"""The registry as one holds it: a handler, its work in the background, and what it knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec

from mizzen.words.clock import Clock
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

from .agent import AgentApi, elsewhere
from .blocking import Waiting
from .catalog import CatalogApi
from .checks import Checks, Connect
from .faults import Faults
from .guard import Guard
from .refusal import Refusal
from .state import State

TICK = 0.25
"""Seconds between looks at what is due: fine enough for the shortest interval, 1 s, and cheap."""

Endpoint = Callable[[Request, str], Awaitable[Response]]


class Registry:
    """An embedded registry: a handler that speaks the subset of Consul's HTTP API which the Consul driver uses.

    ``clock`` is monotonic and ``wall`` is seconds since the epoch. ``probe`` is handed the requests of HTTP checks:
    ``request.peer`` is the origin (``http://127.0.0.1:8101``), ``host`` names it too, ``request.call.timeout`` is in
    seconds. ``connect(host, port)`` serves TCP checks; without it they are refused. Without a ``token`` only
    callers on loopback are served.
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
    ) -> None:
        self._state = State(clock=clock, start=int(wall() * 1000) + 1)
        self._sleep = sleep
        self._waiting = Waiting(self._state, sleep=sleep)
        self._checks = Checks(self._state, probe=probe, connect=connect)
        self._guard = Guard(token)
        self.faults = Faults(self._state)
        self.handler: Handler = self._answer
        agent = AgentApi(self._state, tcp=connect is not None)
        self._table = _routes(agent, CatalogApi(self._state, self._waiting, self.faults))

    async def run(self) -> None:
        """Run the checks and their expiry until cancelled."""
        async with asyncio.TaskGroup() as probes:
            while True:
                for check in self._checks.step():
                    check.probing = True  # from now on, not from when its task first runs
                    probes.create_task(self._checks.examine(check))
                await self._sleep(TICK)

    def close(self) -> None:
        """Let every waiting query answer at once, so that a server can drain."""
        self._waiting.close()

    async def _answer(self, request: Request) -> Response:
        try:
            self._guard.check(request)
            if self.faults.concern(request.path):
                if self.faults.delay:
                    await self._sleep(self.faults.delay)
                if self.faults.status is not None:
                    raise Refusal(self.faults.status, "a fault that a test asked for")
            endpoint, rest = self._find(request)
            return _pretty(request, await endpoint(request, rest))
        except Refusal as refusal:
            return refusal.response()

    def _find(self, request: Request) -> tuple[Endpoint, str]:
        """The endpoint of a path, and the id or name at its end."""
        path = request.path
        methods, rest = self._table.get(path), ""
        if methods is None:
            head, _, tail = path.rpartition("/")
            methods, rest = self._table.get(f"{head}/"), unquote(tail)
        if methods is None:
            if path.startswith("/v1/"):
                return elsewhere, ""
            raise Refusal(404, f"nothing at {path}: this is Mizzen's embedded registry, its API is under /v1/")
        if path.endswith("/"):
            raise Refusal(400, f"Missing id or name after {path}")
        endpoint = methods.get(request.method)
        if endpoint is None:
            raise Refusal(405, f"method {request.method} not allowed (expected {', '.join(methods)})")
        return endpoint, rest

    def describe(self) -> dict[str, object]:
        """Services with their instances, and how the checks stand."""
        services: dict[str, list[dict[str, object]]] = {}
        for each in self._state.services.values():
            checks = {check.spec.name: check.status for check in each.checks.values()}
            at = f"{each.address}:{each.port}"
            services.setdefault(each.name, []).append({"id": each.id, "at": at, "passing": each.passing(), "checks": checks})
        return {
            "index": self._state.index,
            "services": services,
            "checks": dict(Counter(check.status for check in self._state.checks.values())),
            "waiting": self._waiting.count,
            "faults": repr(self.faults),
        }

    def __repr__(self) -> str:
        names = Counter(each.name for each in self._state.services.values())
        held = ", ".join(f"{name} {count}" for name, count in names.items()) or "empty"
        return f"<Registry {held}, {self._waiting.count} waiting>"


def _routes(agent: AgentApi, catalog: CatalogApi) -> dict[str, dict[str, Endpoint]]:
    """Every endpoint by path; one that ends in a slash takes an id or a name after it."""
    return {
        "/v1/agent/self": {"GET": agent.about},
        "/v1/agent/services": {"GET": agent.services},
        "/v1/agent/service/": {"GET": agent.service},
        "/v1/agent/service/register": {"PUT": agent.register},
        "/v1/agent/service/deregister/": {"PUT": agent.deregister},
        "/v1/agent/service/maintenance/": {"PUT": agent.maintenance},
        "/v1/agent/checks": {"GET": agent.checks},
        "/v1/agent/check/pass/": {"PUT": agent.check_pass},
        "/v1/agent/check/warn/": {"PUT": agent.check_warn},
        "/v1/agent/check/fail/": {"PUT": agent.check_fail},
        "/v1/agent/check/update/": {"PUT": agent.check_update},
        "/v1/agent/check/deregister/": {"PUT": agent.check_deregister},
        "/v1/health/service/": {"GET": catalog.health_service},
        "/v1/health/checks/": {"GET": catalog.health_checks},
        "/v1/health/state/": {"GET": catalog.health_state},
        "/v1/catalog/services": {"GET": catalog.catalog_services},
        "/v1/catalog/service/": {"GET": catalog.catalog_service},
        "/v1/catalog/nodes": {"GET": catalog.catalog_nodes},
        "/v1/catalog/datacenters": {"GET": catalog.catalog_datacenters},
        "/v1/status/leader": {"GET": catalog.leader},
    }


def _pretty(request: Request, response: Response) -> Response:
    if "pretty" in request.query and isinstance(response.body, bytes) and response.body:
        response.body = msgspec.json.format(response.body, indent=4)
    return response
