"""Addresses that are written down: ``static:user=http://10.0.3.7:8101,http://10.0.3.8:8101;stock=https://stock.example``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit

from mizzen.rules.config import hide_password
from mizzen.rules.discovery import Feed, Instance, instance_id
from mizzen.words.errors import ConfigError, NoInstances

PORTS = {"http": 80, "https": 443}
UNIX = "http+unix://"
FORM = "static:user=10.0.3.7:8101,10.0.3.8:8101;stock=https://stock.example"


class StaticResolver:
    """Answers from a fixed table and never changes its mind; ``ConfigError`` names an address that is none.

    The table is a ``static:`` URL (``;`` between services, ``,`` between addresses) or a mapping of service to
    addresses. An address is ``host:port``, ``http[s]://host[:port]`` or, for a Unix socket, ``http+unix:///run/user.sock``
    (also ``http+unix://%2Frun%2Fuser.sock``).
    """

    def __init__(self, table: str | Mapping[str, Sequence[str]]) -> None:
        services = _split(table) if isinstance(table, str) else table
        self.services = {name: tuple(_instance(name, address) for address in each) for name, each in services.items()}

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed the one snapshot of that service; an error that names the known ones when it is not in the table."""
        instances = self.services.get(service)
        if instances is None:
            known = ", ".join(sorted(self.services)) or "no service at all"
            feed.error(NoInstances(f"the static addresses do not name {service}; they name {known}", peer=service))
        else:
            feed.snapshot(instances)
        await asyncio.get_running_loop().create_future()  # until cancelled, as every resolver

    def describe(self) -> dict[str, object]:
        return {"backend": "static", "services": {name: [i.origin for i in each] for name, each in self.services.items()}}

    def __repr__(self) -> str:
        return f"<StaticResolver {', '.join(f'{name} {len(each)}' for name, each in self.services.items())}>"


def _split(url: str) -> dict[str, list[str]]:
    services: dict[str, list[str]] = {}
    for entry in url.removeprefix("static:").removeprefix("//").split(";"):
        name, separator, addresses = (part.strip() for part in entry.partition("="))
        if not (name and separator and addresses):
            raise ConfigError(
                f"{hide_password(entry)!r} in {hide_password(url)!r} does not say which service is where", fix=f"such as {FORM}"
            )
        services.setdefault(name, []).extend(address.strip() for address in addresses.split(","))
    return services


def _instance(service: str, address: str) -> Instance:
    if address.startswith(UNIX):
        return _unix(service, address)
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme, 0)
        (host or "").encode("idna")  # as whoever connects does
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if not host or not port or extra or parts.scheme not in PORTS:
        shown = hide_password(url).removeprefix("" if "://" in address else "http://")
        raise ConfigError(
            f"{shown!r} is not an address of {service}",
            fix=f"write host:port, http[s]://host[:port] without path or user, or {UNIX}/path/of.sock",
        )
    return Instance(id=instance_id(service, host, port), service=service, host=host, port=port, scheme=parts.scheme)


def _unix(service: str, address: str) -> Instance:
    path = unquote(address.removeprefix(UNIX))
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ConfigError(
            f"{address!r} is not an address of {service}: it names no socket by its whole path",
            fix=f"write {UNIX}/path/of.sock",
        )
    return Instance(id=instance_id(service, path, 0), service=service, host=path, port=0, scheme="http+unix")
