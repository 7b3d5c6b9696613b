"""Rig: one registry that a test breaks. The scenarios in ``tests/contract/faults`` are written once, against this.

A rig is made for one scenario and knows its fault from the beginning, so that it can start its server in the way that
the fault needs (with access control, behind a slow line). Everything here blocks; scenarios call it in a thread, while
the drivers under test go on in the event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from delaying import DelayProxy

from mizzen.assembly.drivers import Backend, Drivers
from mizzen.assembly.network import SocketNetwork
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance

Fault = Literal[
    "down at start",
    "down later",
    "slow",
    "hung",
    "empty",
    "filtered",
    "flapping",
    "mass removal",
    "restart with state",
    "restart without state",
    "auth expiry",
    "index regress",
    "compaction",
    "duplicate id",
    "shutdown during outage",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class Rig(ABC):
    """One registry and the ways to break it. What is in ``cannot`` is never asked of it.

    Made, nothing runs; ``need(...)`` here skips where there is no such server. A scenario then calls ``up()``, before
    anything else, and ``close()`` at the end, whatever happened.
    """

    name: ClassVar[str]
    """Its column in the table, such as ``etcd ×3``."""
    real: ClassVar[bool] = True
    """Whether it runs a server that `make servers` builds; its tests are marked ``servers`` then."""
    registers: ClassVar[bool] = True
    """Whether its driver has a registrar. Where it has none, ``put`` is how instances come, and the scenarios put again
    what a restart lost, as the controller or the operator does there."""
    renews: ClassVar[bool] = False
    """Whether the driver gets new credentials by itself when they end, so that callers notice nothing."""
    cannot: ClassVar[Mapping[Fault, str]] = {}
    """Faults that cannot be made there, and why, in one line each."""

    hold: float = 1.5
    """Of the store, instead of the product's 30 s: longer than this registry takes from its first answer after a restart
    without state until instances that beat every ``BEAT`` of the scenarios are in its answers again."""
    ttl: float = 15.0
    """Seconds until an instance that stops beating is out (after ``hasten``)."""
    silence: float = 3.0
    """Seconds until the driver tells that a registry which says nothing any more is lost (after ``hasten``)."""
    lag: float = 0.5
    """Seconds until callers can know of a change in a healthy registry: 0.5 where a watch tells, a refresh where not."""
    patience: float = 15.0
    """Seconds until something that should come by itself is a failure."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self.folder = folder
        self.fault: Fault = fault
        self.version = ""
        """Of the server, once known; stands behind the name in the table."""
        self._proxies: list[DelayProxy] = []

    # -- how the product is pointed at it

    @property
    @abstractmethod
    def url(self) -> str:
        """``discovery.url``; made of ``self.front(host, port)``, so that the fault "slow" can be made."""

    def config(self) -> DiscoveryConfig:
        """The configuration: add ``token_file`` and the like where the fault is about them."""
        return DiscoveryConfig(url=self.url, http_check=False)

    @property
    def environ(self) -> Mapping[str, str]:
        """What the driver finds in the environment."""
        return {}

    def hasten(self, backend: Backend) -> None:  # noqa: B027 - nothing to shorten is fine
        """Shorten what would take the driver minutes (TTL, silence), by its own parameters where it has them."""

    def open(self) -> Drivers:
        """Drivers for one process of the system: the product's own, over real sockets."""
        config = self.config()
        drivers = Drivers(
            config,
            url=config.url,
            network=SocketNetwork(),
            clock=time.monotonic,
            random=random.random,
            sleep=asyncio.sleep,
            environ=self.environ,
        )
        self.hasten(drivers.open(config.url))
        return drivers

    def front(self, host: str, port: int, *, udp: bool = False) -> tuple[str, int]:
        """Where clients reach ``host:port``: there, or through a slow line when the fault is "slow"."""
        if self.fault != "slow":
            return host, port
        for proxy in self._proxies:
            if proxy.target == (host, port):
                return proxy.address
        proxy = DelayProxy(host, port, udp=udp)
        self._proxies.append(proxy)
        return proxy.address

    # -- what others do there

    @abstractmethod
    def put(self, *instances: Instance) -> None:
        """Add them past the driver, with no TTL: as other programs, controllers and operators do. Safe to repeat."""

    @abstractmethod
    def remove(self, *instances: Instance) -> None:
        """Remove them past the driver, all at once where that is possible, whoever added them."""

    # -- the faults

    @abstractmethod
    def up(self, *, keep_state: bool = True) -> None:
        """Start it, on the same address each time, and wait until it answers. ``keep_state=False`` begins empty."""

    @abstractmethod
    def down(self) -> None:
        """Kill everything that the driver talks to, as a crash."""

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, new ones are accepted by the kernel, nothing is answered."""
        raise NotImplementedError(self.name)

    def thaw(self) -> None:
        """SIGCONT."""
        raise NotImplementedError(self.name)

    def slow(self, seconds: float) -> None:
        """Delay everything that is sent, each way, by that much; 0 ends it."""
        for proxy in self._proxies:
            proxy.delay = seconds

    def empty(self, service: str) -> None:
        """Lose every instance of ``service`` while it runs and answers."""
        raise NotImplementedError(self.name)

    def filtered(self, on: bool) -> None:
        """Take the rights to read away from the driver's account, or give them back."""
        raise NotImplementedError(self.name)

    def expire_auth(self) -> None:
        """End the driver's credentials: its requests are refused from now on."""
        raise NotImplementedError(self.name)

    def renew_auth(self) -> None:
        """Provide new credentials where they come from outside (a token file); nothing where the driver gets its own."""
        raise NotImplementedError(self.name)

    def regress(self, service: str) -> None:
        """Make the index or revision of ``service`` go back, as a restore from a backup does."""
        raise NotImplementedError(self.name)

    def compact(self, *meanwhile: Instance) -> None:
        """End the watches so that they resume from a past which is compacted away; ``meanwhile`` is put in the gap."""
        raise NotImplementedError(self.name)

    def close(self) -> None:
        """End everything; extended by what has processes, which calls this last."""
        for proxy in self._proxies:
            proxy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def shorten(driver: object, **parameters: float) -> None:
    """Set parameters that a driver has already, and no URL sets; fails when it has them no more."""
    for name, seconds in parameters.items():
        assert isinstance(getattr(driver, name), float | int), f"{driver!r} has no {name}"
        setattr(driver, name, seconds)
