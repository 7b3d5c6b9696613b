"""Compile: a bound function becomes a Handler, a closure that is chosen by shape and does nothing it could know before."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from mizzen.words.context import Context, current
from mizzen.words.errors import Fault
from mizzen.words.handler import Handler
from mizzen.words.json import encode
from mizzen.words.message import Request, Response

from .answers import JSON, Answers
from .body import read_bytes, read_json
from .by_hand import ByHand, by_name, by_path
from .inputs import Arguments, Reader, invalid, read_inputs, read_path
from .parameter import Bound, Parameter
from .signature import target
from .streams import whole

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function elsewhere, so that it may block."""

Take = Callable[[Request], Arguments]
"""The arguments that a request carries; raises ``Invalid`` with every fault of it."""


def compile_handler(
    route: Bound, parameters: Sequence[Parameter], provided: Mapping[str, Any], answers: Answers, *, in_thread: InThread
) -> Handler:
    """The handler that calls a route's function with what is ``provided`` and what each request carries.

    A function that takes nothing but what is in its path and provided things, the usual GET, is called straight from
    the handler; else the arguments are taken first, so that in every case one frame stands above the function.
    """
    function = target(route.function)
    carried = [parameter for parameter in parameters if parameter.source != "provided"]
    if inspect.iscoroutinefunction(function):
        straight = _straight(route, carried, provided)
        if straight is not None and all(parameter.type is str for parameter in carried):
            return _handle_straight(straight, answers)
        if straight is not None:
            order = {parameter.name: parameter for parameter in carried}
            return _handle_path(straight, read_path([order[name] for name in route.parameters]), answers)
    call = _by_name(route, provided)
    take = _take(route, carried)
    gathers = any(parameter.source == "body" and not parameter.streams for parameter in carried)
    if inspect.iscoroutinefunction(function):
        return _handle_gathered(call, take, answers) if gathers else _handle(call, take, answers)
    if inspect.isasyncgenfunction(function):
        return _handle_stream(call, take, answers, gathers)
    return _handle_in_thread(call, take, answers, gathers, in_thread)


def compile_by_hand(route: Bound, parameters: Sequence[Parameter], provided: Mapping[str, Any], answers: Answers) -> ByHand:
    """The same for a function that cannot wait and takes no body that arrives: its answer is there when it returns."""
    carried = [parameter for parameter in parameters if parameter.source != "provided"]
    straight = _straight(route, carried, provided)
    if straight is not None and all(parameter.type is str for parameter in carried):
        return by_path(straight, answers)
    return by_name(_by_name(route, provided), _take(route, carried), answers)


def _handle_straight(call: Callable[..., Awaitable[Any]], answers: Answers) -> Handler:
    json, status, answer, respond = answers.json, answers.status, answers.answer, Response.of

    async def handler(request: Request) -> Response:
        result = await call(*request.params)
        if type(result) is json:
            return respond(status, encode(result), [JSON])
        return answer(result)

    return handler


def _handle_path(
    call: Callable[..., Awaitable[Any]], read: Callable[[tuple[str, ...]], tuple[Any, ...]], answers: Answers
) -> Handler:
    json, status, answer, respond = answers.json, answers.status, answers.answer, Response.of

    async def handler(request: Request) -> Response:
        result = await call(*read(request.params))
        if type(result) is json:
            return respond(status, encode(result), [JSON])
        return answer(result)

    return handler


def _handle(call: Callable[..., Awaitable[Any]], take: Take, answers: Answers) -> Handler:
    json, status, answer, respond = answers.json, answers.status, answers.answer, Response.of

    async def handler(request: Request) -> Response:
        result = await call(**take(request))
        if type(result) is json:
            return respond(status, encode(result), [JSON])
        return answer(result)

    return handler


def _handle_gathered(call: Callable[..., Awaitable[Any]], take: Take, answers: Answers) -> Handler:
    json, status, answer, respond = answers.json, answers.status, answers.answer, Response.of

    async def handler(request: Request) -> Response:
        if not isinstance(request.body, bytes):
            await request.read()
        result = await call(**take(request))
        if type(result) is json:
            return respond(status, encode(result), [JSON])
        return answer(result)

    return handler


def _handle_stream(call: Callable[..., Any], take: Take, answers: Answers, gathers: bool) -> Handler:
    async def handler(request: Request) -> Response:
        if gathers:
            await request.read()
        return answers.stream(await answers.pieces.begun(call(**take(request))))

    return handler


def _handle_in_thread(call: Callable[..., Any], take: Take, answers: Answers, gathers: bool, in_thread: InThread) -> Handler:
    async def handler(request: Request) -> Response:
        if gathers:
            await request.read()
        # a thread starts with an empty context; the function is to see the one of its request
        result = await in_thread(partial(copy_context().run, call, **take(request)))
        if hasattr(result, "__await__"):  # a decorator that is not async, around a function that is
            result = await result
        return answers.answer(result)

    return handler


def _straight(route: Bound, carried: Sequence[Parameter], provided: Mapping[str, Any]) -> Callable[..., Any] | None:
    """The function with everything provided bound to it, so that a request's path fills the rest; None if it cannot."""
    if any(parameter.source != "path" for parameter in carried):
        return None
    positional = [parameter.name for parameter in _signature(route) if parameter.kind is not parameter.KEYWORD_ONLY]
    path = list(route.parameters)
    start = positional.index(path[0]) if path and path[0] in positional else 0
    before = positional[:start]
    if positional[start : start + len(path)] != path or any(name not in provided for name in before):
        return None
    after = {name: value for name, value in provided.items() if name not in before}
    if any(parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in after for parameter in _signature(route)):
        return None
    return partial(route.function, *[provided[name] for name in before], **after) if provided else route.function


def _by_name(route: Bound, provided: Mapping[str, Any]) -> Callable[..., Any]:
    """The function with everything provided bound to it, to be called with the rest by name."""
    function = route.function
    unnamed = [parameter for parameter in _signature(route) if parameter.kind is parameter.POSITIONAL_ONLY]
    if not unnamed:
        return partial(function, **provided) if provided else function

    def call(**arguments: Any) -> Any:
        arguments.update(provided)
        first = [arguments.pop(parameter.name, parameter.default) for parameter in unnamed]
        return function(*first, **arguments)

    return call


def _signature(route: Bound) -> list[inspect.Parameter]:
    return list(inspect.signature(route.function).parameters.values())


def _take(route: Bound, carried: Sequence[Parameter]) -> Take:
    readers = _readers(route, carried)

    def take(request: Request) -> dict[str, Any]:
        arguments: Arguments = {}
        faults: list[Fault] = []
        for read in readers:
            found = read(request, arguments)
            if found is not None:
                faults += found
        if faults:
            raise invalid(faults)
        return arguments

    return take


def _readers(route: Bound, carried: Sequence[Parameter]) -> list[Reader]:
    readers: list[Reader] = []
    inputs = read_inputs(carried, route.parameters)
    if inputs is not None:
        readers.append(inputs)
    for parameter in carried:
        if parameter.source == "request":
            readers.append(_request(parameter.name))
        elif parameter.source == "context":
            readers.append(_context(parameter.name))
        elif parameter.streams:
            readers.append(_stream(parameter.name))
        elif parameter.source == "body":
            readers.append(read_bytes(parameter) if parameter.type is bytes else read_json(parameter))
    return readers


def _request(name: str) -> Reader:
    def read(request: Request, arguments: Arguments) -> None:
        arguments[name] = request

    return read


def _context(name: str) -> Reader:
    def read(request: Request, arguments: Arguments) -> None:
        arguments[name] = request.context or current() or Context()

    return read


def _stream(name: str) -> Reader:
    def read(request: Request, arguments: Arguments) -> None:
        arguments[name] = whole(request.body) if isinstance(request.body, bytes) else request.body

    return read
