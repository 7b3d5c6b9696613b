"""Route: one method and path template, and the function that answers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from mizzen.words.clock import parse_duration
from mizzen.words.errors import Answer, StartError
from mizzen.words.handler import Layer
from mizzen.words.lazy import pattern
from mizzen.words.where import locate

PARAMETER = pattern(r"\{([^{}:]*)(:[^{}]*)?\}")
"""A parameter of a template: its name, and what stands behind a colon."""
_METHOD = pattern(r"[A-Z][A-Z0-9_-]*")


class Route:
    """One method and path template, the function that answers it, and what holds for it alone."""

    __slots__ = (
        "function", "layers", "max_body", "method", "name", "parameters", "raises", "status", "template", "timeout", "where",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        template: str,
        function: Callable[..., Any],
        *,
        status: int = 200,
        raises: Sequence[type[Answer]] = (),
        timeout: str | float | None = None,
        max_body: int | None = None,
        layers: Sequence[Layer] = (),
    ) -> None:
        """``timeout`` in seconds or as ``"250ms"``, ``max_body`` in bytes; ``StartError`` when one of these cannot be."""
        self.method = method
        self.template = template
        self.function = function
        self.status = status
        """The status of an answer that is not a Response; None is answered with 204 while this is 200."""
        named: Any = raises  # not checked here but by binding, which knows the function
        self.raises: tuple[type[Answer], ...] = tuple(named) if hasattr(named, "__iter__") else (named,)
        """The answers that the function may raise, for the contract."""
        self.layers = tuple(layers)
        self.max_body = max_body
        self.where, self.name = locate(function)
        """Where the function stands, such as ``shop/order/__init__.py:14``, and what it is called."""
        self.parameters: tuple[str, ...] = tuple(name for name, _ in PARAMETER.findall(template))
        """Names of the template's parameters, in order."""
        self.timeout = self._seconds(timeout)
        self._check()

    def _seconds(self, timeout: str | float | None) -> float | None:
        if timeout is None:
            return None
        try:
            seconds = parse_duration(timeout)
        except ValueError as error:
            raise self._error(f"the timeout of {self} cannot be: {error}") from None
        if seconds == 0:
            raise self._error(f"the timeout of {self} is 0: no request could be answered", fix="leave it out, or give it time")
        return seconds

    def _check(self) -> None:
        function: object = self.function
        if inspect.iscoroutine(function):
            function.close()  # or Python warns that it was never awaited, beside our own message
            raise self._error(f"{self} got a coroutine instead of a function", fix="hand over the function without calling it")
        if not callable(function):
            raise self._error(f"{self} got {function!r} instead of a function", fix="hand over the function that answers")
        if not _METHOD.fullmatch(self.method):
            raise self._error(f"{self.method!r} is not a method", fix='such as "GET" or "POST"')
        if self.max_body is not None and self.max_body < 0:
            raise self._error(f"the max_body of {self} is {self.max_body}", fix="a number of bytes, such as 1024 * 1024")
        layers: tuple[Any, ...] = self.layers
        if wrong := [layer for layer in layers if not callable(layer)]:
            raise self._error(f"{wrong[0]!r} among the layers of {self} is not a layer", fix="a layer takes a Handler")

    def _error(self, what: str, *, fix: str = "") -> StartError:
        return StartError(what, where=(self.line,), fix=fix)

    @property
    def line(self) -> str:
        """The route as a line of a message: where its function stands, method and template."""
        return f"{self.where}  {self}"

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    def __repr__(self) -> str:
        return f"<Route {self} -> {self.name} at {self.where}>"


class Options(TypedDict, total=False):
    """What may be said of a route beside its template and function."""

    status: int
    raises: Sequence[type[Answer]]
    timeout: str | float | None
    max_body: int | None
    layers: Sequence[Layer]
