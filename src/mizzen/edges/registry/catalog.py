"""``/v1/health`` and ``/v1/catalog``, read: what those who look for instances call. All of it may block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mizzen.words.message import Request, Response

from . import render
from .blocking import Waiting
from .faults import Faults
from .index import CHECKS, NODES, SERVICES, node_topic, service_topic
from .model import STATUSES, Service
from .query import READING, Query, blocking, mode
from .refusal import Refusal
from .state import State


class CatalogApi:
    """The endpoints, each given the request and the rest of its path."""

    def __init__(self, state: State, waiting: Waiting, faults: Faults) -> None:
        self._state = state
        self._waiting = waiting
        self._faults = faults

    async def health_service(self, request: Request, rest: str) -> Response:
        query = Query(request.query, (*READING, "passing", "tag"))
        passing, tags = query.flag("passing"), query.all("tag")

        def answer() -> list[Any]:
            return [render.health(each) for each in self._tagged(rest, tags) if not passing or each.passing()]

        return await self._read(query, answer, service_topic(rest))

    async def health_checks(self, request: Request, rest: str) -> Response:
        def answer() -> list[Any]:
            checks = [check for each in self._state.named(rest) for check in each.checks.values()]
            return [render.check(check) for check in sorted(checks, key=lambda check: (check.node.name, check.spec.id))]

        return await self._read(Query(request.query, READING), answer, service_topic(rest))

    async def health_node(self, request: Request, rest: str) -> Response:
        def answer() -> list[Any]:
            node = self._state.nodes.get(rest)
            return [render.check(node.checks[id]) for id in sorted(node.checks)] if node else []

        return await self._read(Query(request.query, READING), answer, node_topic(rest))

    async def health_state(self, request: Request, rest: str) -> Response:
        query = Query(request.query, READING)
        if rest not in ("any", *STATUSES):
            raise Refusal(400, f"Invalid state: {rest!r} (expected any, {', '.join(STATUSES)})")

        def answer() -> list[Any]:
            return [render.check(check) for check in self._state.checks() if rest in ("any", check.status)]

        return await self._read(query, answer, CHECKS)

    async def services(self, request: Request, rest: str) -> Response:
        def answer() -> dict[str, list[str]]:
            names: dict[str, list[str]] = {"consul": []}  # every Consul lists itself; tools look for it
            for name in self._state.names():
                names[name] = sorted({tag for each in self._state.named(name) for tag in each.tags})
            return dict(sorted(names.items()))

        return await self._read(Query(request.query, READING), answer, SERVICES)

    async def service(self, request: Request, rest: str) -> Response:
        query = Query(request.query, (*READING, "tag"))
        tags = query.all("tag")

        def answer() -> list[Any]:
            return [render.catalog(each) for each in self._tagged(rest, tags)]

        return await self._read(query, answer, service_topic(rest))

    async def nodes(self, request: Request, rest: str) -> Response:
        def answer() -> list[Any]:
            return [render.node(self._state.nodes[name]) for name in sorted(self._state.nodes)]

        return await self._read(Query(request.query, READING), answer, NODES)

    async def node(self, request: Request, rest: str) -> Response:
        """A node and its services by their ids."""

        def answer() -> dict[str, Any] | None:
            node = self._state.nodes.get(rest)
            if node is None:
                return None
            services = {id: render.node_service(node.services[id]) for id in sorted(node.services)}
            return {"Node": render.node(node), "Services": services}

        return await self._read(Query(request.query, READING), answer, node_topic(rest))

    async def node_services(self, request: Request, rest: str) -> Response:
        """The same with the services as a list."""

        def answer() -> dict[str, Any]:
            node = self._state.nodes.get(rest)
            services = [render.node_service(node.services[id]) for id in sorted(node.services)] if node else None
            return {"Node": render.node(node) if node else None, "Services": services}

        return await self._read(Query(request.query, READING), answer, node_topic(rest))

    def _tagged(self, name: str, tags: list[str]) -> list[Service]:
        return [each for each in self._state.named(name) if all(tag in each.tags for tag in tags)]

    async def _read(self, query: Query, answer: Callable[[], Any], topic: str) -> Response:
        consistency, block = mode(query), blocking(query)
        if self._faults.leaderless and consistency != "stale" and not query.flag("cached"):
            raise Refusal(500, "No cluster leader")
        await self._waiting.until(topic, block)
        said = answer()
        if (self._faults.filtered or self._faults.empty) and said is not None:
            said = type(said)()
        response = Response.json_of(said)
        headers = response.headers
        headers.add("x-consul-index", str(self._state.index.of(topic) if self._faults.index is None else self._faults.index))
        headers.add("x-consul-knownleader", "false" if self._faults.leaderless else "true")
        headers.add("x-consul-lastcontact", "0")
        headers.add("x-consul-effective-consistency", consistency)
        headers.add("x-consul-query-backend", "blocking-query")
        if query.flag("cached"):
            headers.add("x-cache", "MISS")  # nothing is kept: every answer is new
        if self._faults.filtered:
            headers.add("x-consul-results-filtered-by-acls", "true")
        return response
