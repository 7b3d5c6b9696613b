"""What binding is given and what it finds: the route it reads, the marker of headers, one record for each parameter."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, Literal, Protocol, get_args, get_origin

from msgspec import Struct

from mizzen.words.errors import Answer

Source = Literal["path", "query", "header", "body", "request", "context", "provided"]
"""Where a parameter's value comes from."""

REQUIRED: Any = inspect.Parameter.empty
"""The default of a parameter that has none."""


class Bound(Protocol):
    """The part of a route that binding reads."""

    @property
    def method(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def parameters(self) -> tuple[str, ...]: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def status(self) -> int: ...
    @property
    def raises(self) -> Sequence[type[Answer]]: ...
    @property
    def where(self) -> str: ...
    @property
    def name(self) -> str: ...


class Header:
    """Marks a parameter that comes from a header: ``Annotated[str, Header()]``.

    Without a name it is the parameter's own with dashes for underscores: ``x_tenant`` is ``x-tenant``.
    """

    __slots__ = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Header({self.name!r})" if self.name else "Header()"


class Parameter(Struct, frozen=True):
    """One parameter of a bound function."""

    name: str
    source: Source
    type: Any
    default: Any
    """``REQUIRED`` when the function gives none."""
    field: str
    """Its name on the wire, such as ``x-tenant`` for a header."""
    many: bool = False
    """Whether it takes every value of that name, and not the only one."""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def streams(self) -> bool:
        """Whether it takes the body as it arrives."""
        return self.source == "body" and is_stream(self.type)


def is_stream(annotation: Any) -> bool:
    """Whether an annotation means the body as it arrives: ``AsyncIterator[bytes]``."""
    return get_origin(annotation) in (AsyncIterator, AsyncIterable) and get_args(annotation) == (bytes,)
