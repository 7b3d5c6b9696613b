"""Body: JSON into a type, with the place of every mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.words.errors import BadRequest, Fault, UnsupportedMedia
from mizzen.words.json import reader, validates_itself
from mizzen.words.lazy import pattern
from mizzen.words.message import Request

from .inputs import Arguments, Reader
from .parameter import Parameter

_Decode = Callable[[bytes, Arguments], list[Fault] | None]

_BYTE = pattern(r"(?:JSON is malformed: )?(.*) \(byte (\d+)\)")
_NEWLINE = b"\n"


def read_json(parameter: Parameter) -> Reader:
    """The reader of a JSON body; the request's body has to be whole by then.

    It raises ``UnsupportedMedia`` for a body that says it is something else, ``BadRequest`` for one that is not JSON.
    """
    name, required, into = parameter.name, parameter.required, parameter.type
    decode = _pydantic(name, into) if validates_itself(into) else _msgspec(name, into)

    def read(request: Request, arguments: Arguments) -> list[Fault] | None:
        body: Any = request.body  # whole: the handler saw to it
        if not body:
            return [Fault("body", "missing")] if required else None
        for field, value in request.headers.raw:
            if field == b"content-type":
                if value != b"application/json":
                    _check_type(value)
                break
        return decode(body, arguments)

    return read


def read_bytes(parameter: Parameter) -> Reader:
    """The reader of a body that is taken as it is, whatever it says it is."""
    name, required = parameter.name, parameter.required

    def read(request: Request, arguments: Arguments) -> None:
        if request.body or required:
            arguments[name] = request.body

    return read


def _check_type(value: bytes) -> None:
    kind = value.partition(b";")[0].strip().lower().decode("latin-1")
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMedia(f"the body is {kind or 'of no type'}; this reads application/json")


def _msgspec(name: str, into: Any) -> _Decode:
    decode = reader(into)

    def read(body: bytes, arguments: Arguments) -> list[Fault] | None:
        try:
            arguments[name] = decode(body)
        except msgspec.ValidationError as error:
            return _faults(body, into, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(body, error) from None
        return None

    return read


def _pydantic(name: str, into: Any) -> _Decode:
    decode = reader(into)

    def read(body: bytes, arguments: Arguments) -> list[Fault] | None:
        try:
            arguments[name] = decode(body)
        except ValueError as error:
            listed = getattr(error, "errors", None)
            if listed is None:
                raise
            first = listed()[0]
            if first["type"] == "json_invalid":
                why = first["msg"].removeprefix("Invalid JSON: ")
                raise BadRequest(f"the body is not JSON: {why}") from None
            from mizzen.words.faults import own_faults

            return own_faults(error, "body")
        return None

    return read


def _faults(body: bytes, into: Any, error: msgspec.ValidationError) -> list[Fault]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as worse:
        # msgspec stopped at the first misfit, before the place where it stops being JSON
        raise _malformed(body, worse) from None
    from mizzen.words.faults import find_faults

    return find_faults(value, into, path="body") or [Fault("body", str(error))]


def _malformed(body: bytes, error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("the body is not JSON: its text is not UTF-8")
    found = _BYTE.fullmatch(str(error))
    if found is None:
        return BadRequest(f"the body is not JSON: it ends too early, at {_place(body, len(body))}")
    why, byte = found.groups()
    offset = int(byte) - (why == "trailing characters")  # msgspec has passed that one when it tells
    return BadRequest(f"the body is not JSON: {why} at {_place(body, offset)}")


def _place(body: bytes, offset: int) -> str:
    line = body.count(_NEWLINE, 0, offset) + 1
    return f"line {line}, column {offset - body.rfind(_NEWLINE, 0, offset)}"
