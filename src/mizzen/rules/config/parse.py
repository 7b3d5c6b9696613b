"""Parse mizzen.toml and the environment into a System, or say everything that is wrong with them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from mizzen.words.errors import ConfigError
from mizzen.words.lazy import pattern

from .reader import Reader, overlay
from .records import UNIX, ClientConfig, Document, ServiceConfig, System
from .source import Path, Source, Wrong, mistakes

_PLACE = pattern(r" \(at line (\d+), column (\d+)\)$")
_TARGET = pattern(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def parse(text: str, file: str | os.PathLike[str], environ: Mapping[str, str]) -> System:
    """The system that ``text`` (of ``file``) and the variables ``MIZZEN__…`` and ``<SERVICE>__…`` describe.

    Raises ``ConfigError`` that lists every wrong key and value with its line or variable and what is allowed.
    """
    place = os.path.abspath(file)  # noqa: PTH100  # see System.place
    folder, _, name = place.rpartition(os.sep)
    source = Source(name, _load(text, name), text)
    services = source.tree.get("services")
    wrong = overlay(source, environ, Document, services if isinstance(services, dict) else {})
    reader = Reader(source)
    document: Document | None = reader.record(Document, source.tree)
    wrong += reader.wrong
    wrong += _portless(source.tree)
    if document is not None:
        wrong += _contradictions(document)
    if wrong or document is None:
        raise mistakes(wrong, source)
    return System(
        name=document.system.name or folder.rpartition(os.sep)[2],
        place=place,
        discovery=document.discovery,
        services=document.services,
        registry=document.registry,
        dev=document.dev,
        source=source,
    )


def _load(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = f":{place[1]}" if place else ""
        reason = _PLACE.sub("", str(error))
        what = f"{name} is not valid TOML: {reason[:1].lower()}{reason[1:]}"
        column = f", column {place[2]}" if place else ""
        shown = text.splitlines()[int(place[1]) - 1].strip() if place and int(place[1]) <= len(text.splitlines()) else ""
        # only the key: a value in a broken line may be a secret
        raise ConfigError(
            what, where=[f"{name}{line}{column}  {shown.partition('=')[0].strip()}".rstrip()], fix="correct that line"
        ) from None


def _portless(tree: dict[str, Any]) -> Iterator[Wrong]:
    """Services that say no port, and need one."""
    services = tree.get("services")
    for name, table in services.items() if isinstance(services, dict) else ():
        if isinstance(table, dict) and "port" not in table and not str(table.get("host", "")).startswith(UNIX):
            yield Wrong(("services", name, "port"), "missing; expected a port")


def _contradictions(document: Document) -> Iterator[Wrong]:
    """What no single value shows."""
    if document.discovery.token and document.discovery.token_file:
        yield Wrong(("discovery", "token_file"), "token is set as well; one of them is enough")
    for name, service in document.services.items():
        path: Path = ("services", name)
        if service.build is None and service.app is None:
            yield Wrong(path, f'says neither build nor app; build = "…{name}.service:build" for a Mizzen service')
        if service.build is not None and service.app is not None:
            yield Wrong((*path, "app"), "build is set as well; a service has one of them")
        for key, target in (("build", service.build), ("app", service.app)):
            if target is not None and not _TARGET.fullmatch(target):
                yield Wrong((*path, key), f'expected "module:name" such as "shop.{name}.service:build", got {target!r}')
        yield from _of_sockets(path, service)
        for peer, client in service.clients.items():
            yield from _of_client((*path, "clients", peer), client)
        if service.admin.port and service.admin.port == service.port:
            yield Wrong((*path, "admin", "port"), f"is the service's own port {service.port}; leave it out to share that")


def _of_sockets(path: Path, service: ServiceConfig) -> Iterator[Wrong]:
    if service.socket is None:
        if service.host.startswith("/"):
            yield Wrong(
                (*path, "host"), f'is a path; a Unix socket is written "{UNIX}{service.host}"', f'"{UNIX}{service.host}"'
            )
        return
    if not service.socket.startswith("/"):
        yield Wrong((*path, "host"), f'expected the whole path of a Unix socket, such as "{UNIX}/run/order.sock"')
    if service.port:
        yield Wrong((*path, "port"), f"means nothing on a Unix socket (host is {service.host}); leave it out")
    if service.tls is not None:
        yield Wrong((*path, "tls"), f"means nothing on a Unix socket (host is {service.host}); leave it out")


def _of_client(path: Path, client: ClientConfig) -> Iterator[Wrong]:
    if client.tls is None:
        return
    if client.tls.key is not None and client.tls.cert is None:
        yield Wrong((*path, "tls", "key"), "is of no use without a certificate; set tls.cert as well")
    scheme, mark, rest = (client.url or "").partition("://")
    if mark and scheme in ("http", "http+unix"):
        instead = f"https://{rest}" if scheme == "http" else ""
        yield Wrong((*path, "url"), f"is {scheme}://, so tls means nothing; use https://, or leave tls out", instead)
