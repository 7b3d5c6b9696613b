"""What `mizzen dev` says once everything is up: where it is, and what to try."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MOST = 3
"""Lines to try per service: a hint, not a list of routes; `mizzen routes` is that."""
_PARAMETER = re.compile(r"\{[^{}]*\}")


def banner(name: str, urls: Mapping[str, str], described: Mapping[str, Mapping[str, Any]], registry: str) -> str:
    """Addresses of the services and of the registry, and commands that show something."""
    width = max((len(service) for service in [*urls, "registry"]), default=0)
    lines = [f"{name} is up", ""]
    lines += [f"  {service:<{width}}  {url}" for service, url in urls.items()]
    lines += [f"  {'registry':<{width}}  {registry}/v1/catalog/services", ""]
    first = None
    for service, url in urls.items():
        for path in examples(described[service]["routes"]):
            first = first or (service, path)
            lines.append(f"  {_curl(url, path)}")
        lines.append(f"  {_curl(url, '/health')}")
    if first is not None:
        service, path = _deepest(urls, described) or first
        lines.append(f"  mizzen call {service} GET {path} --explain")
    return "\n".join([*lines, "", "Ctrl-C stops everything"])


def _curl(url: str, path: str) -> str:
    scheme, _, place = url.partition("://")
    return f"curl --unix-socket {place} http://localhost{path}" if scheme == "http+unix" else f"curl {url}{path}"


def examples(routes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of GET routes with something in place of each parameter, at most three."""
    paths = [_PARAMETER.sub("1", route["template"]) for route in routes if route["method"] == "GET"]
    return list(dict.fromkeys(paths))[:MOST]


def _deepest(urls: Mapping[str, str], described: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """A path with a parameter on a service that calls others: the most there is to explain."""
    for service in urls:
        for route in described[service]["routes"]:
            if described[service]["clients"] and route["method"] == "GET" and "{" in route["template"]:
                return service, _PARAMETER.sub("1", route["template"])
    return None
