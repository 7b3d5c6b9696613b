"""``mizzen.asgi``: a service as an application for another ASGI server, configured as ``mizzen run`` configures it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mizzen.assembly.service import Service
from mizzen.edges.asgi import App, Application
from mizzen.rules.config import System, parse

from .cli.where import FILE, environment, read_if_any, read_system

if TYPE_CHECKING:
    from mizzen.assembly.hosted import Hosted


def asgi(service: Service | str, *, system: str | os.PathLike[str] | None = None, logs: bool = True) -> App:
    """The ASGI 3 application of ``service``: uvicorn, Granian and Hypercorn give the same answers as ``mizzen run``.

    A name stands for ``[services.<name>]`` of mizzen.toml, whose ``build`` is then called. ``system`` is the folder of
    that file; by default it is looked for from the working directory upwards, and a service object does without one.
    Nothing is read or opened before the server's lifespan begins; without a lifespan every request is an error that
    says so. ``logs=False`` leaves the process's logging alone: no JSON lines, and no access line.

    The other server owns what is below a request: listening, TLS, limits of connections, headers and URLs, keep-alive,
    ``Expect``, and the stop. It stops listening before it tells us, so there is no lingering: the instance is withdrawn
    from the registry after the last connection is closed, and a caller in between meets a refused connection.

    The instance is announced at the configured port (``services.<name>.port``, ``advertise``), which has to be the one
    that the server listens on; without a configured port it is not announced. Workers of one server share one place in
    the registry: each beats, the last one to stop withdraws. ``admin.port`` is for one worker only.
    """
    name = service if isinstance(service, str) else service.name

    def make() -> Hosted:
        from mizzen.assembly.hosted import Hosted
        from mizzen.tools.ship.version import version_of

        environ = environment()
        found = _system(service, None if system is None else os.fspath(system), environ)
        if isinstance(service, str) and str(found.folder) not in sys.path:
            sys.path.insert(0, str(found.folder))  # where its build is imported from
        return Hosted(service, found, environ=environ, version=version_of(found.folder).text, logs=logs)

    return Application(name, make)


def _system(service: Service | str, folder: str | None, environ: Mapping[str, str]) -> System:
    """The system that has the service; for a service object that no file names, one of that service alone."""
    if isinstance(service, str):
        return read_system(folder, environ)
    found = read_if_any(folder, environ)
    if found is not None and (folder is not None or service.name in found.services):
        return found
    text = f'[services.{service.name}]\nbuild = "{service.name.replace("-", "_")}:build"\nport = 0\n'
    return parse(text, Path.cwd() / FILE, environ)
