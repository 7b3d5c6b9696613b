"""Hosted: a service inside another ASGI server, from that server's lifespan to its end.

The server owns sockets, signals and the drain. What is left is done as ``mizzen run`` does it: the same runtime goes
through the same states, on a network whose listening is somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import msgspec

from mizzen.edges import telemetry as outlets
from mizzen.edges.asgi import Outward, Receive, Scope, Send
from mizzen.rules.config import StopConfig, System
from mizzen.rules.discovery import Instance, Registrar
from mizzen.words.errors import StartError

from .load import load_service
from .members import Members, SharedRegistrar
from .network import Listener, SocketNetwork
from .observing import Telemetry
from .process import assemble, at_home
from .runtime import Runtime
from .service import Service

START_PATIENCE = 5.0
"""Seconds that the server is kept from listening while we start. After that it listens, probes say what is waited for
and requests are refused as ``starting``: a platform that gets no answer at all would kill a service that only waits."""

log = logging.getLogger("mizzen.runtime")


class Hosted:
    """One life of a service in another server's process."""

    def __init__(self, service: Service | str, system: System, *, environ: Mapping[str, str], version: str, logs: bool) -> None:
        """A name is loaded as ``[services.<name>]`` says; without ``logs`` the process's logging is left alone."""
        self._service = service
        self._system = system
        self._environ = environ
        self._version = version
        self._take_logs = logs
        self._logs: outlets.Logs | None = None
        self._runtime: Runtime | None = None
        self._life: asyncio.Task[int] | None = None
        self._closing = ExitStack()
        self._outward: Outward | None = None
        self._asked = False

    async def start(self) -> None:
        """Open everything; returns when it serves, or after ``START_PATIENCE``. ``StartError`` for what cannot start."""
        try:
            runtime = self._runtime = self._made()
            started = asyncio.Event()
            self._life = asyncio.get_running_loop().create_task(runtime.run(signals=False, started=started.set), name="service")
            waiter = asyncio.ensure_future(started.wait())
            try:
                await asyncio.wait({self._life, waiter}, timeout=START_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
            if self._life.done():
                self._life.result()
                raise StartError(f"{runtime.running.service.name} was stopped before it served")
            self._life.add_done_callback(self._ended)
        except BaseException:
            if self._life is not None and not self._life.done():  # the server gives up on us
                self._life.cancel()
                await asyncio.wait({self._life})
            self._closing.close()
            raise

    async def stop(self) -> bool:
        """Withdraw and close everything; whether that was done properly."""
        try:
            if self._life is None or self._runtime is None:
                return True
            self._life.remove_done_callback(self._ended)
            self._runtime.stop("the server stops")
            await asyncio.wait({self._life})
            return not self._life.cancelled() and self._life.exception() is None and self._life.result() == 0
        finally:
            self._closing.close()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not self._asked:
            self._asked = True
            if self._logs is not None:
                self._logs.adopt()  # some servers make their loggers once they serve
        assert self._outward is not None
        await self._outward(scope, receive, send)

    def _ended(self, life: asyncio.Task[int]) -> None:
        """The start failed when the server listened already: it cannot be told, so the process is, as by its platform."""
        if not life.cancelled() and life.exception() is not None:
            log.critical("%s ends: %s", self._name, life.exception())
            self._closing.close()  # with what is left of the log: some servers' workers end at once
            signal.raise_signal(signal.SIGTERM)

    # -- as run_process does it ------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._service if isinstance(self._service, str) else self._service.name

    def _made(self) -> Runtime:
        name, system = self._name, self._system
        config = system.service(name)
        network = _Outside()
        drivers, instance = at_home(
            system, name, environ=self._environ, version=self._version, host=config.host, port=config.port, network=network
        )
        self._closing.callback(drivers.close)
        if self._take_logs:
            self._logs = logs = outlets.install(
                service=name, version=self._version, instance=instance.id, level=config.log.level, format=config.log.format
            )
            self._closing.callback(logs.close)
            logs.attach(asyncio.get_running_loop())
        service = self._loaded()
        if self._logs is not None:
            self._logs.adopt()
        registrar: Registrar | None = drivers.registering().registrar
        if registrar is None:
            log.warning("no registry: nothing announces %s (discovery.url is %s)", instance.id, system.discovery.url)
        elif config.port == 0:
            registrar = None
            log.warning("nothing announces %s: set services.%s.port to the port that the server listens on", name, name)
        elif (members := _members(instance)) is not None:
            self._closing.callback(members.leave)
            instance = msgspec.structs.replace(instance, meta={**instance.meta, "boot": members.boot})
            registrar = SharedRegistrar(registrar, members)
        # The server stops listening before it tells us: lingering would wait for nobody.
        stop = StopConfig(linger=0.0, drain=config.stop.drain)
        config = msgspec.structs.replace(config, stop=stop)
        runtime = assemble(
            service,
            msgspec.structs.replace(system, services={**system.services, name: config}),
            instance,
            drivers,
            registrar,
            network,
            Telemetry(name, version=self._version, logs=self._logs),
            config.host,
            config.port,
            bound=f"another server listens; configured is {config.host}:{config.port}",
        )
        self._outward = Outward(runtime.server, body=config.limits.body, progress=config.limits.progress)
        return runtime

    def _loaded(self) -> Service:
        service = self._service
        if isinstance(service, str):
            return load_service(self._system, service)
        self._system.check_clients(service.name, service.clients)
        service.plans()  # whatever is wrong with it is found now, and not at its first request
        return service


def _members(instance: Instance) -> Members | None:
    """The other processes of this instance; None where they cannot be known, and each stands for itself."""
    try:
        return Members(instance.id, instance.meta["boot"])
    except OSError as error:
        log.info("no lock file for %s (%s): run one worker, or each withdraws the instance for all", instance.id, error)
        return None


class _NotOurs:
    """An address that another server listens on."""

    def __init__(self, port: int) -> None:
        self.port = port

    def close(self) -> None:
        """Nothing of ours is open."""

    async def drain(self) -> None:
        """The same."""


class _Outside(SocketNetwork):
    """The network of a service that another server listens for: of its own it binds the admin port alone."""

    def __init__(self) -> None:
        super().__init__()
        self._first = True

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Bind, but for the first address, which is the service's."""
        first, self._first = self._first, False
        return _NotOurs(port) if first else await super().listen(host, port, factory)
