"""What goes straight into the catalog: nodes with services and checks that no agent of ours looks after."""

from __future__ import annotations

from typing import Any

import msgspec

from .fields import Fields, decoded
from .model import CheckSpec, Node, Service
from .parse import CHECKS, instance
from .query import same_datacenter
from .refusal import Refusal
from .render import duration

_REGISTRATION = {
    "datacenter", "id", "node", "address", "taggedaddresses", "nodemeta", "service", "check", "checks", "skipnodeupdate",
}  # fmt: skip
_SERVICE = {"id", "service", "tags", "meta", "address", "port", "taggedaddresses", "weights", "enabletagoverride"}
_CHECK = {
    "node", "checkid", "name", "status", "notes", "output", "serviceid", "servicename", "servicetags", "type", "definition",
}  # fmt: skip
_DURATIONS = ("Interval", "Timeout", "DeregisterCriticalServiceAfter")
_TEXTS = ("HTTP", "Method", "Body", "TLSServerName", "TCP", "GRPC")
_DEFINITION = {name.lower() for name in (*_DURATIONS, *_TEXTS, "TLSSkipVerify", "GRPCUseTLS", "Header")}
_DEREGISTRATION = {"datacenter", "node", "serviceid", "checkid"}


class Entry(msgspec.Struct, kw_only=True):
    """A body of ``catalog/register``."""

    node: Node
    keep_node: bool
    """Whether what is known of the node stays as it is."""
    service: Service | None
    checks: list[tuple[str, CheckSpec]]
    """Each with the id of its service, empty for a check of the node."""


class Removal(msgspec.Struct, kw_only=True):
    """A body of ``catalog/deregister``: a service with its checks, else a check, else the node with everything on it."""

    node: str
    service: str
    check: str


def entry(body: bytes) -> Entry:
    """The entry that a body asks for; a `Refusal` says what is wrong."""
    given = Fields(decoded(body), _REGISTRATION, "a catalog registration")
    _here(given)
    keep, address = given.flag("skipnodeupdate"), given.text("address")
    if not address and not keep:
        raise Refusal(500, "Must provide address if SkipNodeUpdate is not set")
    node = Node(
        name=given.text("node"),
        id=given.text("id"),
        address=address,
        tagged=given.typed("taggedaddresses", dict[str, str], None),
        meta=given.typed("nodemeta", dict[str, str], None),
        services={},
        checks={},
        own={},
    )
    service = None
    if "service" in given:
        fields = Fields(given.typed("service", Any, None), _SERVICE, "a service")
        name = fields.text("service")
        if not name:
            raise Refusal(500, "Must provide service name (Service.Service) when service ID is provided")
        service = instance(fields, node, id=fields.text("id") or name, name=name)
    raw = [*([given.typed("check", Any, None)] if "check" in given else []), *given.typed("checks", list[Any], [])]
    if len(raw) > CHECKS:
        raise Refusal(400, f"{len(raw)} checks in one registration: the embedded registry takes at most {CHECKS}")
    return Entry(node=node, keep_node=keep, service=service, checks=[_check(each, node.name) for each in raw])


def removal(body: bytes) -> Removal:
    """What a body of ``catalog/deregister`` names; a `Refusal` says what is wrong."""
    given = Fields(decoded(body), _DEREGISTRATION, "a catalog deregistration")
    _here(given)
    return Removal(node=given.text("node"), service=given.text("serviceid"), check=given.text("checkid"))


def _here(given: Fields) -> None:
    same_datacenter(given.text("datacenter"))
    if not given.text("node"):
        raise Refusal(500, "Must provide node")


def _check(value: Any, node: str) -> tuple[str, CheckSpec]:
    given = Fields(value, _CHECK, "a check")
    id = given.text("checkid") or given.text("name")
    if not id:
        raise Refusal(400, "Invalid check: it has neither CheckID nor Name")
    if given.text("node") not in ("", node):
        raise Refusal(500, f"check {id!r} on node {given.text('node')!r} does not match node {node!r}")
    definition = _definition(Fields(given.typed("definition", Any, None) or {}, _DEFINITION, "the definition of a check"))
    spec = CheckSpec(
        id=id,
        name=given.text("name"),
        kind="",
        type=given.text("type") or next((name for name in ("http", "tcp", "grpc") if definition.get(name.upper())), ""),
        notes=given.text("notes"),
        output=given.text("output"),
        status=given.status("critical"),
        definition=definition,
    )
    return given.text("serviceid"), spec


def _definition(given: Fields) -> dict[str, Any]:
    """How somebody else is to make the check; nothing here does. Empty parts are left out, as Consul does."""
    said: dict[str, Any] = {name: duration(given.seconds(name.lower())) for name in _DURATIONS if name.lower() in given}
    said |= {name: given.text(name.lower()) for name in _TEXTS if name.lower() in given}
    if "header" in given:
        said["Header"] = given.typed("header", dict[str, list[str]], {})
    return said | {name: True for name in ("TLSSkipVerify", "GRPCUseTLS") if given.flag(name.lower())}
