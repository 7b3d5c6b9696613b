"""Load: from a name in mizzen.toml to the service that its ``build`` declares."""

from __future__ import annotations

import importlib
import inspect
import traceback
import typing
from collections.abc import Callable
from typing import Any

from mizzen.rules import config
from mizzen.words.errors import MizzenError, StartError

from .service import Service


def load_service(system: config.System, name: str) -> Service:
    """Build the service that ``[services.<name>]`` names; ``StartError`` says what is wrong and where."""
    wanted = system.service(name)
    if wanted.app is not None:
        raise StartError(
            f"{name}: mounting an ASGI app (app = {wanted.app!r}) is not in this version",
            fix='write a build function and name it: build = "package.service:build"',
        )
    if wanted.build is None:
        raise StartError(f"[services.{name}] names no build", fix=f'build = "{system.name}.{name}.service:build"')
    build = _imported(wanted.build, name)
    arguments = [config.settings(system, name, into)] if (into := settings_type(build)) is not None else []
    try:
        service = build(*arguments)
    except MizzenError:
        raise
    except Exception as error:
        raise StartError(
            f"{name} cannot start: {wanted.build} raised {type(error).__name__}: {error}", where=_frames(error)
        ) from error
    if not isinstance(service, Service):
        raise StartError(f"{wanted.build} returned {type(service).__name__}, not a Service", fix="return service")
    if service.name != name:
        raise StartError(
            f"{wanted.build} builds the service {service.name!r}, but mizzen.toml calls it {name!r}",
            fix=f'Service("{name}"), or [services.{service.name}]',
        )
    system.check_clients(name, service.clients)
    service.plans()  # whatever is wrong with it is found now, and not at its first request
    return service


def settings_type(build: Callable[..., Any]) -> Any:
    """The annotation of the one parameter that a ``build`` may take: the service's own settings; None without it."""
    parameters = list(inspect.signature(build).parameters.values())
    name = getattr(build, "__qualname__", repr(build))
    if not parameters:
        return None
    if len(parameters) > 1:
        raise StartError(f"{name} takes {len(parameters)} parameters", fix="take nothing, or one with the settings' type")
    hints = typing.get_type_hints(build)
    if parameters[0].name not in hints:
        raise StartError(
            f"{name} takes {parameters[0].name!r} without a type",
            fix=f"def {name}({parameters[0].name}: Settings) -> Service, with Settings a msgspec.Struct or a dataclass",
        )
    return hints[parameters[0].name]


def _imported(target: str, name: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    if not attribute:
        raise StartError(f"build of {name} is {target!r}", fix='"package.module:function"')
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise StartError(
            f"{name} cannot start: importing {module_name} raised {type(error).__name__}: {error}", where=_frames(error)
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise StartError(f"{name} cannot start: {module_name} has no function {attribute!r}", fix=f"def {attribute}() in it")
    return typing.cast("Callable[..., Any]", found)


def _frames(error: BaseException) -> list[str]:
    """The last lines of the user's code on the way to the error."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith(__file__.rpartition("/")[0])
    ]
    return [f"{frame.filename}:{frame.lineno}  {frame.line}" for frame in frames[-3:]]
