"""Records as Consul's JSON shows them: its keys in its order, and null where it has null."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .model import DATACENTER, Check, Node, Service

_NO_PROXY = {"Mode": "", "MeshGateway": {}, "Expose": {}}
_encode = msgspec.json.Encoder().encode


def agent_service(service: Service) -> dict[str, Any]:
    """A service as its own agent shows it."""
    return {
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Meta": service.meta,
        "Port": service.port,
        "Address": service.address,
        **({"TaggedAddresses": service.tagged} if service.tagged else {}),
        "Weights": _weights(service),
        "EnableTagOverride": service.override,
        "Datacenter": DATACENTER,
    }


def one_agent_service(service: Service) -> tuple[dict[str, Any], str]:
    """The same when it is asked for by its id: with a hash of what was registered, by which a client can wait."""
    said = agent_service(service)
    hashed = hashlib.blake2b(_encode(said), digest_size=8).hexdigest()
    datacenter = said.pop("Datacenter")
    return {**said, "ContentHash": hashed, "Datacenter": datacenter}, hashed


def node(node: Node) -> dict[str, Any]:
    return {
        "ID": node.id,
        "Node": node.name,
        "Address": node.address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": node.tagged,
        "Meta": node.meta,
        "CreateIndex": node.created,
        "ModifyIndex": node.modified,
    }


def node_service(service: Service) -> dict[str, Any]:
    """A service as health and a node's catalog show it."""
    return {
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Address": service.address,
        **({"TaggedAddresses": service.tagged} if service.tagged else {}),
        "Meta": service.meta or None,
        **({"Port": service.port} if service.port else {}),
        "Weights": _weights(service),
        "EnableTagOverride": service.override,
        "Proxy": _NO_PROXY,
        "Connect": {},
        "PeerName": "",
        "CreateIndex": service.created,
        "ModifyIndex": service.modified,
    }


def health(service: Service) -> dict[str, Any]:
    """An entry of ``/v1/health/service``: the checks of the node come first."""
    checks = [*_sorted(service.node.own), *_sorted(service.checks)]
    return {"Node": node(service.node), "Service": node_service(service), "Checks": [check(each) for each in checks]}


def catalog(service: Service) -> dict[str, Any]:
    """A row of ``/v1/catalog/service``."""
    at = service.node
    return {
        "ID": at.id,
        "Node": at.name,
        "Address": at.address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": at.tagged,
        "NodeMeta": at.meta,
        "ServiceKind": "",
        "ServiceID": service.id,
        "ServiceName": service.name,
        "ServiceTags": service.tags,
        "ServiceAddress": service.address,
        **({"ServiceTaggedAddresses": service.tagged} if service.tagged else {}),
        "ServiceWeights": _weights(service),
        "ServiceMeta": service.meta,
        "ServicePort": service.port,
        "ServiceSocketPath": "",
        "ServiceEnableTagOverride": service.override,
        "ServiceProxy": _NO_PROXY,
        "ServiceConnect": {},
        "ServiceLocality": None,
        "CreateIndex": service.created,
        "ModifyIndex": service.modified,
    }


def check(check: Check) -> dict[str, Any]:
    spec, service = check.spec, check.service
    nothing = "0s" if spec.alone else ""  # as Consul has it
    return {
        "Node": check.node.name,
        "CheckID": spec.id,
        "Name": spec.name,
        "Status": check.status,
        "Notes": spec.notes,
        "Output": check.output,
        "ServiceID": service.id if service else "",
        "ServiceName": service.name if service else "",
        "ServiceTags": service.tags if service else [],
        "Type": spec.kind or spec.type,
        "Interval": duration(spec.interval) if spec.interval else nothing,
        "Timeout": duration(spec.timeout) if spec.timeout else nothing,
        "ExposedPort": 0,
        "Definition": spec.definition,
        "CreateIndex": check.created,
        "ModifyIndex": check.modified,
    }


def duration(seconds: float) -> str:
    """A duration as Go writes it: ``500ms``, ``10s``, ``1m30s``, ``1h0m0s``."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{f'{hours:.0f}h' if hours else ''}{f'{minutes:.0f}m' if hours or minutes else ''}{round(rest, 3):g}s"


def _weights(service: Service) -> dict[str, int]:
    return {"Passing": service.weights[0], "Warning": service.weights[1]}


def _sorted(checks: dict[str, Check]) -> list[Check]:
    return [checks[id] for id in sorted(checks)] if len(checks) > 1 else list(checks.values())
