"""One service under every server: the same requests, the same answers, whoever reads and writes the bytes.

``mizzen`` is our own server on sockets, ``memory`` the same protocol without any, the others are ASGI servers that run
``mizzen.asgi(service)``; ``granian-rust`` is Granian with tasks of its own making. What differs and cannot be made equal
stands in ``DIFFERENCES`` with its reason; a test that meets one checks that it is still there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import h11
import pytest
from apps.chain.served import PIECE, build
from caller import PATIENCE, Caller, Reply, calling, until
from fleet import APPS, Fleet, Process
from loops import LOOPS
from ports import free_port

from mizzen import testing
from mizzen.assembly.network import SocketNetwork

ASGI = {
    "uvicorn": ["chain.hosted:served", "--host", "127.0.0.1", "--port", "{port}", "--no-access-log"],
    "granian": ["chain.hosted:served", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"],
    "granian-rust": [
        "chain.hosted:served", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--task-impl", "rust",
    ],
    "hypercorn": ["chain.hosted:served", "--bind", "127.0.0.1:{port}"],
}  # fmt: skip
SERVERS = ["memory", *(pytest.param(name, marks=pytest.mark.wire) for name in ("mizzen", *ASGI))]

OWNS_HEAD = "the server reads the head and has limits of its own"
OWNS_UPGRADE = "the server takes the upgrade before the application is asked, and a service has no WebSocket to accept"

DIFFERENCES: dict[tuple[str, str], tuple[Any, str]] = {
    ("uvicorn", "long target"): (200, OWNS_HEAD),
    ("granian", "long target"): (200, OWNS_HEAD),
    ("hypercorn", "long target"): (200, OWNS_HEAD),
    ("uvicorn", "large fields"): (200, OWNS_HEAD),
    ("granian", "large fields"): (200, OWNS_HEAD),
    ("hypercorn", "large fields"): (200, OWNS_HEAD),
    ("uvicorn", "upgrade"): (403, OWNS_UPGRADE),
    ("granian", "upgrade"): (403, OWNS_UPGRADE),
    ("hypercorn", "upgrade"): (403, OWNS_UPGRADE),
    ("hypercorn", "refused before 100"): (100, "it says 100 before the application is asked"),
    ("uvicorn", "stream to HTTP/1.0"): (b"\r\n0\r\n\r\n", "it sends chunks, which HTTP/1.0 does not have"),
}
"""(server, what) -> what it does instead, and why. Whoever adds a line has tried to do without."""

JSON = ("content-type", "application/json")
TRACE_ID = re.compile(r"[0-9a-f]{32}")

Dial = Callable[[], AbstractAsyncContextManager[Caller]]


class Target(NamedTuple):
    """A server that runs the service, and how to reach it from inside a loop."""

    name: str
    dialled: Callable[[], AbstractAsyncContextManager[Dial]]
    process: Process | None

    def run(self, test: Callable[[Dial], Awaitable[None]]) -> None:
        """Run a test in a loop of its own, with nothing left of it."""

        async def main() -> None:
            async with asyncio.timeout(60), self.dialled() as dial:
                await test(dial)

        with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:
            runner.run(main())

    def does(self, what: str, expected: Any) -> Any:
        """What this server does: the expected, unless its difference is written down."""
        return DIFFERENCES.get((self.name.partition("-")[0], what), (expected, ""))[0]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Dial]:
    network = testing.MemoryNetwork()
    async with testing.client(build(), network=network):
        yield lambda: calling(lambda factory: network.connect(factory, "served", 80, None))


@asynccontextmanager
async def on_sockets(port: int) -> AsyncIterator[Dial]:
    yield lambda: calling(lambda factory: SocketNetwork().connect(factory, "127.0.0.1", port, None))


@pytest.fixture(scope="module", params=SERVERS)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The service under one server, started once for all tests."""
    name = request.param
    if name == "memory":
        yield Target(name, in_memory, None)
        return
    with Fleet(tmp_path_factory.mktemp(name)) as fleet:
        port = free_port()
        if name == "mizzen":
            process = fleet.start("served", port=port, settings={"MIZZEN__SERVICES__SERVED__STOP__LINGER": "0s"})
        else:
            arguments = [each.format(port=port) for each in ASGI[name]]
            process = fleet.start_program(name, arguments, port=port, module=name.partition("-")[0], cwd=APPS)
        process.ready()
        yield Target(name, partial(on_sockets, port), process)
        process.stop()


def problem(reply: Reply, status: int) -> Any:
    """The problem that an answer carries, checked for what every one of them has."""
    assert (reply.status, reply.get("content-type")) == (status, "application/problem+json")
    said = reply.json()
    assert TRACE_ID.fullmatch(said["trace_id"])
    assert reply.all("x-trace-id") == [said["trace_id"]]
    assert (said["status"], said["type"]) == (status, "about:blank")
    assert said["title"]
    assert said["detail"]
    return said


async def one(dial: Dial, method: str, target: str, **options: Any) -> Reply:
    """One request on a connection of its own."""
    async with dial() as caller:
        return await caller.ask(method, target, **options)


async def count(dial: Dial, what: str) -> int:
    found: dict[str, int] = (await one(dial, "GET", "/diary")).json()
    return found.get(what, 0)


# -- plain requests, as data


class Case(NamedTuple):
    """A request and what its answer has to be."""

    what: str
    method: str
    target: str
    status: int
    body: Any = None
    """Of the answer: JSON, bytes, or None for none."""
    sent: bytes | None = None
    fields: tuple[tuple[str, str], ...] = ()
    content_type: str | None = "application/json"


CASES = [
    Case("typed path", "GET", "/items/7", 200, {"id": 7, "limit": 10, "tags": [], "tenant": "none"}),
    Case("query and header", "GET", "/items/7?limit=3&tags=a&tags=b%20c", 200,
         {"id": 7, "limit": 3, "tags": ["a", "b c"], "tenant": "me"}, fields=(("X-Tenant", "me"),)),
    Case("query with plus and utf-8", "GET", "/items/7?tags=a+b&tags=%C3%BC", 200,
         {"id": 7, "limit": 10, "tags": ["a b", "ü"], "tenant": "none"}),
    Case("created", "POST", "/items", 201, {"name": "ü", "count": 2}, '{"name": "ü", "count": 2}'.encode(), (JSON,)),
    Case("no content", "DELETE", "/items/7", 204, None, content_type=None),
    Case("rest of a path", "GET", "/files/a/b/c.txt", 200, b"a/b/c.txt", content_type="text/plain; charset=utf-8"),
    Case("encoded slash", "GET", "/thread/a%2Fb", 200, b"a/b in a thread", content_type="text/plain; charset=utf-8"),
    Case("encoded utf-8", "GET", "/thread/%C3%BC%20x", 200, "ü x in a thread".encode(),
         content_type="text/plain; charset=utf-8"),
    Case("encoded percent", "GET", "/thread/100%25", 200, b"100% in a thread", content_type="text/plain; charset=utf-8"),
    Case("empty query", "GET", "/request/a?", 200,
         {"method": "GET", "path": "/request/a", "rest": "a", "query": "", "own": [], "peer": True}),
    Case("path as it was sent", "GET", "/request/a%2Fb;c=1/%7Ex?y=%2F&z", 200,
         {"method": "GET", "path": "/request/a%2Fb;c=1/%7Ex", "rest": "a/b;c=1/~x", "query": "y=%2F&z", "own": [],
          "peer": True}),
    Case("double slash", "GET", "/request//a", 200,
         {"method": "GET", "path": "/request//a", "rest": "/a", "query": "", "own": [], "peer": True}),
    Case("the same field twice", "GET", "/request/x", 200,
         {"method": "GET", "path": "/request/x", "rest": "x", "query": "", "own": ["1", "2, 3"], "peer": True},
         fields=(("x-own", "1"), ("X-Own", "2, 3"))),
    Case("empty body of no length", "POST", "/small", 200, 0),
    Case("empty body", "POST", "/small", 200, 0, b""),
    Case("body at its limit", "POST", "/small", 200, 10, b"x" * 10),
    Case("OPTIONS", "OPTIONS", "/items/7", 204, None, content_type=None),
    Case("304", "GET", "/status/304", 304, None, content_type="text/plain"),
    Case("204", "GET", "/status/204", 204, None, content_type="text/plain"),
    Case("299", "GET", "/status/299", 299, b"x", content_type="text/plain"),
    Case("418", "GET", "/status/418", 418, b"x", content_type="text/plain"),
    Case("whole length, streamed", "GET", "/sized", 200, b"abcdef", content_type="text/plain"),
    Case("/live", "GET", "/live", 200, {"status": "live", "state": "serving"}),
    Case("/ready", "GET", "/ready", 200, {"status": "ready", "state": "serving"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_a_request_has_its_answer(target: Target, case: Case) -> None:
    """Every server gives this request this answer, with the length of its body and its own trace id."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            reply = await caller.ask(case.method, case.target, fields=case.fields, body=case.sent)
            assert reply.status == case.status
            assert reply.get("content-type") == case.content_type
            if isinstance(case.body, bytes | None):
                assert reply.body == (case.body or b"")
            else:
                assert reply.json() == case.body
            length = None if case.status in (204, 304) else str(len(reply.body))
            assert reply.all("content-length") == ([] if length is None else [length])
            assert reply.all("transfer-encoding") == []
            assert [len(value) for value in reply.all("x-trace-id")] == [32]
            assert len(reply.all("date")) == 1
            assert caller.reusable

    target.run(test)


class Wrong(NamedTuple):
    """A request that is refused, and with what."""

    what: str
    method: str
    target: str
    status: int
    detail: str
    sent: bytes | None = None
    errors: frozenset[str] = frozenset()


WRONG = [
    Wrong("no such path", "GET", "/nothing?x=1", 404, "no such path: /nothing"),
    Wrong("the handler says", "GET", "/items/404", 404, "no item 404"),
    Wrong("no such method", "PATCH", "/items/7", 405, "/items/7 has DELETE, GET, HEAD, OPTIONS, not PATCH"),
    Wrong("not a number", "GET", "/items/x?limit=y", 422, "", errors=frozenset({"path.id", "query.limit"})),
    Wrong("body does not fit", "POST", "/items", 422, "", b'{"name": 7, "count": 0}', frozenset({"body.name", "body.count"})),
    Wrong("no body", "POST", "/items", 422, "", None, frozenset({"body"})),
    Wrong("not JSON", "POST", "/items", 400, "", b'{"name": '),
    Wrong("a conflict", "POST", "/items", 409, "that name is taken", b'{"name": "taken"}'),
    Wrong("undecodable path", "GET", "/thread/%FF", 400, ""),
    Wrong("too large", "POST", "/small", 413, "a body of 11 bytes is over the limit of 10 bytes", b"x" * 11),
    Wrong("too large by default", "POST", "/items", 413, "a body of 1048577 bytes is over the limit of 1048576 bytes",
          b"x" * ((1 << 20) + 1)),
    Wrong("a defect", "GET", "/crash", 500, "an unexpected error; the trace id finds it in the log"),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.what for wrong in WRONG])
def test_a_wrong_request_has_its_problem(target: Target, wrong: Wrong) -> None:
    """Every server tells this caller what is wrong, as a problem, and goes on."""

    async def test(dial: Dial) -> None:
        reply = await one(dial, wrong.method, wrong.target, fields=[JSON] if wrong.sent else [], body=wrong.sent)
        said = problem(reply, wrong.status)
        if wrong.detail:
            assert said["detail"] == wrong.detail
        assert {fault["path"] for fault in said.get("errors", [])} == wrong.errors
        assert b"secret" not in reply.body
        if wrong.status == 405:
            assert reply.get("allow") == "DELETE, GET, HEAD, OPTIONS"
        if wrong.status == 409:
            assert reply.get("retry-after") == "7"
        assert (await one(dial, "GET", "/items/1")).status == 200

    target.run(test)


def test_a_body_that_is_not_json_is_unsupported(target: Target) -> None:
    """A typed body of another content type is a 415."""

    async def test(dial: Dial) -> None:
        problem(await one(dial, "POST", "/items", fields=[("content-type", "text/xml")], body=b"<item/>"), 415)

    target.run(test)


@pytest.mark.parametrize("path", ["/items/7", "/sized", "/stream/3", "/large/100000", "/live", "/nothing"])
def test_head_is_get_without_the_body(target: Target, path: str) -> None:
    """HEAD has the status and the fields of GET and no body, and the connection goes on."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            whole = await caller.ask("GET", path)
            head = await caller.ask("HEAD", path)
            assert (head.status, head.body) == (whole.status, b"")
            assert head.get("content-type") == whole.get("content-type")
            if path != "/nothing":  # whose body has the trace id in it
                assert head.all("content-length") == whole.all("content-length")
            assert (await caller.ask("GET", "/live")).status == 200

    target.run(test)


def test_fields_of_an_answer(target: Target) -> None:
    """A field that a handler says twice is sent twice; what belongs to the connection or to us is not the handler's to say."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            reply = await caller.ask("GET", "/fields")
            assert (reply.status, reply.body) == (200, b"ok")
            assert reply.all("set-cookie") == ["a=1", "b=2; path=/"]
            assert (reply.all("x-own"), reply.all("x-rejected"), reply.all("keep-alive")) == (["yes"], [], [])
            assert "close" not in reply.all("connection")
            assert caller.reusable

    target.run(test)


# -- the context


def test_the_trace_comes_in_and_goes_out(target: Target) -> None:
    """The caller's trace id is the handler's and the answer's; without one there is a new one each time."""

    async def test(dial: Dial) -> None:
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        async with dial() as caller:
            reply = await caller.ask("GET", "/trace", fields=[("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01")])
            assert (reply.json()["trace_id"], reply.all("x-trace-id")) == (trace_id, [trace_id])
            new = [(await caller.ask("GET", "/trace")).get("x-trace-id") for _ in range(3)]
            assert len({trace_id, *new}) == 4

    target.run(test)


def test_the_deadline_comes_in(target: Target) -> None:
    """A handler knows what its caller leaves it, and is ended with a 504 when that has passed."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            assert (await caller.ask("GET", "/trace", fields=[("x-request-timeout-ms", "900")])).json()["hurried"]
            assert not (await caller.ask("GET", "/trace")).json()["hurried"]
            before = await count(dial, "hang cancelled")
            said = problem(await caller.ask("GET", "/hang", fields=[("x-request-timeout-ms", "80")]), 504)
            assert "deadline" in said["detail"]
            assert await count(dial, "hang cancelled") == before + 1
            late = await caller.ask("GET", "/items/1", fields=[("x-request-timeout-ms", "0")])
            assert (late.get("x-rejected"), problem(late, 504)["status"]) == ("expired", 504)

    target.run(test)


# -- the platform's questions


def test_health_and_metrics(target: Target) -> None:
    """/health has the verdict, /metrics counts each request under its route's template and shows those under way."""

    async def test(dial: Dial) -> None:
        health = await one(dial, "GET", "/health")
        assert (health.status, health.json()["status"], health.json()["service"]) == (200, "ok", "served")

        async def page() -> str:
            return (await one(dial, "GET", "/metrics")).body.decode()

        def served(text: str) -> int:
            series = r'^http_server_request_duration_seconds_count\{[^}]*http_route="/files/\{rest:path\}"[^}]*\} (\d+)'
            line = re.search(series, text, re.MULTILINE)
            return int(line[1]) if line else 0

        before = served(await page())
        for name in "abc":
            await one(dial, "GET", f"/files/{name}")
        after = await page()
        assert served(after) == before + 3
        assert "/files/a" not in after
        await until(lambda: _idle(page), "nothing but the request that asks is under way")

    target.run(test)


async def _idle(page: Callable[[], Awaitable[str]]) -> bool:
    return re.search(r"^http_server_active_requests [01]$", await page(), re.MULTILINE) is not None


# -- streams


def test_a_stream_out(target: Target) -> None:
    """What a handler yields arrives in order, chunked, and the connection goes on."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            reply = await caller.ask("GET", "/stream/100")
            assert reply.body == b"".join(b"piece %d\n" % number for number in range(100))
            assert (reply.all("transfer-encoding"), reply.all("content-length")) == (["chunked"], [])
            assert (await caller.ask("GET", "/stream/0")).body == b""
            assert (await caller.ask("GET", "/live")).status == 200

    target.run(test)


def test_rows_out(target: Target) -> None:
    """Typed items are a line of JSON each."""

    async def test(dial: Dial) -> None:
        reply = await one(dial, "GET", "/rows/3")
        assert reply.get("content-type") == "application/x-ndjson"
        assert [json.loads(line)["count"] for line in reply.body.splitlines()] == [1, 2, 3]

    target.run(test)


def test_events_out(target: Target) -> None:
    """Server-sent events arrive as such."""

    async def test(dial: Dial) -> None:
        reply = await one(dial, "GET", "/events/2")
        assert reply.get("content-type") == "text/event-stream"
        assert reply.body.decode().split("\n\n") == [
            'event: counted\nid: 0\ndata: {"number":0}', 'event: counted\nid: 1\ndata: {"number":1}', ""
        ]  # fmt: skip

    target.run(test)


def test_the_first_piece_arrives_before_the_next_is_made(target: Target) -> None:
    """A piece is sent when it is yielded, and a caller that leaves then ends the stream."""

    async def test(dial: Dial) -> None:
        before = await count(dial, "silent ended")
        async with dial() as caller:
            await caller.begin("GET", "/silent")
            await caller.finish()
            assert (await caller.head())[0] == 200
            assert await anext(caller.pieces()) == b"hello\n"
            caller.reset()
        await until(lambda: _grew(dial, "silent ended", before), "the stream ends")

    target.run(test)


async def _grew(dial: Dial, what: str, before: int) -> bool:
    return await count(dial, what) > before


def test_a_stream_that_fails_is_cut_short(target: Target) -> None:
    """A stream that raises after its head ends without its end, which tells the caller, and without the reason."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            await caller.begin("GET", "/broken")
            await caller.finish()
            assert (await caller.head())[0] == 200
            got: list[bytes] = []
            with pytest.raises((OSError, h11.RemoteProtocolError)):
                await _gather(caller, got)
            assert b"secret" not in b"".join(got)
            assert not caller.reusable
        assert (await one(dial, "GET", "/live")).status == 200

    target.run(test)


async def _gather(caller: Caller, into: list[bytes]) -> None:
    async for piece in caller.pieces():
        into += [piece]


def test_a_slow_reader_holds_the_source_back(target: Target) -> None:
    """An endless stream whose caller does not read does not run on, and ends when its caller leaves."""

    async def test(dial: Dial) -> None:
        before = await count(dial, "endless ended")
        async with dial() as caller:
            await caller.begin("GET", "/endless")
            await caller.finish()
            await caller.head()
            read = 0
            async for piece in caller.pieces():
                read += len(piece)
                if read > 32 * len(PIECE):
                    break
            assert (await one(dial, "GET", "/live")).status == 200  # others are served meanwhile
            caller.reset()
        await until(lambda: _grew(dial, "endless ended", before), "the stream ends")

    target.run(test)


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
def test_a_stream_in(target: Target, chunked: bool) -> None:
    """A handler takes a body of 8 MiB as it arrives, whole and in order."""

    async def test(dial: Dial) -> None:
        pieces = [bytes([number]) * 65536 for number in range(128)]
        body = b"".join(pieces)
        sent: dict[str, Any] = {"pieces": pieces} if chunked else {"body": body}
        async with dial() as caller:
            reply = await caller.ask("POST", "/upload", **sent)
            assert reply.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            assert (await caller.ask("GET", "/live")).status == 200

    target.run(test)


def test_a_stream_in_begins_before_its_end(target: Target) -> None:
    """The handler has the first piece while the caller has not sent the rest."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            await caller.begin("POST", "/upload/slowly", chunked=True)
            await caller.send(b"first")
            assert (await one(dial, "POST", "/go-on")).status == 204
            await caller.send(b"rest")
            await caller.finish()
            assert (await caller.head())[0] == 200
            assert json.loads(b"".join([piece async for piece in caller.pieces()]))["size"] == 9

    target.run(test)


def test_both_ways_at_once(target: Target) -> None:
    """A handler may answer while it reads."""

    async def test(dial: Dial) -> None:
        reply = await one(dial, "POST", "/echo", pieces=[b"abc", b"def", b"x" * 100_000])
        assert reply.body == b"ABCDEF" + b"X" * 100_000

    target.run(test)


def test_a_chunked_body_over_its_limit(target: Target) -> None:
    """A body that does not say its size is a 413 once it has passed the limit, streamed or whole."""

    async def test(dial: Dial) -> None:
        said = problem(await one(dial, "POST", "/small", pieces=[b"x" * 6, b"x" * 6]), 413)
        assert said["detail"] == "the body is over the limit of 10 bytes"

    target.run(test)


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_large_bodies_both_ways(target: Target, size: int) -> None:
    """Megabytes go in and out whole."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            body = bytes(range(256)) * (size // 256)
            reply = await caller.ask("POST", "/large", body=body)
            assert reply.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            large = await caller.ask("GET", f"/large/{size}")
            assert (large.get("content-length"), len(large.body)) == (str(size), size)
            assert caller.reusable

    target.run(test)


# -- callers that leave


def test_a_caller_that_leaves_cancels_its_handler(target: Target) -> None:
    """A handler whose caller is gone is cancelled, and counted as 499."""

    async def test(dial: Dial) -> None:
        began, ended = await count(dial, "hang began"), await count(dial, "hang cancelled")
        async with dial() as caller:
            await caller.begin("GET", "/hang")
            await caller.finish()
            await until(lambda: _grew(dial, "hang began", began), "the handler begins")
            caller.reset()
        await until(lambda: _grew(dial, "hang cancelled", ended), "the handler is cancelled")
        page = (await one(dial, "GET", "/metrics")).body.decode()
        assert re.search(r'http_route="/hang",http_response_status_code="499"', page)

    target.run(test)


def test_a_caller_that_leaves_within_its_body(target: Target) -> None:
    """A handler that takes a body as it arrives is ended when its caller leaves within it."""

    async def test(dial: Dial) -> None:
        began, ended = await count(dial, "upload began"), await count(dial, "upload ended")
        async with dial() as caller:
            await caller.begin("POST", "/upload", length=100)
            await caller.send(b"x" * 50)
            await until(lambda: _grew(dial, "upload began", began), "the handler begins")
            caller.reset()
        await until(lambda: _grew(dial, "upload ended", ended), "the handler ends")
        async with dial() as caller:  # and one whose handler never began
            await caller.begin("POST", "/large", length=100)
            await caller.send(b"x" * 50)
            caller.reset()
        assert (await one(dial, "GET", "/live")).status == 200

    target.run(test)


# -- many


def test_many_at_once(target: Target) -> None:
    """Fifty connections with ten requests each have five hundred right answers."""

    async def test(dial: Dial) -> None:
        async def some(first: int) -> None:
            async with dial() as caller:
                for number in range(first, first + 10):
                    reply = await caller.ask("GET", f"/items/{number}?limit={number}")
                    assert (reply.json()["id"], reply.json()["limit"]) == (number, number)

        await asyncio.gather(*(some(1000 + 10 * each) for each in range(50)))

    target.run(test)


def test_a_connection_is_kept(target: Target) -> None:
    """Requests of all kinds follow each other on one connection."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            for _ in range(3):
                assert (await caller.ask("GET", "/items/1")).status == 200
                assert (await caller.ask("POST", "/items", fields=[JSON], body=b'{"name": "a"}')).status == 201
                assert (await caller.ask("GET", "/nothing")).status == 404
                assert (await caller.ask("POST", "/upload", pieces=[b"a", b"b"])).json()["size"] == 2
                assert (await caller.ask("DELETE", "/items/1")).status == 204
                assert (await caller.ask("GET", "/crash")).status == 500

    target.run(test)


# -- what the server reads


UPGRADE = (
    ("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
)  # fmt: skip


class Head(NamedTuple):
    """A head that servers treat in their own ways."""

    what: str
    status: int
    method: str = "GET"
    target: str = "/items/7"
    fields: tuple[tuple[str, str], ...] = ()


HEADS = [
    Head("long target", 414, target="/items/7?x=" + "y" * 9000),
    Head("large fields", 431, fields=(("x-large", "y" * 40_000),)),
    Head("upgrade", 200, fields=UPGRADE),
    Head("absolute target", 200, target="http://served/items/7?limit=1"),
    Head("asterisk", 404, "OPTIONS", "*"),
    Head("an unknown method", 405, "QUERY"),
]


@pytest.mark.parametrize("head", HEADS, ids=[head.what for head in HEADS])
def test_heads_that_servers_treat_in_their_own_ways(target: Target, head: Head) -> None:
    """These heads have our answer where the server hands them on, and else the one that is written down."""

    async def test(dial: Dial) -> None:
        reply = await one(dial, head.method, head.target, fields=head.fields)
        assert reply.status == target.does(head.what, head.status)

    target.run(test)


def test_a_caller_that_waits_for_100(target: Target) -> None:
    """A caller that expects 100 gets it before a body that is read, and a refusal instead of it."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            await caller.begin("POST", "/small", fields=[("expect", "100-continue")], length=3)
            assert await caller.told() == 100
            await caller.send(b"abc")
            await caller.finish()
            assert (await caller.head())[0] == 200
        async with dial() as caller:
            await caller.begin("POST", "/small", fields=[("expect", "100-continue")], length=30)
            assert await caller.told() == target.does("refused before 100", 413)

    target.run(test)


def test_pipelined_requests(target: Target) -> None:
    """Requests that do not wait for the answer before are answered in their order."""

    async def test(dial: Dial) -> None:
        async with dial() as caller:
            requests = [f"GET /items/{number} HTTP/1.1\r\nhost: served\r\n\r\n" for number in range(20)]
            caller.writer.write("".join(requests).encode() + b"GET /live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                answers = await caller.reader.read()
            assert re.findall(rb'"id":(\d+)', answers) == [b"%d" % number for number in range(20)]
            assert answers.endswith(b'{"status":"live","state":"serving"}')

    target.run(test)


def test_http_1_0(target: Target) -> None:
    """A caller of HTTP/1.0 gets its answer and the end of the connection, a stream without chunks too."""

    async def test(dial: Dial) -> None:
        stream = target.does("stream to HTTP/1.0", b"\r\n\r\npiece 0\npiece 1\n")
        for path, end in (("/items/7", b'"tenant":"none"}'), ("/stream/2", stream)):
            async with dial() as caller:
                caller.writer.write(b"GET %b HTTP/1.0\r\n\r\n" % path.encode())
                async with asyncio.timeout(PATIENCE):
                    answer = await caller.reader.read()
                assert b" 200 " in answer.partition(b"\r\n")[0]
                assert answer.endswith(end)

    target.run(test)
