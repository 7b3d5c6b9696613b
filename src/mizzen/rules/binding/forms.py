"""Forms: what the answers of a function look like on the wire, told from its annotation, for whoever documents them."""

from __future__ import annotations

from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, Never, NoReturn, get_args, get_origin

from .answers import BINARY, BODILESS, JSON, TEXT, awaited, carried_by, is_response, is_stream_of, members_of
from .parameter import REQUIRED, Header
from .streams import pieces_for

ANYTHING = "*/*"
"""The media type of a body of which the annotation says nothing."""


class Form(NamedTuple):
    """One form of a function's plain answers."""

    status: int
    content_type: str
    """Empty without a body, ``*/*`` when nothing says what it is."""
    type: Any = REQUIRED
    """What the body holds, or each of its lines when it streams; ``REQUIRED`` when nothing says."""
    streams: bool = False
    headers: tuple[str, ...] = ()
    """Names of the fields that the answer carries."""


def forms_of(returns: Any, status: int) -> list[Form]:
    """The forms of a function that is annotated with ``returns`` on a route with that status; none if it only raises."""
    returns = awaited(returns)
    members = members_of(returns)
    if len(members) == 1:  # whole, for what else it says of its type
        return [] if returns in (Never, NoReturn) else [_form(returns, status)]
    return [_form(member, status) for member in members]


def _form(annotation: Any, status: int) -> Form:
    if annotation in (None, NoneType):
        return Form(204 if status == 200 else status, "")
    headers = headers_of(annotation) if is_response(annotation) else ()
    if status in BODILESS:
        return Form(status, "", headers=headers)
    if is_response(annotation):
        return _with_body(carried_by(annotation), status, headers)
    return _with_body(annotation, status, ())


def _with_body(annotation: Any, status: int, headers: tuple[str, ...]) -> Form:
    plain = annotation.__origin__ if get_origin(annotation) is Annotated else annotation
    if plain in (REQUIRED, Any, object):
        return Form(status, ANYTHING, headers=headers)
    if is_stream_of(plain):
        item = get_args(plain)[0]
        return Form(status, pieces_for(item).content_type[1].decode(), item, True, headers)
    return Form(status, _written_as(plain)[1].decode(), annotation, headers=headers)


def _written_as(plain: Any) -> tuple[bytes, bytes]:
    """As :meth:`Answers.answer` writes its values."""
    if get_origin(plain) is Literal:
        return TEXT if all(type(value) is str for value in get_args(plain)) else JSON
    if isinstance(plain, type) and not hasattr(plain, "__args__"):
        if issubclass(plain, str) and not issubclass(plain, Enum):
            return TEXT
        if issubclass(plain, bytes | bytearray | memoryview):
            return BINARY
    return JSON


def headers_of(annotation: Any) -> tuple[str, ...]:
    """Names of the fields that ``Annotated[Response, User, Header("location")]`` says it carries."""
    said = annotation.__metadata__ if get_origin(annotation) is Annotated else ()
    return tuple(marker.name.lower() for marker in said if isinstance(marker, Header) and marker.name)
