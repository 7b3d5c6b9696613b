"""``mizzen run --workers N``: the command's side of a crew, as its supervisor and as one of its workers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mizzen.rules.config import System

from . import heap
from .ending import leave_within
from .loop import run as run_loop


def supervise(
    system: System,
    service: str,
    *,
    workers: int,
    started_in: Path,
    environ: Mapping[str, str],
    version: str,
    host: str | None,
    port: int | None,
) -> int:
    """Run the service in that many processes, each started in the folder in which this command was."""
    from mizzen.assembly.crew.run import run_crew

    async def serve() -> int:
        try:
            return await run_crew(
                system,
                service,
                workers=workers,
                command=[*own_command(sys.executable, sys.orig_argv, sys.argv), "run", service, "--dir", str(system.folder)],
                folder=started_in,
                environ=environ,
                version=version,
                host=host,
                port=port,
                built=heap.settle,
            )
        finally:
            leave_within()

    return run_loop(serve)


def work(system: System, service: str, *, channel: int, environ: Mapping[str, str]) -> int:
    """Be one of these processes, whose supervisor has the other end of ``channel``."""
    from mizzen.assembly.crew.worker import run_worker

    async def serve() -> int:
        try:
            return await run_worker(system, service, environ=environ, channel=channel, built=heap.settle)
        finally:
            leave_within()

    return run_loop(serve)


def own_command(executable: str, original: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """What this process was started with, up to the command's own arguments: ``python -X dev -m mizzen``.

    ``original`` is ``sys.orig_argv`` and ``arguments`` is ``sys.argv``, whose first is not an argument.
    """
    before = original[: len(original) - len(arguments) + 1]
    return [executable or original[0], *before[1:]]
