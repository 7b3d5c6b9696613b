"""``/v1/catalog/{register,deregister}``: for instances without an agent of their own, such as those of a pod."""

from __future__ import annotations

from mizzen.words.message import Request, Response

from . import parse_catalog
from .admission import Admission
from .model import NODE, Node
from .query import Query, same_datacenter
from .refusal import Refusal
from .state import State


class CatalogWritesApi:
    """The endpoints. Nothing runs the checks that are put here: whoever puts them says how they stand, and again."""

    def __init__(self, state: State, admission: Admission) -> None:
        self._state = state
        self._admission = admission

    async def register(self, request: Request, rest: str) -> Response:
        same_datacenter(Query(request.query, ("dc",)).text("dc"))
        entry = parse_catalog.entry(await request.read())
        own_node(entry.node.name, "agent/service/register")
        known = self._state.nodes.get(entry.node.name)
        self._admission.node(entry.node.name)
        if entry.service is not None:
            self._admission.instance(entry.service)
        there = set(known.services) if known else set()
        there |= {entry.service.id} if entry.service else set()
        for id, spec in entry.checks:
            if id and id not in there:
                raise Refusal(500, f"Unknown service ID '{id}' for check ID '{spec.id}'")
        for of in {id for id, _ in entry.checks}:
            self._admission.checks(entry.node.name, of, [spec for id, spec in entry.checks if id == of])
        if known is None or not entry.keep_node:
            known = self._state.put_node(entry.node)
        self._enter(known, entry)
        return Response.json_of(True)

    def _enter(self, node: Node, entry: parse_catalog.Entry) -> None:
        if entry.service is not None:
            entry.service.node = node
            self._state.put(entry.service, ())
        for id, spec in entry.checks:
            self._state.put_check(spec, node, node.services[id] if id else None, keep=False)

    async def deregister(self, request: Request, rest: str) -> Response:
        same_datacenter(Query(request.query, ("dc",)).text("dc"))
        removal = parse_catalog.removal(await request.read())
        own_node(removal.node, "agent/service/deregister")
        node = self._state.nodes.get(removal.node)
        if node is not None and removal.service:
            if service := node.services.get(removal.service):
                self._state.remove(service)
        elif node is not None and removal.check:
            if check := node.checks.get(removal.check):
                self._state.drop_check(check)
        elif node is not None:
            self._state.remove_node(node)
        return Response.json_of(True)


def own_node(name: str, instead: str) -> None:
    """Refuse what Consul takes and undoes within a minute: an agent looks after its own entries in the catalog."""
    if name == NODE:
        raise Refusal(400, f"the node {NODE} is this registry's own agent: ask /v1/{instead} instead")
