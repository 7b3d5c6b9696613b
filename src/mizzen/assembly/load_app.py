"""Load an app: from ``app = "billing.main:app"`` in mizzen.toml to a service that is nothing but that ASGI app."""

from __future__ import annotations

import importlib
from typing import Any

from mizzen.edges.asgi.fit import APP, FACTORY, fit
from mizzen.rules.config import System
from mizzen.words.errors import StartError

from .load import placed
from .service import Service


def load_app(system: System, name: str, target: str) -> Service:
    """The service ``name`` that answers by the app at ``target``; ``StartError`` says what is wrong and where.

    What takes scope, receive and send is the app. What takes no argument makes it: it is called once, now.
    """
    _check_config(system, name, target)
    found = _imported(target, name)
    if isinstance(found, Service):
        raise StartError(
            f"{target} is a Mizzen service, not an ASGI app",
            fix=f'in [services.{name}]: build = "…", which names a function that returns the service',
        )
    kind, why = fit(found)
    if kind == FACTORY:
        try:
            made = found()
        except Exception as error:
            raise placed(error, f"{name} cannot start: {target}()") from error
        kind, why = fit(made)
        if kind != APP:
            raise StartError(
                f"{name} cannot start: {target}() gave {made!r}, which is no ASGI 3 app: {why or 'it makes one in turn'}",
                fix=f"return the app from {target.rpartition(':')[2]}",
            )
        found = made
    elif kind != APP:
        raise StartError(
            f"{name} cannot start: {target} is no ASGI 3 app: {why}",
            fix="name what takes scope, receive and send (a FastAPI, Starlette or Django app), or a function that returns it",
        )
    service = Service(name)
    service.mount_app("/", found)
    return service


def _check_config(system: System, name: str, target: str) -> None:
    """An app on its own takes nothing from the configuration: what is said to it there would be lost."""
    if system.service(name).settings:
        raise StartError(
            f"[services.{name}.settings] has settings, but {target} is an ASGI app, which takes none",
            fix="let the app read them itself, or write a build(settings) that hands them on and ends with "
            'service.mount_app("/", app)',
        )
    system.check_clients(name, ())


def _imported(target: str, name: str) -> Any:
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise placed(error, f"{name} cannot start: importing {module_name}") from error
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise StartError(
                f"{name} cannot start: {module_name} has no {path!r}",
                fix=f"name the app as {module_name} does, or define it there",
            ) from None
    return found
