"""Waits: whether a function can ever wait, which its code says: one that cannot needs no task to run in."""

from __future__ import annotations

from collections.abc import Callable
from opcode import opmap
from types import FunctionType
from typing import Any

_COROUTINE = 0x80
"""The flag of code that is an ``async def`` (``inspect.CO_COROUTINE``)."""
_SUSPENDS = opmap["YIELD_VALUE"]
"""What every ``await``, ``async for`` and ``async with`` comes down to in CPython 3.11 and later."""


def waits(function: Callable[..., Any]) -> bool:
    """Whether calling and running ``function`` may wait for something; False only for an ``async def`` without ``await``.

    What is not a plain function, such as a partial or an object that can be called, may wait.
    """
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType) or not function.__code__.co_flags & _COROUTINE:
        return True
    return _SUSPENDS in function.__code__.co_code[::2]
