"""The records of a configuration with their defaults: what a system, its services and their clients are given.

Every default has its reason beside it. Times are seconds and sizes are bytes; in text ``"250ms"`` and ``"1MiB"``.
"""

# Annotations are values here: reading a configuration looks at each of them, and evaluating text costs a start 1 ms.
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mizzen.words.errors import ConfigError

from .secrets import hide_password
from .source import Source, Wrong, mistakes, nearest
from .units import Count, Duration, KnownPort, Labels, Mode, Port, Secret, Size, Timeout, Times, Weight

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY_PORT = 8599
"""Beside Consul's 8500, so that a real agent on the same machine keeps its port."""

UNIX = "unix:"
"""What a host begins with that is the path of a Unix socket."""


class DiscoveryConfig(msgspec.Struct, kw_only=True, frozen=True):
    """Which registry knows where the services are."""

    url: str = "auto"
    """Finds what the environment offers: Consul, in-cluster Kubernetes, the embedded registry of ``mizzen dev``."""
    register: str | None = None
    """Where to announce, when that is not ``url``."""
    resolve: str | None = None
    """Where to look peers up, when that is not ``url``."""
    token: Secret | None = None
    token_file: str | None = None
    """Read anew each time, since tokens are rotated."""
    http_check: bool = True
    """Off where the Consul agent cannot reach the service's address."""
    snapshots: str | None = None
    """A folder, relative to mizzen.toml, that keeps what was read, for a start while the registry is away."""

    def __repr__(self) -> str:
        return f"<DiscoveryConfig {hide_password(self.url)}>"


class BreakerConfig(msgspec.Struct, kw_only=True, frozen=True):
    """When a client stops calling a peer that fails."""

    failures: Count = 5
    """The article's: five failed calls in a row are no accident."""
    cooldown: Timeout = 30.0
    """The article's: time for a restart, short enough to notice that it is over."""


class TlsConfig(msgspec.Struct, kw_only=True, frozen=True):
    """With what a service answers HTTPS. Files are PEM, relative to mizzen.toml, and read anew when they change."""

    cert: str
    """The certificate with its chain."""
    key: str | None = None
    """Unless it is in the same file."""
    key_password: Secret | None = None
    client_ca: str | None = None
    """Who must have signed the certificate that every caller then shows; nobody has to show one, unless set."""


class ClientTlsConfig(msgspec.Struct, kw_only=True, frozen=True):
    """How a peer that speaks HTTPS is verified, which it always is. Files as in ``TlsConfig``."""

    ca: str | None = None
    """Who must have signed its certificate; those that the system trusts, unless set."""
    cert: str | None = None
    """What we show to a peer that asks who we are."""
    key: str | None = None
    """Unless it is in the same file."""
    key_password: Secret | None = None
    server_name: str | None = None
    """The name that its certificate must have; the host's, unless set."""


class ClientConfig(msgspec.Struct, kw_only=True, frozen=True):
    """How one peer is called."""

    url: str | None = None
    """Overrides discovery for this peer."""
    tls: ClientTlsConfig | None = None
    """Once set, the peer is called by HTTPS whatever its address says. Else an HTTPS address is verified by what the
    system trusts."""
    timeout: Timeout = 2.0
    """The article's: what a person waits for a page, with room for the work above this call."""
    retries: Times = 2
    """The article's: a third try that fails says that a fourth will."""
    max_answer: Size = 16 * 1024 * 1024
    """Bytes of an answer that is read whole: far more than JSON should have, and in-flight times it must fit in memory.
    A stream has no limit."""
    required: bool | None = None
    """What the code says, unless set."""
    breaker: BreakerConfig = BreakerConfig()

    def __repr__(self) -> str:
        url = f", {hide_password(self.url)}" if self.url else ""
        return f"<ClientConfig timeout {self.timeout}s, retries {self.retries}{url}>"


class AdminConfig(msgspec.Struct, kw_only=True, frozen=True):
    """Where health and metrics are served."""

    port: KnownPort | None = None
    """The service's own port, unless set."""


class LimitsConfig(msgspec.Struct, kw_only=True, frozen=True):
    """What a service takes in at most."""

    body: Size = 1024 * 1024
    """nginx's default: typed JSON stays below it, and in-flight times body bounds memory."""
    in_flight: Count = 1000
    """Beyond it waiting costs more than an answer elsewhere: the rest is shed at once."""
    connections: Count = 10_000
    """An order above in-flight, since most kept-alive connections are idle."""
    header_read: Timeout = 10.0
    """A client that is slower with its head holds a connection for nothing."""
    keep_alive: Timeout = 75.0
    """nginx's, above the 60 s of common load balancers, so that they close first and lose no request."""
    handler: Timeout = 10.0
    """Until the head of the answer; five times what a Mizzen caller waits by default."""
    progress: Timeout = 60.0
    """Without a byte moving in a streamed body the other side is gone."""
    headers: Size = 32 * 1024
    """Room for large cookies and tokens; nginx's four buffers of 8 KiB."""
    url: Size = 8 * 1024
    """nginx's largest request line."""


class StopConfig(msgspec.Struct, kw_only=True, frozen=True):
    """How long each step of stopping may take."""

    linger: Duration = 5.0
    """Until callers that watch the registry have noticed the withdrawal."""
    drain: Duration = 20.0
    """With linger below the 30 s that Kubernetes gives a process before it is killed."""


class LogConfig(msgspec.Struct, kw_only=True, frozen=True):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class RegistryConfig(msgspec.Struct, kw_only=True, frozen=True):
    """Where the embedded registry listens."""

    host: str = "127.0.0.1"
    """It is for development: nobody else should reach it."""
    port: Port = REGISTRY_PORT

    @property
    def address(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ServiceConfig(msgspec.Struct, kw_only=True, frozen=True):
    """One service as it is deployed."""

    build: str | None = None
    """``module:function`` that returns the Service."""
    app: str | None = None
    """``module:attribute`` of an ASGI app."""
    host: str = "0.0.0.0"
    """Every interface, as containers need it; ``unix:/run/order.sock`` listens on a Unix socket and takes no port."""
    port: Port = 0
    """Must be set, unless the host is a Unix socket."""
    socket_mode: Mode = 0o660
    """Of a Unix socket: its owner and its group may connect, such as that of the proxy in front."""
    tls: TlsConfig | None = None
    """HTTPS instead of HTTP on the service's port; one of its own for the platform's questions stays HTTP."""
    admin: AdminConfig = AdminConfig()
    workers: Count = 1
    """Processes that share the port; one needs no supervisor, and where instances are many each may well be small."""
    settings: dict[str, Any] = {}
    """The service's own, raw; ``settings(system, name, into)`` types them."""
    clients: dict[str, ClientConfig] = {}
    limits: LimitsConfig = LimitsConfig()
    stop: StopConfig = StopConfig()
    instance_id: str | None = None
    advertise: str | None = None
    """The address that peers are told, when it is not found by itself."""
    zone: str | None = None
    """Where it runs, such as a rack or an availability zone; registries pass it on."""
    weight: Weight = 1
    """Its share of the calls beside its fellows'."""
    tags: Labels = ()
    """By which registries can be asked for some of the instances, such as ``["blue"]``; a variable has commas between them."""
    meta: dict[str, str] = {}
    """What else the registry says of it, for tools and people."""
    log: LogConfig = LogConfig()

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket that it listens on, when it does."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else None

    def __repr__(self) -> str:  # without settings: secrets live there
        place = self.host if self.socket else f"{self.host}:{self.port}"
        return f"<ServiceConfig {self.build or self.app} on {place}>"


class SystemTable(msgspec.Struct, kw_only=True, frozen=True):
    """What the file says of the system itself."""

    name: str | None = None


class Document(msgspec.Struct, kw_only=True, frozen=True):
    """The whole of mizzen.toml."""

    system: SystemTable = SystemTable()
    discovery: DiscoveryConfig = DiscoveryConfig()
    services: dict[str, ServiceConfig] = {}
    registry: RegistryConfig = RegistryConfig()
    dev: bool = False


class System(msgspec.Struct, kw_only=True):
    """One repository's services, as configured."""

    name: str
    place: str
    """The whole path of its mizzen.toml, as text: a start reads it, and pathlib with what it imports costs that 3 ms."""
    discovery: DiscoveryConfig = DiscoveryConfig()
    services: dict[str, ServiceConfig] = {}
    registry: RegistryConfig = RegistryConfig()
    dev: bool = False
    """Whether ``mizzen dev`` runs it."""
    source: Source = msgspec.field(default_factory=Source)
    """Where each setting came from."""

    @property
    def file(self) -> "Path":
        """Its mizzen.toml."""
        from pathlib import Path

        return Path(self.place)

    @property
    def folder(self) -> "Path":
        """Where its mizzen.toml lies."""
        return self.file.parent

    def service(self, name: str) -> ServiceConfig:
        """The configuration of one service; ``ConfigError`` names the nearest when there is none of that name."""
        if name in self.services:
            return self.services[name]
        near = nearest(name, self.services)
        raise ConfigError(
            f"{self.file.name} has no service {name!r}" + (f"; did you mean {near}?" if near else ""),
            where=[f"it has {', '.join(self.services) or 'no service at all'}"],
            fix=f"use {near}" if near else f"add [services.{name}] to {self.file.name}, or name one that it has",
        )

    def client(self, service: str, peer: str, *, timeout: float | None = None, retries: int | None = None) -> ClientConfig:
        """How ``service`` calls ``peer``: ``timeout`` and ``retries`` are the code's, which file and environment override."""
        path = ("services", service, "clients", peer)
        config = self.service(service).clients.get(peer, ClientConfig())
        code: Mapping[str, Any] = {"timeout": timeout, "retries": retries}
        said = {key: value for key, value in code.items() if value is not None and not self.source.given((*path, key))}
        return msgspec.structs.replace(config, **said) if said else config

    def check_clients(self, service: str, declared: Collection[str]) -> None:
        """``ConfigError`` for settings of a client that the service does not declare, such as a misspelt peer."""
        wrong = []
        for peer in self.service(service).clients:
            if peer not in declared:
                path = ("services", service, "clients", peer)
                near = nearest(peer, declared)
                said = f"; did you mean {near}?" if near else ";"
                wrong.append(Wrong(path, f"{service} declares no client {peer!r}{said} it has {', '.join(declared) or 'none'}"))
        if wrong:
            raise mistakes(wrong, self.source)

    def __repr__(self) -> str:
        return f"<System {self.name}: {', '.join(self.services) or 'no services'}>"
