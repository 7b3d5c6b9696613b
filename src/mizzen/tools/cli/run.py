"""``mizzen run``: one service as in production. stdout is for its log lines only."""

from __future__ import annotations

import os

from . import heap
from .ending import leave_when_told, leave_within
from .loop import run as run_loop
from .where import environment, open_system


def run(
    service: str,
    *,
    folder: str | None,
    host: str | None,
    port: int | None,
    workers: int | None = None,
    as_worker: int | None = None,
    stop_with_parent: bool = False,
) -> int:
    """Run one service until it is told to stop; ``host``, ``port`` and ``workers`` override its configuration.

    ``as_worker`` is for the processes that ``workers`` starts: the descriptor through which they hear of the first one.
    """
    if stop_with_parent:
        from mizzen.tools.dev.lifeline import stop_when_stdin_ends

        stop_when_stdin_ends()
    environ = environment()
    started_in = os.getcwd()  # noqa: PTH109  # a start does without pathlib
    system = open_system(folder, environ)
    workers = workers or system.service(service).workers
    leave_when_told()
    if as_worker is not None:
        from .crew import work

        heap.settle()
        return work(system, service, channel=as_worker, environ=environ)

    from mizzen.tools.ship.version import ask_version

    version = ask_version(os.getcwd())  # noqa: PTH109  # the system's folder, since it was opened
    if workers > 1:
        from pathlib import Path

        from .crew import supervise

        heap.settle()
        return supervise(
            system,
            service,
            workers=workers,
            started_in=Path(started_in),
            environ=environ,
            version=version(),
            host=host,
            port=port,
        )

    from mizzen.assembly.process import run_process

    async def serve() -> int:
        try:
            return await run_process(
                system, service, environ=environ, version=version(), host=host, port=port, built=heap.settle
            )
        finally:
            leave_within()

    return run_loop(serve)
