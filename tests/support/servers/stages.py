"""Registries under a whole system: how services find them, how they are lost and brought back, what they give out."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from enclosed import INSIDE

from . import etcd, kubernetes
from .consul import development


class Stage(ABC):
    """One real registry, from the start of a test to its end."""

    name: ClassVar[str]
    host: ClassVar[str] = "127.0.0.1"
    """Where services listen."""
    can_be_lost: ClassVar[bool] = True
    """Whether losing it means anything to who announces: where nothing is announced, nothing is registered again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    @abstractmethod
    def begin(self) -> None:
        """Start it."""

    @property
    @abstractmethod
    def environ(self) -> Mapping[str, str]:
        """What points a service at it."""

    def announce(self, service: str, port: int) -> None:  # noqa: B027 - most registries are told by the service itself
        """Announce an instance that does not do so itself."""

    def withdraw(self, service: str, port: int) -> None:  # noqa: B027 - the same
        """Withdraw what ``announce`` announced."""

    @abstractmethod
    def found(self, service: str) -> dict[str, int]:
        """Id and port of every instance that it gives out; ``OSError`` while it does not answer."""

    def ids(self, service: str) -> set[str]:
        return set(self.found(service))

    def ports(self, service: str) -> set[int]:
        return set(self.found(service).values())

    @abstractmethod
    def lose(self) -> None:
        """Take it away as it stands."""

    @abstractmethod
    def bring_back(self) -> None:
        """Start it again; returns once it answers."""


class ConsulStage(Stage):
    """An agent that keeps nothing: lost, its state is lost with it."""

    name = "consul"

    def begin(self) -> None:
        self.agent = self.open.enter_context(development(self.folder))

    @property
    def environ(self) -> Mapping[str, str]:
        return {"MIZZEN__DISCOVERY__URL": self.agent.url}

    def found(self, service: str) -> dict[str, int]:
        entries = self.agent.get(f"/v1/health/service/{service}?passing")
        return {entry["Service"]["ID"]: entry["Service"]["Port"] for entry in entries}

    def lose(self) -> None:
        self.agent.kill()

    def bring_back(self) -> None:
        self.agent.start()


class EtcdStage(Stage):
    """Three members: lost, two of them are killed, and what is left has no quorum."""

    name = "etcd"

    def begin(self) -> None:
        self.cluster = self.open.enter_context(etcd.cluster(self.folder))

    @property
    def environ(self) -> Mapping[str, str]:
        members = ",".join(f"{host}:{port}" for host, port in (each.address for each in self.cluster.members))
        return {"MIZZEN__DISCOVERY__URL": f"etcd://{members}"}

    def found(self, service: str) -> dict[str, int]:
        there = self.cluster.running[0].keys(f"/mizzen/{service}/")
        return {key.rpartition("/")[2]: json.loads(value)["port"] for key, value in there.items()}

    def lose(self) -> None:
        self.cluster.lose_quorum()

    def bring_back(self) -> None:
        self.cluster.start()


class SliceStage(Stage):
    """An API server: whoever runs the pods, here the test, writes the slices, each instance with one of its own."""

    name = "EndpointSlices"
    can_be_lost = False
    host = INSIDE

    def begin(self) -> None:
        self.cluster = self.open.enter_context(kubernetes.running(self.folder, options=[f"--advertise-address={INSIDE}"]))
        self.namespace = self.cluster.namespace("shop")
        self.cluster.account(self.namespace, "order")
        self.cluster.allow(self.namespace, "order")
        self.token = self.folder / "token"
        self.token.write_text(self.cluster.issue(self.namespace, "order")[0])
        self._there: dict[str, dict[str, int]] = {}

    @property
    def environ(self) -> Mapping[str, str]:
        options = f"server={self.cluster.url}&ca={self.cluster.authority.ca}&token_file={self.token}&namespace={self.namespace}"
        return {"MIZZEN__DISCOVERY__URL": f"kubernetes:endpointslices?{options}"}

    def announce(self, service: str, port: int) -> None:
        pod = f"{service}-{port}"
        ports = ({"name": "http", "port": port, "protocol": "TCP"},)
        made = kubernetes.slice_of(service, [kubernetes.endpoint(INSIDE, pod)], name=pod, ports=ports)
        self.cluster.write(self.namespace, made)
        self._there.setdefault(service, {})[pod] = port

    def withdraw(self, service: str, port: int) -> None:
        pod = f"{service}-{port}"
        self.cluster.remove(self.namespace, pod)
        del self._there[service][pod]

    def found(self, service: str) -> dict[str, int]:
        return dict(self._there.get(service, {}))

    def lose(self) -> None:
        self.cluster.kill()

    def bring_back(self) -> None:
        self.cluster.start()


STAGES: list[type[Stage]] = [ConsulStage, EtcdStage, SliceStage]
