"""Services and checks as the registry holds them, and as Consul's JSON shows them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

NODE = "mizzen"
NODE_ID = "6d697a7a-656e-4000-8000-000000000000"
ADDRESS = "127.0.0.1"
DATACENTER = "dc1"
"""Consul's own default name."""
OUTPUT = 4096
"""Bytes of a check's output that are kept; Consul's default."""
STATUSES = ("passing", "warning", "critical")

Kind = Literal["ttl", "http", "tcp", "maintenance"]


UNVERIFIED = "https+unverified"
"""The scheme of a probe's peer whose certificate is not looked at."""


class CheckSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A check as it was registered; durations in seconds."""

    id: str
    name: str
    kind: Kind
    notes: str = ""
    status: str = "critical"
    ttl: float = 0.0
    interval: float = 0.0
    timeout: float = 10.0
    target: str = ""
    method: str = "GET"
    header: dict[str, list[str]] = {}
    body: str = ""
    unverified: bool = False
    """Whether the certificate of an HTTPS target is not looked at: Consul's ``TLSSkipVerify``."""
    forget_after: float = 0.0
    """Seconds critical until the service is deregistered; 0 for never."""
    success_before_passing: int = 0
    failures_before_critical: int = 0
    failures_before_warning: int = 0


class Service(msgspec.Struct, kw_only=True):
    """A registered service instance."""

    id: str
    name: str
    address: str = ""
    port: int = 0
    tags: list[str] = []
    meta: dict[str, str] = {}
    tagged: dict[str, Any] = {}
    weights: dict[str, int]
    override: bool = False
    checks: dict[str, Check] = {}
    created: int = 0
    modified: int = 0

    def same(self, other: Service) -> bool:
        """Whether both say the same, their checks and indexes aside."""
        return self.agent_json() == other.agent_json()

    def agent_json(self) -> dict[str, Any]:
        return {
            "ID": self.id,
            "Service": self.name,
            "Tags": self.tags,
            "Meta": self.meta,
            "Port": self.port,
            "Address": self.address,
            "TaggedAddresses": self.tagged,
            "Weights": self.weights,
            "EnableTagOverride": self.override,
            "Datacenter": DATACENTER,
        }

    def health_json(self) -> dict[str, Any]:
        service = self.agent_json()
        del service["Datacenter"]
        return {
            "Node": node_json(),
            "Service": {**service, "CreateIndex": self.created, "ModifyIndex": self.modified},
            "Checks": [serf_json(), *(check.json() for check in self.checks.values())],
        }

    def catalog_json(self) -> dict[str, Any]:
        node = node_json()
        return {
            **{key: node[key] for key in ("ID", "Node", "Address", "Datacenter", "TaggedAddresses")},
            "NodeMeta": node["Meta"],
            "ServiceID": self.id,
            "ServiceName": self.name,
            "ServiceTags": self.tags,
            "ServiceAddress": self.address,
            "ServicePort": self.port,
            "ServiceMeta": self.meta,
            "ServiceTaggedAddresses": self.tagged,
            "ServiceWeights": self.weights,
            "ServiceEnableTagOverride": self.override,
            "CreateIndex": self.created,
            "ModifyIndex": self.modified,
        }

    def passing(self) -> bool:
        """Whether every check passes."""
        return all(check.status == "passing" for check in self.checks.values())


class Check:
    """A check of a service, and how it stands."""

    __slots__ = (
        "created", "due", "failures", "modified", "output", "probing", "service", "since", "spec", "status", "successes",
    )  # fmt: skip

    def __init__(self, spec: CheckSpec, service: Service, *, now: float) -> None:
        self.spec = spec
        self.service = service
        self.status = spec.status
        self.output = ""
        self.due: float | None = now + spec.ttl if spec.kind == "ttl" else now
        """When a TTL expires or the next probe begins; None for never."""
        if spec.kind == "maintenance":
            self.due = None
        self.since = now
        """When it took its present status."""
        self.probing = False
        # as if the thresholds had been met: the first result counts at once (Consul's NewStatusHandler)
        self.successes = spec.success_before_passing
        self.failures = spec.failures_before_critical
        self.created = self.modified = 0

    def json(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "Node": NODE,
            "CheckID": spec.id,
            "Name": spec.name,
            "Status": self.status,
            "Notes": spec.notes,
            "Output": self.output,
            "ServiceID": self.service.id,
            "ServiceName": self.service.name,
            "ServiceTags": self.service.tags,
            "Type": spec.kind,
            "Interval": f"{spec.interval:g}s" if spec.interval else "",
            "Timeout": f"{spec.timeout:g}s" if spec.interval else "",
            "Definition": {},
            "CreateIndex": self.created,
            "ModifyIndex": self.modified,
        }


def node_json() -> dict[str, Any]:
    """The one node there is."""
    return {
        "ID": NODE_ID,
        "Node": NODE,
        "Address": ADDRESS,
        "Datacenter": DATACENTER,
        "TaggedAddresses": {"lan": ADDRESS, "wan": ADDRESS},
        "Meta": {},
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }


def serf_json() -> dict[str, Any]:
    """The node's own check, which every agent has; ours passes as long as it answers."""
    return {
        "Node": NODE,
        "CheckID": "serfHealth",
        "Name": "Serf Health Status",
        "Status": "passing",
        "Notes": "",
        "Output": "Agent alive and reachable",
        "ServiceID": "",
        "ServiceName": "",
        "ServiceTags": [],
        "Type": "",
        "Interval": "",
        "Timeout": "",
        "Definition": {},
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }
