"""Instance: one running process of a service, as it announces itself."""

from __future__ import annotations

import msgspec

from mizzen.words.lazy import pattern

_HOST = pattern(r"(?!unix:)[A-Za-z0-9._:%-]+")


class Instance(msgspec.Struct, frozen=True):
    """One running process of a service, as it announces itself."""

    id: str
    service: str
    host: str
    port: int
    scheme: str = "http"
    version: str = ""
    zone: str = ""
    weight: int = 1
    meta: dict[str, str] = {}
    tags: tuple[str, ...] = ()

    @property
    def boot(self) -> str:
        """Tells the lives of one instance apart; empty when whoever registered it knows no such thing."""
        return self.meta.get("boot", "")

    @property
    def origin(self) -> str:
        """Such as ``http://10.0.3.7:8101``; an IPv6 address stands in brackets, a Unix socket is its path."""
        if self.host.startswith("/"):
            return f"{self.scheme}://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def instance_id(service: str, address: str, port: int) -> str:
    """The id of an instance: unique because its address is, and the same after a restart."""
    if address.startswith(("/", "unix:")):  # a Unix socket has no port
        return f"{service}-{address.removeprefix('unix:')}"
    return f"{service}-{address.strip('[]')}-{port}"


def is_host(text: str) -> bool:
    """Whether it is a name or an address, as DNS and IP have them: a path would lead to a socket of this machine."""
    return _HOST.fullmatch(text) is not None
