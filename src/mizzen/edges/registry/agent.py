"""``/v1/agent/service``: what the instances themselves call."""

from __future__ import annotations

from mizzen.words.message import Request, Response

from . import parse, render
from .admission import Admission
from .blocking import Waiting
from .index import service_topic
from .model import Service
from .query import Query, wait_of
from .refusal import Refusal
from .state import State


class AgentApi:
    """The endpoints, each given the request and the rest of its path."""

    def __init__(self, state: State, waiting: Waiting, admission: Admission) -> None:
        self._state = state
        self._waiting = waiting
        self._admission = admission

    async def services(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        services = self._state.local.services
        return Response.json_of({id: render.agent_service(services[id]) for id in sorted(services)})

    async def service(self, request: Request, rest: str) -> Response:
        query = Query(request.query, ("pretty", "hash", "wait"))
        service, wait = self._service(rest), wait_of(query)
        said, hashed = render.one_agent_service(service)
        if query.text("hash") == hashed:
            await self._waiting.unless(lambda: self._hash(rest) != hashed, service_topic(service.name), wait)
            said, hashed = render.one_agent_service(self._service(rest))
        response = Response.json_of(said)
        response.headers.add("x-consul-contenthash", hashed)
        return response

    async def register(self, request: Request, rest: str) -> Response:
        query = Query(request.query, ("replace-existing-checks",))
        service, specs = parse.registration(await request.read(), self._state.local)
        replace = query.flag("replace-existing-checks")
        self._admission.probes(specs)
        self._admission.instance(service)
        if not replace:
            self._admission.checks(service.node.name, service.id, specs)
        self._state.put(service, specs, replace=replace)
        return Response(200)

    async def deregister(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        self._state.remove(self._known(rest))
        return Response(200)

    async def maintenance(self, request: Request, rest: str) -> Response:
        """Of a service, or of the whole node where no id stands in the path."""
        query = Query(request.query, ("enable", "reason"))
        if not query.text("enable"):
            raise Refusal(400, "Missing value for enable")
        service = self._known(rest) if rest else None
        self._state.maintain(service, query.text("reason") if query.flag("enable") else None)
        return Response(200)

    def _hash(self, id: str) -> str:
        service = self._state.local.services.get(id)
        return render.one_agent_service(service)[1] if service else ""

    def _service(self, id: str) -> Service:
        service = self._state.local.services.get(id)
        if service is None:
            raise Refusal(404, f"unknown service ID: {id}")
        return service

    def _known(self, id: str) -> Service:
        service = self._state.local.services.get(id)
        if service is None:
            raise Refusal(404, f'Unknown service ID "{id}". Ensure that the service ID is passed, not the service name.')
        return service
