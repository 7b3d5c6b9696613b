"""Every setting of a service with its value and where that came from, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import msgspec

from mizzen.words.clock import format_duration

from .reader import fields, optional
from .records import System
from .secrets import MASK, hide_password, is_secret
from .source import Path, Source, dotted
from .typed import field_kinds, typed
from .units import Secret, Unit, format_mode, format_size

DEFAULT = "default"
"""The origin of what nobody set: Mizzen's own default."""
CODE = "code"
"""The origin of a setting's default in the service's own type."""


class Setting(NamedTuple):
    """One effective setting, fit for printing."""

    key: str
    value: str
    origin: str


def origins(system: System, service: str, into: type[Any] | None = None) -> list[Setting]:
    """Every setting of ``service`` with its value, secrets masked, and its origin.

    ``into`` is the type of the service's own settings. Raises ``ConfigError`` when they do not fit it.
    """
    config = system.service(service)
    path: Path = ("services", service)
    rows = [_row(("system", "name"), system.name, str, system.source)]
    rows += _record(("discovery",), system.discovery, system.source)
    rows += _record(path, config, system.source, skip=("settings",))
    own, source = (config.settings, system.source) if into is None else typed(system, service, into)
    rows += _own((*path, "settings"), own, source)
    rows += _record(("registry",), system.registry, system.source)
    rows.append(_row(("dev",), system.dev, bool, system.source))
    return rows


def shown(value: Any, kind: Any = None, *, path: Path = ()) -> str:
    """A value as text: durations and sizes in their units, secrets masked."""
    if value is None:
        return "not set"
    if isinstance(value, Secret) or is_secret(path):
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple) or hasattr(value, "__struct_fields__"):
        return hide_password(msgspec.json.encode(masked(msgspec.to_builtins(value), path)).decode())
    unit = next((part for part in get_args(kind) if isinstance(part, Unit)), None) if get_origin(kind) is Annotated else None
    if unit is not None and unit.name == "duration":
        return format_duration(value)
    if unit is not None and unit.name == "size":
        return format_size(value)
    if unit is not None and unit.name == "mode":
        return format_mode(value)
    return hide_password(str(value))


def masked(value: Any, path: Path = ()) -> Any:
    """The same builtins with every secret in them masked."""
    if isinstance(value, dict):
        return {key: masked(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, path) for item in value]
    return MASK if is_secret(path) else value


def _record(path: Path, record: Any, source: Source, skip: tuple[str, ...] = ()) -> Iterator[Setting]:
    for name, kind in fields(type(record)).items():
        value, at = getattr(record, name), (*path, name)
        if name in skip:
            continue
        if isinstance(value, msgspec.Struct):
            yield from _record(at, value, source)
        elif get_origin(optional(kind)) is dict:
            for key, item in value.items():
                if isinstance(item, msgspec.Struct):
                    yield from _record((*at, key), item, source)
                else:
                    yield _row((*at, key), item, str, source)
        else:
            yield _row(at, value, optional(kind), source)


def _own(path: Path, value: Any, source: Source) -> Iterator[Setting]:
    """A service's own settings, whatever they are made of."""
    items = _items(value)
    if items is None:
        origin = source.origins.get(path) or _around(source, path) or CODE
        yield Setting(dotted(path), shown(value, path=path), origin)
        return
    for key, item in items.items():
        yield from _own((*path, key), item, source)


def _items(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(kind)}
    if field_kinds(kind) is None:
        return None
    names = getattr(kind, "model_fields", None) or field_kinds(kind) or {}
    return {name: getattr(value, name) for name in names}


def _around(source: Source, path: Path) -> str:
    """The variable that set a whole table at once, as JSON."""
    for end in range(len(path) - 1, 3, -1):
        if path[:end] in source.texts:
            return source.origins[path[:end]]
    return ""


def _row(path: Path, value: Any, kind: Any, source: Source) -> Setting:
    return Setting(dotted(path), shown(value, kind, path=path), source.origins.get(path, DEFAULT))
