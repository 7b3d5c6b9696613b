"""Parse mizzen.toml and the environment into a System, or say everything that is wrong with them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from mizzen.words.errors import ConfigError

from .lines import Path, key_lines
from .reader import Reader, overlay
from .records import Document, System
from .source import Source, Wrong, mistakes

_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def parse(text: str, file: FilePath, environ: Mapping[str, str]) -> System:
    """The system that ``text`` (of ``file``) and the variables ``MIZZEN__…`` and ``<SERVICE>__…`` describe.

    Raises ``ConfigError`` that lists every wrong key and value with its line or variable and what is allowed.
    """
    source = Source(file.name)
    source.tree = _load(text, file.name)
    source.origins = {path: f"{file.name}:{line}" for path, line in key_lines(text).items()}
    services = source.tree.get("services")
    wrong = overlay(source, environ, Document, services if isinstance(services, dict) else {})
    reader = Reader(source)
    document: Document | None = reader.record(Document, source.tree)
    wrong += reader.wrong
    if document is not None:
        wrong += _contradictions(document)
    if wrong or document is None:
        raise mistakes(wrong, source)
    return System(
        name=document.system.name or file.absolute().parent.name,
        folder=file.absolute().parent,
        file=file,
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
        if service.admin.port and service.admin.port == service.port:
            yield Wrong((*path, "admin", "port"), f"is the service's own port {service.port}; leave it out to share that")
