"""Schemas: the JSON Schemas of a document's types, each class once among its components."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import Any, Literal, NamedTuple

import msgspec

from mizzen.words.json import validates_itself

from .patterns import translate

Schema = dict[str, Any]
Mode = Literal["validation", "serialization"]
"""In pydantic's words: what is read, or what is written."""

PLACE = "#/components/schemas/{name}"


class _Wanted(NamedTuple):
    type: Any
    mode: Mode
    more: Mapping[str, Any]
    place: Schema


class Schemas:
    """Gathers types and hands out the places of their schemas, which :meth:`components` fills: two classes of one name
    get longer names, so that none is known before all are."""

    def __init__(self) -> None:
        self._wanted: list[_Wanted] = []
        self._own: dict[str, Schema] = {}
        """Components that describe themselves, as pydantic's models do."""
        self._references: dict[tuple[Any, Mode], Schema] = {}
        """The references to such."""
        self._taken: frozenset[str] = frozenset()
        """Names of all other components."""

    def read(self, into: Any, **more: Any) -> Schema:
        """The schema of what is read from a request, with ``more`` of its keywords."""
        return self._place(into, "validation", more)

    def written(self, value: Any, **more: Any) -> Schema:
        """The schema of what is written into an answer, with ``more`` of its keywords."""
        return self._place(value, "serialization", more)

    def _place(self, type: Any, mode: Mode, more: Mapping[str, Any]) -> Schema:
        place: Schema = {}
        self._wanted.append(_Wanted(type, mode, more, place))
        return place

    def components(self) -> dict[str, Schema]:
        """Every named schema by its name, in alphabetical order; fills the places that were handed out."""
        plain = [wanted for wanted in self._wanted if not validates_itself(wanted.type) and self._describable(wanted.type)]
        types = [wanted.type for wanted in plain]
        self._taken = frozenset(msgspec.json.schema_components(types, schema_hook=_unnamed)[1])
        made, named = msgspec.json.schema_components(types, schema_hook=self._nested, ref_template=PLACE)
        translate([*made, *named.values()])  # those that describe themselves have another engine's patterns
        for wanted, schema in zip(plain, made, strict=True):
            wanted.place.update(schema)
        for wanted in self._wanted:
            if validates_itself(wanted.type):
                wanted.place.update(self._by_itself(wanted.type, wanted.mode))
            wanted.place.update(wanted.more)
        return dict(sorted({**named, **self._own}.items()))

    def _describable(self, type: Any) -> bool:
        """Whether msgspec knows a schema for it; what it only knows how to write may be anything."""
        try:
            msgspec.json.schema_components([type], schema_hook=_unnamed)
        except (TypeError, ValueError, NameError):
            return False
        return True

    def _nested(self, type: Any) -> Schema:
        return self._by_itself(type, "validation")

    def _by_itself(self, type: Any, mode: Mode) -> Schema:
        """The reference to a type that describes itself: it, and what it is made of, become components."""
        if (type, mode) not in self._references:
            self._references[type, mode] = self._describe(type, mode)
        return self._references[type, mode]

    def _describe(self, type: Any, mode: Mode) -> Schema:
        from pydantic import TypeAdapter  # it is there, since a model of its own is before us

        schema = TypeAdapter(type).json_schema(mode=mode, ref_template=PLACE.replace("{name}", "{model}"))
        parts: dict[str, Schema] = schema.pop("$defs", {})
        own = schema["$ref"].rpartition("/")[2] if "$ref" in schema else type.__name__
        parts.setdefault(own, schema)  # a model that contains itself is among its own parts
        names = {name: self._name(name, part, mode) for name, part in parts.items()}
        for name, part in parts.items():
            self._own[names[name]] = _renamed(part, names)
        return {"$ref": PLACE.format(name=names[own])}

    def _name(self, name: str, schema: Schema, mode: Mode) -> str:
        """A name of its own: a model may be written otherwise than it is read, and two may be called the same."""
        output = f"{name}-Output" if mode == "serialization" else f"{name}-2"
        for wanted in chain([name, output], (f"{name}-{number}" for number in count(3))):
            if wanted not in self._taken and self._own.get(wanted, schema) == schema:
                return wanted
        raise AssertionError("unreachable: numbers do not end")


def _unnamed(type: Any) -> Schema:
    """Stands for a type that describes itself where only the names of the others are asked for."""
    if validates_itself(type):
        return {"type": "object"}
    raise NotImplementedError


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    """A schema whose references lead to the new names."""
    if isinstance(part, dict):
        renamed = {key: _renamed(value, names) for key, value in part.items()}
        if isinstance(part.get("$ref"), str):
            name = part["$ref"].rpartition("/")[2]
            renamed["$ref"] = PLACE.format(name=names.get(name, name))
        return renamed
    return [_renamed(item, names) for item in part] if isinstance(part, list) else part
