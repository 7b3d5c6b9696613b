"""Answers: what a function returns becomes a Response. Decided by the annotation where there is one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Coroutine
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Never, NoReturn, Union, get_args, get_origin, is_typeddict

import msgspec

from mizzen.words.json import write
from mizzen.words.message import Response

from .kinds import check
from .parameter import REQUIRED, Header
from .signature import Signature, type_text
from .streams import Pieces, pieces_for

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
BINARY = (b"content-type", b"application/octet-stream")
BODILESS = frozenset({204, 304})
"""Statuses whose answers end after their head (RFC 9110 §15.3.5, §15.4.5)."""

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)


class _Never:
    """The type of no result: without an annotation nothing takes the short way."""


class Answers:
    """How one function's results become responses."""

    __slots__ = ("json", "name", "pieces", "status")

    def __init__(self, name: str, status: int, json: type, pieces: Pieces) -> None:
        self.name = name
        self.status = status
        self.json = json
        """Results of exactly this type are JSON, whatever else they are: the handler writes them without asking us."""
        self.pieces = pieces
        """How the parts of a stream are written."""

    def answer(self, result: Any) -> Response:
        """The response for any result; ``TypeError`` for one that cannot be written."""
        if isinstance(result, Response):
            return result
        if result is None:
            return Response(204 if self.status == 200 else self.status)
        if self.status in BODILESS:
            raise TypeError(f"{self.name} returned a {type(result).__name__}, but status {self.status} has no body")
        if hasattr(result, "__aiter__"):
            return self.stream(self.pieces.of(result))
        if isinstance(result, str) and not isinstance(result, Enum):
            return Response.of(self.status, result.encode(), [TEXT])
        if isinstance(result, bytes | bytearray | memoryview):
            return Response.of(self.status, bytes(result), [BINARY])
        return Response.of(self.status, write(result), [JSON])

    def stream(self, body: AsyncIterator[bytes]) -> Response:
        """The response whose body is ``body``, as it comes."""
        return Response.of(self.status, body, [self.pieces.content_type])


def answers_for(signature: Signature) -> Answers:
    """The answers of a function; ``StartError`` when its annotation promises what cannot be written."""
    route, returns = signature.route, awaited(signature.returns)
    if inspect.isgeneratorfunction(route.function):
        raise signature.mistake(
            f"{route.name} is a generator that is not async, which would hold up everything else between its parts",
            fix=f"make it `async def {route.name}`",
        )
    members = [member for member in members_of(returns) if member not in (None, NoneType)]
    written = [member for member in members if not is_response(member)]
    item: Any = REQUIRED
    for member in written:
        if is_stream_of(member):
            item = get_args(member)[0]
        _check(item if is_stream_of(member) else member, signature)
    for member in filter(is_response, members):
        _check_response(member, signature)
    json = _exact(written[0]) if len(written) == 1 and route.status not in BODILESS else _Never
    return Answers(route.name, route.status, json, pieces_for(item))


def awaited(returns: Any) -> Any:
    """What comes out in the end: a function that is not async may be annotated with what it awaits."""
    if get_origin(returns) in (Awaitable, Coroutine):
        return get_args(returns)[-1]
    return returns


def members_of(returns: Any) -> tuple[Any, ...]:
    """The alternatives that an annotation names; itself when it names one."""
    plain = returns.__origin__ if get_origin(returns) is Annotated and not is_response(returns) else returns
    return get_args(plain) if get_origin(plain) in (Union, UnionType) else (plain,)


def is_response(annotation: Any) -> bool:
    """Whether an annotation means a Response, whatever it says of it."""
    if get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    return isinstance(annotation, type) and issubclass(annotation, Response)


def is_stream_of(annotation: Any) -> bool:
    """Whether an annotation means an answer in pieces."""
    return get_origin(annotation) in _STREAMS


def carried_by(annotation: Any) -> Any:
    """``User`` of ``Annotated[Response, User]``: what a Response says that it carries; ``REQUIRED`` when it does not."""
    if not is_response(annotation) or get_origin(annotation) is not Annotated:
        return REQUIRED
    return next((said for said in annotation.__metadata__ if said is not Header and not isinstance(said, Header)), REQUIRED)


def _exact(annotation: Any) -> type:
    """The class that results have when they are what the annotation says and JSON by msgspec; ``_Never`` if unsure."""
    if get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    kind = get_origin(annotation) or annotation
    if is_typeddict(kind):
        return dict
    if not isinstance(kind, type) or issubclass(kind, str | bytes | bytearray | memoryview | Response):
        return _Never
    if hasattr(kind, "model_dump_json") or hasattr(kind, "__aiter__"):
        return _Never
    return kind


def _check_response(annotation: Any, signature: Signature) -> None:
    """Check what a Response says that it carries."""
    if (carried := carried_by(annotation)) is not REQUIRED:
        _check(carried, signature)
    said = annotation.__metadata__ if get_origin(annotation) is Annotated else ()
    if any(marker is Header or (isinstance(marker, Header) and not marker.name) for marker in said):
        what = f"{signature.route.name} returns {type_text(annotation)}, which does not say which header it carries"
        raise signature.mistake(what, fix='name it: Header("location")')


def _check(annotation: Any, signature: Signature) -> None:
    if annotation in (REQUIRED, Any, object, Never, NoReturn, bytes, str) or isinstance(annotation, type(msgspec.UNSET)):
        return
    if hasattr(annotation, "model_dump_json"):
        return
    try:
        described = msgspec.inspect.type_info(annotation)
    except (TypeError, ValueError, NameError):
        return  # msgspec cannot read it back, but may well write it
    try:
        check(described)
    except TypeError as error:
        raise signature.mistake(
            f"{signature.route.name} returns {type_text(annotation)}, which cannot be answered: {error}",
            fix="return a Struct, dataclass, TypedDict or pydantic model, builtins made of such, or a Response",
        ) from None
