"""An ASGI app in a service, over the in-memory network and in virtual time: requests, answers, lifespan and the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dialling import dial
from stage import settle

import mizzen
from mizzen import NotFound, Router, Service, StartError, testing
from mizzen.assembly.probes import State
from mizzen.edges.asgi.exchange import DISCARD
from mizzen.edges.asgi.guest import LEAVE
from mizzen.edges.asgi.inward import CUT_GRACE
from mizzen.edges.asgi.reply import BUFFER
from mizzen.rules.limit import Limit
from mizzen.testing import TestClient, run

App = Callable[[Any, Any, Any], Awaitable[None]]
TRACE = "0af7651916cd43dd8448eb211c80319c"


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def serving(app: Any, path: str = "/", **options: Any) -> AsyncIterator[TestClient]:
    """A service that is this app; nothing may be left of it."""
    service = Service("order")
    service.mount_app(path, app, **options)
    async with testing.client(service) as http:
        yield http
        await settle()
        assert http.running.edge.limit.count == 0
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []


def scene(app: Any, play: Callable[[TestClient], Awaitable[None]], path: str = "/", **options: Any) -> None:
    async def main() -> None:
        async with serving(app, path, **options) as http:
            await play(http)

    run(main())


def http_only(answer: App) -> App:
    """An app without a lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "only HTTP here"
        await answer(scope, receive, send)

    return app


async def say(send: Any, status: int = 200, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def whole(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


# -- what an app is told ---------------------------------------------------------------------------------------------


def test_the_scope_is_what_the_specification_says() -> None:
    """Paths decoded and raw, the mount as root_path within the path, fields in order, both addresses, and no more."""
    seen: list[Any] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await say(send, 204)

    async def play(http: TestClient) -> None:
        headers = {"X-A": "1", "x-b": "2"}
        await http.post("/legacy/a%20b/%C3%A9?q=%20&r", headers=headers, body=b"x")

    scene(app, play, "/legacy")
    (scope,) = seen
    fields = [field for field in scope.pop("headers") if field[0].startswith(b"x-")]
    assert fields == [(b"x-a", b"1"), (b"x-b", b"2")]
    (client, _), (server, port) = scope.pop("client"), scope.pop("server")
    assert (client, server, port) == ("127.0.0.1", "order", 80)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/legacy/a b/é",
        "raw_path": b"/legacy/a%20b/%C3%A9",
        "query_string": b"q=%20&r",
        "root_path": "/legacy",
        "state": {},
        "extensions": {},
    }


def test_http_1_0_is_told() -> None:
    """The version in the scope is the request's own."""
    seen: list[str] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["http_version"])
        await say(send)

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.0\r\n\r\n")
        await caller.lost

    scene(app, play)
    assert seen == ["1.0"]


def test_the_context_is_there() -> None:
    """Trace, deadline and route are found where Mizzen's own handlers find them, in threads too."""
    seen: list[Any] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        context = mizzen.current()
        assert context is not None
        seen.append((context.trace_id, context.remaining(), await asyncio.to_thread(mizzen.current) is context))
        await say(send)

    async def play(http: TestClient) -> None:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-timeout-ms": "1500"}
        answer = await http.get("/", headers=headers)
        assert answer.headers["x-trace-id"] == TRACE

    scene(app, play)
    assert seen == [(TRACE, 1.5, True)]


def test_routes_of_the_service_come_first() -> None:
    """An app gets what no route answers, by the longest prefix; what is next to a prefix is not below it."""

    def named(name: str) -> App:
        @http_only
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await say(send, 200, f"{name}:{scope['root_path']}".encode())

        return app

    async def own() -> str:
        return "own"

    def register_handlers(router: Router) -> None:
        router.get("/legacy/own", own)

    async def main() -> None:
        service = Service("order")
        service.mount(register_handlers)
        service.mount_app("/legacy", named("outer"))
        service.mount_app("/legacy/inner/", named("inner"))
        async with testing.client(service) as http:
            answers = {}
            for path in ("/legacy/own", "/legacy", "/legacy/", "/legacy/x", "/legacy/inner", "/legacy/inner/y", "/l%65gacy/x"):
                answers[path] = (await http.get(path)).text
            assert answers == {
                "/legacy/own": "own",
                "/legacy": "outer:/legacy",
                "/legacy/": "outer:/legacy",
                "/legacy/x": "outer:/legacy",
                "/legacy/inner": "inner:/legacy/inner",
                "/legacy/inner/y": "inner:/legacy/inner",
                "/l%65gacy/x": "outer:/legacy",
            }
            assert (await http.delete("/legacy/own")).text == "outer:/legacy"
            for path in ("/legacyx", "/legacy%2Fx", "/other"):
                assert (await http.get(path)).status == 404

    run(main())


# -- bodies ----------------------------------------------------------------------------------------------------------


def test_a_request_body_is_read_no_faster_than_the_app_reads() -> None:
    """A caller that sends without end is held up by an app that does not read, and goes on when it does."""
    go = asyncio.Event()

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await say(send, 200, str(len(await whole(receive))).encode())

    async def play(http: TestClient) -> None:
        size = 900_000
        caller = await dial(http, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        caller.transport.write(b"x" * size)
        await settle()
        assert caller.transport.get_write_buffer_size() > size // 2
        go.set()
        await caller.until(b"900000")
        assert caller.transport.get_write_buffer_size() == 0

    scene(app, play)


def test_an_answer_is_made_no_faster_than_its_caller_reads() -> None:
    """``send`` waits while the caller does not read, so that an endless answer takes no memory."""
    sent = 0

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        while sent < 100:
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    async def play(http: TestClient) -> None:
        caller = await dial(http)
        caller.transport.pause_reading()
        caller.transport.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await settle()
        assert sent * 10_000 < 4 * BUFFER
        caller.transport.resume_reading()
        await caller.until(b"0\r\n\r\n")
        assert sent == 100

    scene(app, play)


def test_the_head_is_out_before_the_body_begins() -> None:
    """An event stream that has nothing to say yet has been answered all the same, and its deadline is over."""

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await asyncio.sleep(30)
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await caller.until(b"\r\n\r\n")
        assert now() == 0
        await caller.until(b"data: 1\n\n")
        assert now() == 30

    scene(app, play)


def test_a_body_over_the_limit_is_413_whatever_the_app_says() -> None:
    """The app is told that its caller left; the caller is told what was wrong."""
    told: list[str] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            told.append(message["type"])
        told.append(message["type"])
        await say(send, 400, b"what?")

    async def play(http: TestClient) -> None:
        chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
        caller = await dial(http, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunk)
        await settle()
        caller.transport.write(chunk)
        await caller.lost
        assert caller.got.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in caller.got

    scene(app, play, max_body=150_000)
    assert told[-1] == "http.disconnect"


@pytest.mark.parametrize("content_length", [True, False])
def test_head_is_answered_without_the_body_that_the_app_makes(content_length: bool) -> None:
    """The app makes its whole answer undisturbed; only its head is sent."""
    made: list[int] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"50000")] if content_length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(5):
            await asyncio.sleep(1)
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": number < 4})
            made.append(number)

    async def play(http: TestClient) -> None:
        answer = await http.head("/")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers.get("content-length") == ("50000" if content_length else None)
        assert (await http.head("/")).status == 200
        await asyncio.sleep(10)
        assert made.count(4) == 2

    scene(app, play)


def test_an_endless_body_that_is_not_sent_comes_to_an_end() -> None:
    """For HEAD an app may go on for a while, and not for ever."""
    ended: list[float] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
                await asyncio.sleep(0.5)
        finally:
            ended.append(now())

    async def play(http: TestClient) -> None:
        assert (await http.head("/")).status == 200
        await asyncio.sleep(DISCARD + 1)
        assert ended == [DISCARD]

    scene(app, play)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [{"type": "http.response.start", "status": 200}],
        [{"type": "http.response.body", "body": b"x"}],
        [{"type": "http.response.start", "status": 101}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1\r\n\r\nHTTP/1.1 200 OK")]}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
        [{"type": "websocket.accept"}],
        [{"type": "http.response.push"}],
    ],
    ids=["nothing", "no-body", "no-start", "101", "injection", "two-starts", "websocket", "unknown"],
)
def test_an_answer_that_never_begins_is_500(wrong: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    """What an app gets wrong before a byte is out is a 500 that leaks nothing, logged whole; the connection goes on."""

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/well":
            await say(send)
        else:
            for message in wrong:
                await send(message)

    async def play(http: TestClient) -> None:
        answer = await http.get("/wrong")
        assert answer.status == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await http.get("/well")).status == 200

    with caplog.at_level(logging.ERROR):
        scene(app, play)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [RuntimeError("secret"), asyncio.CancelledError(), NotFound("no such thing")])
def test_what_an_app_raises_is_answered(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """An exception before the answer is a 500, one of Mizzen's own answers is itself, and nobody else is cancelled."""

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def play(http: TestClient) -> None:
        answer = await http.get("/")
        assert answer.status == (404 if isinstance(error, NotFound) else 500)
        assert b"secret" not in await answer.read()

    scene(app, play)


def test_an_error_after_the_head_breaks_the_answer_off(caplog: pytest.LogCaptureFixture) -> None:
    """The caller sees that it is not whole, and the log has the error once."""

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await asyncio.sleep(1)
        raise RuntimeError("broken")

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await caller.lost
        assert b"some" in caller.got
        assert not caller.got.endswith(b"0\r\n\r\n")

    with caplog.at_level(logging.ERROR):
        scene(app, play)
    assert len([record for record in caplog.records if "broken" in str(record.exc_info)]) == 1


def test_an_error_after_the_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The caller has its answer and its connection; the record names the route and the error."""

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, 200, b"done")
        raise RuntimeError("in the background")

    async def play(http: TestClient) -> None:
        assert (await http.get("/a")).body == b"done"

    with caplog.at_level(logging.ERROR):
        scene(app, play)
    (record,) = caplog.records
    assert record.getMessage() == "GET /{path:path} failed after its answer: RuntimeError"


# -- time, and callers that leave ------------------------------------------------------------------------------------


def test_the_deadline_holds() -> None:
    """An app that does not answer in time is cancelled, and its caller gets a 504 at the deadline, even if it hesitates."""
    seen: list[float] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            seen.append(round(now(), 1))
            await asyncio.sleep(0.5)

    async def play(http: TestClient) -> None:
        answer = await http.get("/")
        assert (answer.status, round(now(), 1)) == (504, 2.0)
        assert seen == [2.0]
        assert (await http.get("/", headers={"x-request-timeout-ms": "500"})).status == 504
        assert round(now(), 1) == 2.5

    scene(app, play, timeout="2s")


@pytest.mark.parametrize("heeds", [True, False])
def test_an_app_is_told_that_its_caller_left(heeds: bool) -> None:
    """``http.disconnect`` comes at once, ``send`` raises OSError; an app that heeds neither is cancelled a little later."""
    seen: list[Any] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        try:
            if not heeds:
                await asyncio.sleep(100)
            seen.append((await receive())["type"])
            with pytest.raises(OSError, match="went away"):
                await say(send)
            seen.append(now())
        except asyncio.CancelledError:
            seen.append(("cancelled", now()))
            raise

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await asyncio.sleep(1)
        caller.transport.abort()
        await asyncio.sleep(5)
        assert seen == (["http.disconnect", 1] if heeds else [("cancelled", 1 + LEAVE)])

    scene(app, play)


def test_a_caller_that_leaves_mid_answer_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """An app that streams meets OSError, and nobody calls that its error."""
    seen: list[str] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.1)
        except OSError as error:
            seen.append(str(error))
            raise RuntimeError("what the framework makes of it") from error

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await asyncio.sleep(1)
        caller.transport.abort()
        await asyncio.sleep(2)
        assert seen == ["the caller went away"]

    with caplog.at_level(logging.WARNING):
        scene(app, play)
    assert caplog.records == []


def test_background_work_holds_nobody_up() -> None:
    """What an app does behind its answer has no deadline, and the connection's next request is answered meanwhile."""
    seen: list[Any] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        await say(send, 200, scope["path"].encode())
        seen.append((await receive())["type"])
        await asyncio.sleep(30)
        context = mizzen.current()
        assert context is not None
        seen.append(context.remaining())

    async def play(http: TestClient) -> None:
        for path in ("/one", "/two"):
            assert (await http.get(path)).text == path
        assert now() == 0
        assert http.running.edge.limit.count == 0
        await asyncio.sleep(31)
        assert seen == ["http.disconnect"] * 2 + [None] * 2

    scene(app, play)


def test_a_drain_waits_for_background_work() -> None:
    """What goes on behind an answer is waited for, cut off at the end of the drain, and counted then."""
    seen: list[float] = []

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send)
        try:
            await asyncio.sleep(float(scope["path"][1:]))
            seen.append(now())
        except asyncio.CancelledError:
            await asyncio.sleep(CUT_GRACE / 2)  # it cleans up
            seen.append(-now())

    async def play(http: TestClient) -> None:
        await http.get("/3")
        await http.get("/100")
        assert await http.running.finish(10) == 1
        assert seen == [3, -10.5]
        assert await http.running.finish(10) == 0

    scene(app, play)


def test_states_and_limits_are_those_of_any_service() -> None:
    """Starting and draining refuse, a full service sheds, and an app sees none of it."""
    calls: list[str] = []
    go = asyncio.Event()

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await go.wait()
        await say(send)

    async def play(http: TestClient) -> None:
        http.running.edge.limit = Limit(1)
        first = asyncio.create_task(http.get("/first"))
        await settle()
        shed = await http.get("/second")
        assert (shed.status, shed.headers["x-rejected"], shed.headers["retry-after"]) == (503, "shed", "0")
        go.set()
        assert (await first).status == 200
        for state, reason in ((State.STARTING, "starting"), (State.DRAINING, "draining")):
            http.running.enter(state)
            assert (await http.get("/third")).headers["x-rejected"] == reason
        assert (await http.get("/live")).status == 200
        assert calls == ["/first"]
        http.running.enter(State.SERVING)

    scene(app, play)


def test_an_app_cannot_speak_for_the_server() -> None:
    """What only the server says is taken out of the app's fields; several of one name stay several."""

    @http_only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"x-rejected", b"shed"), (b"Transfer-Encoding", b"chunked"), (b"Set-Cookie", b"a"), (b"set-cookie", b"b")]
        await say(send, 200, b"x", *fields, (b"content-length", b"77"))

    async def play(http: TestClient) -> None:
        answer = await http.get("/")
        assert "x-rejected" not in answer.headers
        assert answer.headers.all("set-cookie") == ["a", "b"]
        assert (answer.headers["content-length"], answer.body) == ("1", b"x")

    scene(app, play)


# -- lifespan --------------------------------------------------------------------------------------------------------


class Living:
    """An app with a lifespan that does what the test says at each step."""

    def __init__(self, start: Any = "complete", stop: Any = "complete") -> None:
        self.steps: list[Any] = []
        self._answers = {"startup": start, "shutdown": stop}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            self.steps.append(scope["state"])
            return await say(send, 200, json.dumps(scope["state"]).encode())
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            self.steps.append(step)
            answer = self._answers[step]
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, float):
                await asyncio.sleep(answer)
            elif answer != "complete":
                await send({"type": f"lifespan.{step}.failed", "message": answer})
                return None
            scope["state"]["from"] = step
            await send({"type": f"lifespan.{step}.complete"})
        return None


def test_the_lifespan_is_around_the_service() -> None:
    """It starts after what is provided and stops before that; each request gets a copy of the state it left."""
    app = Living()

    class Store: ...

    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        app.steps.append("open")
        yield Store()
        app.steps.append("close")

    async def main() -> None:
        service = Service("order")
        service.mount_app("/", app)
        service.provide(Store, opened)
        async with testing.client(service) as http:
            assert (await http.get("/")).json() == {"from": "startup"}
            app.steps[-1]["own"] = 1
            assert (await http.get("/")).json() == {"from": "startup"}

    run(main())
    assert [step for step in app.steps if isinstance(step, str)] == ["open", "startup", "shutdown", "close"]


def test_a_start_that_fails_is_an_error_with_the_apps_message() -> None:
    """The service does not start, and says what the app said."""

    async def main() -> None:
        async with serving(Living(start="no table named ledger")):
            raise AssertionError("it started")

    with pytest.raises(StartError) as failed:
        run(main())
    assert failed.value.what == "order cannot start: the lifespan of the app at / failed: no table named ledger"


def test_a_start_that_raises_in_a_framework_names_the_place() -> None:
    """Where the message is a traceback, the error has the exception and the line of the app instead."""
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("no database_url")
        yield

    async def main() -> None:
        async with serving(FastAPI(lifespan=lifespan)):
            raise AssertionError("it started")

    with pytest.raises(StartError) as failed:
        run(main())
    assert failed.value.what == "order cannot start: the lifespan of the app at / raised ValueError: no database_url"
    assert 'raise ValueError("no database_url")' in failed.value.where[-1]


@pytest.mark.parametrize("app", [http_only(lambda scope, receive, send: say(send)), Living(start=KeyError("lifespan"))])
def test_an_app_without_a_lifespan_is_as_good(app: Any) -> None:
    """Whatever it raises when it is asked means that it does not know of lifespans."""

    async def play(http: TestClient) -> None:
        assert (await http.get("/")).status == 200

    scene(app, play)


@pytest.mark.parametrize(("stop", "seconds"), [("no", 0), (RuntimeError("no"), 0), (100.0, 5)])
def test_a_stop_is_never_held_up(stop: Any, seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """A lifespan that fails to stop, or takes too long, is logged and left behind; the rest is closed."""
    app = Living(stop=stop)

    async def play(http: TestClient) -> None: ...

    async def main() -> float:
        async with serving(app):
            pass
        return now()

    with caplog.at_level(logging.ERROR):
        assert round(run(main())) == seconds
    assert any("closing the app at / failed" in record.getMessage() for record in caplog.records)


def test_a_probe_that_an_app_has_itself_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Mizzen answers the platform; the app's own path is not asked, and the log says so at start, with the way out."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "mine"

    @app.post("/health")
    async def posted() -> str:
        return "posted"

    async def play(http: TestClient) -> None:
        assert (await http.get("/health")).json()["state"] == "serving"
        assert (await http.post("/health")).json() == "posted"

    with caplog.at_level(logging.WARNING):
        scene(app, play)
    (record,) = caplog.records
    assert record.getMessage().startswith("GET /health of the app at / is not asked")
    assert "services.order.admin.port" in record.getMessage()


@pytest.mark.parametrize(
    ("path", "app", "what"),
    [
        ("legacy", Living(), "no path to mount at"),
        ("/a/{id}", Living(), "no path to mount at"),
        ("/a", object(), "it is an object, which cannot be called"),
        ("/a", Living, "it makes one when it is called"),
        ("/a", lambda environ, start: None, "WSGI"),
    ],
)
def test_what_cannot_be_mounted_is_refused(path: str, app: Any, what: str) -> None:
    """The error says what it is, and what could be mounted instead."""
    with pytest.raises(StartError, match=what):
        Service("order").mount_app(path, app)


def test_two_apps_at_one_path_are_refused() -> None:
    """One of them would never be asked."""
    service = Service("order")
    service.mount_app("/a", Living())
    with pytest.raises(StartError, match="mounts two apps at '/a/'"):
        service.mount_app("/a/", Living())
