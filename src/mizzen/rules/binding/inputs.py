"""Inputs: what a function takes from path, query and headers, read in one pass and converted in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec import convert
from msgspec.structs import asdict, astuple

from mizzen.words.errors import BadRequest, Fault, Invalid
from mizzen.words.message import Request

from .finite import fractional, infinite
from .parameter import Parameter

Arguments = dict[str, Any]
"""What a function is called with, by name."""

Reader = Callable[[Request, Arguments], list[Fault] | None]
"""Adds what it reads to the arguments, or returns the faults that stand in the way."""

_Given = dict[str, Any]
"""What a request carries, by the name of the parameter: text, or a list of it."""
_Collector = Callable[[Request, _Given], None]


def read_inputs(parameters: Sequence[Parameter], template: Sequence[str]) -> Reader | None:
    """The reader of all parameters that are text, compiled; None when there are none.

    ``template`` are the names of the path's parameters in the order in which a request carries their values.
    """
    texts = [parameter for parameter in parameters if parameter.source in ("path", "query", "header")]
    if not texts:
        return None
    collectors = [
        collect
        for collect in (
            _path(template),
            _query([parameter for parameter in texts if parameter.source == "query"]),
            _headers([parameter for parameter in texts if parameter.source == "header"]),
        )
        if collect is not None
    ]
    if all(parameter.source == "path" and parameter.type is str for parameter in texts):
        return _plain_path(template)
    # msgspec resolves the type of every convert() anew, but keeps what it knows of a Struct: so all go in one
    inputs = msgspec.defstruct("Inputs", [_field(parameter) for parameter in texts], kw_only=True)
    fractions = fractional(texts)

    def read(request: Request, arguments: Arguments) -> list[Fault] | None:
        given: _Given = {}
        for collect in collectors:
            collect(request, given)
        try:
            arguments.update(asdict(convert(given, inputs, strict=False)))
        except msgspec.ValidationError as error:
            return _faults(texts, given) or [Fault("request", str(error))]
        return infinite(fractions, given, arguments) if fractions else None

    return read


def read_path(parameters: Sequence[Parameter]) -> Callable[[tuple[str, ...]], tuple[Any, ...]]:
    """The conversion of a path's texts to the types of ``parameters``, which stand in the order of the template.

    It raises ``Invalid`` with every fault.
    """
    path = msgspec.defstruct("Path", [(parameter.name, parameter.type) for parameter in parameters], array_like=True)
    names = [parameter.name for parameter in parameters]

    def read(params: tuple[str, ...]) -> tuple[Any, ...]:
        try:
            return astuple(convert(params, path, strict=False))
        except msgspec.ValidationError as error:
            given = dict(zip(names, params, strict=True))
            raise invalid(_faults(parameters, given) or [Fault("path", str(error))]) from None

    fractions = fractional(parameters)
    if not fractions:
        return read

    def read_finite(params: tuple[str, ...]) -> tuple[Any, ...]:
        values = read(params)
        if faults := infinite(fractions, names, dict(zip(names, values, strict=True))):
            raise invalid(faults)
        return values

    return read_finite


def _plain_path(names: Sequence[str]) -> Reader:
    def read(request: Request, arguments: Arguments) -> None:
        arguments.update(zip(names, request.params, strict=True))

    if len(names) > 1:
        return read
    (name,) = names

    def read_one(request: Request, arguments: Arguments) -> None:
        arguments[name] = request.params[0]

    return read_one


def _path(names: Sequence[str]) -> _Collector | None:
    if not names:
        return None

    def collect(request: Request, given: _Given) -> None:
        given.update(zip(names, request.params, strict=True))

    return collect


def _query(parameters: Sequence[Parameter]) -> _Collector | None:
    if not parameters:
        return None
    wanted = {parameter.field: (parameter.name, parameter.many) for parameter in parameters}

    def collect(request: Request, given: _Given) -> None:
        if not request.query:
            return
        for pair in request.query.split("&"):
            key, _, value = pair.partition("=")
            if "%" in key or "+" in key:
                key = _decode(key)
            found = wanted.get(key)
            if found is None:
                continue
            if "%" in value or "+" in value:
                value = _decode(value)
            name, many = found
            if name not in given:
                given[name] = [value] if many else value
            elif isinstance(given[name], list):
                given[name].append(value)
            else:  # a list where one is wanted: refused below, rather than choosing one of them
                given[name] = [given[name], value]

    return collect


def _headers(parameters: Sequence[Parameter]) -> _Collector | None:
    if not parameters:
        return None
    wanted = {parameter.field.encode("latin-1"): (parameter.name, parameter.many) for parameter in parameters}

    def collect(request: Request, given: _Given) -> None:
        for field, value in request.headers.raw:
            found = wanted.get(field)
            if found is None:
                continue
            name, many = found
            text = value.decode("latin-1")
            # RFC 9110 §5.3: fields of one name are one list, joined by commas, by whoever handed them on
            if many:
                given.setdefault(name, []).extend(part for part in map(str.strip, text.split(",")) if part)
            else:
                given[name] = f"{given[name]}, {text}" if name in given else text

    return collect


def _decode(text: str) -> str:
    from urllib.parse import unquote_plus  # with what it imports 2 ms of a start, and most values are plain

    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("a percent-encoded part of the query is not UTF-8 text") from None


def _field(parameter: Parameter) -> tuple[str, Any] | tuple[str, Any, Any]:
    if parameter.required:
        return parameter.name, parameter.type
    default = parameter.default
    if default is None or isinstance(default, str | int | float | Enum):
        return parameter.name, parameter.type, default
    # msgspec copies or refuses defaults that can change; Python hands over the very object, and so do we
    return parameter.name, parameter.type, msgspec.field(default_factory=lambda: default)


def invalid(faults: list[Fault]) -> Invalid:
    """The answer to a request with these faults."""
    if len(faults) == 1:
        return Invalid(f"{faults[0].path}: {faults[0].reason}", errors=faults)
    return Invalid(f"{len(faults)} fields are at fault", errors=faults)


def _faults(parameters: Sequence[Parameter], given: _Given) -> list[Fault]:
    from mizzen.words.faults import find_faults

    faults: list[Fault] = []
    for parameter in parameters:
        path = f"{parameter.source}.{parameter.field}"
        if parameter.name not in given:
            if parameter.required:
                faults.append(Fault(path, "missing"))
            continue
        value = given[parameter.name]
        if isinstance(value, list) and not parameter.many:
            faults.append(Fault(path, f"given {len(value)} times, expected once"))
        else:
            faults += find_faults(value, parameter.type, path=path, strict=False)
    return faults
