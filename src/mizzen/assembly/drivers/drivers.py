"""Drivers: makes a backend from a URL, each in the file of its scheme."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from mizzen.assembly.network import Network
from mizzen.rules.config import DiscoveryConfig
from mizzen.words.clock import Clock, Random
from mizzen.words.errors import StartError

from .backend import Backend, Means

SCHEMES = ("consul", "dns", "etcd", "kubernetes", "static", "none")


class Drivers:
    """Makes backends from URLs; one per URL, shared by the clients that use it."""

    def __init__(
        self,
        config: DiscoveryConfig,
        *,
        url: str,
        zone: str = "",
        health_port: int | None = None,
        network: Network,
        clock: Clock,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._config = config
        self._url = url
        self._means = Means(
            config=config,
            network=network,
            clock=clock,
            random=random,
            sleep=sleep,
            environ=environ or {},
            zone=zone,
            health_port=health_port,
        )
        self._made: dict[str, Backend] = {}

    @property
    def resolves(self) -> str:
        """The URL of where peers are looked up, with its secrets."""
        return self._config.resolve or self._url

    def resolving(self) -> Backend:
        """Where peers are looked up unless a client says otherwise."""
        return self.open(self.resolves)

    def registering(self) -> Backend:
        """Where this instance announces itself."""
        return self.open(self._config.register or self._url)

    def open(self, url: str) -> Backend:
        """The backend of that URL; ``StartError`` says which schemes there are."""
        if url not in self._made:
            self._made[url] = self._make(url, self._means_for(url))
        return self._made[url]

    def at(self, service: str, url: str) -> Backend:
        """The backend that a client's own ``url`` names: a registry, or the peer's own address."""
        if url.startswith(("http://", "https://", "http+unix://")):
            from mizzen.edges.resolvers import StaticResolver

            return Backend(url, StaticResolver({service: [url]}), None)
        return self.open(url)

    def close(self) -> None:
        """Close every connection to a registry."""
        for backend in self._made.values():
            backend.close()

    def _means_for(self, url: str) -> Means:
        """A registry that a client alone names is not shown the token of ours; it has one in its own URL, or none."""
        ours = (self._url, self._config.resolve or "", self._config.register or "")
        if _place(url) in map(_place, ours):
            return self._means
        config = msgspec.structs.replace(self._config, token=None, token_file=None)
        return msgspec.structs.replace(self._means, config=config)

    def _make(self, url: str, means: Means) -> Backend:
        # Each driver is imported where it is used: a process has one or two of them.
        match url.partition(":")[0]:
            case "none":
                from mizzen.edges.resolvers import NoneResolver

                return Backend("none:", NoneResolver(), None)
            case "static":
                from mizzen.edges.resolvers import StaticResolver

                return Backend(url, StaticResolver(url), None)
            case "consul":
                from .consul import consul

                return consul(url, means)
            case "dns":
                from .dns import dns

                return dns(url, means)
            case "kubernetes":
                from .kubernetes import kubernetes

                return kubernetes(url, means)
            case "etcd":
                from .etcd import etcd

                return etcd(url, means)
            case "embedded":
                raise StartError(
                    "the embedded registry is for development: it keeps nothing and listens on loopback",
                    fix="mizzen dev runs it; in production set discovery.url to a Consul agent (consul://host:8500)",
                )
        from mizzen.rules.config import hide_password

        raise StartError(
            f"no discovery driver for {hide_password(url)!r}",
            fix=f"discovery.url takes {', '.join(f'{each}:' for each in SCHEMES)}",
        )


def _place(url: str) -> tuple[str, str]:
    """Scheme, host and port."""
    scheme, _, rest = url.partition(":")
    return scheme, rest.removeprefix("//").partition("?")[0].partition("/")[0].rpartition("@")[2]


def discover(config: DiscoveryConfig, environ: Mapping[str, str]) -> str:
    """What ``auto`` means here: ``CONSUL_HTTP_ADDR``, else Kubernetes, else nothing."""
    if config.url != "auto":
        return config.url
    if address := environ.get("CONSUL_HTTP_ADDR"):
        scheme, _, place = address.rpartition("://")
        return f"consul://{place}{'?tls=true' if scheme == 'https' else ''}"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes:"
    return "none:"
