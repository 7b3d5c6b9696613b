"""etcd, broken: 3.5 and 3.6 as one member, and a cluster of three."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from servers.etcd import Cluster, Etcd, binary

from mizzen.assembly.drivers import Backend
from mizzen.edges.resolvers import EtcdRegistrar, EtcdResolver
from mizzen.edges.resolvers.etcd.gateway import LIMIT, TIMEOUT
from mizzen.edges.resolvers.etcd.registrar import TTL
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance

from .rig import Fault, Rig

SILENCE = 1.0
"""Seconds, instead of 15: what a hang takes to be told depends on it."""
LONGER_SILENCE = 6.0
"""The same where etcd hangs: longer than a lease and what it takes to end it, as 15 seconds and two tries are."""
SHORT_TTL = 5
"""Seconds of a lease where the fault is about who stops beating, instead of 15: more than any of these outages lasts, but
for the hang."""
EXPIRY = 3.0
"""Seconds on top of a lease until its keys are gone: etcd looks twice a second, and gives a second after an election."""
USER = "services"


class EtcdRig(Rig):
    """One member."""

    name: ClassVar[str] = "etcd 3.6"
    wanted: ClassVar[str] = "3.6"
    members: ClassVar[int] = 1
    cannot: ClassVar[Mapping[Fault, str]] = {}
    hold = 6.0  # two callers may try again some seconds apart after an outage, and whoever was first holds until both did
    patience = 30.0  # the slowest retry is 15 s

    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder, fault)
        program = binary(self.wanted)
        options = ["--bcrypt-cost=4"]  # logins of many at once must not be what takes the time
        self.each = (
            Cluster(folder, program, options=options).members
            if self.members == 3
            else [Etcd("etcd", folder, program, options=options)]
        )
        self._lease = SHORT_TTL if fault in ("hung", "shutdown during outage") else TTL
        self.ttl = self._lease + EXPIRY
        self._silence = LONGER_SILENCE if fault == "hung" else SILENCE
        self.silence = self._silence + TIMEOUT + (TIMEOUT if self.members == 1 else LIMIT)
        self._auth = fault in ("filtered", "auth expiry")
        self._file = folder / "password"
        self._passwords = 0
        self._gate = threading.Event()
        self._gate.set()
        self._waiting = self._watches = 0

    # -- how the product is pointed at it

    @property
    def url(self) -> str:
        fronts = [self.front(*member.address) for member in self.each]
        return f"etcd://{f'{USER}@' if self._auth else ''}{','.join(f'{host}:{port}' for host, port in fronts)}"

    def config(self) -> DiscoveryConfig:
        return DiscoveryConfig(url=self.url, token_file=str(self._file) if self._auth else None)

    def hasten(self, backend: Backend) -> None:
        """The driver's own parameters, which no URL sets; and a gate before its watches, which one fault needs."""
        resolver, registrar = backend.resolver, backend.registrar
        assert isinstance(resolver, EtcdResolver)
        assert isinstance(registrar, EtcdRegistrar)
        resolver._silence, registrar._ttl = self._silence, self._lease
        gateway = resolver._gateway
        plain = gateway.open

        async def gated(path: str, body: Any, doing: str) -> Any:
            self._waiting += 1
            if not self._gate.is_set():
                await asyncio.to_thread(self._gate.wait)
            self._waiting -= 1
            self._watches += 1
            return await plain(path, body, doing)

        gateway.open = gated  # type: ignore[method-assign]

    # -- its life

    def up(self, *, keep_state: bool = True) -> None:
        first = not self.version
        if not keep_state:
            for member in self.each:
                member.forget()
        self._start()
        if first:
            with urllib.request.urlopen(f"{self.each[0].client_url}/version", timeout=5) as answer:
                self.version = str(json.load(answer)["etcdserver"])
            if self._auth:
                self._file.write_text("password-0")
                self._say().enable_auth(USER, "password-0")
                for member in self.each:
                    member.log_in("root", "root-password")

    def _start(self) -> None:
        for member in self.each:
            if not member.process.running:
                member.start(ready=False)
        for member in self.each:
            member.until_ready()

    def down(self) -> None:
        if self.fault == "flapping" and self.members > 1:  # what flaps in a cluster is its leader
            until(lambda: any(member.leads() for member in self.each))
            next(member for member in self.each if member.leads()).kill()
            return
        for member in self.each:
            member.kill()

    def freeze(self) -> None:
        for member in self.each:
            member.freeze()

    def thaw(self) -> None:
        for member in self.each:
            member.thaw()

    def close(self) -> None:
        self._gate.set()
        for member in self.each:
            member.kill()
        super().close()

    # -- what others do there

    def _say(self) -> Etcd:
        return next(member for member in self.each if member.process.running)

    def put(self, *instances: Instance) -> None:
        for each in instances:
            value = {"v": 1, "host": each.host, "port": each.port, "meta": {"boot": "another", **each.meta}}
            self._say().put(f"/mizzen/{each.service}/{each.id}", json.dumps(value))

    def remove(self, *instances: Instance) -> None:
        self._say().delete_all(f"/mizzen/{each.service}/{each.id}" for each in instances)

    # -- the faults

    def empty(self, service: str) -> None:
        self._say().delete(f"/mizzen/{service}/", prefix=True)

    def filtered(self, on: bool) -> None:
        (self._say().forbid if on else self._say().permit)()

    def expire_auth(self) -> None:
        """A new password ends the tokens of the old one."""
        self._passwords += 1
        self._say().new_password(USER, f"password-{self._passwords}")

    def renew_auth(self) -> None:
        self._file.write_text(f"password-{self._passwords}")

    def regress(self, service: str) -> None:
        """A backup is put back: everything is as it was then, on every member."""
        backup = self.folder / "backup"
        self._say().snapshot(backup)
        late = Instance(f"{service}-late", service, "10.0.9.9", 8101)
        for _ in range(3):
            self.put(late)
            self.remove(late)
        for member in self.each:
            member.kill()
        for member in self.each:
            member.restore(backup, self.each)
        self._start()

    def compact(self, *meanwhile: Instance) -> None:
        """Watches that end, and are kept from beginning again until the revision they begin at is gone."""
        count = self._watches
        self._gate.clear()
        for member in self.each:
            member.kill()
        self._start()
        until(lambda: self._waiting >= min(count, 2))
        self.put(*meanwhile)
        self._say().compact()
        self._gate.set()


class Etcd35Rig(EtcdRig):
    """The same, of the generation before."""

    name = "etcd 3.5"
    wanted = "3.5"


class EtcdClusterRig(EtcdRig):
    """Three members; a crash takes them all, as a power cut does, and flapping takes whoever leads."""

    name = "etcd ×3"
    members = 3
    hold = 10.0  # members of a new cluster take longer to find each other and elect one, and retries are further apart
    patience = 40.0


def until(true: Any, patience: float = 30.0) -> None:
    """Wait until it is."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"not within {patience:g}s"
        time.sleep(0.05)
