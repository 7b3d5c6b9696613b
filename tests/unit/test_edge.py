"""The server's edge on its own: what only the server says, whatever a handler returns or raises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mizzen.assembly.edge import Edge, Leaf
from mizzen.rules.limit import Limit
from mizzen.rules.router import Router, Table
from mizzen.words.clock import monotonic
from mizzen.words.errors import Unavailable
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
