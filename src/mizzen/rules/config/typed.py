"""A service's own settings, typed: code defaults, then mizzen.toml, then the environment."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from mizzen.words.lazy import pattern

from .reader import optional
from .records import System
from .secrets import is_secret
from .source import Path, Source, Wrong, dotted, mistakes, nearest, normal, short_variable, variable

_STEP = pattern(r"\[(\d+)\]|\.?([^.\[\]]+)")


def settings(system: System, service: str, into: type[Any]) -> Any:
    """The settings of ``service`` as ``into``, a Struct, dataclass or pydantic model.

    Raises ``ConfigError`` that names every wrong key with its line or variable and what was expected.
    """
    value, _ = typed(system, service, into)
    return value


def typed(system: System, service: str, into: type[Any]) -> tuple[Any, Source]:
    """The typed settings, and a source that knows them by their fields' own spelling."""
    from mizzen.words.faults import find_faults

    path: Path = ("services", service, "settings")
    source = system.source.copy()
    fitting = _Fitting(source)
    tree = fitting.fit(system.service(service).settings, into, path)
    wrong = fitting.wrong
    noted = {mistake.path for mistake in wrong}
    for fault in find_faults(tree, into, path=dotted(path)):
        at = _path_of(fault.path, path)
        if at not in noted:
            wrong.append(Wrong(at, _reason(fault.reason, at, source)))
    if not wrong:
        try:
            return _convert(tree, into), source
        except ValueError as error:  # what a type checks by itself, such as __post_init__
            reason = "the settings were refused" if _has_secrets(tree, path) else str(error)
            wrong.append(Wrong(path, reason))
    raise mistakes(wrong, source, fix=_fix(wrong, system.file.name))


class _Fitting:
    """Makes a raw tree fit its type as far as spelling goes: variables know neither case nor numbers."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.wrong: list[Wrong] = []

    def fit(self, value: Any, kind: Any, path: Path) -> Any:
        kind = optional(kind.__value__ if hasattr(kind, "__value__") else kind)
        if get_origin(kind) is Annotated:
            kind = optional(get_args(kind)[0])
        if path in self.source.texts:
            value = _from_text(value, kind)
        known = field_kinds(kind)
        if known is not None and isinstance(value, dict):
            return self._record(value, kind, known, path)
        parts = get_args(kind)
        if get_origin(kind) in (dict, Mapping) and isinstance(value, dict) and len(parts) == 2:
            return {key: self.fit(item, parts[1], (*path, key)) for key, item in value.items()}
        if get_origin(kind) in (list, set, frozenset, tuple) and isinstance(value, list) and parts:
            return [self.fit(item, parts[0], (*path, index)) for index, item in enumerate(value)]
        return value

    def _record(self, table: dict[str, Any], kind: Any, known: dict[str, Any], path: Path) -> dict[str, Any]:
        out = {}
        spelling = {normal(name): name for name in known}
        for key, value in table.items():
            at = (*path, key)
            name = key
            if key not in known and at in self._from_variables():
                name = spelling.get(normal(key), key)
            if name not in known:
                if not _takes_more(kind):
                    self._unknown(at, known)
                out[key] = value
                continue
            if name != key:
                self._rename(at, (*path, name))
            out[name] = self.fit(value, known[name], (*path, name))
        return out

    def _from_variables(self) -> set[Path]:
        """Every path that a variable set, with the tables around it."""
        return {text[:end] for text in self.source.texts for end in range(1, len(text) + 1)}

    def _rename(self, old: Path, new: Path) -> None:
        moved = {path: (*new, *path[len(old) :]) for path in self.source.origins if path[: len(old)] == old}
        for path, to in moved.items():
            self.source.origins[to] = self.source.origins[path]
            if path in self.source.texts:
                self.source.texts.add(to)

    def _unknown(self, path: Path, known: dict[str, Any]) -> None:
        near = nearest(str(path[-1]), known)
        allowed = f"allowed: {', '.join(sorted(known))}" if known else "this service has no settings"
        reason = f" is not a setting; {f'did you mean {near}? ' if near else ''}{allowed}"
        if near and path in self.source.texts:  # written as a variable, so the right spelling is one as well
            near = self.source.origins[path].removesuffix(normal(str(path[-1])).upper()) + normal(near).upper()
        self.wrong.append(Wrong(path, reason, near))


def field_kinds(kind: Any) -> dict[str, Any] | None:
    """The keys of a record type and the kind of each, as they are spelled outside; None for other types."""
    if not isinstance(kind, type):
        return None
    if issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses  # loaded already: it made the type

        hints = get_type_hints(kind, include_extras=True)
        record: Any = kind
        return {field.name: hints[field.name] for field in dataclasses.fields(record) if field.init}
    if is_typeddict(kind):
        return get_type_hints(kind)
    models = getattr(kind, "model_fields", None)  # pydantic's, told by its shape: it is never imported here
    if isinstance(models, dict) and hasattr(kind, "model_validate"):
        by_name = (getattr(kind, "model_config", None) or {}).get("populate_by_name", False)
        kinds = {}
        for name, field in models.items():
            alias = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
            kinds[alias or name] = field.annotation
            if alias and by_name:
                kinds[name] = field.annotation
        return kinds
    return None


def _takes_more(kind: Any) -> bool:
    return bool((getattr(kind, "model_config", None) or {}).get("extra") == "allow")


def _from_text(text: Any, kind: Any) -> Any:
    """A variable's text as the number, flag, list or table that the type asks for; unchanged where it asks for text."""
    if not isinstance(text, str):
        return text
    containers = (list, dict, set, frozenset, tuple, Mapping)
    if kind in containers or get_origin(kind) in containers or field_kinds(kind) is not None:
        try:
            return msgspec.json.decode(text)
        except ValueError:
            return text
    if kind is bool and text.lower() in ("yes", "on", "no", "off"):
        return text.lower() in ("yes", "on")
    if kind is str or (get_origin(kind) in (Union, UnionType) and str in get_args(kind)):
        return text
    try:
        value = msgspec.convert(text, kind, strict=False)
    except (ValueError, TypeError):  # not one of the type, or not a type that msgspec knows
        return text
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, bool | int | float) else text


def _convert(tree: Any, into: type[Any]) -> Any:
    if hasattr(into, "model_validate"):
        return into.model_validate(tree)
    return msgspec.convert(tree, into)


def _path_of(text: str, base: Path) -> Path:
    """The path that a fault names: ``services.order.settings.hosts[1]`` as its parts."""
    rest = text.removeprefix(dotted(base))
    return (*base, *(int(index) if index else key for index, key in _STEP.findall(rest)))


def _reason(reason: str, path: Path, source: Source) -> str:
    if path in source.texts and not is_secret(path) and ", got str" in reason:
        return reason.replace(", got str", f", got {_text_at(source, path)!r}")
    return reason


def _text_at(source: Source, path: Path) -> Any:
    value: Any = source.tree
    for key in path:
        value = value.get(key, "str") if isinstance(value, dict) else "str"
    return value


def _has_secrets(tree: Any, path: Path) -> bool:
    if not isinstance(tree, dict):
        return is_secret(path)
    return any(_has_secrets(value, (*path, key)) for key, value in tree.items())


def _fix(wrong: list[Wrong], file: str) -> str:
    """How to set what is missing, when that is all that is wrong."""
    if len(wrong) != 1 or wrong[0].reason != "missing":
        return ""
    path = [str(part) for part in wrong[0].path]
    name = short_variable(*path) or variable(*path)
    return f"set {path[-1]} under [{'.'.join(path[:-1])}] in {file}, or the variable {name}"
