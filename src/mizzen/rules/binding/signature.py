"""Reads a function's signature: every parameter with its annotation resolved, or a message that says why not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from msgspec import Struct

from mizzen.words.errors import StartError
from mizzen.words.lazy import pattern

from .parameter import REQUIRED, Bound

_VARIADIC: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_MODULES = pattern(r"\b(?:\w+\.|<locals>\.)+(?=\w)")


class Signature(Struct, frozen=True):
    """A function as it is written, with annotations that are types and no longer text."""

    route: Bound
    parameters: tuple[inspect.Parameter, ...]
    returns: Any
    """``REQUIRED`` when it is not annotated."""
    text: str
    """Such as ``get_order(id: str, users: Users)``."""

    def mistake(self, what: str, *, fix: str = "") -> StartError:
        """An error about this function that shows where it stands and how it is written."""
        return StartError(what, where=(f"{self.route.where}  {self.text}",), fix=fix)


def read(route: Bound) -> Signature:
    """The signature of a route's function; ``StartError`` for what a request can never be turned into."""
    try:
        raw = inspect.signature(route.function)
    except (TypeError, ValueError):
        raise StartError(
            f"{route.name} does not say what it takes", where=(route.where,), fix="answer the route with a function of Python"
        ) from None
    written = Signature(route, (), REQUIRED, _written(route.name, raw))
    for parameter in raw.parameters.values():
        stars = _VARIADIC.get(parameter.kind)
        if stars is not None:
            raise written.mistake(
                f"{route.name} takes {stars}{parameter.name}: nothing says what a request should put there",
                fix="name every parameter that it takes",
            )
        if parameter.annotation is REQUIRED:
            raise written.mistake(
                f"{route.name} takes {parameter.name} without an annotation: nothing says what it is",
                fix=f"annotate it, such as {parameter.name}: str",
            )
    hints = _hints(written)
    parameters = tuple(
        parameter.replace(annotation=hints.get(parameter.name, parameter.annotation)) for parameter in raw.parameters.values()
    )
    return Signature(route, parameters, hints.get("return", raw.return_annotation), written.text)


def target(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function or method that runs when ``function`` is called, which may be a partial or an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]  # only what is callable gets here


def _hints(written: Signature) -> dict[str, Any]:
    name = written.route.name
    try:
        hints = get_type_hints(target(written.route.function), include_extras=True)
    except NameError as error:
        file = written.route.where.rpartition(":")[0]
        raise written.mistake(
            f"an annotation of {name} cannot be resolved: {error}",
            fix=f"import or define {error.name} at the top of {file}, and not under `if TYPE_CHECKING:`",
        ) from None
    except (AttributeError, SyntaxError, TypeError) as error:
        raise written.mistake(f"an annotation of {name} cannot be resolved: {error}", fix="correct the annotation") from None
    if "return" in hints and hints["return"] is type(None):
        hints["return"] = None  # as it is written
    return hints


def _written(name: str, raw: inspect.Signature) -> str:
    shown = []
    for parameter in raw.parameters.values():
        text = _VARIADIC.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not REQUIRED:
            text += f": {type_text(parameter.annotation)}"
        if parameter.default is not REQUIRED:
            text += f" = {parameter.default!r}" if parameter.annotation is not REQUIRED else f"={parameter.default!r}"
        shown.append(text)
    return f"{name}({', '.join(shown)})"


def type_text(annotation: Any) -> str:
    """An annotation as its author writes it: without modules."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    return _MODULES.sub("", repr(annotation))
