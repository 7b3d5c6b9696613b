"""Run: a service in several workers, from its configuration to its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mizzen.assembly.announce import Announcer
from mizzen.assembly.network import SocketNetwork
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.probes import State
from mizzen.assembly.process import at_home, at_port, registrar_of
from mizzen.assembly.running import Running
from mizzen.assembly.service import Service
from mizzen.assembly.tls import server_tls
from mizzen.edges import telemetry as outlets
from mizzen.edges.telemetry import Metrics, names
from mizzen.rules.config import System
from mizzen.words.clock import monotonic

from .door import Door
from .messages import Duty
from .pages import Pages
from .process import WorkerProcess
from .sockets import Sockets
from .supervisor import Supervisor

log = logging.getLogger("mizzen.crew")


async def run_crew(
    system: System,
    name: str,
    *,
    workers: int,
    command: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    version: str,
    host: str | None = None,
    port: int | None = None,
    built: Callable[[], None] = lambda: None,
) -> int:
    """Run one service in ``workers`` processes until it is told to stop; its exit code.

    ``command``, run in ``folder``, starts a worker when ``--as-worker FD`` is added. ``built`` is told when everything is
    loaded. ``StartError`` when anything is wrong with the service or its configuration, before it serves.
    """
    config = system.service(name)
    host, port = host or config.host, config.port if port is None else port
    network = SocketNetwork(socket_mode=config.socket_mode)
    drivers, instance = at_home(system, name, environ=environ, version=version, host=host, port=port, network=network)
    sockets = Sockets(host, port, admin_port=config.admin.port, workers=workers, mode=config.socket_mode)
    instance = at_port(instance, sockets.port)
    console = config.log.format == "console"
    logs = outlets.install(
        service=name, version=version, instance=instance.id, level=config.log.level, format=config.log.format
    )
    try:
        logs.attach(asyncio.get_running_loop())
        registrar = registrar_of(drivers, system, instance, host)
        telemetry = Telemetry(name, version=version, logs=logs)
        crew_metrics = Metrics()
        processes: list[WorkerProcess] = []
        pages = Pages(processes, own=telemetry.metrics, crew=crew_metrics)

        def duty(number: int, lifeline: int) -> Duty:
            return Duty(
                number=number,
                instance=instance,
                host=host,
                port=sockets.port,
                sockets=[each.fileno() for each in sockets.service],
                admin=None if sockets.admin is None else sockets.admin.fileno(),
                lifeline=lifeline,
                colour=console and os.isatty(1),
            )

        def announcer(verdict: Callable[[], tuple[str, str]]) -> Announcer | None:
            if registrar is None:
                return None
            return Announcer(
                registrar,
                instance,
                registry=drivers.registering().url,
                verdict=verdict,
                failed_calls=supervisor.failed_calls,
                serving=supervisor.peers,
                emit=telemetry.emit,
                clock=monotonic,
                sleep=asyncio.sleep,
                random=random.random,
            )

        restarts = crew_metrics.add(names.WORKER_RESTARTS).labels()
        supervisor = Supervisor(
            name,
            processes,
            sockets=sockets,
            pages=pages,
            duty=duty,
            announcer=announcer,
            linger=config.stop.linger,
            drain=config.stop.drain,
            emit=telemetry.emit,
            restarted=restarts.inc,
            clock=monotonic,
        )
        processes += [
            WorkerProcess(
                number,
                command,
                folder=folder,
                environ=environ,
                on_message=supervisor.heard,
                on_lines=logs.outlet.write,
            )
            for number in range(workers)
        ]
        crew_metrics.add(names.WORKERS, function=lambda: _states(processes))
        running = Running(
            Service(name),
            config,
            peers={},
            telemetry=telemetry,
            about={"service": name, "version": version, "instance": instance.id},
            tls=server_tls(system, name),
            crew=_Seen(supervisor, pages),
        )
        supervisor.door = Door(running, sockets)
        built()
        return await supervisor.run()
    finally:
        sockets.close()
        drivers.close()
        logs.close()


class _Seen:
    """The crew as its supervisor shows it, at the door."""

    def __init__(self, supervisor: Supervisor, pages: Pages) -> None:
        self.state: Callable[[], State] = supervisor.crew_state
        self.waiting: Callable[[], list[str]] = supervisor.waiting
        self.metrics = pages.page
        self._supervisor = supervisor

    def health(self, own: dict[str, Any]) -> dict[str, Any]:
        standing = self._supervisor.standing
        return {**own, "status": standing.status, "workers": standing.workers}


def _states(workers: Sequence[WorkerProcess]) -> dict[tuple[str, ...], float]:
    """How many workers are in each state; those that never occur here are left out of the page."""
    standings = (worker.standing for worker in workers)
    tally = Tally(each if isinstance(each, str) else each.state for each in standings)
    return {(state,): float(tally.get(state, 0)) for state in names.WORKER_STATES}
