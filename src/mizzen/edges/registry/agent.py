"""``/v1/agent``: what the instances themselves call."""

from __future__ import annotations

from mizzen.words.message import Request, Response

from . import parse
from .model import ADDRESS, DATACENTER, NODE, NODE_ID, Check, Service
from .query import Query
from .refusal import Refusal, unsupported
from .state import State

SERVICES = 1000
"""Registered instances at most: a bound on what a loop gone wrong can fill memory with."""


class AgentApi:
    """The endpoints, each given the request and the rest of its path."""

    def __init__(self, state: State, *, tcp: bool) -> None:
        self._state = state
        self._tcp = tcp

    async def about(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        config = {
            "Datacenter": DATACENTER,
            "PrimaryDatacenter": DATACENTER,
            "NodeName": NODE,
            "NodeID": NODE_ID,
            "Server": True,
            "Revision": "",
            "Version": "mizzen",
        }
        member = {"Name": NODE, "Addr": ADDRESS, "Port": 0, "Status": 1, "Tags": {"dc": DATACENTER, "role": "consul"}}
        return Response.json_of({"Config": config, "DebugConfig": {}, "Member": member, "Meta": {"embedded": "mizzen"}})

    async def services(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        return Response.json_of({id: service.agent_json() for id, service in self._state.services.items()})

    async def service(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        service = self._state.services.get(rest)
        if service is None:
            raise Refusal(404, f"unknown service ID: {rest}")
        return Response.json_of(service.agent_json())

    async def checks(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        return Response.json_of({id: check.json() for id, check in self._state.checks.items()})

    async def register(self, request: Request, rest: str) -> Response:
        query = Query(request.query, ("replace-existing-checks",))
        service, specs = parse.registration(await request.read())
        if not self._tcp and any(spec.kind == "tcp" for spec in specs):
            raise unsupported("TCP checks as it was started: nothing was handed to it that opens connections")
        if len(self._state.services) >= SERVICES and service.id not in self._state.services:
            raise Refusal(429, f"the embedded registry holds {SERVICES} instances, which is all it takes")
        self._state.put(service, specs, replace=query.flag("replace-existing-checks"))
        return _done()

    async def deregister(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        self._state.remove(self._known(rest))
        return _done()

    async def maintenance(self, request: Request, rest: str) -> Response:
        query = Query(request.query, ("enable", "reason"))
        if not query.text("enable"):
            raise Refusal(400, "Missing value for enable")
        self._state.maintain(self._known(rest), query.text("reason") if query.flag("enable") else None)
        return _done()

    async def check_pass(self, request: Request, rest: str) -> Response:
        return self._beat(request, rest, "passing")

    async def check_warn(self, request: Request, rest: str) -> Response:
        return self._beat(request, rest, "warning")

    async def check_fail(self, request: Request, rest: str) -> Response:
        return self._beat(request, rest, "critical")

    async def check_update(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        status, output = parse.update(await request.read())
        return self._renew(rest, status, output)

    async def check_deregister(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        self._state.drop_check(self._check(rest))
        return _done()

    def _beat(self, request: Request, rest: str, status: str) -> Response:
        return self._renew(rest, status, Query(request.query, ("note",)).text("note"))

    def _renew(self, id: str, status: str, output: str) -> Response:
        check = self._check(id)
        if check.spec.kind != "ttl":
            raise Refusal(500, f'CheckID "{id}" does not have associated TTL')
        check.due = self._state.clock() + check.spec.ttl
        self._state.set_status(check, status, output)
        return _done()

    def _check(self, id: str) -> Check:
        check = self._state.checks.get(id)
        if check is None:
            raise Refusal(404, f'Unknown check ID "{id}". Ensure that the check ID is passed, not the check name.')
        return check

    def _known(self, id: str) -> Service:
        service = self._state.services.get(id)
        if service is None:
            raise Refusal(404, f'Unknown service ID "{id}". Ensure that the service ID is passed, not the service name.')
        return service


def _done() -> Response:
    return Response(200)


async def elsewhere(request: Request, _rest: str) -> Response:
    """Whatever Consul serves and this registry does not."""
    raise unsupported(f"{request.method} {request.path}")
