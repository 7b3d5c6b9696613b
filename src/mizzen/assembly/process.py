"""Process: one service as ``mizzen run`` runs it, from its configuration to its exit code."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from mizzen.edges import telemetry as outlets
from mizzen.rules.config import DiscoveryConfig, ServiceConfig, System, hide_password
from mizzen.rules.discovery import Instance, instance_id
from mizzen.words.clock import monotonic
from mizzen.words.errors import StartError

from .drivers import Drivers, discover
from .identity import advertised, instance_of, is_loopback
from .load import load_service
from .network import Network, SocketNetwork
from .observing import Telemetry
from .running import Running
from .runtime import Runtime
from .service import Service
from .tls import peer_tls, server_tls
from .unix import path_of

if TYPE_CHECKING:  # what calls and what announces is loaded by services that do
    from mizzen.rules.discovery import Registrar

    from .announce import Announcer
    from .client import Client
    from .keeping import Keeping
    from .peers import Peer
    from .probes import Crew

WRITTEN = ("static:", "http:", "https:", "http+unix:")
"""What needs no snapshot: it is written down already."""

log = logging.getLogger("mizzen.runtime")


async def run_process(
    system: System,
    name: str,
    *,
    environ: Mapping[str, str],
    version: str,
    host: str | None = None,
    port: int | None = None,
    built: Callable[[], None] = lambda: None,
) -> int:
    """Run one service until it is told to stop; its exit code.

    ``built`` is told when everything is loaded and nothing is open yet. ``StartError`` when anything is wrong with the
    service or its configuration, before it serves.
    """
    config = system.service(name)
    host, port = host or config.host, config.port if port is None else port
    network = SocketNetwork(socket_mode=config.socket_mode)
    drivers, instance = at_home(system, name, environ=environ, version=version, host=host, port=port, network=network)
    logs = outlets.install(
        service=name, version=version, instance=instance.id, level=config.log.level, format=config.log.format
    )
    try:
        logs.attach(asyncio.get_running_loop())
        service = load_service(system, name)
        logs.adopt()
        registrar = registrar_of(drivers, system, instance, host)
        telemetry = Telemetry(name, version=version, logs=logs)
        runtime = assemble(service, system, instance, drivers, registrar, network, telemetry, host, port)
        built()
        return await runtime.run()
    finally:
        drivers.close()
        logs.close()


def at_home(
    system: System, name: str, *, environ: Mapping[str, str], version: str, host: str, port: int, network: Network
) -> tuple[Drivers, Instance]:
    """The registries that a service uses, and this life of the instance as it is announced there."""
    config = system.service(name)
    drivers = drivers_of(system, name, environ=environ, network=network)
    home = drivers.registering()
    address = advertised(
        advertise=config.advertise,
        host=host,
        environ=environ,
        registry_loopback=home.loopback or (home.registrar is None and is_loopback(host)),  # nobody is told where we are
        towards=home.address,
    )
    instance = instance_of(
        name,
        address,
        port,
        instance_id=config.instance_id,
        version=version,
        scheme="http" if config.tls is None else "https",
        zone=config.zone or "",
        weight=config.weight,
        tags=config.tags,
        meta=config.meta,
    )
    return drivers, instance


def drivers_of(system: System, name: str, *, environ: Mapping[str, str], network: Network) -> Drivers:
    """The registries that a service uses, none of which is open yet."""
    config = system.service(name)
    return Drivers(
        _probed(system.discovery, config),
        url=discover(system.discovery, environ),
        zone=config.zone or "",
        health_port=config.admin.port,
        network=network,
        clock=monotonic,
        random=random.random,
        environ=environ,
    )


def registrar_of(drivers: Drivers, system: System, instance: Instance, host: str) -> Registrar | None:
    """What announces the instance; where nothing does, a warning says why."""
    home = drivers.registering()
    if home.url == "none:":
        log.warning("no registry: nothing announces %s (discovery.url is %s)", instance.id, system.discovery.url)
    if path_of(host) is None or home.registrar is None:
        return home.registrar
    log.warning("nothing announces %s: no registry can name %s; its callers say where it is, by url", instance.service, host)
    return None


def _probed(discovery: DiscoveryConfig, config: ServiceConfig) -> DiscoveryConfig:
    """How the registry's agent may look at ``/health`` itself: not where callers must show a certificate, for it has none."""
    asks = config.tls is not None and config.tls.client_ca is not None and config.admin.port is None
    return msgspec.structs.replace(discovery, http_check=False) if asks else discovery


def assemble(
    service: Service,
    system: System,
    instance: Instance,
    drivers: Drivers,
    registrar: Registrar | None,
    network: Network,
    telemetry: Telemetry,
    host: str,
    port: int,
    *,
    bound: str | None = None,
    crew: Crew | None = None,
) -> Runtime:
    """Put a service, its peers and what runs them together; ``registrar`` announces it, where there is one."""
    config = system.service(service.name)
    keeping = keeping_of(system)
    peers = {
        peer: connect_peer(client, system, service.name, drivers, network=network, telemetry=telemetry, keeping=keeping)
        for peer, client in service.clients.items()
    }
    running = Running(
        service,
        config,
        peers=peers,
        telemetry=telemetry,
        about={"service": service.name, "version": instance.version, "instance": instance.id},
        tls=server_tls(system, service.name),
        crew=crew,
    )
    home = drivers.registering()

    def announcer(bound: int) -> Announcer | None:
        if registrar is None:
            return None
        from .announce import Announcer

        tell, heard = telemetry.outages.announcer(home.url, clock=monotonic)
        return Announcer(
            registrar,
            instance if bound == instance.port else at_port(instance, bound),
            registry=home.url,
            verdict=lambda: (running.health.verdict, running.health.note),
            failed_calls=lambda: sum(peer.failed_calls for peer in peers.values()),
            serving=lambda: {name: len(peer.store.instances) for name, peer in peers.items()},
            emit=tell,
            clock=monotonic,
            sleep=asyncio.sleep,
            random=random.random,
            heard=heard,
        )

    return Runtime(
        running,
        network=network,
        host=host,
        port=port,
        admin_port=config.admin.port,
        linger=config.stop.linger,
        drain=config.stop.drain,
        emit=telemetry.emit,
        announcer=announcer,
        bound=bound,
    )


def keeping_of(system: System) -> Keeping | None:
    """Where snapshots are kept, if they are."""
    if system.discovery.snapshots is None:
        return None
    from .keeping import Keeping

    return Keeping(system.discovery.snapshots)


def connect_peer(
    client: Client,
    system: System,
    name: str,
    drivers: Drivers,
    *,
    network: Network,
    telemetry: Telemetry,
    keeping: Keeping | None = None,
) -> Peer:
    """The way to one peer: by the client's own ``url`` where it has one, else by the system's discovery."""
    settings = system.client(name, client.name, timeout=client.timeout, retries=client.retries)
    backend = drivers.at(client.name, settings.url) if settings.url else drivers.resolving()
    if backend.url == "none:":
        raise StartError(
            f"nothing can resolve the peer {client.name!r}: {_no_registry(system)}",
            fix=f"set discovery.url (consul://…, static:…), or clients.{client.name}.url to the peer's address",
        )
    from .peers import Peer

    url = settings.url or drivers.resolves
    keeper = None if keeping is None or url.startswith(WRITTEN) else keeping.keeper(hide_password(url), client.name)
    return Peer(
        client,
        settings,
        backend.resolver,
        backend=backend.url,
        network=network,
        telemetry=telemetry,
        clock=monotonic,
        random=random.random,
        tls=peer_tls(system, name, client.name),
        keeper=keeper,
    )


def _no_registry(system: System) -> str:
    if system.discovery.url == "auto":
        return "discovery.url is auto, and the environment names no registry (CONSUL_HTTP_ADDR)"
    return "discovery is none:"


def at_port(instance: Instance, port: int) -> Instance:
    """The same life once its port is known (``--port 0`` lets the system choose)."""
    own = instance.id != instance_id(instance.service, instance.host, instance.port)
    id = instance.id if own else instance_id(instance.service, instance.host, port)
    return msgspec.structs.replace(instance, id=id, port=port)
