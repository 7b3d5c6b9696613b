"""``/v1/health``, ``/v1/catalog`` and ``/v1/status``: what those who look for instances call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mizzen.words.message import Request, Response

from .blocking import Waiting
from .faults import Faults
from .model import ADDRESS, DATACENTER, STATUSES, Service, node_json, serf_json
from .query import READING, Query, blocking
from .refusal import Refusal
from .state import State


class CatalogApi:
    """The endpoints, each given the request and the rest of its path; all but ``status`` may block."""

    def __init__(self, state: State, waiting: Waiting, faults: Faults) -> None:
        self._state = state
        self._waiting = waiting
        self._faults = faults

    async def health_service(self, request: Request, rest: str) -> Response:
        query = Query(request.query, (*READING, "passing", "tag"))
        passing, tags = query.flag("passing"), query.all("tag")

        def answer() -> list[Any]:
            return [each.health_json() for each in self._tagged(rest, tags) if each.passing() or not passing]

        return await self._read(query, answer, lambda: self._state.index_of(rest))

    async def health_checks(self, request: Request, rest: str) -> Response:
        query = Query(request.query, READING)

        def answer() -> list[Any]:
            return [check.json() for each in self._tagged(rest, ()) for check in each.checks.values()]

        return await self._read(query, answer, lambda: self._state.index_of(rest))

    async def health_state(self, request: Request, rest: str) -> Response:
        query = Query(request.query, READING)
        if rest not in ("any", *STATUSES):
            raise Refusal(400, f"Invalid state: {rest!r} (expected any, {', '.join(STATUSES)})")

        def answer() -> list[Any]:
            checks = [serf_json(), *(check.json() for check in self._state.checks.values())]
            return [check for check in checks if rest in ("any", check["Status"])]

        return await self._read(query, answer, self._any)

    async def catalog_services(self, request: Request, rest: str) -> Response:
        query = Query(request.query, READING)

        def answer() -> dict[str, list[str]]:
            names: dict[str, set[str]] = {"consul": set()}  # every Consul lists itself; tools look for it
            for each in self._state.services.values():
                names.setdefault(each.name, set()).update(each.tags)
            return {name: sorted(tags) for name, tags in names.items()}

        return await self._read(query, answer, self._any)

    async def catalog_service(self, request: Request, rest: str) -> Response:
        query = Query(request.query, (*READING, "tag"))
        tags = query.all("tag")

        def answer() -> list[Any]:
            return [each.catalog_json() for each in self._tagged(rest, tags)]

        return await self._read(query, answer, lambda: self._state.index_of(rest))

    async def catalog_nodes(self, request: Request, rest: str) -> Response:
        return await self._read(Query(request.query, READING), lambda: [node_json()], self._any)

    async def catalog_datacenters(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        return Response.json_of([DATACENTER])

    async def leader(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        return Response.json_of(f"{ADDRESS}:8300")

    def _any(self) -> int:
        return self._state.index

    def _tagged(self, name: str, tags: list[str] | tuple[()]) -> list[Service]:
        return [each for each in self._state.services.values() if each.name == name and all(tag in each.tags for tag in tags)]

    async def _read(self, query: Query, answer: Callable[[], Any], index: Callable[[], int]) -> Response:
        await self._waiting.until(index, blocking(query))
        said = answer()
        if self._faults.filtered:
            said = type(said)()
        response = Response.json_of(said)
        claimed = index() if self._faults.index is None else self._faults.index
        response.headers.add("x-consul-index", str(claimed))
        response.headers.add("x-consul-knownleader", "true")
        response.headers.add("x-consul-lastcontact", "0")
        if self._faults.filtered:
            response.headers.add("x-consul-results-filtered-by-acls", "true")
        return response
