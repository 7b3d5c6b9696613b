"""By hand: a function that cannot wait becomes a call that gives its answer at once, without a task to run in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from mizzen.words.json import encode
from mizzen.words.message import Request, Response

from .answers import JSON, Answers

ByHand = Callable[[Request], Response]
"""Answers a request whose function cannot wait."""


def by_path(call: Callable[..., Coroutine[Any, Any, Any]], answers: Answers) -> ByHand:
    """For a function that takes the texts of its path as they stand."""
    json, status, answer, respond = answers.json, answers.status, answers.answer, Response.of

    def handler(request: Request) -> Response:
        try:
            call(*request.params).send(None)
        except StopIteration as done:
            result = done.value
            if type(result) is json:
                return respond(status, encode(result), [JSON])
            return answer(result)
        raise _waited(answers)

    return handler


def by_name(
    call: Callable[..., Coroutine[Any, Any, Any]], take: Callable[[Request], Mapping[str, Any]], answers: Answers
) -> ByHand:
    """For any other function: its arguments are taken first."""
    json, status, answer, respond = answers.json, answers.status, answers.answer, Response.of

    def handler(request: Request) -> Response:
        try:
            call(**take(request)).send(None)
        except StopIteration as done:
            result = done.value
            if type(result) is json:
                return respond(status, encode(result), [JSON])
            return answer(result)
        raise _waited(answers)

    return handler


def _waited(answers: Answers) -> RuntimeError:
    return RuntimeError(f"{answers.name} has waited, although its code has no await")
