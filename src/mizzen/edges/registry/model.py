"""What the registry holds: nodes, the services on them and their checks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

NODE = "mizzen"
NODE_ID = "6d697a7a-656e-4000-8000-000000000000"
ADDRESS = "127.0.0.1"
DATACENTER = "dc1"
"""Consul's own default name."""
SERF = "serfHealth"
"""How Consul names the check of an agent itself, which only the catalog shows."""
STATUSES = ("passing", "warning", "critical")

Kind = Literal["ttl", "http", "tcp", "maintenance", ""]
"""What decides a check; nothing of ours does where it is empty: whoever put it into the catalog says how it stands."""

UNVERIFIED = "https+unverified"
"""The scheme of a probe's peer whose certificate is not looked at."""


class CheckSpec(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A check as it was registered; durations in seconds."""

    id: str
    name: str
    kind: Kind
    notes: str = ""
    output: str = ""
    status: str = "critical"
    ttl: float = 0.0
    interval: float = 0.0
    timeout: float = 0.0
    """0 when it was not said."""
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
    alone: bool = False
    """Whether it did not come with a service."""
    type: str = ""
    definition: dict[str, Any] = {}
    """What a check in the catalog says of how it is made, for whoever makes it; both are shown, and nothing else."""


class Node(msgspec.Struct, kw_only=True, eq=False):
    """An agent, or what somebody put into the catalog as one."""

    name: str
    id: str = ""
    address: str
    tagged: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    services: dict[str, Service] = {}
    checks: dict[str, Check] = {}
    """Its own and those of its services."""
    own: dict[str, Check] = {}
    """Those of no service: they count for every service on it."""
    created: int = 0
    modified: int = 0

    def same(self, other: Node) -> bool:
        """Whether both say the same, what is on them aside."""
        mine, theirs = (self.id, self.address, self.tagged, self.meta), (other.id, other.address, other.tagged, other.meta)
        return mine == theirs


class Service(msgspec.Struct, kw_only=True, eq=False):
    """A registered service instance."""

    node: Node
    id: str
    name: str
    address: str = ""
    port: int = 0
    tags: list[str] = []
    meta: dict[str, str] = {}
    tagged: dict[str, dict[str, str | int]] = {}
    weights: tuple[int, int] = (1, 1)
    """When passing, and with a warning."""
    override: bool = False
    checks: dict[str, Check] = {}
    created: int = 0
    modified: int = 0

    def same(self, other: Service) -> bool:
        """Whether both say the same, their checks and indexes aside."""
        return self.said() == other.said()

    def said(self) -> tuple[Any, ...]:
        """What was registered."""
        return (
            self.id, self.name, self.address, self.port, self.tags, self.meta, self.tagged, self.weights, self.override,
        )  # fmt: skip

    def passing(self) -> bool:
        """Whether every check passes, its node's among them."""
        return all(check.status == "passing" for check in self.checks.values()) and all(
            check.status == "passing" for check in self.node.own.values()
        )


class Check:
    """A check of a service or a node, and how it stands."""

    __slots__ = (
        "created", "due", "failures", "modified", "node", "output", "planned", "probing", "service", "since", "spec", "status",
        "successes",
    )  # fmt: skip

    def __init__(self, spec: CheckSpec, node: Node, service: Service | None, *, now: float) -> None:
        self.spec = spec
        self.node = node
        self.service = service
        self.status = spec.status
        self.output = spec.output
        self.due: float | None = now + spec.ttl if spec.kind == "ttl" else now if spec.kind in ("http", "tcp") else None
        """When a TTL expires or the next probe begins; None for never."""
        self.since = now
        """When it took its present status."""
        self.planned: float | None = None
        """When the timetable looks at it."""
        self.probing = False
        # as if the thresholds had been met: the first result counts at once (Consul's NewStatusHandler)
        self.successes = spec.success_before_passing
        self.failures = spec.failures_before_critical
        self.created = self.modified = 0

    def same(self, other: Check) -> bool:
        """Whether both say the same."""
        mine, theirs = self.spec, other.spec
        told = (self.status, self.output, mine.name, mine.notes, mine.definition)
        return told == (other.status, other.output, theirs.name, theirs.notes, theirs.definition)

    @property
    def reaped(self) -> float | None:
        """When its service is deregistered unless it recovers; None for never."""
        lasting = self.status == "critical" and self.spec.forget_after and self.service is not None
        return self.since + self.spec.forget_after if lasting else None

    @property
    def next(self) -> float | None:
        """When there is something to do about it."""
        due = None if self.probing else self.due
        reaped = self.reaped
        return reaped if due is None else due if reaped is None else min(due, reaped)
