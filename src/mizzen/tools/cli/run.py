"""``mizzen run``: one service as in production. stdout is for its log lines only."""

from __future__ import annotations

from .ending import leave_when_told, leave_within
from .loop import run as run_loop
from .where import environment, open_system


def run(service: str, *, folder: str | None, host: str | None, port: int | None, stop_with_parent: bool = False) -> int:
    """Run one service until it is told to stop; ``host`` and ``port`` override its configuration."""
    if stop_with_parent:
        from mizzen.tools.dev.lifeline import stop_when_stdin_ends

        stop_when_stdin_ends()
    environ = environment()
    system = open_system(folder, environ)
    system.service(service)
    leave_when_told()

    from mizzen.assembly.process import run_process
    from mizzen.tools.ship.version import version_of

    version = version_of(system.folder).text

    async def serve() -> int:
        try:
            return await run_process(system, service, environ=environ, version=version, host=host, port=port)
        finally:
            leave_within()

    return run_loop(serve)
