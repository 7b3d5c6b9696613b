"""Problems: the answers that every service gives in the same words, each once among a document's components."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from mizzen.words.errors import PROBLEM_TYPE, Answer, Problem

from .schemas import Schema, Schemas

TRACE_ID = "x-trace-id"
_ALWAYS = ["type", "title", "status", "detail", "trace_id"]
"""Fields of a problem that are always written."""


class Known(NamedTuple):
    """An answer that the server gives by itself, or an answer of that class."""

    name: str
    about: str
    headers: tuple[str, ...] = ()


KNOWN = {
    400: Known("BadRequest", "The request is malformed: a path or query that is not UTF-8, a body that is not JSON."),
    401: Known("Unauthorized", "Who the caller is has to be known."),
    403: Known("Forbidden", "The caller may not."),
    404: Known("NotFound", "The resource is absent."),
    408: Known("RequestTimeout", "The body did not arrive in time."),
    409: Known("Conflict", "The state of the resource forbids it."),
    413: Known("TooLarge", "The body is over the limit."),
    414: Known("UriTooLong", "Path and query are over the limit."),
    415: Known("UnsupportedMedia", "The body says it is of a type that is not read here."),
    422: Known("Invalid", "Well-formed but wrong; `errors` names every field at fault."),
    429: Known("TooManyRequests", "Slow down."),
    431: Known("HeadersTooLarge", "The headers are over the limit."),
    500: Known("ServerError", "An unexpected error; its trace id finds it in the service's log."),
    502: Known("BadGateway", "A service that this one calls gave an answer that cannot be used.", ("x-should-retry",)),
    503: Known(
        "Unavailable",
        "Overloaded, starting or stopping, or something that the service depends on is unavailable.",
        ("retry-after", "x-rejected", "x-should-retry"),
    ),
    504: Known("DeadlinePassed", "No answer within the request's deadline.", ("x-rejected", "x-should-retry")),
}
"""What the server says by itself, and what the classes of ``mizzen.words.errors`` mean."""

HEADERS: dict[str, Schema] = {
    TRACE_ID: {
        "description": "Finds this request in every log that it left behind.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "retry-after": {"description": "Seconds after which to come back.", "schema": {"type": "string"}},
    "x-rejected": {
        "description": "The request was refused before any work; with 503 it may be sent elsewhere, whatever its method.",
        "schema": {"type": "string", "enum": ["shed", "starting", "draining", "expired"]},
    },
    "x-should-retry": {
        "description": "Not to be retried: a call that failed was retried already.",
        "schema": {"type": "string", "enum": ["false"]},
    },
}


class Problems:
    """The failures of a document's operations, shared where they say the same."""

    def __init__(self, schemas: Schemas) -> None:
        self._problem = schemas.written(Problem)
        self._used: dict[str, Schema] = {}

    def answer(self, status: int, raised: Iterable[type[Answer]], *, own: bool) -> Schema:
        """The response of that status to whoever sees one of the ``raised`` classes, and the server's own word if ``own``."""
        classes = list(dict.fromkeys(raised))
        known = KNOWN.get(status)
        abouts = [known.about] if known is not None and own else []
        abouts += [_about(kind, known) for kind in classes]
        abouts = list(dict.fromkeys(abouts))
        headers = known.headers if known is not None else ()
        if known is not None and abouts == [known.about]:
            return self._shared(known.name, status, known.about, headers)
        if len(classes) == 1 and not own:
            return self._shared(classes[0].__name__, status, abouts[0], headers)
        return self._response(" Or: ".join(abouts), headers)

    def _shared(self, name: str, status: int, about: str, headers: Iterable[str]) -> Schema:
        response = self._response(about, headers)
        if self._used.setdefault(name, response) != response:  # another class of that name
            return response
        return {"$ref": f"#/components/responses/{name}"}

    def _response(self, about: str, headers: Iterable[str]) -> Schema:
        return {
            "description": about,
            "headers": {name: header(name) for name in (TRACE_ID, *headers)},
            "content": {PROBLEM_TYPE: {"schema": self._problem}},
        }

    def components(self, named: dict[str, Schema]) -> dict[str, Schema]:
        """The shared responses by name; makes of the problem among the ``named`` schemas what is always written."""
        problem = named[self._problem["$ref"].rpartition("/")[2]]
        problem["required"] = _ALWAYS
        for field in problem["properties"].values():
            field.pop("default", None)
        return dict(sorted(self._used.items()))


def header(name: str) -> Schema:
    """The reference to a field that the server itself sends."""
    return {"$ref": f"#/components/headers/{name}"}


def phrase(status: int) -> str:
    """What a status means, in the words of its standard."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _about(kind: type[Answer], known: Known | None) -> str:
    """What a class says of itself; a subclass that says nothing means what its status does."""
    written: Any = vars(kind).get("__doc__")
    if written:
        return " ".join(written.split("\n\n")[0].split())
    return known.about if known is not None else phrase(kind.status)
