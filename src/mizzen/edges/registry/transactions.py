"""``/v1/txn``: removals that are done together or not at all, and only of what is still as it was read."""

from __future__ import annotations

from typing import Any

import msgspec

from mizzen.words.message import Request, Response

from .catalog_writes import own_node
from .fields import Fields, decoded
from .model import Node, Service
from .query import Query, same_datacenter
from .refusal import Refusal, unsupported
from .state import State

STEPS = 128
"""Steps of one transaction; Consul's."""
_SERVICE = {"verb", "node", "service"}
_NODE = {"verb", "node"}


class Step(msgspec.Struct):
    """The removal of a service or a node; of nothing where it is gone already."""

    of: Service | Node | None
    stale: str
    """Why it cannot be done; empty where it can."""


class TransactionsApi:
    """The endpoint. Of Consul's verbs it has ``delete`` and ``delete-cas`` of services and nodes: what withdrawing takes."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def run(self, request: Request, rest: str) -> Response:
        same_datacenter(Query(request.query, ("dc",)).text("dc"))
        asked = decoded(await request.read())
        if not isinstance(asked, list):
            raise Refusal(400, "Failed to parse body: expected a list of operations")
        if len(asked) > STEPS:
            raise Refusal(413, f"Transaction contains too many operations ({len(asked)} > {STEPS})")
        steps = [self._step(each) for each in asked]
        if stale := [{"OpIndex": number, "What": step.stale} for number, step in enumerate(steps) if step.stale]:
            return Response.json_of({"Results": None, "Errors": stale}, 409)
        for step in steps:
            self._do(step)
        return Response.json_of({"Results": [], "Errors": None})

    def _step(self, value: Any) -> Step:
        given = Fields(value, {"service", "node"}, "an operation of a transaction")
        what = "service" if "service" in given else "node"
        if "service" in given and "node" in given:
            raise Refusal(400, "an operation of a transaction needs exactly one of Service and Node")
        fields = Fields(given.typed(what, Any, None), _SERVICE if what == "service" else _NODE, f"an operation on a {what}")
        verb = fields.text("verb")
        if verb not in ("delete", "delete-cas"):
            raise unsupported(f"the verb {verb!r} on a {what} in a transaction (it has delete and delete-cas)")
        target = Fields(fields.typed(what, Any, {}), None, f"a {what}")
        index = target.number("modifyindex", most=2**53) if verb == "delete-cas" else None
        return self._service(fields.text("node"), target, index) if what == "service" else self._node(target, index)

    def _service(self, on: str, target: Fields, index: int | None) -> Step:
        own_node(on, "agent/service/deregister")
        node, id = self._state.nodes.get(on), target.text("id")
        service = node.services.get(id) if node else None
        stale = index is not None and (service is None or service.modified != index)
        return Step(service, f'failed to delete service "{id}" on node "{on}", index is stale' if stale else "")

    def _node(self, target: Fields, index: int | None) -> Step:
        name = target.text("node")
        own_node(name, "agent/service/deregister")
        node = self._state.nodes.get(name)
        stale = index is not None and (node is None or node.modified != index)
        return Step(node, f'failed to delete node "{name}", index is stale' if stale else "")

    def _do(self, step: Step) -> None:
        match step.of:
            case Service() as service if service.node.services.get(service.id) is service:
                self._state.remove(service)
            case Node() as node if self._state.nodes.get(node.name) is node:
                self._state.remove_node(node)
