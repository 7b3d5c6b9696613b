"""WebSockets of an ASGI app in a service, over the in-memory network and in virtual time; the test plays the peer."""

from __future__ import annotations

import asyncio
import logging
import re
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dialling import Caller, dial
from stage import settle
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

import mizzen
from mizzen import Service, testing
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.probes import State
from mizzen.assembly.running import Running
from mizzen.edges.asgi.guest import LEAVE
from mizzen.edges.asgi.session import AFTER
from mizzen.edges.asgi.tunnel import BUFFER, CLOSE_WAIT, PING_EVERY
from mizzen.rules.config import ServiceConfig
from mizzen.testing import TestClient, run
from mizzen.tools.testing.memory import MemoryNetwork

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /ws/7?q HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: " + KEY + b"\r\nsec-websocket-protocol: chat, other\r\n"
)


def now() -> float:
    return asyncio.get_running_loop().time()


class Peer:
    """The other end of one WebSocket, once it is open."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.head, _, self._rest = caller.got.partition(b"\r\n\r\n")
        self._read = len(caller.got) - len(self._rest)
        self._connection = Connection(ConnectionType.CLIENT)

    def send(self, *events: Event) -> None:
        for event in events:
            self.caller.transport.write(self._connection.send(event))

    def raw(self, data: bytes) -> None:
        self.caller.transport.write(data)

    async def heard(self) -> list[Event]:
        """Everything that came since the last look."""
        await settle()
        data, self._read = self.caller.got[self._read :], len(self.caller.got)
        self._connection.receive_data(data)
        return list(self._connection.events())

    async def said(self) -> list[Any]:
        """The same as data, and closes as their code and reason."""
        return [
            (int(event.code), event.reason) if isinstance(event, CloseConnection) else event.data
            for event in await self.heard()
            if isinstance(event, CloseConnection | TextMessage | BytesMessage)
        ]

    async def gone(self) -> None:
        await self.caller.lost


def text(data: str, *, last: bool = True) -> TextMessage:
    return TextMessage(data, message_finished=last)


App = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[TestClient]:
    async def sockets_only(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await app(scope, receive, send)

    service = Service("order")
    service.mount_app("/", sockets_only, **options)
    async with testing.client(service) as http:
        yield http
        assert http.running.edge.limit.count == 0
    await settle()
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert http.network.describe()["connections"] == 0


def scene(app: App, play: Callable[[TestClient], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with serving(app, **options) as http:
            await play(http)

    run(main())


async def open_socket(http: TestClient) -> Peer:
    caller = await dial(http, HANDSHAKE + b"\r\n")
    await caller.until(b"\r\n\r\n")
    assert caller.got.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), caller.got
    return Peer(caller)


async def accept(receive: Any, send: Any, **said: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **said})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: message[key] for key in ("text", "bytes") if key in message}})


def counted(http: TestClient) -> list[tuple[str, str]]:
    page = http.running._telemetry.metrics.render().decode()
    return re.findall(r'^http_server_request_duration_seconds_count{.*_route="(.*)",.*_code="(\d+)"}', page, re.MULTILINE)


# -- the handshake ---------------------------------------------------------------------------------------------------


def test_a_handshake_is_accepted() -> None:
    """The app sees what was asked, and its subprotocol and fields are in the answer with the proof and the trace id."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await accept(receive, send, subprotocol="other", headers=[(b"X-Room", b"7"), (b"sec-websocket-accept", b"forged")])
        await receive()

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        lines = peer.head.decode().lower().split("\r\n")[1:]
        assert {"upgrade: websocket", "connection: upgrade", "sec-websocket-protocol: other", "x-room: 7"} <= set(lines)
        assert [line for line in lines if line.startswith("sec-websocket-accept")] == [
            "sec-websocket-accept: s3ppLMBiTxaQ9kYGzzhZRbK+xOo=".lower()
        ]
        assert any(line.startswith("x-trace-id: ") for line in lines)
        peer.send(CloseConnection(1000))
        await peer.gone()

    scene(app, play)
    (scope,) = seen
    shown = {
        key: scope[key] for key in ("type", "scheme", "path", "query_string", "subprotocols", "extensions", "http_version")
    }
    assert shown == {
        "type": "websocket",
        "scheme": "ws",
        "path": "/ws/7",
        "query_string": b"q",
        "subprotocols": ["chat", "other"],
        "extensions": {"websocket.http.response": {}},
        "http_version": "1.1",
    }


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        ([{"type": "websocket.close", "code": 4403}], 403, b'"the WebSocket is refused"'),
        (
            [
                {"type": "websocket.http.response.start", "status": 451, "headers": [(b"x-why", b"law")]},
                {"type": "websocket.http.response.body", "body": b"not ", "more_body": True},
                {"type": "websocket.http.response.body", "body": b"here"},
            ],
            451,
            b"not here",
        ),
        ([], 500, b"unexpected error"),
        ([{"type": "websocket.send", "text": "too early"}], 500, b"unexpected error"),
        ([{"type": "websocket.accept", "subprotocol": "never offered"}], 500, b"unexpected error"),
    ],
    ids=["close", "response", "nothing", "early", "subprotocol"],
)
def test_a_handshake_is_refused(said: list[Any], status: int, body: bytes) -> None:
    """Before it accepts, an app answers in HTTP: 403, its own answer, or 500 for a mistake; and the connection goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in said:
            await send(message)

    async def play(http: TestClient) -> None:
        caller = await dial(http, HANDSHAKE + b"\r\n")
        await caller.until(body)
        assert caller.got.startswith(b"HTTP/1.1 %d " % status)
        assert ("x-why: law" in caller.got.decode()) is (status == 451)
        caller.transport.write(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n")
        await caller.until(b'"live"')
        assert counted(http)[0] == ("/{path:path}", str(status))

    scene(app, play)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HANDSHAKE.replace(b": 13", b": 8") + b"\r\n", b"426"),
        (HANDSHAKE.replace(KEY, b"short") + b"\r\n", b"400"),
        (HANDSHAKE + b"content-length: 3\r\n\r\nabc", b"400"),
        (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", b"400"),
        (HANDSHAKE + b"\r\n\x81\x80\0\0\0\0", b"400"),
        (HANDSHAKE + b"\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
    ],
    ids=["version", "key", "body", "http-1.0", "early-frame", "pipelined"],
)
def test_a_handshake_that_is_none_is_refused(data: bytes, status: bytes) -> None:
    """What is wrong, or followed by anything that could be read as something else, never becomes a WebSocket."""

    async def play(http: TestClient) -> None:
        caller = await dial(http, data)
        await caller.until(b"\r\n\r\n")
        assert caller.got.split(b" ")[1] == status
        assert b" 101 " not in caller.got
        caller.transport.abort()
        await asyncio.sleep(AFTER + 1)

    scene(echo, play)


def test_the_deadline_ends_with_the_handshake() -> None:
    """An app that does not accept in time is a 504; one that has accepted may take as long as it likes."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(100)
        await accept(receive, send)
        context = mizzen.current()
        seen.append(None if context is None else context.remaining())
        await asyncio.sleep(100)
        await send({"type": "websocket.send", "text": "late"})

    async def play(http: TestClient) -> None:
        caller = await dial(http, HANDSHAKE.replace(b"/ws/7?q", b"/slow") + b"\r\n")
        await caller.until(b"\r\n\r\n")
        assert (caller.got.split(b" ")[1], round(now())) == (b"504", 10)
        peer = await open_socket(http)
        assert http.running.edge.limit.count == 0
        for _ in range(10):
            await asyncio.sleep(10)
            peer.send(Pong())
        await asyncio.sleep(1)
        assert await peer.said() == ["late", (1000, "")]
        assert seen == [None]

    scene(app, play)


def test_without_the_extra_a_handshake_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is 501, and the log says once what to install; plain requests need nothing."""
    for name in ("session", "tunnel", "frames"):
        monkeypatch.delitem(sys.modules, f"mizzen.edges.asgi.{name}", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "wsproto"]:
        monkeypatch.setitem(sys.modules, name, None)

    async def play(http: TestClient) -> None:
        for _ in range(2):
            caller = await dial(http, HANDSHAKE + b"\r\n")
            await caller.until(b"\r\n\r\n")
            assert caller.got.startswith(b"HTTP/1.1 501 ")

    with caplog.at_level(logging.WARNING):
        scene(echo, play)
    (record,) = [record for record in caplog.records if "mizzen[asgi]" in record.getMessage()]
    assert "refused with 501" in record.getMessage()


def test_a_caller_that_leaves_during_the_handshake_is_told_to_the_app() -> None:
    """The app meets OSError when it accepts, or is cancelled a little later when it never would."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(0.5)
        try:
            await send({"type": "websocket.accept"})
        except OSError:
            seen.append((await receive())["type"])
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append(now())
            raise

    async def play(http: TestClient) -> None:
        caller = await dial(http, HANDSHAKE + b"\r\n")
        await asyncio.sleep(0.1)
        caller.transport.abort()
        await asyncio.sleep(5)
        assert seen == ["websocket.disconnect", 0.1 + LEAVE]

    scene(app, play)


# -- messages --------------------------------------------------------------------------------------------------------


def test_messages_go_both_ways() -> None:
    """Text and bytes, empty, large and in fragments; each is one message with its kind."""

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        large = "x" * 300_000
        peer.send(text("hällo"), BytesMessage(b"\0\xff"), text(""), text("a", last=False), text("b"), text(large))
        heard = b"".join(each.encode() if isinstance(each, str) else each for each in await peer.said())
        assert heard == "hällo".encode() + b"\0\xff" + b"ab" + large.encode()
        peer.send(CloseConnection(1000))
        await peer.gone()
        assert ("/{path:path}", "101") in counted(http)

    scene(echo, play)


def test_a_ping_is_answered_while_the_app_is_busy() -> None:
    """The protocol answers by itself, with what was asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await asyncio.sleep(5)

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        peer.send(Ping(b"there?"))
        (pong,) = await peer.heard()
        assert isinstance(pong, Pong)
        assert bytes(pong.payload) == b"there?"
        await asyncio.sleep(6)

    scene(app, play)


def test_a_peer_sends_no_faster_than_the_app_reads() -> None:
    """What an app does not take is not read: the peer is held up, and goes on when it does."""
    go = asyncio.Event()
    taken = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        await accept(receive, send)
        await go.wait()
        while (await receive())["type"] == "websocket.receive":
            taken += 1

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        for _ in range(100):
            peer.send(BytesMessage(b"x" * 10_000))
        await settle()
        assert peer.caller.transport.get_write_buffer_size() > 1_000_000 - 4 * BUFFER
        await asyncio.sleep(3 * PING_EVERY)  # and it is not taken for dead, whose answers nobody reads
        go.set()
        await asyncio.sleep(1)
        assert taken == 100
        peer.send(CloseConnection(1000))
        await peer.gone()

    scene(app, play)


def test_messages_without_content_are_held_back_as_well() -> None:
    """However little is in them: what waits for the app has a bound."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await asyncio.sleep(50)

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        for _ in range(100):
            peer.raw(b"\x81\x80\0\0\0\0" * 1000)
            await settle()
        assert peer.caller.transport.get_write_buffer_size() > 100 * 1000 * 6 / 2
        peer.caller.transport.abort()

    scene(app, play)


def test_an_app_sends_no_faster_than_its_peer_reads() -> None:
    """``send`` waits for a peer that does not read; one that never does again is given up."""
    sent = 0
    ended: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                sent += 1
        except OSError:
            ended.append(now())

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        await settle()
        peer.caller.transport.pause_reading()
        await settle()
        before = sent
        await asyncio.sleep(1)
        assert sent - before < 4 * BUFFER // 10_000
        await asyncio.sleep(3 * PING_EVERY)
        assert ended[0] <= 2 * PING_EVERY
        peer.caller.transport.abort()

    scene(app, play)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x05hello", 1002),
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
        (b"\x82\xff" + struct.pack("!Q", 2000) + b"\0\0\0\0" + b"x" * 2000, 1002),  # a length longer than it needs to be
        (b"\x82\xfe" + struct.pack("!H", 2000) + b"\0\0\0\0" + b"x" * 2000, 1009),
    ],
    ids=["unmasked", "not-utf-8", "length", "too-big"],
)
def test_what_breaks_the_protocol_ends_it(data: bytes, code: int) -> None:
    """The peer is told the code and sees the end at once; so does the app."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        seen.append(await receive())

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        peer.raw(data)
        ((said, _),) = await peer.said()
        assert said == code
        await peer.gone()
        assert now() == 0

    scene(app, play, max_body=1000)
    assert (seen[0]["type"], seen[0]["code"]) == ("websocket.disconnect", code)


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "told"),
    [(CloseConnection(4001, "enough"), (4001, "enough")), (CloseConnection(CloseReason.NO_STATUS_RCVD), (1005, ""))],
)
def test_a_peer_ends_it(close: CloseConnection, told: tuple[int, str]) -> None:
    """The app is told code and reason after every message before them, and ``send`` raises OSError from then on."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await asyncio.sleep(1)
        seen.extend([await receive(), await receive()])
        with pytest.raises(OSError, match="went away"):
            await send({"type": "websocket.send", "text": "late"})

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        peer.send(text("last words"), close)
        assert await peer.said() == [told]
        await peer.gone()
        await asyncio.sleep(2)

    scene(app, play)
    assert seen == [
        {"type": "websocket.receive", "text": "last words"},
        {"type": "websocket.disconnect", "code": told[0], "reason": told[1]},
    ]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ([{"type": "websocket.close", "code": 4002, "reason": "done"}], (4002, "done")),
        ([{"type": "websocket.close"}], (1000, "")),
        ([], (1000, "")),
        (RuntimeError("broken"), (1011, "")),
    ],
    ids=["code", "no-code", "returns", "raises"],
)
def test_an_app_ends_it(end: Any, told: tuple[int, str], caplog: pytest.LogCaptureFixture) -> None:
    """Its code and reason, 1000 when it just returns, 1011 and a record of the error when it raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        if isinstance(end, Exception):
            raise end
        for message in end:
            await send(message)
            assert await receive() == {"type": "websocket.disconnect", "code": told[0], "reason": told[1]}
            with pytest.raises(RuntimeError, match="closed"):
                await send({"type": "websocket.send", "text": "more"})

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        assert await peer.said() == [told]
        peer.send(CloseConnection(told[0]))
        await peer.gone()
        assert now() == 0

    with caplog.at_level(logging.ERROR):
        scene(app, play)
    assert ["broken" in str(record.exc_info) for record in caplog.records] == ([True] if isinstance(end, Exception) else [])


def test_a_code_that_cannot_be_said_ends_it_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The app's mistake is logged, and the peer is told at once that something failed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 99_999})

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        assert await peer.said() == [(1011, "")]
        peer.caller.transport.close()

    scene(app, play)
    assert "WebSocket /{path:path} failed" in caplog.text


def test_an_app_that_ends_while_it_accepts_leaves_no_socket_open() -> None:
    """The caller is told of the end as soon as it is connected."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        accepting = asyncio.ensure_future(send({"type": "websocket.accept"}))
        await asyncio.sleep(0)
        accepting.cancel()

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        assert await peer.said() == [(1000, "")]
        peer.caller.transport.close()

    scene(app, play)


def test_a_peer_that_never_answers_a_close_is_cut_off() -> None:
    """The end waits for the other side, and not for long."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        await peer.gone()
        assert now() == CLOSE_WAIT

    scene(app, play)


def test_a_lost_connection_is_1006(caplog: pytest.LogCaptureFixture) -> None:
    """The app is told that nobody said goodbye; what it does not catch of that is nobody's error."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        seen.append(await receive())
        await send({"type": "websocket.send", "text": "late"})

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        peer.caller.transport.abort()
        await settle()
        assert seen == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]

    with caplog.at_level(logging.WARNING):
        scene(app, play)
    assert caplog.records == []


def test_an_app_that_does_not_notice_is_cancelled() -> None:
    """One that waits for something else than its peer ends a while after its WebSocket."""
    ended: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(now())

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        peer.caller.transport.abort()
        await asyncio.sleep(AFTER + 1)
        assert ended == [AFTER]

    scene(app, play)


def test_a_silent_peer_is_asked_and_given_up() -> None:
    """A peer that answers pings may be silent for ever; one that answers nothing is gone after two of them."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        seen.append((await receive(), now()))

    async def play(http: TestClient) -> None:
        peer = await open_socket(http)
        for _ in range(5):
            await asyncio.sleep(PING_EVERY)
            pings = [event for event in await peer.heard() if isinstance(event, Ping)]
            peer.send(*[ping.response() for ping in pings])
            assert len(pings) == 1
        began = now()
        await peer.gone()
        assert now() - began <= 2 * PING_EVERY + CLOSE_WAIT
        ((told, _),) = seen
        assert told == {"type": "websocket.disconnect", "code": 1011, "reason": "no answer to a ping"}

    scene(app, play)


def test_a_drain_tells_both_sides() -> None:
    """The peer gets 1012, the app the same, and the drain is over once both are done."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        seen.append(await receive())
        await asyncio.sleep(3)
        seen.append("cleaned up")

    async def main() -> None:
        service, network = Service("order"), MemoryNetwork()
        service.mount_app("/", app)
        running = Running(
            service, ServiceConfig(port=80), peers={}, telemetry=Telemetry("order", version="test"), about={}, clock=now
        )
        server = running.server()
        await network.listen("order", 80, server.protocol)
        await running.start()
        running.enter(State.SERVING)
        _, caller = await network.connect(Caller, "order", 80)
        assert isinstance(caller, Caller)
        caller.transport.write(HANDSHAKE + b"\r\n")
        await caller.until(b"\r\n\r\n")
        peer = Peer(caller)
        drain = asyncio.create_task(server.drain(10))
        assert await peer.said() == [(1012, "the server restarts")]
        peer.send(CloseConnection(1012))
        assert await drain == 0
        assert now() == 0
        assert await running.finish(10) == 0
        assert now() == 3
        await running.close()

    run(main())
    assert seen == [{"type": "websocket.disconnect", "code": 1012, "reason": "the server restarts"}, "cleaned up"]
