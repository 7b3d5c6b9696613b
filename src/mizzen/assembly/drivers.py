"""Drivers: which registry a URL means, made ready to resolve and to register."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Registrar, Resolver
from mizzen.words.clock import Clock, Random
from mizzen.words.errors import CallTimeout, StartError
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

from .identity import is_loopback
from .network import Network
from .tls import usual_tls

if TYPE_CHECKING:
    from mizzen.edges.http import Pool, Tls

BACKEND_TIMEOUT = 2.0
"""Seconds for a registry's answer where the driver does not say otherwise."""
LATER = ("etcd", "kubernetes", "dns")
"""Schemes that the design names and this version does not speak yet."""
SCHEMES = ("consul", "static", "none")
CONSUL_OPTIONS = ("dc", "tag", "tls", "token")
"""What the query of a ``consul:`` URL may say."""


class Backend(Struct, frozen=True):
    """A registry that a URL names."""

    url: str
    """Without its secrets: as logs and errors show it."""
    resolver: Resolver
    registrar: Registrar | None
    address: tuple[str, int] | None = None
    """Where it is; None for what is written down."""
    close: Callable[[], None] = lambda: None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can read what is announced there."""
        return self.address is None or is_loopback(self.address[0])


class Drivers:
    """Makes backends from URLs; one per URL, shared by the clients that use it."""

    def __init__(
        self,
        config: DiscoveryConfig,
        *,
        url: str,
        health_port: int | None = None,
        network: Network,
        clock: Clock,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._url = url
        self._health_port = health_port
        self._network = network
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._made: dict[str, Backend] = {}

    def resolving(self) -> Backend:
        """Where peers are looked up unless a client says otherwise."""
        return self.open(self._config.resolve or self._url)

    def registering(self) -> Backend:
        """Where this instance announces itself."""
        return self.open(self._config.register or self._url)

    def open(self, url: str) -> Backend:
        """The backend of that URL; ``StartError`` says which schemes there are."""
        if url not in self._made:
            self._made[url] = self._make(url)
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

    def _make(self, url: str) -> Backend:
        scheme = url.partition(":")[0]
        # Each driver is imported where it is used: a process has one or two of them.
        if scheme == "none":
            from mizzen.edges.resolvers import NoneResolver

            return Backend("none:", NoneResolver(), None)
        if scheme == "static":
            from mizzen.edges.resolvers import StaticResolver

            return Backend(url, StaticResolver(url), None)
        if scheme == "consul":
            return self._consul(url)
        if scheme == "embedded":
            raise StartError(
                "the embedded registry is for development: it keeps nothing and listens on loopback",
                fix="mizzen dev runs it; in production set discovery.url to a Consul agent (consul://host:8500)",
            )
        from mizzen.rules.config import hide_password

        later = " (not in this version yet)" if scheme in LATER else ""
        raise StartError(
            f"no discovery driver for {hide_password(url)!r}{later}",
            fix=f"discovery.url takes {', '.join(f'{each}:' for each in SCHEMES)}",
        )

    def _consul(self, url: str) -> Backend:
        from urllib.parse import parse_qs, urlsplit

        from mizzen.edges.resolvers import ConsulRegistrar, ConsulResolver
        from mizzen.rules.config import hide_password

        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "127.0.0.1", parts.port or 8500
            if parts.path.strip("/"):
                raise ValueError(f"it has a path, {parts.path}")
        except ValueError as error:
            what = f"{hide_password(url)!r} is not the address of a Consul agent: {error}"
            raise StartError(what, fix="such as consul://10.0.3.2:8500") from None
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        shown = f"consul://{host}:{port}"
        if unknown := [name for name in options if name not in CONSUL_OPTIONS]:
            raise StartError(f"{shown} has no option {', '.join(unknown)}", fix=f"it takes {', '.join(CONSUL_OPTIONS)}")
        if (said := options.get("tls", "false")) not in ("true", "false"):  # a token must not travel in clear by a slip
            raise StartError(f"{shown} has tls={said}", fix="it takes tls=true or tls=false")
        tls = usual_tls({"ca": "SSL_CERT_FILE"}) if said == "true" else None
        # Heartbeats have a pool of their own, so that they never wait behind watches.
        watches, beats = (self._backend(host, port, shown, tls) for _ in range(2))
        token = self._token(options)
        resolver = ConsulResolver(
            watches[0],
            token=token,
            sleep=self._sleep,
            random=self._random,
            dc=options.get("dc"),
            tag=options.get("tag"),
            clock=self._clock,
        )
        registrar = ConsulRegistrar(
            beats[0],
            token=token,
            http_check=self._config.http_check,
            health_port=self._health_port,
            clock=self._clock,
        )

        def close() -> None:
            watches[1].close()
            beats[1].close()

        return Backend(shown, resolver, registrar, (host, port), close)

    def _backend(self, host: str, port: int, shown: str, tls: Tls | None) -> tuple[Handler, Pool]:
        from mizzen.edges.http import Pool, PoolLimits

        pool = Pool(host, port, tls=tls, connect=self._network.connect, limits=PoolLimits(), clock=self._clock, peer=shown)

        async def call(request: Request) -> Response:
            seconds = request.call.timeout if request.call is not None else BACKEND_TIMEOUT
            try:
                async with asyncio.timeout(seconds):
                    return await pool.send(request)
            except TimeoutError:
                raise CallTimeout(f"no answer from {shown} in {seconds:.1f}s", peer=shown, limit="call") from None

        return call, pool

    def _token(self, options: Mapping[str, str]) -> Callable[[], str | None]:
        config = self._config

        def token() -> str | None:
            if config.token_file:
                from pathlib import Path

                return Path(config.token_file).read_text().strip()  # read anew each time: tokens are rotated
            return options.get("token") or (str(config.token) if config.token else None)

        return token


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
