"""``mizzen routes``, ``stack`` and ``config``: what a service declares and how it is configured."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mizzen.rules.config import CODE, DEFAULT, Setting, System, origins, shown
from mizzen.words.clock import format_duration

from .say import Usage
from .tables import print_table
from .where import environment, open_system


def show_routes(service: str, folder: str | None) -> int:
    """Print every route of a service: method, template, handler, where that stands, status."""
    _, described = _describe(service, folder)
    rows = [
        [route["method"], route["template"], str(route["status"]), route["handler"], route["where"]]
        for route in described["routes"]
    ]
    print_table(["method", "path", "status", "handler", "where"], rows)
    return 0


def show_stack(service: str, peer: str | None, folder: str | None) -> int:
    """Print the layers of a service's server and of its clients, outermost first, with the reason of each place."""
    system, described = _describe(service, folder)
    clients: Mapping[str, Any] = described["clients"]
    if peer is not None and peer not in clients:
        raise Usage(
            f"{service} has no client {peer!r}",
            where=[f"it calls {', '.join(clients) or 'nobody'}"],
            fix=f"mizzen stack {service}" + (f" {next(iter(clients))}" if clients else ""),
        )
    if peer is None:
        _print_stack(f"{service} answers through", described["stack"], "the bound handler")
    for name, client in clients.items():
        if peer in (None, name):
            terms = _terms(system, service, name, client)
            _print_stack(f"{service} calls {name} ({terms}) through", client["stack"], "connection pool")
    return 0


def show_config(service: str, folder: str | None) -> int:
    """Print every setting of a service with its value, secrets masked, and its origin."""
    system, described = _describe(service, folder)
    rows = _with_clients(origins(system, service, _settings_type(system, service)), system, service, described["clients"])
    print_table(["setting", "value", "from"], [list(row) for row in rows])
    return 0


def _settings_type(system: System, service: str) -> type[Any] | None:
    """The type of a service's own settings: the annotation of its ``build``'s parameter."""
    from mizzen.assembly import load

    target = system.service(service).build
    if target is None:
        return None
    module, _, name = target.partition(":")
    build: Any = sys.modules[module]  # loading the service imported it
    for part in name.split("."):
        build = getattr(build, part)
    found: type[Any] | None = load.settings_type(build)
    return found


def _describe(service: str, folder: str | None) -> tuple[System, Mapping[str, Any]]:
    from mizzen.assembly.load import load_service

    system = open_system(folder, environment())
    system.service(service)
    return system, load_service(system, service).describe()


def _with_clients(rows: list[Setting], system: System, service: str, clients: Mapping[str, Mapping[str, Any]]) -> list[Setting]:
    """The same rows with what the code says of each client: it stands above our defaults, below file and environment."""
    out = list(rows)
    for peer, client in clients.items():
        prefix = f"services.{service}.clients.{peer}."
        said = {**client["settings"], "required": client["required"]}
        if peer not in system.service(service).clients:
            at = next((index for index, row in enumerate(out) if ".limits." in row.key), len(out))
            out[at:at] = [Setting(f"{prefix}{key}", _setting(key, value), CODE) for key, value in said.items()]
            continue
        for index, row in enumerate(out):
            key = row.key.removeprefix(prefix)
            if row.origin == DEFAULT and key in said and row.value != _setting(key, said[key]):
                out[index] = Setting(row.key, _setting(key, said[key]), CODE)
    return out


def _terms(system: System, service: str, peer: str, client: Mapping[str, Any]) -> str:
    """On what terms a peer is called: what the code says, unless file or environment say otherwise."""
    said = client["settings"]
    config = system.client(service, peer, timeout=said["timeout"], retries=said["retries"])
    need = "required" if (client["required"] if config.required is None else config.required) else "optional"
    breaker = f"breaker {config.breaker.failures} failures, {format_duration(config.breaker.cooldown)}"
    return f"{need}; timeout {format_duration(config.timeout)}, retries {config.retries}, {breaker}"


def _print_stack(title: str, layers: list[Mapping[str, str]], end: str) -> None:
    rows = [[layer["layer"], layer["why"]] for layer in layers]
    print_table(["layer", "why it stands there"], [*rows, [end, ""]], title=title)
    print()


def _setting(key: str, value: Any) -> str:
    if key == "timeout" and isinstance(value, int | float):
        return format_duration(value)
    return shown(value, path=(key,))
