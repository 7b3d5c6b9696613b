"""The name that the cluster's own DNS has for a Service: its virtual address, behind which the cluster balances.

https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#services
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mizzen.rules.discovery import Feed, Instance, instance_id


def full_name(name: str, namespace: str, domain: str) -> str:
    """The full name of a Service, with the dot at its end: a pod's resolver tries five others before one without (ndots)."""
    return f"{name}.{namespace}.svc.{domain.strip('.')}."


class ClusterIpResolver:
    """Every peer is one instance, at the name of its Service: no registry is asked, so none can be lost.

    The name is looked up for each new connection, and these are replaced every minute: behind a virtual address each is
    pinned to one pod.
    """

    def __init__(self, *, namespace: str, domain: str, port: int, tls: bool, name: Callable[[str], str] = str) -> None:
        self.namespace = namespace
        self.domain = domain
        self.port = port
        self._scheme = "https" if tls else "http"
        self._name = name

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed the one snapshot of that service."""
        host = full_name(self._name(service), self.namespace, self.domain)
        id = instance_id(service, host.removesuffix("."), self.port)
        feed.snapshot([Instance(id, service, host, self.port, scheme=self._scheme)])
        await asyncio.get_running_loop().create_future()  # until cancelled, as every resolver

    def describe(self) -> dict[str, object]:
        return {"backend": "kubernetes", "names": full_name("*", self.namespace, self.domain), "port": self.port}

    def __repr__(self) -> str:
        return f"<ClusterIpResolver {full_name('*', self.namespace, self.domain)}>"
