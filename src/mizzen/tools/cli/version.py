"""``mizzen version``: of a service, and of Mizzen."""

from __future__ import annotations

import platform

from mizzen.tools.ship.version import own_version, version_of

from .where import environment, read_if_any, read_system


def version(service: str | None, *, folder: str | None) -> int:
    """Print the version of the service (or the system, when there is one here), of Mizzen and of Python."""
    system = read_if_any(folder, environment()) if service is None else read_system(folder, environment())
    rows = []
    if system is not None:
        if service is not None:
            system.service(service)
        found = version_of(system.folder)
        rows.append((service or system.name, found.text, f"{found.origin}{f', {found.date}' if found.date else ''}"))
    rows.append(("mizzen", own_version(), ""))
    rows.append(("python", platform.python_version(), f"{platform.system().lower()} {platform.machine()}"))
    names, texts = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, text, more in rows:
        print(f"{name:<{names}}  {text:<{texts}}  {more}".rstrip())
    return 0
