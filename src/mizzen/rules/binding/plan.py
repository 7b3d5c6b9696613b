"""Plan: where each parameter of a route's function comes from, decided and checked before the service starts."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from mizzen.words.context import Context
from mizzen.words.errors import Answer, CallError, StartError
from mizzen.words.handler import Handler
from mizzen.words.message import Request, Response

from .advice import how_to_provide
from .answers import Answers, answers_for
from .by_hand import ByHand
from .compile import InThread, compile_by_hand, compile_handler
from .kinds import Kind, kind_of
from .parameter import REQUIRED, Bound, Header, Parameter, is_stream
from .signature import Signature, read, target, type_text
from .waits import waits

BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""RFC 9110 §9.3 gives a body to the others no meaning; intermediaries drop or reject it."""


class Plan:
    """How requests become calls of one route's function, and its results answers."""

    __slots__ = ("answers", "needs", "parameters", "returns", "route", "streams_body", "waits")

    def __init__(self, route: Bound, parameters: tuple[Parameter, ...], returns: Any, answers: Answers) -> None:
        self.route = route
        self.parameters = parameters
        """In the order of the function; one that keeps its own default because nobody provides it is left out."""
        self.returns = returns
        """The annotation of the result; ``inspect.Parameter.empty`` without one."""
        self.answers = answers
        self.needs: tuple[type, ...] = tuple(
            dict.fromkeys(parameter.type for parameter in parameters if parameter.source == "provided")
        )
        """The provided types that the function takes."""
        self.streams_body = any(parameter.streams for parameter in parameters)
        """Whether the function takes the body as it arrives."""
        self.waits = self.streams_body or waits(target(route.function))
        """Whether a call may wait for something."""

    def compile(self, values: Mapping[type, Any], *, in_thread: InThread) -> Handler:
        """The handler that calls the function; the route's own layers are not around it yet.

        ``values`` holds what is provided, opened, by type; ``in_thread`` runs what is not async. Raises ``StartError``
        when a needed value is not among them.
        """
        for needed in self.needs:
            if needed not in values:
                raise StartError(f"{self.route.name} needs {needed.__name__}; it was not opened", where=(self.route.where,))
        provided = {parameter.name: values[parameter.type] for parameter in self.parameters if parameter.source == "provided"}
        return compile_handler(self.route, self.parameters, provided, self.answers, in_thread=in_thread)

    def compile_by_hand(self, values: Mapping[type, Any]) -> ByHand | None:
        """The function as one call that answers at once; None when it may wait."""
        if self.waits:
            return None
        provided = {parameter.name: values[parameter.type] for parameter in self.parameters if parameter.source == "provided"}
        return compile_by_hand(self.route, self.parameters, provided, self.answers)

    def describe(self) -> dict[str, str]:
        """The source of each parameter by its name."""
        return {parameter.name: parameter.source for parameter in self.parameters}

    def __repr__(self) -> str:
        sources = ", ".join(f"{name} from {source}" for name, source in self.describe().items())
        return f"<Plan {self.route.method} {self.route.template} -> {self.route.name}: {sources or 'takes nothing'}>"


def plan(route: Bound, provided: Collection[type]) -> Plan:
    """Bind a route's function to requests and to the ``provided`` types.

    Raises ``StartError`` that names function, place and fix for everything that could only fail later.
    """
    signature = read(route)
    _check_route(signature)
    parameters, missing = [], []
    for parameter in signature.parameters:
        bound = _bind(parameter, signature, provided)
        if isinstance(bound, Parameter):
            parameters.append(bound)
        elif bound is not None:
            missing.append(bound)
    _check_missing(missing, signature, provided)
    _check_path(parameters, signature)
    _check_bodies(parameters, signature)
    return Plan(route, tuple(parameters), signature.returns, answers_for(signature))


def _bind(parameter: inspect.Parameter, signature: Signature, provided: Collection[type]) -> Parameter | type | None:
    """The parameter with its source; the type that nobody provides; or None to leave it to its own default."""
    route, name, default = signature.route, parameter.name, parameter.default
    annotation, markers = _unwrap(parameter.annotation)
    alone = _alone(annotation)
    if name in route.parameters:
        return _bind_path(parameter, signature, provided)
    header = next((marker for marker in markers if isinstance(marker, Header) or marker is Header), None)
    if header is not None:
        kind = _kind(parameter, signature)
        if kind not in (Kind.SCALAR, Kind.MANY):
            raise _unsupported(parameter, signature, "a header is text")
        field = (header.name if isinstance(header, Header) else None) or name.replace("_", "-")
        return Parameter(name, "header", parameter.annotation, default, field.lower(), kind is Kind.MANY)
    if alone is Request:
        return Parameter(name, "request", Request, default, name)
    if alone is Context:
        return Parameter(name, "context", Context, default, name)
    if _is_provided(alone, provided):
        return Parameter(name, "provided", alone, default, name)
    if is_stream(annotation) or annotation is bytes:
        return _bind_body(parameter, annotation, signature)
    kind = _kind(parameter, signature)
    if kind is Kind.FOREIGN:
        return None if default is not REQUIRED else alone
    if kind is Kind.BODY:
        return _bind_body(parameter, parameter.annotation, signature)
    return Parameter(name, "query", parameter.annotation, default, name, kind is Kind.MANY)


def _bind_path(parameter: inspect.Parameter, signature: Signature, provided: Collection[type]) -> Parameter:
    route, name = signature.route, parameter.name
    annotation, markers = _unwrap(parameter.annotation)
    alone = _alone(annotation)
    marked = any(isinstance(marker, Header) or marker is Header for marker in markers)
    taken = marked or alone in (Request, Context) or _is_provided(alone, provided) or is_stream(annotation)
    if taken or _kind(parameter, signature) is not Kind.SCALAR:
        raise signature.mistake(
            f"{route.name} takes {name}: {type_text(parameter.annotation)}, but {name} is also a path parameter of "
            f"{route.template}, which is text",
            fix=f"give one of the two another name, or annotate {name} with what stands in the path, such as str or int",
        )
    return Parameter(name, "path", parameter.annotation, REQUIRED, name)


def _bind_body(parameter: inspect.Parameter, annotation: Any, signature: Signature) -> Parameter:
    route, name = signature.route, parameter.name
    if route.method not in BODY_METHODS:
        shown = type_text(parameter.annotation)
        raise signature.mistake(
            f"{route.name} takes {name}: {shown} from a body, but {route.method} {route.template} has none",
            fix=f"use POST, PUT, PATCH or DELETE, or service.provide a {shown} if it is a thing of the service",
        )
    return Parameter(name, "body", annotation, parameter.default, name)


def _kind(parameter: inspect.Parameter, signature: Signature) -> Kind:
    try:
        return kind_of(parameter.annotation)
    except (TypeError, ValueError) as error:
        raise _unsupported(parameter, signature, str(error)) from None
    except NameError as error:
        raise signature.mistake(
            f"an annotation inside of {type_text(parameter.annotation)} cannot be resolved: {error}",
            fix=f"import or define {error.name} at the top of its module, and not under `if TYPE_CHECKING:`",
        ) from None


def _unsupported(parameter: inspect.Parameter, signature: Signature, why: str) -> StartError:
    name, shown = parameter.name, type_text(parameter.annotation)
    return signature.mistake(
        f"{signature.route.name} takes {name}: {shown}, which no request can carry: {why}",
        fix="text, numbers, dates, enums and lists of them come from path, query and header; Struct, dataclass, TypedDict "
        "and pydantic models from a JSON body; a thing of the service has to be provided",
    )


def _check_route(signature: Signature) -> None:
    route = signature.route
    raises: tuple[Any, ...] = tuple(route.raises)
    status: Any = route.status
    for error in raises:
        if isinstance(error, type) and issubclass(error, Answer):
            continue
        shown = error.__name__ if isinstance(error, type) else repr(error)
        if isinstance(error, type) and issubclass(error, CallError):
            fix = "catch it in the function and raise an answer, such as Unavailable or NotFound"
        else:
            fix = "raise and name an answer, such as NotFound, or a subclass of one"
        raise signature.mistake(f"{route.name} says raises=[{shown}], which is not an answer to a caller", fix=fix)
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise signature.mistake(f"{route.name} answers with status={route.status!r}", fix="a status from 200 to 599")
    if route.status in (204, 304) and _alone(signature.returns) not in (None, NoneType, REQUIRED, Response, Any):
        raise signature.mistake(
            f"{route.name} returns {type_text(signature.returns)}, but status={route.status} has no body",
            fix="return None, or use another status",
        )


def _check_missing(missing: list[type], signature: Signature, provided: Collection[type]) -> None:
    if not missing:
        return
    needed = list(dict.fromkeys(missing))
    names = " and ".join(type_.__name__ for type_ in needed)
    raise signature.mistake(
        f"{signature.route.name} needs {names}; nothing provides {'it' if len(needed) == 1 else 'them'}",
        fix="; ".join(how_to_provide(type_, signature.route, provided) for type_ in needed),
    )


def _check_path(parameters: list[Parameter], signature: Signature) -> None:
    route = signature.route
    taken = {parameter.name for parameter in parameters}
    for name in route.parameters:
        if name not in taken:
            raise signature.mistake(
                f"{route.name} does not take {name}, a path parameter of {route.template}",
                fix=f"add {name}: str to {route.name}, or take {{{name}}} out of the template",
            )


def _check_bodies(parameters: list[Parameter], signature: Signature) -> None:
    bodies = [parameter for parameter in parameters if parameter.source == "body"]
    if len(bodies) > 1:
        shown = " and ".join(f"{parameter.name}: {type_text(parameter.type)}" for parameter in bodies)
        raise signature.mistake(
            f"{signature.route.name} takes {shown} from a body, but a request has one",
            fix="put them into one type, or service.provide the one that is a thing of the service",
        )


def _is_provided(annotation: Any, provided: Collection[type]) -> bool:
    # a service that provides a str must not turn every str of a query into it
    return isinstance(annotation, type) and annotation.__module__ != "builtins" and annotation in provided


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(annotation) is Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()


def _alone(annotation: Any) -> Any:
    """``Users`` of ``Users | None``; anything else as it is."""
    annotation, _ = _unwrap(annotation)
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) == 1:
            return _unwrap(members[0])[0]
    return annotation
