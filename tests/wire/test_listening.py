"""The end of listening on real sockets, on every event loop there is: nobody who has come so far is lost."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from loops import LOOPS, Run, runner_of

from mizzen.assembly.crew.gate import Gate
from mizzen.assembly.listening import TURNS, Accepting
from mizzen.assembly.network import SocketNetwork, bind
from mizzen.edges.http import Limits, Server
from mizzen.words.message import Request, Response

pytestmark = pytest.mark.wire

PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""
MANY = 30
ASK = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return runner_of(LOOPS[request.param])


@pytest.fixture
def callers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path that is short enough for a socket."""
    return str(tmp_path_factory.mktemp("s") / "x.sock")


async def answer(request: Request) -> Response:
    return Response(200, b"here")


def made_server() -> Server:
    return Server(
        answer, limits=Limits(), clock=time.monotonic, refuse=lambda status, detail, request: Response(status, detail.encode())
    )


def connected(callers: ExitStack, address: str | tuple[str, int], count: int = MANY) -> list[socket.socket]:
    """So many callers, which the kernel alone knows of: the loop has had no turn since."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    lines = [callers.enter_context(socket.socket(family)) for _ in range(count)]
    for line in lines:
        line.settimeout(PATIENCE)
        line.connect(address)
    return lines


async def answers(lines: list[socket.socket]) -> set[bytes]:
    """Ask on each of them; the first lines of the answers, or what came instead."""

    def ask(line: socket.socket) -> bytes:
        try:
            line.sendall(ASK)
            return line.recv(65536).split(b"\r\n", 1)[0]
        except OSError as error:
            return repr(error).encode()

    return set(await asyncio.gather(*(asyncio.to_thread(ask, line) for line in lines)))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("turns", range(TURNS + 1))
def test_who_waits_in_the_queue_is_taken_in(run: Run, callers: ExitStack, path: str, kind: str, turns: int) -> None:
    """Draining a listener accepts everybody who has connected, however far the loop has come with them, and nobody after."""

    async def main() -> None:
        server = made_server()
        host = f"unix:{path}" if kind == "unix" else "127.0.0.1"
        listener = await SocketNetwork().listen(host, 0, server.protocol)
        address = path if kind == "unix" else ("127.0.0.1", listener.port)
        lines = connected(callers, address)
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.drain()
        assert server.connections == MANY
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            connected(callers, address, 1)
        assert await answers(lines) == {b"HTTP/1.1 200 OK"}
        assert await server.drain(PATIENCE) == 0

    run(main())


@pytest.mark.parametrize("turns", range(TURNS + 1))
def test_what_one_process_gives_up_another_takes(run: Run, callers: ExitStack, turns: int) -> None:
    """A gate that is told to accept no more keeps who is in already, and leaves the queue to those that share the socket."""

    async def main() -> None:
        old, new = made_server(), made_server()
        shared = bind("127.0.0.1", 0)
        shared.listen(MANY)
        port = shared.getsockname()[1]
        gates = [Gate(port, [shared.dup()], server.protocol) for server in (old, new)]
        await gates[0].accept([0])
        lines = connected(callers, ("127.0.0.1", port))
        for _ in range(turns):
            await asyncio.sleep(0)
        await gates[0].accept([])
        await gates[1].accept([0])
        lines += connected(callers, ("127.0.0.1", port), 1)
        assert await answers(lines) == {b"HTTP/1.1 200 OK"}
        shared.close()
        await asyncio.gather(*(gate.drain() for gate in gates))
        with pytest.raises(ConnectionRefusedError):
            connected(callers, ("127.0.0.1", port), 1)
        for server in (old, new):
            assert await server.drain(PATIENCE) == 0

    run(main())


def test_a_drain_that_is_cancelled_has_closed(run: Run, callers: ExitStack) -> None:
    """Whoever forces a stop in this very moment leaves no open socket."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, bound = made_server(), bind("127.0.0.1", 0)
        port = bound.getsockname()[1]
        accepting = Accepting(await loop.create_server(server.protocol, sock=bound), bound, server.protocol)
        draining = asyncio.ensure_future(accepting.drain())
        await asyncio.sleep(0)
        draining.cancel()
        await asyncio.wait({draining})
        with pytest.raises(ConnectionRefusedError):
            connected(callers, ("127.0.0.1", port), 1)

    run(main())
