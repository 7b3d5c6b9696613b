"""Peers: which provided things can call another service, so that its failures are among the answers."""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Iterator
from typing import Any

from mizzen.assembly.client import Client
from mizzen.assembly.service import Provided, Service

DEPTH = 4
"""Steps from a provided thing to the client that it calls through: itself, a gateway, a helper and a list of such."""


def calling(service: Service) -> frozenset[type]:
    """The provided types whose values call another service, or whose factories were handed a client."""
    return frozenset(thing.type for thing in service.provided.values() if _reaches(thing))


def _reaches(thing: Provided) -> bool:
    seen: set[int] = set()
    level: list[Any] = [thing.value if thing.factory is None else thing.factory]
    for _ in range(DEPTH):
        if any(isinstance(value, Client) for value in level):
            return True
        seen.update(map(id, level))
        level = [part for value in level for part in _parts(value) if id(part) not in seen]
    return any(isinstance(value, Client) for value in level)


def _parts(value: Any) -> Iterator[Any]:
    """What a value holds: attributes, items, what a partial is called with, what a function closes over."""
    if isinstance(value, type | types.ModuleType | str | bytes | int | float | None):
        return
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.FunctionType):
        yield from _closed_over(value)
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, Collection):
        yield from value
    else:
        yield from getattr(value, "__dict__", {}).values()
        slots = [slot for kind in type(value).__mro__ for slot in vars(kind).get("__slots__", ())]
        yield from (getattr(value, slot) for slot in slots if isinstance(slot, str) and hasattr(value, slot))


def _closed_over(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
