"""Fit, fields and handshake: what is an app, which fields can be sent, and who asks for a WebSocket."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from mizzen.edges.asgi.fields import read_fields
from mizzen.edges.asgi.fit import APP, FACTORY, fit
from mizzen.edges.asgi.handshake import UpgradeRequired, is_handshake, offer_of
from mizzen.words.errors import BadRequest
from mizzen.words.message import Headers, Request


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def make() -> Any:
    return app


def wrapped(*args: Any, **kwargs: Any) -> Any:
    return app(*args, **kwargs)


class Endpoint:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Callable3:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Older:
    def __init__(self, scope: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


@pytest.mark.parametrize("candidate", [app, Callable3(), Endpoint, functools.partial(app), wrapped])
def test_what_takes_scope_receive_and_send_is_an_app(candidate: Any) -> None:
    """Functions, objects, classes and wrappers are apps when they can be called as one."""
    assert fit(candidate) == (APP, "")


@pytest.mark.parametrize("candidate", [make, Callable3, lambda debug=False: app])
def test_what_takes_nothing_makes_one(candidate: Any) -> None:
    """A function or class that can be called without an argument, and not as an app, is a factory."""
    assert fit(candidate) == (FACTORY, "")


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (Older, "ASGI 2"),
        (wsgi, "WSGI"),
        ({"app": app}, "it is a dict, which cannot be called"),
        (lambda a, b, c, d: None, "it is called as (a, b, c, d)"),
    ],
)
def test_what_is_no_app_is_told_why(candidate: Any, why: str) -> None:
    """The reason says what it is instead, and what would make an app of it."""
    kind, said = fit(candidate)
    assert kind == ""
    assert why in said


def test_fields_are_lower_case_and_keep_their_order() -> None:
    """Names are written as HTTP/1.1 servers of ours have them; several of one name stay several."""
    given = [(b"Set-Cookie", b"a=1"), (b"X-A", b""), (b"set-cookie", b"b=2")]
    assert read_fields(given) == [(b"set-cookie", b"a=1"), (b"x-a", b""), (b"set-cookie", b"b=2")]


@pytest.mark.parametrize("field", [(b"x-a", b"1\r\nx-b: 2"), (b"x a", b"1"), (b"", b"1"), (b"x-a\n", b"1"), (b"x", b"\x00")])
def test_a_field_that_would_break_the_answer_apart_is_refused(field: tuple[bytes, bytes]) -> None:
    """An app that copies what a caller sent into a header cannot be made to send two answers."""
    with pytest.raises(ValueError, match="header"):
        read_fields([field])


KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # with its answer from RFC 6455 §1.3


def handshake(**changed: str | None) -> Request:
    fields = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13", "sec-websocket-key": KEY}
    fields |= {name.replace("_", "-"): value for name, value in changed.items()}  # type: ignore[misc]
    return Request("GET", "/ws", headers=Headers({name: value for name, value in fields.items() if value is not None}))


@pytest.mark.parametrize(
    ("changed", "asks"),
    [
        ({}, True),
        ({"upgrade": "WebSocket", "connection": "keep-alive, upgrade"}, True),
        ({"upgrade": "h2c"}, False),
        ({"upgrade": None}, False),
        ({"connection": "close"}, False),
        ({"connection": None}, False),
    ],
)
def test_a_handshake_is_told_from_a_request(changed: dict[str, Any], asks: bool) -> None:
    """It names the protocol and asks for the change; anything less is an ordinary GET."""
    assert is_handshake(handshake(**changed).headers.raw) is asks


def test_the_proof_is_that_of_the_rfc() -> None:
    """The example of RFC 6455 gives its answer, and subprotocols come in the order of their offer."""
    offer = offer_of(handshake(sec_websocket_protocol="chat, superchat"))
    assert offer.accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert offer.subprotocols == ("chat", "superchat")


@pytest.mark.parametrize("key", [None, "", "c2hvcnQ=", "not base64 at all", KEY + KEY])
def test_a_key_that_is_none_is_refused(key: str | None) -> None:
    """A handshake has one key of 16 bytes."""
    with pytest.raises(BadRequest):
        offer_of(handshake(sec_websocket_key=key))


def test_another_version_is_told_which_is_spoken() -> None:
    """The answer names the version, as the RFC asks."""
    with pytest.raises(UpgradeRequired) as refused:
        offer_of(handshake(sec_websocket_version="8"))
    assert (refused.value.status, refused.value.headers) == (426, {"sec-websocket-version": "13"})


def test_a_handshake_with_a_body_is_refused() -> None:
    """What would stand between handshake and frames could be read as either."""
    request = handshake()
    request.body = b"x"
    with pytest.raises(BadRequest):
        offer_of(request)
