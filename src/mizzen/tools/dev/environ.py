"""What the children of `mizzen dev` are given beyond mizzen.toml: the embedded registry, loopback, short stops."""

from __future__ import annotations

from collections.abc import Mapping

from mizzen.rules.config import System, short_variable, variable

DRAIN = "5s"
"""The design's for development: nobody waits for a rolling restart at a desk."""
LINGER = "0s"
"""Callers are on this machine and see the withdrawal at once."""


def child_environ(system: System, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the child that runs the service ``name``."""
    registry = f"consul://{system.registry.address}"
    service = ("services", name)
    said: dict[tuple[str, ...], str] = {
        ("dev",): "true",
        ("discovery", "url"): registry,
        (*service, "stop", "linger"): LINGER,
        (*service, "stop", "drain"): DRAIN,
        (*service, "workers"): "1",
        (*service, "log", "format"): "json",
    }
    if system.services[name].socket is None:
        said[(*service, "host")] = "127.0.0.1"
    # what mizzen.toml says of production must not lead development elsewhere
    if system.discovery.register is not None:
        said["discovery", "register"] = registry
    if system.discovery.resolve is not None:
        said["discovery", "resolve"] = registry
    if system.services[name].advertise is not None:
        said[(*service, "advertise")] = "127.0.0.1"
    out = dict(environ)
    for path, value in said.items():
        short = short_variable(*path)
        if short is not None:  # both names given with different values would be an error
            out.pop(short, None)
        out[variable(*path)] = value
    out["PYTHONUNBUFFERED"] = "1"  # a `print` of the service shows when it happens
    return out
