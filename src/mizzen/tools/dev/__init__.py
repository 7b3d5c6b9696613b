"""Development: a whole system with one command, each service a process of its own, restarted on change."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TextIO

from mizzen.rules.config import System

__all__ = ["develop"]


def develop(system: System, environ: Mapping[str, str], *, stream: TextIO | None = None) -> int:
    """Run every service of ``system`` until Ctrl-C; its exit code.

    ``StartError`` when a service is wrong, when services require each other in a circle, or when a port is taken.
    """
    from mizzen.assembly.load import load_service
    from mizzen.words.errors import StartError

    from .screen import Screen
    from .supervisor import Supervisor

    if not system.services:
        raise StartError(f"{system.file.name} has no services", fix="add [services.NAME] with build and port")
    described = {name: load_service(system, name).describe() for name in system.services}
    screen = Screen(stream or sys.stdout, list(system.services))

    async def run() -> int:
        return await Supervisor(system, described, environ, screen).run()

    return asyncio.run(run())
