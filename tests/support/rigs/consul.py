"""Consul, broken: a single agent, and a cluster of three servers with the client agent that services talk to."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from servers import consul
from servers.binaries import need

from mizzen.assembly.drivers import Backend
from mizzen.edges.resolvers import ConsulRegistrar, ConsulResolver
from mizzen.edges.resolvers.consul.resolver import WAIT_MARGIN
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance

from .rig import Fault, Rig, shorten

TTL = 3.0
"""Seconds, instead of 15: six beats of the scenarios."""
WAIT = 1.0
"""Seconds of a blocking query, instead of 60: what a hang takes to be told depends on it alone."""

MAY_ALL = 'service_prefix "" { policy = "write" } node_prefix "" { policy = "read" } agent_prefix "" { policy = "read" }'
MAY_NOT_READ_NODES = 'service_prefix "" { policy = "write" }'


class SpeaksConsul(Rig):
    """What Consul and the embedded registry have in common: their driver, and how an operator writes."""

    ttl = TTL
    margin: float = WAIT_MARGIN
    silence = WAIT * 17 / 16 + WAIT_MARGIN

    def hasten(self, backend: Backend) -> None:
        """The driver's own parameters, which no URL sets."""
        assert isinstance(backend.resolver, ConsulResolver)
        assert isinstance(backend.registrar, ConsulRegistrar)
        shorten(backend.resolver, _wait=WAIT, _margin=self.margin)
        shorten(backend.registrar, _ttl=self.ttl)

    @abstractmethod
    def say(self, method: str, path: str, body: Any = None) -> Any:
        """An operator's request: the JSON that comes back; ``OSError`` for any answer but 200 and 404."""

    def put(self, *instances: Instance) -> None:
        for instance in instances:
            meta = {"boot": "another", **instance.meta}
            body = {"ID": instance.id, "Name": instance.service, "Address": instance.host, "Port": instance.port, "Meta": meta}
            self.say("PUT", "/v1/agent/service/register", body)

    def remove(self, *instances: Instance) -> None:
        self._remove(*(instance.id for instance in instances))

    def empty(self, service: str) -> None:
        """As ``consul services deregister`` for each of them."""
        held: dict[str, Any] = self.say("GET", "/v1/agent/services")
        self._remove(*(id for id, each in held.items() if each["Service"] == service))

    def _remove(self, *ids: str) -> None:
        for id in ids:
            self.say("PUT", f"/v1/agent/service/deregister/{quote(id, safe='')}")


class ConsulRig(SpeaksConsul):
    """One agent: in development mode, or with a data directory and ACLs where the fault needs them."""

    name: ClassVar[str] = "consul"
    cannot: ClassVar[Mapping[Fault, str]] = {"compaction": "blocking queries have no history to be cut off"}
    hold = 6.0  # an agent answers before it leads, and its catalog is empty until then
    patience = 30.0

    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder, fault)
        need("consul")
        self._open = contextlib.ExitStack()
        self._agent: consul.Consul | None = None
        self._acl = fault in ("filtered", "auth expiry")
        self._token_file = folder / "token"

    @property
    def agent(self) -> consul.Consul:
        """What a service talks to."""
        assert self._agent is not None, "not up yet"
        return self._agent

    @property
    def url(self) -> str:
        host, port = self.front(*self.agent.address)
        return f"consul://{host}:{port}"

    def config(self) -> DiscoveryConfig:
        file = str(self._token_file) if self._acl else None
        return DiscoveryConfig(url=self.url, http_check=False, token_file=file)

    # -- its life

    def up(self, *, keep_state: bool = True) -> None:
        if self._agent is None:
            self._agent = self._first()
            self.version = str(self.say("GET", "/v1/agent/self")["Config"]["Version"])
            if self._acl:
                self.renew_auth()
        else:
            self._again(keep_state)

    def _first(self) -> consul.Consul:
        if self._acl or self.fault == "restart with state":
            return self._open.enter_context(consul.server(self.folder, acl=self._acl))
        return self._open.enter_context(consul.development(self.folder))

    def _again(self, keep_state: bool) -> None:
        if not keep_state:
            self.agent.forget()
        self.agent.start()

    def down(self) -> None:
        self.agent.kill()

    def freeze(self) -> None:
        self.agent.freeze()

    def thaw(self) -> None:
        self.agent.thaw()

    def close(self) -> None:
        self._open.close()
        super().close()

    # -- what an operator does

    def say(self, method: str, path: str, body: Any = None) -> Any:
        status, said = self.agent.answer(method, path, body)
        if status not in (200, 404):
            raise OSError(f"{self.agent.name} answered {status} to {method} {path}: {said.decode(errors='replace')[:200]}")
        return json.loads(said) if status == 200 and said.strip() else None

    def filtered(self, on: bool) -> None:
        self.say("PUT", f"/v1/acl/policy/{self._policy}", {"Name": "service", "Rules": MAY_NOT_READ_NODES if on else MAY_ALL})

    def expire_auth(self) -> None:
        self.agent.revoke(self._token_file.read_text())

    def renew_auth(self) -> None:
        name = f"policy-{uuid.uuid4().hex[:8]}"
        self._policy = self.say("PUT", "/v1/acl/policy", {"Name": name, "Rules": MAY_ALL})["ID"]
        token = self.say("PUT", "/v1/acl/token", {"Policies": [{"ID": self._policy}]})["SecretID"]
        self._token_file.write_text(token)

    def regress(self, service: str) -> None:
        """A restore of a snapshot, as after an operator's mistake: the index goes back to what it was then."""
        before = self._index(service)
        kept = self._snapshot("GET")
        late = Instance(f"{service}-late", service, "10.0.9.9", 8101)
        for _ in range(3):
            self.put(late)
            self.remove(late)
        until(lambda: self._index(service) > before, "the index moved")
        highest = self._index(service)
        self._snapshot("PUT", kept)
        until(lambda: self._index(service) < highest, "the index went back")

    def _index(self, service: str) -> int:
        with urllib.request.urlopen(f"http://{self.agent.host}:{self.agent.port}/v1/health/service/{service}") as answer:
            return int(answer.headers["X-Consul-Index"])

    def _snapshot(self, method: str, body: bytes | None = None) -> bytes:
        url = f"http://{self.agent.host}:{self.agent.port}/v1/snapshot"
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=body)) as answer:
            said: bytes = answer.read()
            return said


class ConsulClusterRig(ConsulRig):
    """Three servers with data directories, and a client agent; a crash takes them all, as a power cut does."""

    name = "consul ×3"
    hold = 15.0  # servers of a new cluster find each other, elect a leader, and the client's agent joins and syncs
    patience = 60.0

    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder, fault)
        self._servers: consul.Servers | None = None

    def _first(self) -> consul.Consul:
        self._servers, client = self._open.enter_context(consul.cluster(self.folder, acl=self._acl))
        return client

    def _all(self) -> list[consul.Consul]:
        assert self._servers is not None, "not up yet"
        return [self.agent, *self._servers.members]

    def _again(self, keep_state: bool) -> None:
        assert self._servers is not None
        if not keep_state:
            for each in self._all():
                each.forget()
        self._servers.start()
        if not self.agent.process.running:
            self.agent.start()

    def down(self) -> None:
        if self.fault == "flapping":  # what flaps in a cluster is its leader
            assert self._servers is not None
            until(lambda: any(each.leads() for each in self._all()), "somebody leads")
            self._servers.leader().kill()
            return
        for each in self._all():
            each.kill()

    def freeze(self) -> None:
        for each in self._all():
            each.freeze()

    def thaw(self) -> None:
        for each in self._all():
            each.thaw()


def until(true: Callable[[], bool], what: str, patience: float = 30.0) -> None:
    """Wait until it is."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"not within {patience:g}s: {what}"
        time.sleep(0.05)
