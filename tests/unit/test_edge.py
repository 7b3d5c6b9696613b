"""The server's edge on its own: what only the server says, whatever a handler returns or raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from mizzen.assembly.edge import Edge, Leaf
from mizzen.rules.binding import waits
from mizzen.rules.limit import Limit
from mizzen.rules.router import Router, Table
from mizzen.words.clock import monotonic
from mizzen.words.context import current
from mizzen.words.errors import NotFound, Unavailable
from mizzen.words.message import Request, Response
from mizzen.words.outcome import REJECTED

FORGED = {REJECTED: "shed", "x-trace-id": "another", "x-kept": "yes"}


async def returns(request: Request) -> Response:
    return Response(503, headers=FORGED)


async def raises(request: Request) -> Response:
    raise Unavailable("later", headers=FORGED)


@pytest.mark.parametrize("handler", [returns, raises])
def test_what_only_the_server_says_is_taken_from_returned_and_raised_answers(handler: Any) -> None:
    """No handler can call its answer a rejection, which would be sent again, or give it another trace id."""
    router = Router()
    router.get("/", handler)
    (route,) = router.routes
    table = Table([(route, Leaf(route, handler, False, 10.0, False, "GET /"))])
    edge = Edge(table, limit=Limit(), max_body=0, clock=monotonic, observe=lambda *told: None)
    request = Request("GET", "/")
    response = asyncio.run(edge.answer(request))
    assert request.context is not None
    assert (response.status, response.headers.get(REJECTED), response.headers.get("x-kept")) == (503, None, "yes")
    assert response.headers.all("x-trace-id") == [request.context.trace_id]


SEEN: ContextVar[str] = ContextVar("seen", default="nothing")


def driven_by_hand(handler: Any) -> Any:
    """The handler as the binding makes it where a function cannot wait."""

    def by_hand(request: Request) -> Response:
        try:
            handler(request).send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        raise RuntimeError("it has waited")

    return by_hand


class Site:
    """One edge with the given handler at ``/``."""

    def __init__(self, handler: Any, *, by_hand: bool | None = None, limit: Limit | None = None) -> None:
        router = Router()
        router.get("/", handler)
        (route,) = router.routes
        driven = not waits(handler) if by_hand is None else by_hand
        leaf = Leaf(route, handler, False, 10.0, False, "GET /", driven_by_hand(handler) if driven else None)
        self.observed: list[tuple[int, int]] = []
        self.edge = Edge(
            Table([(route, leaf)]), limit=limit or Limit(), max_body=0, clock=monotonic, observe=self._observe
        )  # fmt: skip

    def _observe(self, request: Request, status: int, seconds: float, sent: int) -> None:
        self.observed.append((status, sent))

    def ask(self, path: str = "/") -> Response | None:
        """What the edge answers at once, as a protocol asks it: from the loop, in no task."""
        self.request = Request("GET", path)
        answers: list[Response | None] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def ask() -> None:
                answers.append(self.edge.at_once(self.request))
                done.set_result(None)

            loop.call_soon(ask)
            await done

        asyncio.run(main())
        return answers[0]


def test_a_handler_that_cannot_wait_is_answered_at_once() -> None:
    """It needs no task: the answer is there when the request is."""
    response = Site(returns).ask()
    assert response is not None
    assert response.status == 503


def test_a_handler_that_may_wait_takes_a_task() -> None:
    """Nothing of it runs before, and what was found for the request is not looked for again."""
    ran: list[str] = []

    async def handler(request: Request) -> Response:
        ran.append(request.path)
        await asyncio.sleep(0)
        return Response(200)

    site = Site(handler)
    assert site.ask() is None
    assert ran == []
    found = site.request.leaf
    assert asyncio.run(site.edge.answer(site.request)).status == 200
    assert site.request.leaf is found


def test_what_a_handler_sets_at_once_stays_its_own() -> None:
    """A context variable of one request is not seen by the next one, nor by the loop."""

    async def handler(request: Request) -> Response:
        before = SEEN.get()
        SEEN.set("something")
        context = current()
        assert context is not None
        return Response(200, f"{before} {context.trace_id}".encode())

    site = Site(handler)
    for _ in range(2):
        response = site.ask()
        assert response is not None
        assert site.request.context is not None
        assert response.body == f"nothing {site.request.context.trace_id}".encode()
    assert current() is None


def test_a_handler_at_once_is_inside_a_task_for_whoever_asks() -> None:
    """Libraries ask for the current task to find out that asyncio runs them."""

    async def handler(request: Request) -> Response:
        assert asyncio.current_task() is not None
        return Response(200)

    site = Site(handler)
    response = site.ask()
    assert response is not None
    assert response.status == 200


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("no"), 404), (RuntimeError("defect"), 500), (asyncio.CancelledError(), 500)]
)
def test_what_a_handler_raises_at_once_becomes_its_answer(error: BaseException, status: int) -> None:
    """Whatever happens in a handler, the connection gets an answer."""

    async def handler(request: Request) -> Response:
        raise error

    response = Site(handler).ask()
    assert response is not None
    assert response.status == status


@pytest.mark.parametrize("error", [SystemExit(7), KeyboardInterrupt()])
def test_what_ends_the_process_does_so_from_a_handler_at_once(error: BaseException) -> None:
    """As it does from a task; the parser, which would swallow it, never sees it, and the request is settled."""

    async def handler(request: Request) -> Response:
        raise error

    limit = Limit(1)
    site = Site(handler, limit=limit)
    answers: list[Response | None] = []

    def ask() -> None:
        answers.append(site.edge.at_once(site.request))

    loop = asyncio.new_event_loop()
    site.request = Request("GET", "/")
    loop.call_soon(ask)
    with pytest.raises(type(error)):
        loop.run_forever()
    loop.close()
    (response,) = answers
    assert response is not None
    assert response.status == 500
    site.edge.sent(site.request, response, 0)
    assert limit.count == 0


def test_a_handler_that_waits_against_its_own_word_is_a_defect() -> None:
    """It is told, as a 500, rather than left half done."""

    async def handler(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(200)

    response = Site(handler, by_hand=True).ask()
    assert response is not None
    assert response.status == 500


def test_an_answer_at_once_takes_no_place_and_is_shed_where_there_is_none() -> None:
    """It is out before anybody else could come; but a service that is full does no work at all."""
    limit = Limit(1)
    site = Site(returns, limit=limit)
    assert site.ask() is not None
    assert limit.count == 0
    assert limit.enter()
    shed = site.ask()
    assert shed is not None
    assert (shed.status, shed.headers.get(REJECTED)) == (503, "shed")
    assert (limit.count, limit.refused) == (1, 1)


def test_a_stream_that_begins_at_once_holds_its_place_until_its_end() -> None:
    """It goes on when others come."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    async def streams(request: Request) -> Response:
        return Response(200, pieces())

    limit = Limit(1)
    site = Site(streams, limit=limit)
    response = site.ask()
    assert limit.count == 1
    site.edge.sent(site.request, response, 0)
    assert (limit.count, site.observed) == (0, [(200, 0)])


def test_a_request_that_takes_a_task_has_its_place_before() -> None:
    """Others of the same read cannot take it meanwhile."""

    async def handler(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(200)

    limit = Limit(1)
    site = Site(handler, limit=limit)
    assert site.ask() is None
    assert limit.count == 1
    first, shed = site.request, site.ask()
    assert shed is not None
    assert shed.status == 503
    site.edge.sent(first, asyncio.run(site.edge.answer(first)), 0)
    assert limit.count == 0


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/%ff", 404)])
def test_what_no_route_matches_is_answered_at_once(path: str, status: int) -> None:
    """No task is made for a request that nobody handles."""
    response = Site(returns).ask(path)
    assert response is not None
    assert response.status == status
