"""Client: the handle through which a service calls another one, by name, with typed answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Protocol

import msgspec

from mizzen.rules.retry import RETRIES
from mizzen.rules.timeouts import CALL_TIMEOUT
from mizzen.words.clock import Clock
from mizzen.words.errors import PROBLEM_TYPE, CallError, PeerError, Problem
from mizzen.words.handler import Handler
from mizzen.words.json import reader, write
from mizzen.words.message import Call, Headers, Request, Response
from mizzen.words.outcome import MISFIT, OK, Classifier

from .target import Target, encode_query
from .verbs import Verbs


class _Raise:
    """The default of ``absent``: a 404 is an error like any other."""

    def __repr__(self) -> str:
        return "raise PeerError"


RAISE = _Raise()
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that are sent again without being asked; PUT and DELETE only with ``idempotent=True`` or a key."""
IDEMPOTENCY_KEY = "idempotency-key"
TEMPLATES = 1024
"""Templates that are kept compiled: whoever puts ids into them instead must not fill the memory."""
_NOTHING: frozenset[int] = frozenset()
_ABSENT = frozenset({404})
EXCERPT = 64 * 1024
"""Bytes of body that are read of an error where a stream was asked for: a problem is much smaller."""


class Line(Protocol):
    """A connected client's way to its peer: the compiled stack, and the time it allows."""

    timeout: float
    explain: bool
    clock: Clock

    send: Handler

    def begin(self, idempotent: bool, timeout: float, declared: frozenset[int]) -> Call: ...


class Client(Verbs):
    """Calls a service by name: pooled, timed, retried where that is safe, behind a breaker."""

    def __init__(self, name: str, *, required: bool, timeout: float | None, retries: int | None, classify: Classifier) -> None:
        self.name = name
        self.required = required
        self.timeout = timeout
        self.retries = retries
        self.classify = classify
        self.line: Line | None = None
        """Set while the service runs."""
        self._targets: dict[str, Target] = {}
        self._readers: dict[Any, Callable[[Any], Any]] = {}

    async def call(  # type: ignore[override]  # the verbs hand on what they took, by these names
        self,
        method: str,
        template: str,
        *,
        path: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        into: Any = None,
        absent: Any = RAISE,
        statuses: Collection[int] = (),
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """Call the peer and return its answer: an ``into`` when given, else the :class:`Response`.

        ``path`` fills the template, ``query`` is encoded (lists repeat, None is left out), ``body`` is JSON unless
        it is bytes or an async iterator. ``absent`` is returned for a 404. ``statuses`` are expected besides 2xx
        and returned as :class:`Response`. ``timeout`` in seconds. Raises a :class:`CallError`.
        """
        if statuses:
            declared = frozenset(statuses) if absent is RAISE else frozenset((*statuses, 404))
        else:
            declared = _NOTHING if absent is RAISE else _ABSENT
        line = self.line or self._unconnected()
        request, call = self._request(line, method, template, path, query, headers, body, declared, timeout, idempotent)
        response = await line.send(request)
        if call.outcome is not OK and not _expected(call):
            raise await self._failed(request, response)
        status = response.status
        if status == 404 and absent is not RAISE:
            return absent
        if into is None or status in declared:
            return response
        decode = self._readers.get(into)
        if decode is None:
            decode = self._readers[into] = reader(into)
        try:
            return decode(response.body)  # type: ignore[arg-type]  # whole, since no stream was asked for
        except (ValueError, RecursionError) as error:  # msgspec's and pydantic's errors are ValueErrors
            raise self._misfit(request, response, into, error) from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        template: str,
        *,
        path: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        statuses: Collection[int] = (),
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> AsyncIterator[Response]:
        """Call the peer and read its answer as it arrives: ``response.body`` is then an async iterator of bytes.

        ``timeout`` in seconds is until the head of the answer. Raises a :class:`CallError`.
        """
        line = self.line or self._unconnected()
        request, call = self._request(
            line, method, template, path, query, headers, body, frozenset(statuses), timeout, idempotent
        )
        request.stream = True
        response = await line.send(request)
        try:
            if not _expected(call):
                raise await self._failed(request, response)
            yield response
        finally:
            await response.close()

    def settings(self) -> dict[str, Any]:
        """What this client was declared with."""
        return {
            "timeout": CALL_TIMEOUT if self.timeout is None else self.timeout,
            "retries": RETRIES if self.retries is None else self.retries,
        }

    def _unconnected(self) -> NoReturn:
        raise RuntimeError(f"the client {self.name!r} is not connected: its service is not running")

    def _request(
        self,
        line: Line,
        method: str,
        template: str,
        path: Mapping[str, Any] | None,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        body: Any,
        declared: frozenset[int],
        timeout: float | None,
        idempotent: bool | None,
    ) -> tuple[Request, Call]:
        target = self._targets.get(template)
        if target is None:
            target = Target(template)
            if len(self._targets) < TEMPLATES:
                self._targets[template] = target
        raw = Headers(headers).raw if headers else []
        request = Request.of(method, target.fill(path), encode_query(query) if query else "", raw, self.name)
        request.route = template
        if body is not None:
            _set_body(request, body)
        if idempotent is None:
            idempotent = method in IDEMPOTENT or (headers is not None and IDEMPOTENCY_KEY in request.headers)
        request.call = call = line.begin(idempotent, line.timeout if timeout is None else timeout, declared)
        return request, call

    def _misfit(self, request: Request, response: Response, into: Any, error: ValueError | RecursionError) -> PeerError:
        name = getattr(into, "__name__", str(into))
        misfit = PeerError(
            f"{self.name} answered {request.method} {request.route} with a body that is not a {name}: {error}",
            peer=self.name,
            status=response.status,
            body=response.body,
        )
        misfit.outcome = MISFIT
        return misfit

    async def _failed(self, request: Request, response: Response) -> CallError:
        body = response.body
        if not isinstance(body, bytes):
            body = await self._excerpt(request, response, body)
        problem = None
        if (response.headers.get("content-type") or "").startswith(PROBLEM_TYPE):
            try:
                problem = msgspec.json.decode(body, type=Problem)
            except (ValueError, RecursionError):  # it said problem+json and is not: the status has to do
                problem = None
        said = f": {problem.detail or problem.title}" if problem and (problem.detail or problem.title) else ""
        error = PeerError(
            f"{self.name} answered {response.status} to {request.method} {request.route}{said}",
            peer=self.name,
            status=response.status,
            problem=problem,
            headers=dict(response.headers),
            body=body,
        )
        error.outcome = request.call.outcome if request.call is not None else None
        return error

    async def _excerpt(self, request: Request, response: Response, body: AsyncIterator[bytes]) -> bytes:
        """What an answer that was to be streamed says of its failure, as far as it comes in the time of the call."""
        assert request.call is not None
        excerpt = b""
        try:
            async with asyncio.timeout(request.call.deadline - (self.line or self._unconnected()).clock()):
                async for piece in body:
                    excerpt += piece
                    if len(excerpt) >= EXCERPT:
                        break
        except (TimeoutError, CallError):  # its status is known, and that is what counts
            pass
        finally:
            await response.close()
        return excerpt[:EXCERPT]

    def __repr__(self) -> str:
        return f"<Client {self.name}{'' if self.line else ', not connected'}>"


def _expected(call: Call) -> bool:
    """Whether the answer is one for the caller, and no error: by its outcome, which may be of a classifier's own making."""
    outcome = call.outcome
    return outcome is OK or (outcome is not None and outcome.status < 400)


def _set_body(request: Request, body: Any) -> None:
    if isinstance(body, bytes | bytearray):
        request.body = bytes(body)
        return
    if hasattr(body, "__aiter__"):
        request.body = body
        return
    request.body = write(body)
    if "content-type" not in request.headers:
        request.headers.add("content-type", "application/json")
