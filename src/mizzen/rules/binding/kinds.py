"""What an annotation can carry: one piece of text, several, a JSON body, or nothing that arrives in a request."""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import inspect

from mizzen.words.json import validates_itself


class Kind(Enum):
    """How a value of a type gets into a request."""

    SCALAR = "one piece of text"
    MANY = "several pieces of text"
    BODY = "JSON"
    FOREIGN = "not at all: it is a thing of the service"


_SCALARS = (
    inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType, inspect.DateTimeType, inspect.DateType,
    inspect.TimeType, inspect.TimeDeltaType, inspect.UUIDType, inspect.DecimalType, inspect.EnumType, inspect.LiteralType,
)  # fmt: skip
_MANY = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
_NOTHINGS = ("builtins", "typing", "collections.abc")
"""Modules whose classes (object, Callable) are neither read from a request nor provided by a service."""


def kind_of(annotation: Any) -> Kind:
    """The kind of an annotation; ``TypeError`` says why it is of none, ``NameError`` what it mentions in vain."""
    if validates_itself(annotation):
        return Kind.BODY
    described = _bare(inspect.type_info(annotation))
    if isinstance(described, inspect.UnionType):
        members = [_bare(member) for member in described.types if not isinstance(member, inspect.NoneType)]
    else:
        members = [described]
    if all(isinstance(member, _SCALARS) for member in members):
        return Kind.SCALAR
    if len(members) == 1:
        only = members[0]
        if isinstance(only, _MANY) and isinstance(_bare(only.item_type), _SCALARS):
            return Kind.MANY
        if isinstance(only, inspect.CustomType) and not validates_itself(only.cls):
            if getattr(only.cls, "__module__", "builtins") in _NOTHINGS:
                raise TypeError(f"{only.cls.__name__} is not a type that a request can carry")
            return Kind.FOREIGN
    check(described)
    return Kind.BODY


def check(described: inspect.Type) -> None:
    """Look for what JSON cannot carry inside of a type; ``TypeError`` names it."""
    seen: set[int] = set()
    waiting: list[Any] = [described]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:  # a type may contain itself
            continue
        seen.add(id(part))
        if isinstance(part, inspect.CustomType) and not validates_itself(part.cls):
            raise TypeError(f"JSON cannot carry the {part.cls.__name__} inside of it")
        if isinstance(part, inspect.DataclassType) and validates_itself(part.cls):
            # msgspec would fill its fields without running its validators
            raise TypeError(f"{part.cls.__name__} is a pydantic dataclass inside of another type; make it a BaseModel")
        waiting += [getattr(part, name) for name in ("type", "item_type", "key_type", "value_type") if hasattr(part, name)]
        for name in ("types", "item_types", "fields"):
            waiting += getattr(part, name, ())


def _bare(described: inspect.Type) -> inspect.Type:
    return described.type if isinstance(described, inspect.Metadata) else described
