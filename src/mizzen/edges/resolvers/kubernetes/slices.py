"""EndpointSlices as Kubernetes writes them, and the instances that all those of one Service come to.

https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from mizzen.rules.discovery import Instance, instance_id
from mizzen.words.errors import PeerError

from .api import PEER

HTTP, HTTPS = "http", "https"

# -- what Kubernetes says; only what is used, every part may be null


class _Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Reference(msgspec.Struct):
    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class _Zone(msgspec.Struct):
    name: str = ""


class _Hints(msgspec.Struct, rename="camel"):
    for_zones: list[_Zone] | None = None


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str] | None = None
    conditions: _Conditions | None = None
    target_ref: _Reference | None = None
    zone: str | None = None
    hints: _Hints | None = None


class Port(msgspec.Struct, rename="camel"):
    """One port of a slice, the same for all its endpoints."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class Metadata(msgspec.Struct, rename="camel"):
    """What tells a slice and its versions apart."""

    name: str = ""
    resource_version: str = ""


class Slice(msgspec.Struct, rename="camel"):
    """Some of the endpoints of one Service."""

    metadata: Metadata
    address_type: str = ""
    endpoints: list[_Endpoint] | None = None
    ports: list[Port] | None = None


# -- what it comes to


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which of its addresses a Service is called at."""

    port: str = ""
    """Name or number; the port named ``http``, else ``https``, else the only one, unless set."""
    tls: bool = False
    """HTTPS whatever the port is called."""
    zone: str = ""
    """Where we are, for the hints of topology aware routing; these are ignored, unless set."""


class _Found(msgspec.Struct):
    instance: Instance
    conditions: _Conditions
    zones: frozenset[str]
    """Those for which it is meant; empty where nobody said so."""


def instances_of(service: str, slices: Iterable[Slice], choice: Choice) -> list[Instance]:
    """The instances in all slices of a Service, each once; ``PeerError`` when nobody could say which port is meant.

    Those that are ready; where there is none, those that are going but still serve, as kube-proxy does. As for it, a
    slice that does not have the port has nobody to call: one of pods of another version does not hide the others.
    """
    found: dict[str, _Found] = {}
    unclear: PeerError | None = None
    # IPv4 first: of the two addresses that an instance has in a dual-stack cluster the first one counts
    for each in sorted(slices, key=lambda each: (each.address_type, each.metadata.name)):
        if each.address_type in ("IPv4", "IPv6") and each.endpoints:
            try:
                port = port_of(service, each.ports or [], choice)
            except PeerError as error:
                unclear = error
                continue
            for endpoint in each.endpoints:
                one = _one(service, endpoint, port)
                if one is not None:
                    _keep(found, one)
    ready = [one for one in found.values() if _is_ready(one.conditions)]
    if not ready:
        ready = [one for one in found.values() if one.conditions.terminating and _or_true(one.conditions.serving)]
    if unclear is not None and not ready:
        raise unclear
    # An address that two endpoints have is one instance: a slice of another hand, or one that is behind. With another
    # port it is another one: pods on the network of their node share its address.
    there = {(one.instance.host, one.instance.port): one.instance for one in _near(ready, choice.zone)}
    return sorted(there.values(), key=lambda instance: instance.id)


def _one(service: str, endpoint: _Endpoint, port: tuple[int, str]) -> _Found | None:
    host = (endpoint.addresses or [""])[0]  # more of them in one endpoint have no meaning, says the API
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    reference = endpoint.target_ref
    if reference is not None and reference.kind == "Pod" and reference.name:
        # Readable, and what a StatefulSet gives to the next life of an instance as well: the uid tells these apart.
        id, meta = reference.name, {"boot": reference.uid} if reference.uid else {}
    else:
        id, meta = instance_id(service, host, port[0]), {}
    zones = endpoint.hints.for_zones if endpoint.hints is not None else None
    return _Found(
        Instance(id, service, host, port[0], scheme=port[1], zone=endpoint.zone or "", meta=meta),
        endpoint.conditions or _Conditions(),
        frozenset(zone.name for zone in zones or ()),
    )


def _keep(found: dict[str, _Found], one: _Found) -> None:
    """An endpoint that moves stands in two slices for a while, in one of them as it was: ready is the newer word."""
    other = found.get(one.instance.id)
    if other is None or (_is_ready(one.conditions) and not _is_ready(other.conditions)):
        found[one.instance.id] = one


def _is_ready(conditions: _Conditions) -> bool:
    return _or_true(conditions.ready)


def _or_true(condition: bool | None) -> bool:
    return condition is not False


def _near(ready: list[_Found], zone: str) -> list[_Found]:
    """Those meant for our zone, once all of them say for whom they are; all of them when none is for us."""
    if not zone or not all(one.zones for one in ready):
        return ready
    return [one for one in ready if zone in one.zones] or ready


def port_of(service: str, ports: list[Port], choice: Choice) -> tuple[int, str]:
    """Number and scheme of the port to call; ``PeerError`` names those there are when it is none of them."""
    tcp = [each for each in ports if each.port and 0 < each.port < 65536 and each.protocol in (None, "TCP")]
    if choice.port.isdigit():  # it need not be listed: a headless Service may have no ports at all
        number = int(choice.port)
        return number, _scheme(next((each for each in tcp if each.port == number), None), choice)
    names = [choice.port] if choice.port else [HTTPS] if choice.tls else [HTTP, HTTPS]
    named = {each.name or "": each for each in tcp}
    picked = next((named[name] for name in names if name in named), None)
    if picked is None and not choice.port and len(tcp) == 1:
        picked = tcp[0]
    if picked is None or not picked.port:
        there = ", ".join(f"{each.name or 'without a name'} {each.port}" for each in tcp) or "no TCP port at all"
        which = f"one named {choice.port}" if choice.port else "one named http"
        raise PeerError(
            f"which port of the Service {service} is meant? It has {there}, and not {which}; "
            f"fix: name one in the url of discovery or of this client, such as kubernetes:endpointslices?port=8080",
            peer=PEER,
        )
    return picked.port, _scheme(picked, choice)


def _scheme(port: Port | None, choice: Choice) -> str:
    if choice.tls or port is None:
        return HTTPS if choice.tls else HTTP
    said = (port.app_protocol or port.name or "").lower()
    return HTTPS if said == HTTPS or said.startswith("https-") else HTTP
