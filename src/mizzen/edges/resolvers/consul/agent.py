"""What resolver and registrar share: one request to a Consul agent, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from mizzen.words.clock import Clock
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler
from mizzen.words.message import Call, Headers, Request, Response

PEER = "consul"
TIMEOUT = 2.0
"""Seconds for an answer that the agent need not wait for: a local agent answers in milliseconds, and a beat that
hangs must be over well before the next one."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Agent:
    """Requests to one Consul agent, with their timeout and the token of the moment."""

    def __init__(self, call: Handler, *, token: Callable[[], str | None], clock: Clock) -> None:
        self._call = call
        self._token = token
        self._clock = clock

    async def get(self, path: str, *, query: dict[str, str] | None = None, timeout: float = TIMEOUT) -> Response:
        """The agent's answer, whatever its status; ``CallError`` when there is none."""
        return await self._send("GET", path, query or {}, b"", timeout)

    async def put(self, path: str, body: Any = None, *, query: dict[str, str] | None = None) -> Response:
        """The agent's answer, whatever its status; ``CallError`` when there is none. Every PUT here may be repeated."""
        return await self._send("PUT", path, query or {}, b"" if body is None else _encode(body), TIMEOUT)

    async def _send(self, method: str, path: str, query: dict[str, str], body: bytes, timeout: float) -> Response:
        headers = Headers({"accept": "application/json"})
        if body:
            headers.add("content-type", "application/json")
        if token := self._token():  # asked for each time: tokens expire and are replaced
            headers.add("x-consul-token", token)
        now = self._clock()
        call = Call(idempotent=True, timeout=timeout, started=now, deadline=now + timeout)
        response = await self._call(Request(method, path, query=urlencode(query), headers=headers, body=body, call=call))
        await response.read()
        return response


def segment(text: str) -> str:
    """``text`` as one segment of a path; ids of IPv6 addresses have colons in them."""
    return quote(text, safe="")


def filtered(response: Response) -> bool:
    """Whether parts of the answer were left out because the token may not read them (Consul since 1.11 says so)."""
    return (response.headers.get("x-consul-results-filtered-by-acls") or "").lower() == "true"


def refused(response: Response, doing: str) -> PeerError:
    """The error that an answer other than 200 is."""
    text = text_of(response)
    why = f": {text[:200]}" if text else ""
    hint = " (the token lacks rights, or has expired)" if response.status in (401, 403) else ""
    return PeerError(
        f"consul answered {response.status} to {doing}{hint}{why}",
        peer=PEER,
        status=response.status,
        headers=dict(response.headers),
        body=response.body,
    )


def decoded(response: Response, into: type[T], doing: str) -> T:
    """The body as ``into``; ``PeerError`` when it is none of Consul's."""
    try:
        value: T = response.json(into)
    except (ValueError, RecursionError) as error:  # msgspec's, and what it lets through
        raise PeerError(f"the answer to {doing} does not come from Consul ({error})", peer=PEER) from None
    return value


def text_of(response: Response) -> str:
    """The body as text: Consul says what is wrong in plain words."""
    return response.body.decode("utf-8", "replace").strip() if isinstance(response.body, bytes) else ""
