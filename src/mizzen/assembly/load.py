"""Load: from a name in mizzen.toml to the service that its ``build`` declares."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
import typing
from collections.abc import Callable
from typing import Any

from mizzen.rules import config
from mizzen.words.errors import StartError
from mizzen.words.where import locate, plain, shown_path

from .service import Service

_OURS = (__file__.rsplit(os.sep, 2)[0] + os.sep, importlib.__file__)
"""Files whose lines are not the user's."""


def load_service(system: config.System, name: str) -> Service:
    """Build the service that ``[services.<name>]`` names; ``StartError`` says what is wrong and where."""
    wanted = system.service(name)
    if wanted.app is not None:
        from .load_app import load_app

        return load_app(system, name, wanted.app)
    if wanted.build is None:
        raise StartError(f"[services.{name}] names no build", fix=f'build = "{system.name}.{name}.service:build"')
    build = _imported(wanted.build, name)
    arguments = [config.settings(system, name, into)] if (into := settings_type(build)) is not None else []
    try:
        service = build(*arguments)
    except Exception as error:
        raise placed(error, f"{name} cannot start: {wanted.build}") from error
    if not isinstance(service, Service):
        raise StartError(
            f"{wanted.build} returned {type(service).__name__}, not a Service", where=[locate(build)[0]], fix="return service"
        )
    if service.name != name:
        raise StartError(
            f"{wanted.build} builds the service {service.name!r}, but mizzen.toml calls it {name!r}",
            where=[locate(build)[0]],
            fix=f'Service("{name}"), or [services.{service.name}]',
        )
    system.check_clients(name, service.clients)
    service.plans()  # whatever is wrong with it is found now, and not at its first request
    return service


def settings_type(build: Callable[..., Any]) -> Any:
    """The annotation of the one parameter that a ``build`` may take: the service's own settings; None without it."""
    parameters = list(inspect.signature(build).parameters.values())
    where, name = locate(build)
    if not parameters:
        return None
    if len(parameters) > 1:
        raise StartError(
            f"{name} takes {len(parameters)} parameters", where=[where], fix="take nothing, or one with the settings' type"
        )
    try:
        hints = typing.get_type_hints(plain(build))
    except Exception as error:  # an annotation is evaluated here: anything may come of it
        raise StartError(
            f"the annotations of {name} mean nothing at run time: {error}",
            where=[where],
            fix="import the settings' type at the top of the module, not under TYPE_CHECKING",
        ) from error
    if parameters[0].name not in hints:
        raise StartError(
            f"{name} takes {parameters[0].name!r} without a type",
            where=[where],
            fix=f"def {name}({parameters[0].name}: Settings) -> Service, with Settings a msgspec.Struct or a dataclass",
        )
    return hints[parameters[0].name]


def _imported(target: str, name: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise placed(error, f"{name} cannot start: importing {module_name}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise StartError(f"{name} cannot start: {module_name} has no function {attribute!r}", fix=f"def {attribute}() in it")
    return typing.cast("Callable[..., Any]", found)


def placed(error: Exception, doing: str) -> StartError:
    """What the user's code raised as an error that names the place."""
    if isinstance(error, StartError):
        return type(error)(error.what, where=error.where or _frames(error)[-1:], fix=error.fix)
    return StartError(f"{doing} raised {type(error).__name__}: {error}", where=_frames(error))


def _frames(error: BaseException) -> list[str]:
    """The last lines of the user's code on the way to the error."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen importlib", *_OURS))
    ]
    return [f"{shown_path(frame.filename)}:{frame.lineno}  {frame.line}" for frame in frames[-3:]]
