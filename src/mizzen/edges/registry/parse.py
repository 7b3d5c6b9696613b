"""Registrations: from Consul's JSON to our records, and a refusal for every part that would mean nothing here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mizzen.words.clock import parse_duration
from mizzen.words.message import Headers

from .model import STATUSES, CheckSpec, Kind, Service
from .refusal import Refusal, unsupported

BODY = 65_536
"""Bytes of a request; a registration has some hundred."""
CHECKS = 10
"""Checks per service."""
INTERVAL_LEAST = 1.0
"""Seconds between probes; Consul's ``checks.MinInterval``. Lower ones are raised to it."""
TIMEOUT = 10.0
"""Seconds for a probe; Consul's default."""
KINDS: tuple[Kind, ...] = ("ttl", "http", "tcp")
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


def registration(body: bytes) -> tuple[Service, list[CheckSpec]]:
    """The service and checks that a body of ``agent/service/register`` asks for; a `Refusal` says what is wrong."""
    given = _fields(_object(body), _SERVICE, "a service")
    name = _text(given, "name")
    if not name:
        raise Refusal(400, "Missing service name")
    service = Service(
        id=_text(given, "id") or name,
        name=name,
        address=_text(given, "address"),
        port=_number(given, "port", 0, most=65_535),
        tags=_typed(given, "tags", list[str], []),
        meta=_typed(given, "meta", dict[str, str], {}),
        tagged=_typed(given, "taggedaddresses", dict[str, Any], {}),
        weights={"Passing": 1, "Warning": 1, **_weights(given)},
        override=_typed(given, "enabletagoverride", bool, False),
        checks={},
    )
    raw = [*([given["check"]] if given.get("check") else []), *_typed(given, "checks", list[Any], [])]
    if len(raw) > CHECKS:
        raise Refusal(400, f"{len(raw)} checks for one service: the embedded registry takes at most {CHECKS}")
    specs = [_check(each, service, number if len(raw) > 1 else 0) for number, each in enumerate(raw, 1)]
    return service, specs


def update(body: bytes) -> tuple[str, str]:
    """Status and output of a body of ``agent/check/update``."""
    given = _fields(_object(body), {"status", "output"}, "a check's update")
    return _status(_text(given, "status")), _text(given, "output")


def _check(value: Any, service: Service, number: int) -> CheckSpec:
    given = _fields(value, _CHECK, "a check")
    kinds = [kind for kind in KINDS if given.get(kind)]
    if len(kinds) != 1:
        raise Refusal(400, "Invalid check: a check needs exactly one of TTL, HTTP and TCP")
    kind = kinds[0]
    seconds = _seconds(given, "interval")
    if kind != "ttl" and not seconds:
        raise Refusal(400, f"Invalid check: Interval must be > 0 for {kind.upper()} checks")
    target = "" if kind == "ttl" else _text(given, kind)
    header = _typed(given, "header", dict[str, list[str]], {})
    if any(name.lower() == "host" for name in header):
        raise unsupported("a Host header of its own in an HTTP check", 400)
    method = _text(given, "method") or "GET"
    if kind == "http":
        _sendable(method, target, header)
        _local(target, urlsplit(target).scheme in ("http", "https"))
    elif kind == "tcp":
        _local(f"//{target}", True)
    critical = _number(given, "failuresbeforecritical", 0)
    forget = _seconds(given, "deregistercriticalserviceafter")
    return CheckSpec(
        id=_text(given, "checkid") or _text(given, "id") or f"service:{service.id}" + (f":{number}" if number else ""),
        name=_text(given, "name") or f"Service '{service.name}' check",
        kind=kind,
        notes=_text(given, "notes"),
        status=_status(_text(given, "status") or "critical"),
        ttl=_seconds(given, "ttl"),
        interval=max(seconds, INTERVAL_LEAST) if kind != "ttl" else 0.0,
        timeout=_seconds(given, "timeout") or TIMEOUT,
        target=target,
        method=method,
        header=header,
        body=_text(given, "body"),
        unverified=_typed(given, "tlsskipverify", bool, False),
        forget_after=max(forget, FORGET_LEAST) if forget else 0.0,
        success_before_passing=_number(given, "successbeforepassing", 0),
        failures_before_critical=critical,
        failures_before_warning=_number(given, "failuresbeforewarning", critical) or critical,
    )


def _sendable(method: str, url: str, header: Mapping[str, list[str]]) -> None:
    """Refuse what no request can be made of: every later probe would fail as if it were a defect of ours."""
    if not (method.isascii() and method.isalpha()) or method == "CONNECT":
        raise Refusal(400, f"Invalid check: {method!r} is no method")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise Refusal(400, f"Invalid check: {url!r} cannot be probed: it must be percent-encoded")
    try:
        Headers((name, value) for name, values in header.items() for value in values or [""])
    except ValueError as error:
        raise Refusal(400, f"Invalid check: {error}") from None


def _local(url: str, readable: bool) -> None:
    """Refuse a probe of anything but this machine and private networks: a registry is not a scanner."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        readable = readable and (parts.port is not None or parts.scheme != "")
    except ValueError:
        host = ""
    if not readable or not host:
        raise Refusal(400, f"Invalid check: {url.removeprefix('//')!r} cannot be probed")
    if host == "localhost":
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise unsupported(f"a check of the name {host!r} (write an address)", 400) from None
    if not (address.is_loopback or (address.is_private and not address.is_link_local)) or address.is_unspecified:
        raise unsupported(f"a check of {host}: it probes loopback and private addresses only", 400)


def _object(body: bytes) -> Any:
    if len(body) > BODY:
        raise Refusal(413, f"Request body too large, max size: {BODY} bytes")
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise Refusal(400, f"Request decode failed: {error}") from None


def _fields(value: Any, known: set[str], what: str) -> dict[str, Any]:
    """The fields by their name in small letters: Consul takes ``ServiceID``, ``serviceID`` and ``service_id`` alike."""
    if not isinstance(value, dict):
        raise Refusal(400, f"Request decode failed: expected {what} as an object")
    fields = {}
    for key, each in value.items():
        name = key.lower().replace("_", "")
        if name in known:
            fields[name] = each
        elif each not in (None, "", 0, False, [], {}):  # clients send empty fields of all sorts, and mean nothing
            raise unsupported(f"{key} in {what}", 400)
    return fields


def _typed(given: Mapping[str, Any], key: str, into: Any, default: Any) -> Any:
    if given.get(key) is None:
        return default
    try:
        return msgspec.convert(given[key], into)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"Request decode failed: {key}: {error}") from None


def _text(given: Mapping[str, Any], key: str) -> str:
    return str(_typed(given, key, str, ""))


def _number(given: Mapping[str, Any], key: str, default: int, *, most: int = 1_000_000) -> int:
    number = int(_typed(given, key, int, default))
    if not 0 <= number <= most:
        raise Refusal(400, f"Request decode failed: {key}: expected 0 to {most}, got {number}")
    return number


def _weights(given: Mapping[str, Any]) -> dict[str, int]:
    fields = {str(name).capitalize(): each for name, each in _typed(given, "weights", dict[str, int], {}).items()}
    if unknown := set(fields) - {"Passing", "Warning"}:
        raise Refusal(400, f"Request decode failed: weights: {', '.join(sorted(unknown))} is not Passing or Warning")
    return fields


def _seconds(given: Mapping[str, Any], key: str) -> float:
    text = _text(given, key)
    try:
        return parse_duration(text) if text else 0.0
    except ValueError as error:
        raise Refusal(400, f"Request decode failed: {key}: {error}") from None


def _status(text: str) -> str:
    if text not in STATUSES:
        raise Refusal(400, f"Invalid check status: {text!r} (expected {', '.join(STATUSES)})")
    return text
