"""What instances register with their agent: services and checks, from Consul's JSON to our records."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from .fields import Fields, decoded
from .model import SERF, CheckSpec, Kind, Node, Service
from .refusal import Refusal, unsupported
from .targets import probed, sendable

CHECKS = 10
"""Checks per service."""
INTERVAL_LEAST = 1.0
"""Seconds between probes; Consul's ``checks.MinInterval``. Lower ones are raised to it."""
KINDS: tuple[Kind, ...] = ("ttl", "http", "tcp")
NO_KIND = "Invalid check: TTL must be > 0 for TTL checks"
"""What Consul says of a check that is none: it takes it for one of a TTL."""
TIMEOUT_MOST = 60.0
"""Seconds for a probe; longer ones are lowered to it, since a probe holds one of the places that there are for probes."""
FORGET_LEAST = 60.0
"""Seconds critical until a service is deregistered; Consul raises lower ones to it."""

_SERVICE = {
    "id", "name", "tags", "meta", "address", "port", "taggedaddresses", "weights", "enabletagoverride", "check", "checks",
}  # fmt: skip
_CHECK = {
    "checkid", "id", "name", "notes", "status", "ttl", "http", "tcp", "method", "header", "body", "interval", "timeout",
    "tlsskipverify", "successbeforepassing", "failuresbeforecritical", "failuresbeforewarning",
    "deregistercriticalserviceafter",
}  # fmt: skip


def registration(body: bytes, node: Node) -> tuple[Service, list[CheckSpec]]:
    """The service and checks that a body of ``agent/service/register`` asks for; a `Refusal` says what is wrong."""
    given = Fields(decoded(body), _SERVICE, "a service")
    name = given.text("name")
    if not name:
        raise Refusal(400, "Missing service name")
    service = instance(given, node, id=given.text("id") or name, name=name)
    for which in ("lan", "wan"):
        if family := _family(service.address):  # an agent enters them by itself
            service.tagged.setdefault(f"{which}_{family}", {"Address": service.address, "Port": service.port})
    service.tagged = dict(sorted(service.tagged.items()))
    raw = [*([given.typed("check", Any, None)] if "check" in given else []), *given.typed("checks", list[Any], [])]
    if len(raw) > CHECKS:
        raise Refusal(400, f"{len(raw)} checks for one service: the embedded registry takes at most {CHECKS}")
    specs = []
    for number, each in enumerate(raw, 1):
        fields = Fields(each, _CHECK, "a check")
        id = f"service:{service.id}" + (f":{number}" if len(raw) > 1 else "")
        specs.append(_check(fields, id, f"Service '{name}' check"))
    return service, specs


def lone_check(body: bytes) -> tuple[str, CheckSpec]:
    """The service's id, if there is one, and the check that a body of ``agent/check/register`` asks for."""
    given = Fields(decoded(body), {*_CHECK, "serviceid"}, "a check")
    name = given.text("name")
    if not name:
        raise Refusal(400, "Missing check name")
    return given.text("serviceid"), msgspec.structs.replace(_check(given, name, name), alone=True)


def update(body: bytes) -> tuple[str, str]:
    """Status and output of a body of ``agent/check/update``."""
    given = Fields(decoded(body), {"status", "output"}, "a check's update")
    return given.status(), given.text("output")


def instance(given: Fields, node: Node, *, id: str, name: str) -> Service:
    """A service from the fields that an agent's and a catalog's registration share."""
    return Service(
        node=node,
        id=id,
        name=name,
        address=given.text("address"),
        port=given.number("port", most=65_535),
        tags=given.typed("tags", list[str], []),
        meta=given.typed("meta", dict[str, str], {}),
        tagged=given.typed("taggedaddresses", dict[str, dict[str, str | int]], {}),
        weights=_weights(given),
        override=given.flag("enabletagoverride"),
        checks={},
    )


def _check(given: Fields, id: str, name: str) -> CheckSpec:
    id = given.text("checkid") or given.text("id") or id
    if id == SERF:
        raise Refusal(400, f"Invalid check: {SERF} is the registry's own")
    kinds = [kind for kind in KINDS if kind in given]
    if not kinds:
        raise Refusal(400, NO_KIND)
    if len(kinds) > 1:
        raise Refusal(400, "Invalid check: a check needs exactly one of TTL, HTTP and TCP")
    kind = kinds[0]
    seconds, ttl = given.seconds("interval"), given.seconds("ttl")
    if kind == "ttl" and not ttl:
        raise Refusal(400, NO_KIND)
    if kind != "ttl" and not seconds:
        raise Refusal(400, f"Invalid check: Interval must be > 0 for {kind.upper()} checks")
    target = "" if kind == "ttl" else given.text(kind)
    header = given.typed("header", dict[str, list[str]], {})
    if any(field.lower() == "host" for field in header):
        raise unsupported("a Host header of its own in an HTTP check", 400)
    method = given.text("method") or "GET"
    if kind == "http":
        sendable(method, target, header)
    if kind != "ttl":
        probed(kind, target)
    critical, forget = given.number("failuresbeforecritical"), given.seconds("deregistercriticalserviceafter")
    return CheckSpec(
        id=id,
        name=given.text("name") or name,
        kind=kind,
        notes=given.text("notes"),
        status=given.status("critical"),
        ttl=ttl,
        interval=max(seconds, INTERVAL_LEAST) if kind != "ttl" else 0.0,
        timeout=min(given.seconds("timeout"), TIMEOUT_MOST) if kind != "ttl" else 0.0,
        target=target,
        method=method,
        header=header,
        body=given.text("body"),
        unverified=given.flag("tlsskipverify"),
        forget_after=max(forget, FORGET_LEAST) if forget else 0.0,
        success_before_passing=given.number("successbeforepassing"),
        failures_before_critical=critical,
        failures_before_warning=given.number("failuresbeforewarning", critical) or critical,
    )


def _weights(given: Fields) -> tuple[int, int]:
    fields = {str(name).capitalize(): each for name, each in given.typed("weights", dict[str, int], {}).items()}
    if unknown := set(fields) - {"Passing", "Warning"}:
        raise Refusal(400, f"Request decode failed: weights: {', '.join(sorted(unknown))} is not Passing or Warning")
    if not fields:
        return 1, 1
    passing, warning = fields.get("Passing", 0), fields.get("Warning", 0)
    if passing < 1:
        raise Refusal(400, "Invalid Weights: Passing must be greater than 0")
    if warning < 0:
        raise Refusal(400, "Invalid Weights: Warning must be greater or equal than 0")
    return passing, warning


def _family(address: str) -> str:
    try:
        return f"ipv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""
