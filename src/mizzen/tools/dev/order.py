"""The order in which services start: each after those that it cannot serve without."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any

from mizzen.rules.config import ServiceConfig
from mizzen.words.errors import StartError


def start_order(peers: Mapping[str, Collection[str]]) -> list[str]:
    """Names so that each follows its required peers, else as given; ``StartError`` names a cycle.

    ``peers`` are the required peers of each service; those that are not services of this system are left out.
    """
    order: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in path:
            raise _cycle([*path[path.index(name) :], name])
        path.append(name)
        for peer in peers[name]:
            if peer in peers:
                visit(peer)
        path.pop()
        order.append(name)

    for name in peers:
        visit(name)
    return order


def required_peers(config: ServiceConfig, clients: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The peers that a service cannot serve without: as its code says, unless its configuration says otherwise.

    A peer with a ``url`` of its own lives elsewhere, so nothing here has to be waited for.
    """
    required = []
    for name, client in clients.items():
        said = config.clients.get(name)
        needed = client["required"] if said is None or said.required is None else said.required
        if needed and (said is None or said.url is None):
            required.append(name)
    return required


def _cycle(path: list[str]) -> StartError:
    if len(path) == 2:
        return StartError(f"{path[0]} requires itself, so it can never start", fix="drop required=True from that client")
    return StartError(
        f"no service of {' → '.join(path)} can start first",
        where=[f"{name} requires {peer}" for name, peer in pairwise(path)],
        fix="make one of these clients optional: no required=True in service.client(), or required = false in mizzen.toml",
    )
