"""``/v1/agent/check``: heartbeats, and checks beside those that came with a service."""

from __future__ import annotations

from mizzen.words.message import Request, Response

from . import parse, render
from .admission import Admission
from .model import SERF, Check
from .query import Query
from .refusal import Refusal
from .state import State


class AgentChecksApi:
    """The endpoints, each given the request and the rest of its path."""

    def __init__(self, state: State, admission: Admission) -> None:
        self._state = state
        self._admission = admission

    async def checks(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        checks = self._state.local.checks
        return Response.json_of({id: render.check(checks[id]) for id in sorted(checks) if id != SERF})

    async def register(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        id, spec = parse.lone_check(await request.read())
        self._admission.probes([spec])
        local = self._state.local
        service = local.services.get(id)
        if id and service is None:
            raise Refusal(404, f'ServiceID "{id}" does not exist')
        self._admission.checks(local.name, id, [spec])
        self._state.put_check(spec, local, service)
        return Response(200)

    async def deregister(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        self._state.drop_check(self._check(rest))
        return Response(200)

    async def passing(self, request: Request, rest: str) -> Response:
        return self._beat(request, rest, "passing")

    async def warning(self, request: Request, rest: str) -> Response:
        return self._beat(request, rest, "warning")

    async def critical(self, request: Request, rest: str) -> Response:
        return self._beat(request, rest, "critical")

    async def update(self, request: Request, rest: str) -> Response:
        Query(request.query, ())
        status, output = parse.update(await request.read())
        return self._renew(rest, status, output)

    def _beat(self, request: Request, rest: str, status: str) -> Response:
        return self._renew(rest, status, Query(request.query, ("note",)).text("note"))

    def _renew(self, id: str, status: str, output: str) -> Response:
        check = self._check(id)
        if check.spec.kind != "ttl":
            raise Refusal(500, f'CheckID "{id}" does not have associated TTL')
        self._state.beat(check, status, output)
        return Response(200)

    def _check(self, id: str) -> Check:
        check = self._state.local.checks.get(id)
        if check is None or id == SERF:
            raise Refusal(404, f'Unknown check ID "{id}". Ensure that the check ID is passed, not the check name.')
        return check
