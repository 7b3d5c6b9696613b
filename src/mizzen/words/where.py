"""Where a function stands, as messages show it."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function below partials and decorators."""
    while isinstance(function, functools.partial):
        function = function.func
    innermost: Callable[..., Any] = inspect.unwrap(function)
    return innermost


def locate(function: Callable[..., Any]) -> tuple[str, str]:
    """Where a function stands, relative to the working directory when below it, and its name."""
    function = plain(function)
    name = getattr(function, "__name__", type(function).__name__)
    target = function if hasattr(function, "__code__") else inspect.getattr_static(type(function), "__call__", None)
    code = getattr(target, "__code__", None)
    if code is None:  # written in C, or not a function at all
        return getattr(function, "__module__", None) or "?", name
    return f"{shown_path(code.co_filename)}:{code.co_firstlineno}", name


def shown_path(file: str) -> str:
    """A file as messages show it: relative to the working directory when below it."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # the working directory is gone, or on another drive
        return file
    return file if relative.startswith("..") else relative
