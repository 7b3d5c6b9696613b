"""Faults: every way in which a value from JSON, TOML or text fails to be a type, each with its path.

msgspec stops at the first mistake; whoever corrects an input wants all of them. So when a value does not fit, it is
taken apart along msgspec's own description of the type, and msgspec is asked about each part. What fits and what does
not is therefore always msgspec's word, only the search is ours. Reasons never repeat a value: it may be a secret.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import GenericAlias
from typing import Annotated, Any, Literal, Union, get_origin

import msgspec
from msgspec import inspect

from .errors import Fault
from .json import validate, validates_itself
from .lazy import pattern

FAULTS_MAX = 100
"""Faults named for one value: a body may hold half a million mistakes, nobody reads more, and each costs time."""

CHOICES_MAX = 20
"""Allowed values listed in one reason; beyond them a reader needs the documentation anyway."""

DEPTH_MAX = 20
"""Steps from the root down to which every fault is searched; below, each part is asked for its first only. Each step
asks about all that is left, so that without an end a small body nested by malice would keep a service busy."""

KEY_MAX = 64
"""Characters of a sender's own key in a path: a key may be as long as the body."""

_PYTHON: dict[type[inspect.Type], Any] = {
    inspect.AnyType: Any,
    inspect.NoneType: None,
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
    inspect.BytesType: bytes,
    inspect.ByteArrayType: bytearray,
    inspect.MemoryViewType: memoryview,
    inspect.DateTimeType: dt.datetime,
    inspect.DateType: dt.date,
    inspect.TimeType: dt.time,
    inspect.TimeDeltaType: dt.timedelta,
    inspect.UUIDType: uuid.UUID,
    inspect.DecimalType: decimal.Decimal,
    inspect.RawType: msgspec.Raw,
    inspect.ExtType: msgspec.msgpack.Ext,
}
_COLLECTIONS: dict[type[inspect.Type], Any] = {
    inspect.ListType: list,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
    inspect.VarTupleType: tuple,
}
_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_WITH_FIELDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)

_PLACE = pattern(r" - at `(?:\$([^`]*)|[^`]*` in `[^`]*)`$")
_PLAIN_KEY = pattern(r"[\w-]+")
_VALUE = pattern(r"^(Invalid(?: \w+)? value) '.*'$", re.DOTALL)
_ANY = inspect.AnyType()
_KINDER = {
    "Invalid UUID": "expected a UUID",
    "Invalid RFC3339 encoded datetime": "expected a date and time such as 2026-11-23T14:02:41Z",
    "Invalid RFC3339 encoded date": "expected a date such as 2026-11-23",
    "Invalid RFC3339 encoded time": "expected a time such as 14:02:41",
    "Invalid ISO8601 duration": "expected a duration such as PT1H30M",
    "Invalid decimal string": "expected a decimal number",
    "Invalid base64 encoded string": "expected base64",
    "Integer value out of range": "number out of range",
    "Number out of range": "number out of range",
}


def find_faults(value: object, into: Any, *, path: str, strict: bool = True) -> list[Fault]:
    """Every way in which ``value``, made of JSON's or TOML's builtins, fails to be an ``into``; ``[]`` when it fits.

    ``path`` names the value itself, such as ``body``. With ``strict=False`` text may stand for numbers, booleans and
    the like, as in a query or in the environment. At most ``FAULTS_MAX`` are named.
    """
    if validates_itself(into):
        return _own_faults(value, into, path)
    search = _Search(strict)
    try:
        misfit = _misfit(value, into, strict)
        if misfit is not None:
            search.look(value, inspect.type_info(into), path, misfit)
    except RecursionError:
        return search.faults or [Fault(path, "nested too deeply")]
    return search.faults


def own_faults(error: Exception, path: str) -> list[Fault]:
    """The faults that a type's own error (pydantic's ``ValidationError``) lists, under ``path``."""
    listed: list[Mapping[str, Any]] = error.errors()  # type: ignore[attr-defined]  # known by its shape only
    found = []
    for item in listed[:FAULTS_MAX]:
        place = path
        for step in item["loc"]:
            place = f"{place}[{step}]" if isinstance(step, int) else _join(place, step)
        known = {"missing": "missing", "extra_forbidden": "unknown"}
        found.append(Fault(place, known.get(item["type"]) or _lower(item["msg"])))
    return found


def _own_faults(value: object, into: Any, path: str) -> list[Fault]:
    try:
        validate(into, value)
    except ValueError as error:
        return own_faults(error, path) if hasattr(error, "errors") else [Fault(path, str(error))]
    return []


def _misfit(value: object, into: Any, strict: bool) -> str | None:
    """What msgspec says against ``value`` as an ``into``; None when it fits."""
    try:
        # str_keys: JSON and TOML have no other keys, so text stands for a number there even when strict
        msgspec.convert(value, into, strict=strict, str_keys=True, dec_hook=validate)
    except msgspec.ValidationError as error:
        return str(error)
    return None


class _Search:
    """One walk through a value along its type, gathering faults."""

    __slots__ = ("depth", "faults", "strict")

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.depth = 0
        self.faults: list[Fault] = []

    def look(self, value: Any, type_: inspect.Type, path: str, misfit: str | None = None) -> None:
        """Add every fault of ``value``: those of its parts, or one of its own when no part accounts for it.

        ``misfit`` is what msgspec said against it already, so that it need not be asked twice.
        """
        if len(self.faults) >= FAULTS_MAX:
            return
        if misfit is None or self.depth == DEPTH_MAX:
            misfit = _misfit(value, _annotation(type_), self.strict)
            if misfit is None:
                return
        before = len(self.faults)
        if self.depth == DEPTH_MAX:
            place = _PLACE.search(misfit)
            inner = place.group(1) if place is not None else None
            if inner:
                self.faults.append(Fault(path + inner, _reason(misfit, _ANY, value, self.strict)))
                return
        else:
            self.depth += 1
            self._descend(value, type_, path, misfit)
            self.depth -= 1
        if len(self.faults) == before:
            self.faults.append(Fault(path, _reason(misfit, type_, value, self.strict)))

    def _descend(self, value: Any, type_: inspect.Type, path: str, misfit: str) -> None:
        if isinstance(type_, inspect.Metadata):
            self.look(value, type_.type, path, misfit)
        elif isinstance(type_, inspect.UnionType):
            self._union(value, type_, path, misfit)
        elif isinstance(type_, inspect.CustomType):
            if validates_itself(type_.cls):
                self.faults += _own_faults(value, type_.cls, path)
        elif isinstance(value, dict):
            if isinstance(type_, _WITH_FIELDS) and _takes_dict(type_):
                self._fields(value, type_, path)
            elif isinstance(type_, inspect.DictType):
                self._entries(value, type_, path)
        elif isinstance(value, list | tuple):
            self._row(value, type_, path, misfit)

    def _union(self, value: Any, union: inspect.UnionType, path: str, misfit: str) -> None:
        """Look into the one member that the value means to be, if its shape tells."""
        members = [member for member in union.types if not isinstance(member, inspect.NoneType)]
        if isinstance(value, dict):
            members = [member for member in members if _takes_dict(member)] if len(members) > 1 else members
            members = self._tagged(value, members, path) if len(members) > 1 else members
        elif isinstance(value, list):
            members = [member for member in members if _takes_list(member)] if len(members) > 1 else members
        if len(members) == 1:
            self.look(value, members[0], path, misfit if isinstance(value, dict | list) else None)

    def _tagged(self, value: dict[Any, Any], members: list[inspect.Type], path: str) -> list[inspect.Type]:
        structs = [member for member in members if isinstance(member, inspect.StructType)]
        field = structs[0].tag_field if structs else None
        if field is None:  # msgspec allows several dict-like members only when all are tagged
            return members
        if field not in value:
            self.faults.append(Fault(_join(path, field), "missing"))
            return []
        chosen: list[inspect.Type] = [member for member in structs if member.tag == value[field]]
        if not chosen:
            self.faults.append(Fault(_join(path, field), _one_of([member.tag for member in structs])))
        return chosen

    def _fields(
        self, value: dict[Any, Any], type_: inspect.StructType | inspect.DataclassType | inspect.TypedDictType, path: str
    ) -> None:
        for field in _ordered(type_):
            if field.encode_name in value:
                self.look(value[field.encode_name], field.type, _join(path, field.encode_name))
            elif field.required and len(self.faults) < FAULTS_MAX:
                self.faults.append(Fault(_join(path, field.encode_name), "missing"))
        if not isinstance(type_, inspect.StructType):
            return
        tag = type_.tag_field
        if tag is not None and tag in value and value[tag] != type_.tag:
            self.faults.append(Fault(_join(path, tag), _one_of([type_.tag])))
        if type_.forbid_unknown_fields:
            names = [field.encode_name for field in type_.fields]
            unknown = [key for key in value if key not in names and key != tag]
            room = max(0, FAULTS_MAX - len(self.faults))
            self.faults += [Fault(_join(path, key), _unknown(key, names)) for key in unknown[:room]]

    def _entries(self, value: dict[Any, Any], type_: inspect.DictType, path: str) -> None:
        keys = list(value)
        into = GenericAlias(dict, (_annotation(type_.key_type), _annotation(type_.value_type)))

        def check(low: int, high: int) -> str | None:
            return _misfit({key: value[key] for key in keys[low:high]}, into, self.strict)

        def look(index: int, _: str) -> None:
            key = keys[index]
            place = _join(path, key)
            as_key = GenericAlias(dict, (_annotation(type_.key_type), Any))
            wrong = _misfit({key: None}, as_key, self.strict)
            if wrong is not None:
                self.faults.append(Fault(place, f"as a key: {_reason(wrong, type_.key_type, key, True)}"))
            self.look(value[key], type_.value_type, place)

        self._halve(0, len(keys), check(0, len(keys)), check, look)

    def _row(self, value: Sequence[Any], type_: inspect.Type, path: str, misfit: str) -> None:
        if isinstance(type_, inspect.CollectionType):
            item = type_.item_type
            into = GenericAlias(list, (_annotation(item),))

            def check(low: int, high: int) -> str | None:
                return _misfit(value[low:high], into, self.strict)

            def look(index: int, misfit: str) -> None:
                self.look(value[index], item, f"{path}[{index}]", misfit)

            # the misfit may be the length's or the set's, and no item's; only a plain list's is known to be one's
            plain = isinstance(type_, inspect.ListType) and type_.min_length is None and type_.max_length is None
            self._halve(0, len(value), misfit if plain else check(0, len(value)), check, look)
        elif isinstance(type_, inspect.TupleType):
            if len(value) == len(type_.item_types):
                self._each(value, type_.item_types, path)
        elif isinstance(type_, inspect.NamedTupleType):
            self._each(value, [field.type for field in type_.fields], path)
        elif isinstance(type_, inspect.StructType) and type_.array_like:
            first = 0 if type_.tag is None else 1  # a tag stands before the fields
            self._each(value, [field.type for field in type_.fields], path, first)

    def _each(self, values: Sequence[Any], types: Iterable[inspect.Type], path: str, first: int = 0) -> None:
        for index, (value, type_) in enumerate(zip(values[first:], types, strict=False), first):
            self.look(value, type_, f"{path}[{index}]")

    def _halve(
        self,
        low: int,
        high: int,
        misfit: str | None,
        check: Callable[[int, int], str | None],
        look: Callable[[int, str], None],
    ) -> None:
        """Look at what does not fit between two places, without asking about each: a long list is mostly right."""
        if low == high or misfit is None or len(self.faults) >= FAULTS_MAX:
            return
        if high - low == 1:
            look(low, misfit)
            return
        middle = (low + high) // 2
        self._halve(low, middle, check(low, middle), check, look)
        self._halve(middle, high, check(middle, high), check, look)


def _annotation(type_: inspect.Type) -> Any:
    """The annotation that a description came from; msgspec has no way back of its own."""
    base: Any
    kind = type(type_)
    if kind in _PYTHON:
        base = _PYTHON[kind]
    elif isinstance(type_, inspect.Metadata):
        return _annotation(type_.type)
    elif isinstance(type_, inspect.UnionType):
        base = Union[tuple(_annotation(member) for member in type_.types)]  # noqa: UP007  # members made at run time
    elif isinstance(type_, inspect.LiteralType):
        base = Literal[type_.values]
    elif isinstance(type_, inspect.VarTupleType):
        base = GenericAlias(tuple, (_annotation(type_.item_type), ...))
    elif isinstance(type_, inspect.CollectionType):
        base = GenericAlias(_COLLECTIONS[kind], (_annotation(type_.item_type),))
    elif isinstance(type_, inspect.TupleType):
        base = GenericAlias(tuple, tuple(_annotation(item) for item in type_.item_types))
    elif isinstance(type_, inspect.DictType):
        base = GenericAlias(dict, (_annotation(type_.key_type), _annotation(type_.value_type)))
    else:
        return getattr(type_, "cls", Any)  # every kind that is left is a class of the user's
    constraints = {name: getattr(type_, name) for name in _CONSTRAINTS if getattr(type_, name, None) is not None}
    return Annotated[base, msgspec.Meta(**constraints)] if constraints else base


def _ordered(type_: inspect.StructType | inspect.DataclassType | inspect.TypedDictType) -> Sequence[inspect.Field]:
    """The fields as they are written; those of a TypedDict msgspec lists by the alphabet."""
    if not isinstance(type_, inspect.TypedDictType):
        return type_.fields
    written = list((get_origin(type_.cls) or type_.cls).__annotations__)
    return sorted(type_.fields, key=lambda field: written.index(field.name))


def _takes_dict(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.StructType):
        return not type_.array_like
    return isinstance(type_, (*_WITH_FIELDS, inspect.DictType, inspect.CustomType))


def _takes_list(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.StructType):
        return type_.array_like
    return isinstance(type_, inspect.CollectionType | inspect.TupleType | inspect.NamedTupleType)


def _reason(misfit: str, type_: inspect.Type, value: object, strict: bool) -> str:
    """msgspec's words as a sentence for people."""
    if isinstance(type_, inspect.Metadata):
        type_ = type_.type
    if isinstance(type_, inspect.LiteralType):
        return _one_of(type_.values)
    if isinstance(type_, inspect.EnumType):
        return _one_of([member.value for member in type_.cls])
    text = _VALUE.sub(r"\1", _PLACE.sub("", misfit))
    if text in _KINDER:
        return _KINDER[text]
    if not strict and isinstance(value, str):  # everything is text there, so that it is text says nothing
        text = text.removesuffix(", got `str`")
    return _lower(text.replace("`", "")) if text.startswith(("Expected", "Invalid", "Object")) else text


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _one_of(values: Sequence[object]) -> str:
    shown = ", ".join("null" if value is None else repr(value) for value in values[:CHOICES_MAX])
    more = f" and {len(values) - CHOICES_MAX} more" if len(values) > CHOICES_MAX else ""
    return f"expected {shown}" if len(values) == 1 else f"expected one of {shown}{more}"


def _unknown(key: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key[:KEY_MAX], names, 1)
    if near:
        return f"unknown, did you mean {near[0]!r}?"
    return f"unknown, {_one_of(names)}" if names else "unknown, nothing is expected here"


def _join(path: str, key: object) -> str:
    text = str(key)
    text = text if len(text) <= KEY_MAX else f"{text[:KEY_MAX]}…"
    if not _PLAIN_KEY.fullmatch(text):
        return f"{path}[{text!r}]"
    return f"{path}.{text}" if path else text
