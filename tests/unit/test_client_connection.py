"""A client's connection without a network: what its protocol makes of bytes, however they are cut."""

from __future__ import annotations

import asyncio
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.edges.http.connection import ClientConnection
from mizzen.edges.http.limits import PoolLimits
from mizzen.words.errors import ConnectionLost, PeerError
from mizzen.words.message import Request, Response


class Wire(asyncio.Transport):
    """A transport whose peer is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0


class Owner:
    """The pool, as a connection sees it."""

    peer = "user"

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.kept = 0

    def release(self, connection: ClientConnection) -> None:
        self.kept += 1

    def forget(self, connection: ClientConnection) -> None: ...


async def exchange(pieces: list[bytes], *, limits: PoolLimits | None = None, end: bool = False) -> tuple[Response, Owner]:
    """The answer that comes in these pieces, and whether its connection was kept."""
    owner = Owner(limits or PoolLimits())
    connection = ClientConnection(owner, asyncio.get_running_loop())
    connection.connection_made(Wire())
    waiter = connection.ask(Request("GET", "/"), b"GET / HTTP/1.1\r\n\r\n")
    for piece in pieces:
        connection.data_received(piece)
    if end:
        connection.eof_received()
    connection.connection_lost(None)
    return await waiter, owner


ANSWERS = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nA: b \r\n\r\nhello, world", b"hello, world", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n7;x=y\r\nhello, \r\n5\r\nworld\r\n0\r\nB: c\r\n\r\n",
        b"hello, world",
        True,
    ),
    "after hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "to its end": (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello, world", b"hello, world", False),
}


@pytest.mark.parametrize(("data", "body", "kept"), ANSWERS.values(), ids=ANSWERS.keys())
@given(cuts=st.lists(st.integers(1, 120), max_size=8))
def test_an_answer_is_the_same_however_it_is_cut(data: bytes, body: bytes, kept: bool, cuts: list[int]) -> None:
    """Where one read ends and the next begins says nothing."""
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    response, owner = asyncio.run(exchange(pieces, end=True))
    assert (response.status, response.body, response.headers.get("a")) == (200, body, "b")
    assert response.headers.get("link") is None
    assert owner.kept == kept


@pytest.mark.parametrize(("data", "body", "kept"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_beginning_of_an_answer_is_no_answer(data: bytes, body: bytes, kept: bool) -> None:
    """However far it came, a connection that is lost before its end is lost, but for a body that ends with it."""
    for length in range(1, len(data)):
        with pytest.raises(ConnectionLost, match=f"cut off after {length} bytes") as caught:
            asyncio.run(exchange([data[:length]]))
        assert (caught.value.idle, caught.value.sent) == (False, True)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_tiny_chunks_take_little_more_memory_than_their_body(size: int) -> None:
    """A peer that sends its answer in crumbs cannot make it many times as large in here."""
    count = 30_000
    crumbs = b"%x\r\n%b\r\n" % (size, b"a" * size) * count
    pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    pieces += [crumbs[start : start + 65536] for start in range(0, len(crumbs), 65536)]
    pieces.append(b"0\r\n\r\n")

    async def main() -> None:
        tracemalloc.start()
        try:
            response, _ = await exchange(pieces)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(response.body) == size * count  # type: ignore[arg-type]
        assert peak < 3 * size * count + 100_000

    asyncio.run(main())


@pytest.mark.parametrize("over", [False, True])
def test_the_limit_of_a_whole_answer_is_exact(over: bool) -> None:
    """So many bytes are read, and not one more, whatever they come in."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (100 + over) + b"0\r\n\r\n"
    if over:
        with pytest.raises(PeerError, match="user answered 200 with a body over the 100 bytes that are read whole"):
            asyncio.run(exchange([data], limits=PoolLimits(body=100)))
    else:
        assert asyncio.run(exchange([data], limits=PoolLimits(body=100)))[0].body == b"a" * 100


def test_a_connection_that_fails_at_once_has_sent_nothing() -> None:
    """What the transport could not even begin to write may go elsewhere, whatever it was."""

    async def main() -> None:
        connection = ClientConnection(Owner(PoolLimits()), asyncio.get_running_loop())
        wire = Wire()
        wire.write = lambda data: wire.close()  # type: ignore[method-assign]
        connection.connection_made(wire)
        connection.served = 1
        with pytest.raises(ConnectionLost) as caught:
            await connection.ask(Request("POST", "/"), b"POST / HTTP/1.1\r\n\r\n")
        assert (caught.value.idle, caught.value.sent) == (True, False)

    asyncio.run(main())
