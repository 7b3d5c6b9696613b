"""What is let in: as many nodes, instances and checks as there is room for, and checks that something here can make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .model import Check, CheckSpec, Service
from .parse import CHECKS
from .refusal import Refusal, unsupported
from .state import State

INSTANCES = 20_000
"""Registered instances at most: a bound on what a loop gone wrong can fill memory with (some 5 KB each)."""
NODES = 10_000
"""Nodes in the catalog at most: one for each instance of a large system."""
NODE_CHECKS = 100
"""Checks of one node itself."""


class Admission:
    """Raises a `Refusal` for what may not come in; what is held already may always come again."""

    def __init__(self, state: State, *, tcp: bool, instances: int) -> None:
        self._state = state
        self._tcp = tcp
        self._most = instances

    def probes(self, specs: Sequence[CheckSpec]) -> None:
        """Refuse checks that nothing here could make."""
        if not self._tcp and any(spec.kind == "tcp" for spec in specs):
            raise unsupported("TCP checks as it was started: nothing was handed to it that opens connections")

    def node(self, name: str) -> None:
        """Refuse one node too many."""
        if name not in self._state.nodes and len(self._state.nodes) >= NODES:
            raise Refusal(429, f"the embedded registry holds {NODES} nodes, which is all it takes")

    def instance(self, service: Service) -> None:
        """Refuse one instance too many."""
        node = self._state.nodes.get(service.node.name)
        if self._state.instances >= self._most and (node is None or service.id not in node.services):
            raise Refusal(429, f"the embedded registry holds {self._most} instances, which is all it takes")

    def checks(self, of: str, id: str, specs: Sequence[CheckSpec]) -> None:
        """Refuse more checks than one service may have beside those that it has, or a node, where ``id`` is empty."""
        node = self._state.nodes.get(of)
        if id:
            service = node.services.get(id) if node else None
            _fit(service.checks if service else {}, {spec.id for spec in specs}, CHECKS, f"the service {id!r}")
        else:
            _fit(node.own if node else {}, {spec.id for spec in specs}, NODE_CHECKS, f"the node {of!r}")


def _fit(there: Mapping[str, Check], more: Collection[str], most: int, of: str) -> None:
    known = {id for id, check in there.items() if check.spec.kind != "maintenance"}  # which has room always
    if not known.issuperset(more) and len(known.union(more)) > most:
        raise Refusal(429, f"the embedded registry takes at most {most} checks of {of}: deregister those that are no more")
