"""EndpointSlices on a real API server, broken. Nobody announces there: the rig writes what the controller would."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from servers.binaries import need
from servers.kubernetes import SLICES, Kubernetes, Pod, endpoint, slice_of

from mizzen.assembly.drivers import Backend
from mizzen.edges.resolvers.kubernetes.resolver import KubernetesResolver
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance
from mizzen.words.message import Request, Response

from .rig import Fault, Rig

LIFE = (1.0, 2.0)
"""Seconds of a watch, instead of five to ten minutes: rights are looked at when one begins."""
SILENCE = 1.5
"""Seconds, instead of two minutes: beyond the life of most watches, as it is in the product."""
TIMEOUT = 5.0
"""Seconds for an answer, instead of ten; a server that is asked for versions it has not come to takes three."""
NAMESPACE = "shop"
ACCOUNT = "order"


class KubernetesRig(Rig):
    """One API server with an etcd, and a pod whose account may read the EndpointSlices of its namespace."""

    name: ClassVar[str] = "endpointslices"
    registers = False
    cannot: ClassVar[Mapping[Fault, str]] = {
        "duplicate id": "nobody registers; two pods of one name in a namespace are refused by the API server",
        "shutdown during outage": "nobody registers, so nobody has to withdraw",
    }
    hold = 6.0  # a server that lost its state answers before those who write slices have written them again
    silence = SILENCE + TIMEOUT
    patience = 20.0

    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder, fault)
        need("kube-apiserver")
        self._cluster = Kubernetes(folder)
        self._pod: Pod | None = None
        self._gate = threading.Event()
        self._gate.set()
        self._waiting = 0
        self._resolvers = 0

    # -- how the product is pointed at it

    @property
    def url(self) -> str:
        host, port = self.front(self._cluster.host, self._cluster.port)
        folder = self.pod.folder
        files = f"token_file={folder / 'token'}&ca={folder / 'ca.crt'}"
        return f"kubernetes:endpointslices?server=https://{host}:{port}&namespace={NAMESPACE}&{files}"

    @property
    def pod(self) -> Pod:
        assert self._pod is not None, "not up yet"
        return self._pod

    def config(self) -> DiscoveryConfig:
        return DiscoveryConfig(url=self.url)

    def hasten(self, backend: Backend) -> None:
        """The driver's own parameters, which no URL sets; and a gate before its watches, which one fault needs."""
        resolver = backend.resolver
        assert isinstance(resolver, KubernetesResolver)
        resolver._life, resolver._silence, resolver._api._timeout = LIFE, SILENCE, TIMEOUT
        resolver._random = lambda: 0.0  # the least of every wait
        call = resolver._api._call
        self._resolvers += 1

        async def gated(request: Request) -> Response:
            if "watch=1" in request.query and not self._gate.is_set():
                self._waiting += 1
                while not self._gate.is_set():  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(0.02)
                self._waiting -= 1
            return await call(request)

        resolver._api._call = gated

    # -- its life

    def up(self, *, keep_state: bool = True) -> None:
        if self._pod is None:
            self._cluster.start()
            self.version = self._cluster.version()
            self._furnish()
            self._pod = Pod(self.folder / "pod", self._cluster, NAMESPACE, ACCOUNT)
            return
        self._cluster.restart(forget=not keep_state)
        if not keep_state:  # rights and accounts are state too
            self._furnish()
            self.pod.rotate()

    def _furnish(self) -> None:
        self._cluster.namespace(NAMESPACE)
        self._cluster.account(NAMESPACE, ACCOUNT)
        self._cluster.allow(NAMESPACE, ACCOUNT)

    def down(self) -> None:
        self._cluster.kill()

    def freeze(self) -> None:
        self._cluster.freeze()

    def thaw(self) -> None:
        self._cluster.thaw()

    def close(self) -> None:
        self._cluster.end()
        super().close()

    # -- what the controller does: a slice for each instance, so that every service has several

    def put(self, *instances: Instance) -> None:
        for instance in instances:
            pod = endpoint(instance.host, instance.id, uid=instance.boot)
            ports = [{"name": "http", "port": instance.port, "protocol": "TCP"}]
            self._cluster.write(NAMESPACE, slice_of(instance.service, [pod], name=instance.id, ports=ports))

    def remove(self, *instances: Instance) -> None:
        for instance in instances:
            with contextlib.suppress(AssertionError):  # it is not there
                self._cluster.remove(NAMESPACE, instance.id)

    # -- the faults

    def empty(self, service: str) -> None:
        self._cluster.does("DELETE", f"{SLICES.format(NAMESPACE)}?labelSelector=kubernetes.io%2Fservice-name%3D{service}")

    def filtered(self, on: bool) -> None:
        if on:
            path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings/reads"
            self._cluster.does("DELETE", path)
        else:
            self._cluster.bind(NAMESPACE, ACCOUNT)

    def expire_auth(self) -> None:
        token = self.pod.token()
        self._cluster.revoke(NAMESPACE, self.pod.secret)
        self._cluster.until_refused(NAMESPACE, token)

    def renew_auth(self) -> None:
        self.pod.rotate()

    def regress(self, service: str) -> None:
        """A restore of etcd from a backup: the versions go back to what they were then."""
        backup = self.folder / "backup"
        late = Instance(f"{service}-late", service, "10.0.9.9", 8101)
        self._cluster.end()
        shutil.copytree(self._cluster.data, backup)
        self._cluster.start()
        for _ in range(30):
            self.put(late)
        self.remove(late)
        time.sleep(2 * LIFE[1])  # the driver has seen those versions
        self._cluster.end()
        shutil.rmtree(self._cluster.data)
        backup.rename(self._cluster.data)
        self._cluster.start()

    def compact(self, *meanwhile: Instance) -> None:
        """Hold the watches back as they end, and let them begin again before a server that knows the present alone."""
        self._gate.clear()
        try:
            end = time.monotonic() + self.patience
            while self._waiting < self._resolvers:
                assert time.monotonic() < end, "watches end"
                time.sleep(0.02)
            self.put(*meanwhile)
            self._cluster.compact()
            self._cluster.restart()
        finally:
            self._gate.set()
