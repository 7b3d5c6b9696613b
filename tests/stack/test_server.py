"""A request through the server's whole stack, over the in-memory network and in virtual time: what its caller gets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Annotated, Any

import msgspec
import pytest
from stage import now, settle

from mizzen import (
    Context,
    Handler,
    Header,
    Headers,
    NotFound,
    Request,
    Response,
    Router,
    Service,
    Unavailable,
    current,
    testing,
)
from mizzen.assembly.edge import GRACE
from mizzen.assembly.probes import State
from mizzen.rules.limit import Limit
from mizzen.testing import TestClient, run
from mizzen.words.errors import DeadlinePassed

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
COUNT = "http_server_request_duration_seconds_count"


class Kind(Enum):
    SMALL = "small"
    LARGE = "large"


class Item(msgspec.Struct):
    name: str
    price: float
    kind: Kind = Kind.SMALL


class Seen:
    """What the handlers of one test saw."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.ended = 0
        self.contexts: list[Context | None] = []


Register = Callable[[Router], None]


@asynccontextmanager
async def serving(register: Register, *things: Any, in_flight: int | None = None) -> AsyncIterator[TestClient]:
    """A service with these routes; no request may be left of it, and none may hold a place under the limit."""
    service = Service("order")
    for thing in things:
        service.provide(thing)
    service.mount(register)
    async with testing.client(service) as http:
        if in_flight is not None:
            http.running.edge.limit = Limit(in_flight)
        yield http
        await settle()
        assert http.running.edge.limit.count == 0


def scene(register: Register, play: Callable[[TestClient], Awaitable[None]], *things: Any, **options: Any) -> None:
    async def main() -> None:
        async with serving(register, *things, **options) as http:
            await play(http)
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    run(main())


def routing(method: str, template: str, function: Callable[..., Any], **options: Any) -> Register:
    return lambda router: router.route(method, template, function, **options)


def counted(http: TestClient) -> dict[tuple[str, str, int], int]:
    """How many answers were counted, by method, route and status."""
    page = http.running._telemetry.metrics.render().decode()
    label = r'http_request_method="(.*)",http_route="(.*)",http_response_status_code="(\d+)"'
    return {
        (method, route, int(status)): int(float(count))
        for method, route, status, count in re.findall(rf"^{COUNT}{{{label}}} (\S+)$", page, re.MULTILINE)
    }


def problem(response: Response) -> dict[str, Any]:
    """The problem in an answer, which has the trace id of its header."""
    assert response.headers.get("content-type") == "application/problem+json"
    assert isinstance(response.body, bytes)
    said: dict[str, Any] = json.loads(response.body)
    assert said["trace_id"] == response.headers.get("x-trace-id") != ""
    assert said["status"] == response.status
    return said


class Caller(asyncio.Protocol):
    """A caller in raw bytes."""

    def __init__(self) -> None:
        self.got = b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def dial(http: TestClient, data: bytes = b"") -> Caller:
    _, caller = await http.network.connect(Caller, "order", 80)
    assert isinstance(caller, Caller)
    caller.transport.write(data)
    return caller


async def hang(seen: Seen) -> str:
    seen.calls += 1
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.cancelled += 1
        raise
    return "late"


async def get_item(id: int, kind: Kind = Kind.SMALL, limit: int = 10) -> Item:
    return Item(f"item {id}", float(limit), kind)


async def add_item(item: Item, tenant: Annotated[str, Header("x-tenant")], dry: bool = False) -> Item:
    return item


def items(router: Router) -> None:
    router.get("/items/{id}", get_item)
    router.post("/items", add_item, status=201)
    router.put("/items/{id}", get_item)
    router.post("/small", add_item, max_body=10)


# -- what does not fit


def test_a_path_that_is_not_there_is_a_404() -> None:
    """The problem names the path; the metric does not."""

    async def play(http: TestClient) -> None:
        response = await http.get("/nothing/4711")
        assert (response.status, problem(response)["detail"]) == (404, "no such path: /nothing/4711")
        assert counted(http) == {("GET", "unmatched", 404): 1}

    scene(items, play)


def test_a_path_with_other_methods_is_a_405_that_lists_them() -> None:
    """`Allow` has every method of the path, HEAD and OPTIONS included."""

    async def play(http: TestClient) -> None:
        response = await http.delete("/items/7")
        assert (response.status, response.headers.get("allow")) == (405, "GET, HEAD, OPTIONS, PUT")
        assert problem(response)["detail"] == "/items/7 has GET, HEAD, OPTIONS, PUT, not DELETE"
        assert (await http.request("PURGE", "/items/7")).status == 405
        assert counted(http) == {("DELETE", "unmatched", 405): 1, ("_OTHER", "unmatched", 405): 1}

    scene(items, play)


def test_options_are_answered_by_the_router() -> None:
    """OPTIONS of a path says what it has; of no path it is a 404."""

    async def play(http: TestClient) -> None:
        response = await http.request("OPTIONS", "/items")
        assert (response.status, response.body, response.headers.get("allow")) == (204, b"", "OPTIONS, POST")
        assert response.headers.get("x-trace-id")
        assert (await http.request("OPTIONS", "/nothing")).status == 404

    scene(items, play)


def test_head_is_get_without_a_body() -> None:
    """Status, length and type are those of GET."""

    async def play(http: TestClient) -> None:
        whole, head = await http.get("/items/7"), await http.head("/items/7")
        assert (head.status, head.body) == (200, b"")
        for name in ("content-type", "content-length"):
            assert head.headers.get(name) == whole.headers.get(name) is not None
        assert (await http.head("/items/seven")).status == 422
        assert counted(http)[("HEAD", "/items/{id}", 200)] == 1

    scene(items, play)


def test_every_field_at_fault_is_named_at_once() -> None:
    """Path, query, headers and body are looked at together, and the answer lists what was expected where."""

    async def play(http: TestClient) -> None:
        response = await http.put("/items/seven?kind=huge&limit=many")
        faults = {fault["path"]: fault["reason"] for fault in problem(response)["errors"]}
        assert response.status == 422
        assert set(faults) == {"path.id", "query.kind", "query.limit"}
        assert all(faults.values())
        response = await http.post("/items?dry=perhaps", json={"name": 7, "kind": "huge"})
        assert {fault["path"] for fault in problem(response)["errors"]} == {
            "query.dry", "header.x-tenant", "body.name", "body.price", "body.kind",
        }  # fmt: skip

    scene(items, play)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"name": ', {"content-type": "application/json"}, 400),
        (b"\xff\xfe", {"content-type": "application/json"}, 400),
        (b"name=a", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"<item/>", {"content-type": "text/xml"}, 415),
        (b"", {"content-type": "application/json"}, 422),
        (b"", {}, 422),
        (b"null", {"content-type": "application/json"}, 422),
        (b"x" * (1024 * 1024 + 1), {"content-type": "application/json"}, 413),
    ],
)
def test_a_body_that_cannot_be_taken_has_its_status(body: bytes, headers: dict[str, str], status: int) -> None:
    """Malformed is 400, another kind 415, missing 422 and too large 413; the service goes on."""

    async def play(http: TestClient) -> None:
        response = await http.post("/items", body=body, headers={"x-tenant": "north", **headers})
        assert response.status == status
        assert problem(response)["detail"]
        assert (await http.get("/items/7")).status == 200
        assert sum(counted(http).values()) == 2

    scene(items, play)


def test_a_route_may_take_less_or_more() -> None:
    """The limit of a body is its route's own where it says so."""

    async def play(http: TestClient) -> None:
        response = await http.post("/small", json={"name": "a", "price": 1}, headers={"x-tenant": "north"})
        assert response.status == 413
        assert problem(response)["detail"]

    scene(items, play)


def test_a_path_that_cannot_be_decoded_is_a_400() -> None:
    """Broken percent-encoding in a parameter is the caller's mistake and not ours."""

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET /items/%zz HTTP/1.1\r\nhost: order\r\n\r\n")
        await settle()
        assert caller.got.startswith(b"HTTP/1.1 400 ")
        caller.transport.close()

    scene(items, play)


# -- time


def test_a_handler_that_takes_too_long_is_a_504_and_cancelled() -> None:
    """Ten seconds are the limit; the handler does not go on working for nobody."""
    seen = Seen()

    async def play(http: TestClient) -> None:
        response = await http.get("/")
        assert response.status == 504
        assert now() == pytest.approx(10, abs=0.01)
        assert problem(response)["detail"] == "no answer within the request's deadline (10s)"
        assert response.headers.get("x-rejected") is None
        assert (seen.calls, seen.cancelled) == (1, 1)
        assert counted(http) == {("GET", "/", 504): 1}

    scene(routing("GET", "/", hang), play, seen)


def test_a_route_may_have_another_limit() -> None:
    """Less, or more than the service's own."""

    async def play(http: TestClient) -> None:
        assert (await http.get("/short")).status == 504
        assert now() == pytest.approx(0.25, abs=0.01)
        assert (await http.get("/long")).status == 504
        assert now() == pytest.approx(60.25, abs=0.02)

    def register(router: Router) -> None:
        router.get("/short", hang, timeout="250ms")
        router.get("/long", hang, timeout=60)

    scene(register, play, Seen())


@pytest.mark.parametrize("name", ["x-request-timeout-ms", "X-Envoy-Expected-Rq-Timeout-Ms"])
def test_the_callers_time_is_the_limit_when_it_is_less(name: str) -> None:
    """A caller that waits 50 ms is answered in 50 ms, and what is left of them is in the context."""
    left: list[float | None] = []

    async def slow(context: Context) -> None:
        left.append(context.remaining())
        await asyncio.sleep(3600)

    async def play(http: TestClient) -> None:
        assert (await http.get("/", headers={name: "50"})).status == 504
        assert now() == pytest.approx(0.05, abs=GRACE + 0.001)
        assert left == [pytest.approx(0.05)]
        assert (await http.get("/", headers={name: "99999999"})).status == 504
        assert now() == pytest.approx(10.05, abs=0.02)

    scene(routing("GET", "/", slow), play)


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "", "1e3", "\u0661"])
def test_a_claim_that_makes_no_sense_is_ignored(value: str) -> None:
    """A malformed timeout is none."""

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET /items/7 HTTP/1.1\r\nhost: order\r\nx-request-timeout-ms: %b\r\n\r\n" % value.encode())
        await settle()
        assert caller.got.startswith(b"HTTP/1.1 200 ")
        caller.transport.close()

    scene(items, play)


def test_a_request_that_comes_too_late_is_refused_before_any_work() -> None:
    """With no time left nothing is begun; the mark tells the caller's stack that it was not."""
    seen = Seen()

    async def play(http: TestClient) -> None:
        response = await http.get("/", headers={"x-request-timeout-ms": "0"})
        assert (response.status, response.headers.get("x-rejected")) == (504, "expired")
        assert problem(response)["detail"] == "the caller's deadline had passed on arrival"
        assert seen.calls == 0

    scene(routing("GET", "/", hang), play, seen)


@pytest.mark.parametrize("offset", [-0.002, -0.001, -1e-9, 0.0, 1e-9, 0.001, 0.002])
def test_an_answer_that_comes_with_the_deadline_is_one_answer(offset: float) -> None:
    """However close handler and timer end, there is one answer, counted once, and the connection serves on."""
    seen = Seen()

    async def close_call() -> str:
        await asyncio.sleep(0.05 + GRACE + offset)
        seen.ended += 1
        return "made it"

    async def play(http: TestClient) -> None:
        for number in range(1, 4):
            response = await http.get("/", headers={"x-request-timeout-ms": "50"})
            assert response.status == (200 if seen.ended == number else 504)
            assert sum(counted(http).values()) == number
            await asyncio.sleep(1)  # a timer that came late would end another request
        assert http.network.describe()["connections"] == 1
        if offset <= -0.001:
            assert seen.ended == 3

    scene(routing("GET", "/", close_call), play)


def test_a_handler_that_answers_although_its_time_is_up_is_heard() -> None:
    """Whoever catches the end of its time may still answer, and what follows is not disturbed by it."""

    async def stubborn() -> AsyncIterator[str]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        task = asyncio.current_task()
        assert task is not None
        yield "late\n"
        yield f"{task.cancelling()}\n"
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(_raise(ValueError("inside")))
        await asyncio.sleep(0.01)
        yield "undisturbed"

    async def play(http: TestClient) -> None:
        response = await http.get("/")
        assert (response.status, response.body) == (200, b"late\n0\nundisturbed")

    scene(routing("GET", "/", stubborn, timeout=1), play)


async def _raise(error: BaseException) -> None:
    raise error


def test_what_a_handler_raises_at_its_deadline_is_a_504(caplog: pytest.LogCaptureFixture) -> None:
    """A library that turns a cancellation into an error of its own does not make a 500 of it; the log has the error."""

    async def turning() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise RuntimeError("connection broken") from None

    async def play(http: TestClient) -> None:
        assert (await http.get("/")).status == 504

    scene(routing("GET", "/", turning, timeout=1), play)
    assert caplog.messages == ["GET / raised RuntimeError when its deadline ended it"]


def test_an_answer_given_at_the_deadline_stands() -> None:
    """A handler may say in its own words that it ran out of time."""

    async def polite() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise DeadlinePassed("the report takes longer than you wait", headers={"retry-after": "60"}) from None

    async def play(http: TestClient) -> None:
        response = await http.get("/")
        assert (response.status, response.headers.get("retry-after")) == (504, "60")

    scene(routing("GET", "/", polite, timeout=1), play)


def test_a_cancellation_that_nobody_asked_for_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that awaits something that was cancelled fails like any other: it is answered, and logged."""

    async def awaiting() -> None:
        task = asyncio.ensure_future(asyncio.sleep(3600))
        task.cancel()
        await task

    async def play(http: TestClient) -> None:
        response = await http.get("/")
        assert response.status == 500
        assert http.network.describe()["connections"] == 1

    scene(routing("GET", "/", awaiting), play)
    assert caplog.messages == ["GET / failed: CancelledError"]


def test_asyncios_own_tools_work_in_a_handler() -> None:
    """`asyncio.timeout`, `wait_for` and task groups behave as anywhere else."""

    async def using() -> dict[str, Any]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1), 0.1)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.1, number)) for number in range(3)]
        return {"results": [task.result() for task in tasks]}

    async def play(http: TestClient) -> None:
        assert (await http.get("/")).json() == {"results": [0, 1, 2]}
        assert now() == pytest.approx(0.3)

    scene(routing("GET", "/", using), play)


# -- callers that go away


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_a_caller_that_goes_away_cancels_its_handler(at: float) -> None:
    """Work that nobody waits for ends at once, and is counted as 499."""
    seen = Seen()

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n")
        await asyncio.sleep(at)
        await settle()
        caller.transport.close()
        await settle()
        assert (seen.calls, seen.cancelled) == (1, 1)
        assert counted(http) == {("GET", "/", 499): 1}
        await asyncio.sleep(20)  # its timer is gone with it
        assert seen.cancelled == 1

    scene(routing("GET", "/", hang), play, seen)


def test_a_caller_that_goes_away_before_its_handler_began_is_counted() -> None:
    """The end of the connection that comes in the same read as the request leaves no place taken."""
    seen = Seen()

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n" * 3)
        caller.transport.write_eof()
        await settle()
        assert seen.calls == seen.cancelled <= 1
        assert sum(counted(http).values()) == 3
        assert {status for _, _, status in counted(http)} == {499}
        caller.transport.close()

    scene(routing("GET", "/", hang), play, seen)


@pytest.mark.parametrize("offset", [-1e-9, 0.0, 1e-9])
@pytest.mark.parametrize("cleans", [0.0, 0.5])
def test_a_caller_that_goes_away_with_the_deadline_is_counted_once(offset: float, cleans: float) -> None:
    """Disconnect and expiry at the same time, also while the handler cleans up after one of them: one 499, or one 504."""
    seen = Seen()

    async def cleaning() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.cancelled += 1
            if cleans:
                await asyncio.sleep(cleans)
            seen.ended += 1

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n")
        asyncio.get_running_loop().call_at(1 + GRACE + offset, caller.transport.abort)
        await asyncio.sleep(3)
        assert seen.cancelled == 1
        assert sum(counted(http).values()) == 1
        assert set(counted(http)) <= {("GET", "/", 499), ("GET", "/", 504)}

    scene(routing("GET", "/", cleaning, timeout=1), play)


def test_a_handler_that_cleans_up_after_its_caller_is_ended_by_its_deadline() -> None:
    """The second cancellation is not taken for the first: no answer is made for nobody."""
    seen = Seen()

    async def cleaning() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            try:
                await asyncio.sleep(3600)
            finally:
                seen.ended += 1

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n")
        await asyncio.sleep(0.5)
        caller.transport.abort()
        await asyncio.sleep(1)
        assert seen.ended == 1
        assert counted(http) == {("GET", "/", 499): 1}

    scene(routing("GET", "/", cleaning, timeout=1), play)


# -- places under the limit


def test_beyond_the_limit_in_flight_requests_are_shed_and_probes_are_not() -> None:
    """Two places, two slow requests: the third is refused before any work, the platform's questions are answered."""
    seen = Seen()

    async def play(http: TestClient) -> None:
        slow = [asyncio.ensure_future(http.get("/")) for _ in range(2)]
        await settle()
        response = await http.get("/")
        assert (response.status, response.headers.get("x-rejected"), response.headers.get("retry-after")) == (503, "shed", "0")
        assert problem(response)["detail"] == "2 requests are in flight here already"
        for path in ("/live", "/ready", "/health", "/metrics"):
            assert (await http.get(path)).status == 200
        assert (await http.get("/nothing")).status == 404
        assert seen.calls == 2
        assert {(await request).status for request in slow} == {504}
        assert http.running.edge.limit.describe() == {"in_flight": 0, "maximum": 2, "refused": 1}
        after = asyncio.ensure_future(http.get("/"))
        await settle()
        assert seen.calls == 3
        after.cancel()
        await asyncio.wait([after])

    scene(routing("GET", "/", hang), play, seen, in_flight=2)


def test_a_place_is_given_back_exactly_once_however_a_request_ends() -> None:
    """Answered, failed, late, expired on arrival, streamed, streamed badly, left by its caller: the count is 0 each time."""

    async def fail() -> None:
        raise NotFound("no")

    async def defect() -> None:
        raise RuntimeError

    async def late() -> None:
        await asyncio.sleep(3600)

    async def pieces() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1)
        yield "b"

    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise RuntimeError("after the head")

    def register(router: Router) -> None:
        for function in (get_item, fail, defect, late, pieces, broken):
            router.get("/items/{id}" if function is get_item else f"/{function.__name__}", function)

    async def play(http: TestClient) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # told of what breaks after the head
        limit = http.running.edge.limit
        for path, headers in (
            ("/items/7", {}),
            ("/items/seven", {}),
            ("/fail", {}),
            ("/defect", {}),
            ("/late", {}),
            ("/late", {"x-request-timeout-ms": "0"}),
            ("/pieces", {}),
            ("/nothing", {}),
            ("/live", {}),
        ):
            await http.get(path, headers=headers)
            assert limit.count == 0, path
        for path in ("/late", "/pieces", "/broken"):
            caller = await dial(http, f"GET {path} HTTP/1.1\r\nhost: order\r\n\r\n".encode())
            await settle()
            caller.transport.abort()
            await settle()
            assert limit.count == 0, path
        assert limit.refused == 0
        assert sum(counted(http).values()) == 12

    scene(register, play)


def test_a_streamed_answer_holds_its_place_until_its_end() -> None:
    """A request is in flight for as long as its body is."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(3):
            yield "a"
            await asyncio.sleep(1)

    async def play(http: TestClient) -> None:
        request = asyncio.ensure_future(http.get("/"))
        await asyncio.sleep(2.5)
        assert http.running.edge.limit.count == 1
        assert counted(http) == {}
        await request
        assert http.running.edge.limit.count == 0
        assert counted(http) == {("GET", "/", 200): 1}

    scene(routing("GET", "/", pieces), play)


@pytest.mark.parametrize(
    ("state", "reason"), [(State.STARTING, "starting"), (State.DRAINING, "draining"), (State.CLOSED, "draining")]
)
def test_while_it_does_not_serve_requests_are_sent_elsewhere(state: State, reason: str) -> None:
    """Before and after serving every request is refused with the word that any method may go elsewhere."""
    seen = Seen()

    async def play(http: TestClient) -> None:
        http.running.enter(state)
        for path in ("/", "/nothing"):
            response = await http.post(path)
            assert (response.status, response.headers.get("x-rejected")) == (503, reason)
            assert problem(response)["detail"] == f"this instance is {reason}"
        assert seen.calls == 0
        assert (await http.get("/live")).status == 200
        assert (await http.get("/ready")).status == 503
        assert (await http.get("/health")).status == 503

    scene(routing("POST", "/", hang), play, seen)


def test_while_it_lingers_requests_are_served() -> None:
    """A service that is withdrawn still answers whoever does not know yet."""

    async def play(http: TestClient) -> None:
        http.running.enter(State.LINGERING)
        assert (await http.get("/items/7")).status == 200
        assert (await http.get("/ready")).status == 503

    scene(items, play)


# -- failures


def test_an_unexpected_error_is_a_500_that_leaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets a trace id, the log gets the rest, and the connection serves on."""

    async def defect() -> None:
        raise RuntimeError("password=hunter2")

    async def play(http: TestClient) -> None:
        response = await http.get("/")
        assert response.status == 500
        assert isinstance(response.body, bytes)
        assert b"hunter2" not in response.body + repr(list(response.headers)).encode()
        assert problem(response)["detail"] == "an unexpected error; the trace id finds it in the log"
        assert http.network.describe()["connections"] == 1

    with caplog.at_level(logging.ERROR):
        scene(routing("GET", "/", defect), play)
    assert "password=hunter2" in caplog.text


def test_what_cannot_be_written_is_a_500() -> None:
    """A result that is no JSON, and an answer with a header that cannot be sent, are defects that the caller is told of."""

    class Odd:
        pass

    async def odd() -> Any:
        return Odd()

    async def torn() -> None:
        raise NotFound("no", headers={"x-reason": "a\r\nb: c"})

    def register(router: Router) -> None:
        router.get("/odd", odd)
        router.get("/torn", torn)

    async def play(http: TestClient) -> None:
        for path in ("/odd", "/torn"):
            response = await http.get(path)
            assert response.status == 500
            assert problem(response)["title"] == "Internal Server Error"

    scene(register, play)


def test_a_group_of_failures_is_unwrapped() -> None:
    """A handler that fans out fails with what failed inside."""

    async def fanning() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_raise(NotFound("no user 7")))
            group.create_task(asyncio.sleep(1))

    async def play(http: TestClient) -> None:
        response = await http.get("/")
        assert (response.status, problem(response)["detail"]) == (404, "no user 7")

    scene(routing("GET", "/", fanning), play)


def test_a_fan_out_that_runs_out_of_time_is_a_504() -> None:
    """The deadline ends a task group with all of its tasks."""
    seen = Seen()

    async def fanning() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(hang(seen))

    async def play(http: TestClient) -> None:
        assert (await http.get("/")).status == 504
        assert (seen.calls, seen.cancelled) == (3, 3)

    scene(routing("GET", "/", fanning, timeout=1), play)


def test_what_only_the_server_says_is_taken_out_of_a_handlers_answer() -> None:
    """A handler that hands on a peer's whole answer does not tell its caller to send the request elsewhere."""

    async def handing_on() -> Response:
        fields = {
            "x-rejected": "shed", "X-Trace-Id": "another", "connection": "close", "keep-alive": "timeout=5", "x-own": "kept",
            "date": "yesterday",
            "set-cookie": "a=b",
        }  # fmt: skip
        return Response(503, b"{}", headers=Headers([*fields.items(), ("set-cookie", "c=d")]))

    async def play(http: TestClient) -> None:
        response = await http.get("/", headers={"traceparent": PARENT})
        assert response.status == 503
        assert response.headers.get("x-rejected") is None
        assert response.headers.all("x-trace-id") == [TRACE]
        assert response.headers.get("keep-alive") is None
        assert len(response.headers.all("date")) == 1
        assert response.headers["date"].endswith(" GMT")
        assert response.headers.get("x-own") == "kept"
        assert response.headers.all("set-cookie") == ["a=b", "c=d"]
        assert http.network.describe()["connections"] == 1

    scene(routing("GET", "/", handing_on), play)


# -- context


def test_a_trace_is_continued() -> None:
    """The caller's trace id is in context, answer and problem; the span is our own."""
    seen = Seen()

    async def noting(context: Context) -> None:
        seen.contexts += [context, current()]
        raise Unavailable("no")

    async def play(http: TestClient) -> None:
        response = await http.get("/", headers={"traceparent": PARENT, "tracestate": "a=b", "baggage": "c=d"})
        context, same = seen.contexts
        assert context is same
        assert isinstance(context, Context)
        assert (context.trace_id, context.parent_id, context.tracestate, context.baggage) == (
            TRACE,
            "b7ad6b7169203331",
            "a=b",
            "c=d",
        )
        assert context.span_id not in ("b7ad6b7169203331", "")
        assert context.route == "GET /"
        assert problem(response)["trace_id"] == response.headers.get("x-trace-id") == TRACE

    scene(routing("GET", "/", noting), play)


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff-{TRACE}-b7ad6b7169203331-01"])
def test_a_trace_that_makes_no_sense_is_begun_anew(parent: str) -> None:
    """Every answer has a trace id, whatever the caller sent."""

    async def play(http: TestClient) -> None:
        response = await http.get("/items/7", headers={"traceparent": parent})
        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-trace-id"])
        assert response.headers["x-trace-id"] != TRACE

    scene(items, play)


def test_requests_do_not_see_each_others_context() -> None:
    """Each request has its own, on the same connection and beside others."""

    async def whose() -> str:
        first = current()
        await asyncio.sleep(0.1)
        assert current() is first is not None
        return first.trace_id

    async def play(http: TestClient) -> None:
        traces = [f"{number:032x}" for number in range(1, 20)]
        asked = [http.get("/", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}) for trace in traces]
        assert [response.text for response in await asyncio.gather(*asked)] == traces
        assert current() is None

    scene(routing("GET", "/", whose), play)


def test_a_plain_function_runs_in_a_thread_with_its_context() -> None:
    """`def` handlers may block: they do not hold up the loop, and know their request."""
    loops: list[int] = []

    def blocking(context: Context) -> dict[str, str]:
        loops.append(threading.get_ident())
        found = current()
        assert found is context
        return {"trace": found.trace_id, "thread": threading.current_thread().name}

    async def play(http: TestClient) -> None:
        response = await http.get("/", headers={"traceparent": PARENT})
        said = response.json()
        assert said["trace"] == TRACE
        assert said["thread"].startswith("handler")
        assert loops != [threading.get_ident()]

    scene(routing("GET", "/", blocking), play)


def test_what_a_plain_function_raises_is_an_answer_too() -> None:
    """Errors cross the thread as they are."""

    def absent() -> None:
        raise NotFound("no user 7")

    async def play(http: TestClient) -> None:
        assert (await http.get("/")).status == 404

    scene(routing("GET", "/", absent), play)


# -- streams


class Line(msgspec.Struct):
    number: int


def test_a_streamed_answer_arrives_as_it_is_made() -> None:
    """The head goes out with the first piece, long before the last; records become lines of JSON."""

    async def lines() -> AsyncIterator[Line]:
        for number in range(3):
            yield Line(number)
            await asyncio.sleep(1)

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n")
        await settle()
        assert b"application/x-ndjson" in caller.got
        assert b'{"number":0}\n' in caller.got
        assert b'{"number":1}\n' not in caller.got
        await asyncio.sleep(3.5)
        assert caller.got.endswith(b"0\r\n\r\n")
        caller.transport.close()

    scene(routing("GET", "/", lines), play)


def test_a_streamed_answer_may_take_longer_than_its_deadline() -> None:
    """The deadline is until the head: a body goes on, and so do the calls that it makes."""

    async def ticking() -> AsyncIterator[str]:
        for _ in range(15):
            yield "."
            await asyncio.sleep(1)
        context = current()
        assert context is not None
        yield str(context.remaining())

    async def play(http: TestClient) -> None:
        response = await http.get("/", headers={"x-request-timeout-ms": "5000"})
        assert response.text == "." * 15 + "None"

    scene(routing("GET", "/", ticking), play)


def test_a_stream_that_makes_no_progress_is_cut() -> None:
    """Sixty seconds without a piece are the end of it."""
    asked: list[float] = []

    async def stuck() -> AsyncIterator[str]:
        yield "a"
        try:
            await asyncio.sleep(3600)
        finally:
            asked.append(now())

    async def play(http: TestClient) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n")
        await caller.lost
        assert now() == pytest.approx(60, abs=0.1)
        await settle()
        assert asked == [pytest.approx(60, abs=0.1)]

    scene(routing("GET", "/", stuck), play)


def test_a_stream_that_fails_before_its_first_piece_is_an_answer() -> None:
    """What goes wrong before the head can still be said properly."""

    async def absent(id: str) -> AsyncIterator[str]:
        if id == "7":
            raise NotFound("no log 7")
        yield "a"

    async def play(http: TestClient) -> None:
        assert (await http.get("/logs/7")).status == 404
        assert (await http.get("/logs/8")).text == "a"

    scene(routing("GET", "/logs/{id}", absent), play)


def test_a_stream_that_fails_after_its_head_is_truncated() -> None:
    """The caller sees that the body has no end; the service goes on."""
    defects: list[Any] = []

    async def broken() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1)
        raise RuntimeError("after the head")

    async def play(http: TestClient) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: defects.append(context["exception"]))
        caller = await dial(http, b"GET / HTTP/1.1\r\nhost: order\r\n\r\n")
        await caller.lost
        assert caller.got.startswith(b"HTTP/1.1 200 ")
        assert not caller.got.endswith(b"0\r\n\r\n")
        assert [str(error) for error in defects] == ["after the head"]
        assert counted(http) == {("GET", "/", 200): 1}

    scene(routing("GET", "/", broken), play)


def test_a_streamed_request_is_read_as_it_arrives() -> None:
    """A handler that takes the body in pieces begins with the first one, and is held to its route's limit."""
    arrived: list[tuple[float, bytes]] = []

    async def upload(body: AsyncIterator[bytes]) -> dict[str, int]:
        size = 0
        async for piece in body:
            arrived.append((round(now()), piece))
            size += len(piece)
        return {"size": size}

    async def play(http: TestClient) -> None:
        head = b"POST / HTTP/1.1\r\nhost: order\r\ntransfer-encoding: chunked\r\n\r\n"
        caller = await dial(http, head + b"3\r\nabc\r\n")
        await asyncio.sleep(2)
        assert arrived == [(0, b"abc")]
        caller.transport.write(b"2\r\nde\r\n0\r\n\r\n")
        await settle()
        assert caller.got.endswith(b'{"size":5}')
        assert arrived[-1] == (2, b"de")
        large = await dial(http, head + b"20\r\n" + b"x" * 32 + b"\r\n0\r\n\r\n")
        await settle()
        assert large.got.startswith(b"HTTP/1.1 413 ")
        caller.transport.close()
        await large.lost

    scene(routing("POST", "/", upload, max_body=16), play)


def test_a_streamed_request_whose_caller_leaves_is_a_failure_of_its_reader() -> None:
    """The handler is cancelled, and takes half of a body for a whole one on no account."""
    seen = Seen()

    async def upload(body: AsyncIterator[bytes]) -> None:
        try:
            async for _ in body:
                seen.calls += 1
            seen.ended += 1
        except BaseException:
            seen.cancelled += 1
            raise

    async def play(http: TestClient) -> None:
        caller = await dial(http, b"POST / HTTP/1.1\r\nhost: order\r\ncontent-length: 10\r\n\r\nabc")
        await settle()
        caller.transport.abort()
        await settle()
        assert (seen.calls, seen.ended, seen.cancelled) == (1, 0, 1)

    scene(routing("POST", "/", upload), play)


# -- layers, overrides and what a test's client offers


def test_layers_stand_around_the_handler_in_their_order() -> None:
    """A domain's and a route's layers are passed from the outside in; one may answer by itself."""
    passed: list[str] = []

    def noting(name: str) -> Callable[[Handler], Handler]:
        def layer(following: Handler) -> Handler:
            async def send(request: Request) -> Response:
                passed.append(name)
                if request.headers.get("x-stop") == name:
                    return Response(403)
                return await following(request)

            return send

        return layer

    async def get() -> str:
        passed.append("handler")
        return "done"

    def register(router: Router) -> None:
        router.use(noting("domain"))
        router.get("/", get, layers=[noting("outer"), noting("inner")])

    async def play(http: TestClient) -> None:
        assert (await http.get("/")).text == "done"
        assert passed == ["domain", "outer", "inner", "handler"]
        passed.clear()
        assert (await http.get("/", headers={"x-stop": "outer"})).status == 403
        assert passed == ["domain", "outer"]

    scene(register, play)


class Store:
    name = "real"


class FakeStore(Store):
    name = "fake"


def test_overrides_replace_what_is_provided() -> None:
    """A test's own things are handed to the handlers; the real ones are not opened."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        raise AssertionError("not opened")
        yield Store()

    async def get(store: Store) -> str:
        return store.name

    async def main() -> None:
        service = Service("order")
        service.provide(Store, opened, check=lambda store: None)
        service.router.get("/", get)
        async with testing.client(service, {Store: FakeStore()}) as http:
            assert (await http.get("/")).text == "fake"
            assert (await http.get("/health")).json()["checks"] == {}

    run(main())


def test_what_is_provided_opens_with_the_client_and_closes_with_it() -> None:
    """Things live as long as the block, in order."""
    happened: list[str] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        happened.append("open")
        yield Store()
        happened.append("close")

    async def get(store: Store) -> str:
        happened.append("get")
        return store.name

    async def main() -> None:
        service = Service("order")
        service.provide(Store, opened)
        service.router.get("/", get)
        async with testing.client(service) as http:
            assert (await http.get("/")).text == "real"
        assert happened == ["open", "get", "close"]

    run(main())


def test_the_test_client_sends_what_it_is_told() -> None:
    """Query, JSON, raw bodies and headers reach the handler as a real caller's would."""

    async def echo(request: Request) -> dict[str, Any]:
        body = await request.read()
        return {
            "method": request.method, "query": request.query, "body": body.decode(),
            "type": request.headers.get("content-type"), "own": request.headers.get("x-own"), "peer": request.peer,
        }  # fmt: skip

    def register(router: Router) -> None:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            router.route(method, "/", echo)

    async def play(http: TestClient) -> None:
        said = (await http.get("/?a=1", query={"b": [2, 3]}, headers={"x-own": "me"})).json()
        assert (said["method"], said["query"], said["own"]) == ("GET", "a=1&b=2&b=3", "me")
        assert said["peer"].startswith("127.0.0.1:")
        said = (await http.post("/", json={"a": None})).json()
        assert (said["body"], said["type"]) == ('{"a":null}', "application/json")
        said = (await http.put("/", body=b"raw", headers={"content-type": "text/plain"})).json()
        assert (said["body"], said["type"]) == ("raw", "text/plain")
        assert [(await getattr(http, verb)("/")).json()["method"] for verb in ("patch", "delete")] == ["PATCH", "DELETE"]

    scene(register, play)
