"""DNS on a real CoreDNS, broken. Nobody announces there: the rig writes the zone as its keeper would."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from servers.binaries import need
from servers.coredns import RELOAD, ZONE, CoreDns

from mizzen.assembly.drivers import Backend
from mizzen.edges.resolvers import DnsResolver
from mizzen.edges.resolvers.dns.dnspython import DnsPython
from mizzen.edges.resolvers.dns.resolver import LEAST, SPREAD
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance

from .rig import Fault, Rig, shorten

LIFETIME = 1.0
"""Seconds of a question, instead of 4.5: what a hang takes to be told depends on it."""
TTL = 1
"""Seconds of every record, and until the next read."""
PORT = 8101


class DnsRig(Rig):
    """One server, and the zone of which the services are names with addresses."""

    name: ClassVar[str] = "dns a"
    registers = False
    cannot: ClassVar[Mapping[Fault, str]] = {
        "empty": "DNS knows no empty set of addresses: a name without any is an error, and callers keep what they have",
        "auth expiry": "DNS takes no credentials",
        "index regress": "answers of DNS have no index",
        "compaction": "DNS has no watch that could resume",
        "duplicate id": "nobody registers; two records of one address are one",
        "shutdown during outage": "nobody registers, so nobody has to withdraw",
    }
    hold = 4.0  # a read that is suspect is confirmed by the next, which may take as long as a question
    silence = TTL * (1 + SPREAD) + LIFETIME + LEAST
    lag = 2 * TTL * (1 + SPREAD) + float(RELOAD.removesuffix("ms")) / 1000
    patience = 40.0  # the slowest retry is 30 s

    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder, fault)
        program = need("coredns")
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
        self.version = found[1] if (found := re.search(r"CoreDNS-([\d.]+)", said)) else ""
        self._server = CoreDns(folder)
        self._zone: dict[str, dict[str, Instance]] = {}

    # -- how the product is pointed at it

    @property
    def server(self) -> str:
        host, port = self.front(self._server.host, self._server.port, udp=True)
        return f"{host}:{port}"

    @property
    def url(self) -> str:
        return f"dns:{{service}}.{ZONE}?type=a&port={PORT}&server={self.server}"

    def config(self) -> DiscoveryConfig:
        return DiscoveryConfig(url=self.url)

    def hasten(self, backend: Backend) -> None:
        assert isinstance(backend.resolver, DnsResolver)
        assert isinstance(backend.resolver._ask, DnsPython)
        shorten(backend.resolver._ask, lifetime=LIFETIME)

    # -- its life

    def up(self, *, keep_state: bool = True) -> None:
        if not keep_state:
            self._zone.clear()
            self._write()
        if not self._server.process.running:
            self._write()
            self._server.start()

    def down(self) -> None:
        self._server.kill()

    def freeze(self) -> None:
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    def close(self) -> None:
        self._server.kill()
        super().close()

    # -- what the keeper of the zone does

    def put(self, *instances: Instance) -> None:
        for instance in instances:
            self._zone.setdefault(instance.service, {})[instance.id] = instance
        self._write()

    def remove(self, *instances: Instance) -> None:
        for instance in instances:
            self._zone.get(instance.service, {}).pop(instance.id, None)
        self._write()

    def empty(self, service: str) -> None:
        self._zone[service] = {}
        self._write()

    def _write(self) -> None:
        lines = (line for service, each in self._zone.items() for line in self.lines(service, *each.values()))
        self._server.serve(*lines)

    def lines(self, service: str, *instances: Instance) -> list[str]:
        """What the zone has of a service."""
        return [f"{service} {TTL} IN A {instance.host}" for instance in instances]

    # -- the faults

    def filtered(self, on: bool) -> None:
        """A server that was told not to answer us: REFUSED."""
        self._server.fail("REFUSED" if on else "")


class DnsSrvRig(DnsRig):
    """The same with SRV records; one that ends says so, by a target of ``.`` (RFC 2782)."""

    name = "dns srv"
    cannot: ClassVar[Mapping[Fault, str]] = {fault: why for fault, why in DnsRig.cannot.items() if fault != "empty"}

    @property
    def url(self) -> str:
        return f"dns:_http._tcp.{{service}}.{ZONE}?type=srv&server={self.server}"

    def lines(self, service: str, *instances: Instance) -> list[str]:
        name = f"_http._tcp.{service} {TTL} IN SRV"
        hosts = {f"host-{instance.host.replace('.', '-')}": instance for instance in instances}
        addresses = [f"{host} {TTL} IN A {instance.host}" for host, instance in hosts.items()]
        services = [f"{name} 0 0 {instance.port} {host}" for host, instance in hosts.items()]
        return [*addresses, *(services or [f"{name} 0 0 0 ."])]
