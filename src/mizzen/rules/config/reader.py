"""Read tables into records: every key known, every value of its kind, all mistakes found at once."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from mizzen.words.lazy import pattern

from .secrets import MASK, hide_password, is_secret
from .source import Path, Source, Wrong, nearest, normal, variable
from .units import Labels, Secret, Unit, read_choice, read_flag, read_labels, read_number, read_text

KEY = pattern(r"[A-Za-z0-9_-]{1,128}")
"""Keys of metadata, as Consul takes them."""
NAME = pattern(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""Names of services: they become host names, variables and parts of instance ids."""


class Reader:
    """Reads one source; what is wrong gathers in ``wrong``."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.wrong: list[Wrong] = []

    def record(self, kind: type[Any], table: Any, path: Path = ()) -> Any:
        """A ``kind`` from a table; None when something in it is wrong."""
        if not isinstance(table, dict):
            self._misfit(path, "expected a table", table)
            return None
        kinds = fields(kind)
        values: dict[str, Any] = {}
        sound = True
        for key, value in table.items():
            if key not in kinds:
                self.unknown((*path, key), kinds)
                sound = False
                continue
            values[key] = self._value(kinds[key], value, (*path, key))
            sound = sound and values[key] is not _BAD
        for field in msgspec.structs.fields(kind):
            if field.required and field.name not in table:
                self.wrong.append(Wrong((*path, field.name), f"missing; {_described(kinds[field.name])}"))
                sound = False
        return kind(**values) if sound else None

    def unknown(self, path: Path, known: Mapping[str, Any]) -> None:
        """Note a key that does not exist, with the nearest that does."""
        near = nearest(str(path[-1]), known)
        allowed = f"allowed: {', '.join(sorted(known)) or 'none'}"
        self.wrong.append(Wrong(path, f" is not a setting; {f'did you mean {near}? ' if near else ''}{allowed}", near))

    def _value(self, kind: Any, value: Any, path: Path) -> Any:
        kind = optional(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            read = self.record(kind, value, path)
            return _BAD if read is None else read
        if get_origin(kind) is dict:
            return self._names(get_args(kind)[1], value, path)
        try:
            return read_leaf(kind, value, from_text=path in self.source.texts)
        except ValueError as error:
            self._misfit(path, str(error), value)
            return _BAD

    def _names(self, kind: Any, table: Any, path: Path) -> Any:
        """A table whose keys are free: names of services and peers, or a service's own settings."""
        if not isinstance(table, dict):
            self._misfit(path, "expected a table", table)
            return _BAD
        if kind is Any:
            return table
        out = {}
        sound = True
        allowed, what = (
            (KEY, "a key of metadata: letters, digits, dashes and underscores")
            if kind is str
            else (NAME, "a service name: lower-case letters, digits and single dashes")
        )
        for name, value in table.items():
            if not allowed.fullmatch(name):
                reason = f"{name!r} is not {what}"
                self.wrong.append(Wrong((*path, name), reason))
                sound = False
            out[name] = self._value(kind, value, (*path, name))
            sound = sound and out[name] is not _BAD
        return out if sound else _BAD

    def _misfit(self, path: Path, reason: str, value: Any) -> None:
        if is_secret(path):
            reason = reason.partition(", got ")[0] + f", got {MASK}"
        elif ", got " not in reason and not isinstance(value, str):
            reason += f", got {value!r}"
        self.wrong.append(Wrong(path, hide_password(reason)))


class _Bad:
    """Stands for a value that could not be read."""


_BAD = _Bad()


def fields(kind: type[Any]) -> dict[str, Any]:
    """The keys of a record and the kind of each."""
    return get_type_hints(kind, include_extras=True)


def optional(kind: Any) -> Any:
    """``X`` for ``X | None``: no key stands for None, it is left out."""
    if get_origin(kind) in (Union, UnionType):
        rest = [part for part in get_args(kind) if part is not NoneType]
        return rest[0] if len(rest) == 1 else kind
    return kind


def read_leaf(kind: Any, value: Any, *, from_text: bool) -> Any:
    """One value of that kind; ``ValueError`` says what was expected."""
    if get_origin(kind) is Annotated:
        return read_number(value, next(unit for unit in get_args(kind) if isinstance(unit, Unit)), from_text=from_text)
    if get_origin(kind) is Literal:
        return read_choice(value, get_args(kind))
    if kind is bool:
        return read_flag(value, from_text=from_text)
    if kind == Labels:
        return read_labels(value, from_text=from_text)
    return Secret(read_text(value)) if kind is Secret else read_text(value)


def overlay(source: Source, environ: Mapping[str, str], kind: type[Any], services: Mapping[str, Any]) -> list[Wrong]:
    """Lay the variables that name settings over the file's; returns those that name none."""
    reader = Reader(source)
    named: dict[Path, str] = {}
    shorts = {f"{normal(name).upper()}__": name for name in services if normal(name) != "mizzen"}
    for name in sorted(environ):
        start, mark, rest = name.partition("__")
        if start == "MIZZEN" and mark:
            words = rest.lower().split("__")
        elif f"{start}{mark}" in shorts:
            words = ["services", normal(shorts[f"{start}{mark}"]), *rest.lower().split("__")]
        else:
            continue
        path = _resolve(reader, kind, words, name)
        if path is None:
            continue
        if path in named and environ[named[path]] != environ[name]:
            reader.wrong.append(Wrong(path, f"{named[path]} and {name} name the same setting and differ", "", name))
            continue
        named[path] = name
        try:
            source.set_text(path, environ[name], name)
        except ValueError as error:
            reader.wrong.append(Wrong(path, str(error), "", name))
    return reader.wrong


def _resolve(reader: Reader, kind: Any, words: list[str], name: str) -> Path | None:
    """The path that a variable's words name, by the kinds of the records and the names in the file."""
    path: Path = ()
    table: Any = reader.source.tree
    for word in words:
        kind = optional(kind)
        if kind is Any:  # a service's own setting, whose type is not known yet: its spelling follows the file's
            key = next((key for key in table if normal(key) == word), word) if isinstance(table, dict) else word
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
            known = table if isinstance(table, dict) else {}
            key = next((key for key in known if normal(key) == word), word if kind is Any else word.replace("_", "-"))
            if path == ("services",) and key not in known:
                _unresolved(reader, (*path, key), known, name)
                return None
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kinds = fields(kind)
            if word not in kinds:
                _unresolved(reader, (*path, word), kinds, name)
                return None
            key, kind = word, kinds[word]
        else:
            instead = variable(*map(str, path))
            reader.wrong.append(Wrong(path, f"is a value, so {name} names nothing; use {instead}", instead, name))
            return None
        path = (*path, key)
        table = table.get(key, {}) if isinstance(table, dict) else {}
    if get_origin(optional(kind)) is dict or (isinstance(optional(kind), type) and issubclass(optional(kind), msgspec.Struct)):
        reader.wrong.append(Wrong(path, "is a table; a variable names one of its keys", "", name))
        return None
    return path


def _unresolved(reader: Reader, path: Path, known: Mapping[str, Any], name: str) -> None:
    """Note a variable that names no setting; the right spelling is the variable's, not the file's."""
    reader.unknown(path, known)
    mistake = reader.wrong.pop()
    bad, good = (f"__{normal(part).upper()}" for part in (str(path[-1]), mistake.instead))
    instead = name.replace(bad, good, 1) if mistake.instead else ""
    reader.wrong.append(msgspec.structs.replace(mistake, variable=name, instead=instead))


def _described(kind: Any) -> str:
    kind = optional(kind)
    if get_origin(kind) is Annotated:
        unit = next(unit for unit in get_args(kind) if isinstance(unit, Unit))
        return f"expected a {unit.name}"
    return "expected a text"
