"""Finite: text such as ``nan`` or ``inf`` is a number to msgspec, but none of JSON: no caller could be told it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

from msgspec import inspect

from mizzen.words.errors import Fault

from .parameter import Parameter


def fractional(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Those of the parameters that may be a float or a Decimal, or several."""
    return [parameter for parameter in parameters if _may_be(inspect.type_info(parameter.type))]


def infinite(parameters: Sequence[Parameter], given: Collection[str], values: Mapping[str, Any]) -> list[Fault]:
    """A fault for each parameter that was given a number without end, or none."""
    return [
        Fault(f"{parameter.source}.{parameter.field}", "expected a finite number")
        for parameter in parameters
        if parameter.name in given and _is_infinite(values[parameter.name])
    ]


def _may_be(described: Any) -> bool:
    if isinstance(described, inspect.FloatType | inspect.DecimalType):
        return True
    parts = [getattr(described, name) for name in ("type", "item_type") if hasattr(described, name)]
    return any(_may_be(part) for part in (*parts, *getattr(described, "types", ())))


def _is_infinite(value: Any) -> bool:
    if isinstance(value, float | Decimal):
        return not isfinite(value)
    return isinstance(value, list | tuple | set | frozenset) and any(_is_infinite(item) for item in value)
