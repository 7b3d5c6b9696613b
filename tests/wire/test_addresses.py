"""Addresses on real sockets, on every event loop there is: Unix sockets, and names with more than one address."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loops import LOOPS, Run, runner_of
from ports import free_port

from mizzen.assembly.eyeballs import STAGGER, connect_first, interleaved
from mizzen.assembly.network import SocketNetwork
from mizzen.assembly.unix import LONGEST
from mizzen.edges.http import Limits, Pool, PoolLimits, Server
from mizzen.words.errors import ConnectFailed, StartError
from mizzen.words.message import Request, Response

pytestmark = pytest.mark.wire

PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops; what it opened must be closed at its end."""
    return runner_of(LOOPS[request.param])


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path that is short enough for a socket."""
    return str(tmp_path_factory.mktemp("s") / "x.sock")


async def answer(request: Request) -> Response:
    return Response(200, request.headers["host"].encode() + b" " + request.peer.encode())


def made_server() -> Server:
    return Server(
        answer, limits=Limits(), clock=time.monotonic, refuse=lambda status, detail, request: Response(status, detail.encode())
    )


async def asked(network: SocketNetwork, host: str, port: int = 0) -> Response:
    pool = Pool(host, port, connect=network.connect, limits=PoolLimits(), clock=time.monotonic, peer="user")
    try:
        return await pool.send(Request("GET", "/"))
    finally:
        pool.close()


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def exists(path: str) -> bool:
    return os.path.lexists(path)


# -- Unix sockets ------------------------------------------------------------------------------------------------------


def test_a_unix_socket_from_start_to_stop(run: Run, path: str) -> None:
    """A service answers on its socket, which its owner and group may open, and which is gone after the stop."""

    async def main() -> None:
        network, server = SocketNetwork(), made_server()
        listener = await network.listen(f"unix:{path}", 0, server.protocol)
        assert listener.port == 0
        assert mode_of(path) == 0o660
        assert (await asked(network, path)).body == b"localhost "
        listener.close()
        assert not exists(path)
        with pytest.raises(ConnectFailed, match=f"cannot connect to unix:{path}: "):
            await asked(network, path)
        await server.drain(1)

    run(main())


def test_the_mode_of_a_socket(run: Run, path: str) -> None:
    """Who may connect is set when the socket is made, whatever the process's mask says."""

    async def main() -> None:
        listener = await SocketNetwork(socket_mode=0o600).listen(f"unix:{path}", 0, made_server().protocol)
        assert mode_of(path) == 0o600
        listener.close()

    run(main())


def test_the_socket_of_a_dead_process_is_replaced(run: Run, path: str) -> None:
    """What a killed process left behind does not keep the next one from starting."""
    script = f"import socket, os\ns = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); os._exit(9)"
    subprocess.run([sys.executable, "-c", script], check=False, timeout=PATIENCE)
    assert exists(path)

    async def main() -> None:
        network, server = SocketNetwork(), made_server()
        listener = await network.listen(f"unix:{path}", 0, server.protocol)
        assert (await asked(network, path)).status == 200
        listener.close()
        await server.drain(1)

    run(main())


def test_a_socket_in_use_is_not_taken(run: Run, path: str) -> None:
    """A live socket is an error that names who holds it, and goes on serving."""

    async def main() -> None:
        network, server = SocketNetwork(), made_server()
        listener = await network.listen(f"unix:{path}", 0, server.protocol)
        with pytest.raises(StartError) as raised:
            await network.listen(f"unix:{path}", 0, server.protocol)
        holder = f"pid {os.getpid()} (" if sys.platform == "linux" else "another process"
        assert raised.value.what.startswith(f"unix:{path} is in use by {holder}")
        assert (await asked(network, path)).status == 200
        listener.close()
        await server.drain(1)

    run(main())


def test_a_later_life_keeps_its_socket(run: Run, path: str) -> None:
    """A process that stops late removes its own socket only, not the one that took its place."""

    async def main() -> None:
        network = SocketNetwork()
        old = await network.listen(f"unix:{path}", 0, made_server().protocol)
        Path(path).rename(f"{path}.old")  # noqa: ASYNC240 - keeps its number, so that the new one cannot get that
        new = await network.listen(f"unix:{path}", 0, made_server().protocol)
        old.close()
        assert exists(path)
        new.close()
        assert not exists(path)

    run(main())


def test_what_cannot_be_a_socket(run: Run, path: str) -> None:
    """A file, a missing folder and a path that is too long are errors that name them, and nothing is removed."""

    async def main() -> None:
        network = SocketNetwork()
        for wrong, said in [
            (path, "exists and is no socket"),
            (f"{path}.d/x.sock", "No such file or directory"),
            ("/" + "x" * LONGEST, "is too long for a Unix socket: 104 bytes of 103"),
        ]:
            with pytest.raises(StartError, match=said):
                await network.listen(f"unix:{wrong}", 0, made_server().protocol)

    Path(path).write_text("mine")
    run(main())
    assert Path(path).read_text() == "mine"


# -- names with several addresses --------------------------------------------------------------------------------------


class Hole:
    """A port of ``::1`` where nobody answers: its queue is full, so the kernel drops what comes. 127.0.0.1 serves."""

    def __init__(self) -> None:
        self.port = free_port()
        self._lines: list[socket.socket] = []
        try:
            hole = socket.socket(socket.AF_INET6)
            self._lines.append(hole)
            hole.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            hole.bind(("::1", self.port))
        except OSError as error:
            self.close()
            pytest.skip(f"no IPv6 loopback ({error}); enable it: sysctl net.ipv6.conf.lo.disable_ipv6=0")
        hole.listen(0)
        for _ in range(4):
            filler = socket.socket(socket.AF_INET6)
            filler.setblocking(False)
            filler.connect_ex(("::1", self.port))
            self._lines.append(filler)

    def addresses(self) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", self.port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self.port)),
        ]

    def close(self) -> None:
        for line in self._lines:
            line.close()


@pytest.fixture
def hole() -> Iterator[Hole]:
    made = Hole()
    yield made
    made.close()


def open_sockets() -> int:
    """Sockets that this process has open."""
    found = 0
    for entry in Path("/dev/fd").iterdir():
        try:
            found += stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode)
        except OSError:  # the listing's own
            continue
    return found


def test_a_family_that_is_a_black_hole(run: Run, hole: Hole) -> None:
    """When the first address does not answer the next is tried after a quarter of a second, and its socket is closed."""

    async def main() -> None:
        async def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
            assert (host, port) == ("user.example", hole.port)
            return hole.addresses()

        network, server = SocketNetwork(lookup=lookup), made_server()
        listener = await network.listen("127.0.0.1", hole.port, server.protocol)
        before = open_sockets()
        began = time.monotonic()
        response = await asked(network, "user.example", hole.port)
        assert response.status == 200
        assert STAGGER * 0.9 < time.monotonic() - began < STAGGER + PATIENCE / 4
        listener.close()
        await server.drain(1)
        await until(lambda: open_sockets() <= before - 1)

    run(main())


def test_a_cancelled_attempt_leaves_nothing(run: Run, hole: Hole) -> None:
    """Cancelled while two addresses are being tried, a connect closes both sockets."""

    async def main() -> None:
        before = open_sockets()
        addresses = [hole.addresses()[0]] * 2
        attempt = asyncio.ensure_future(connect_first(addresses, stagger=0.01))
        await until(lambda: open_sockets() == before + 2)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await until(lambda: open_sockets() == before)

    run(main())


@pytest.mark.parametrize("turns", range(1, 14))
def test_cancelled_at_any_turn(run: Run, hole: Hole, turns: int) -> None:
    """A connect that is cancelled when it has just succeeded closes the socket that nobody gets any more."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", hole.port)):
            before = open_sockets()
            attempt = asyncio.ensure_future(connect_first(hole.addresses(), stagger=0.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            attempt.cancel()
            with suppress(asyncio.CancelledError):
                (await attempt).close()
            await until(lambda: open_sockets() == before)

    run(main())


def test_an_address_that_refuses_costs_no_wait(run: Run) -> None:
    """A refused address is followed by the next at once; when all refuse, the error is that of the first."""

    async def main() -> None:
        refused, taken = free_port(), free_port()
        with socket.create_server(("127.0.0.1", taken)):
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            bad, good = (*kind, ("127.0.0.1", refused)), (*kind, ("127.0.0.1", taken))
            async with asyncio.timeout(PATIENCE):
                connected = await connect_first([bad, good], stagger=3600.0)
            assert connected.getpeername() == ("127.0.0.1", taken)
            connected.close()
        with pytest.raises(ConnectionRefusedError):
            await connect_first([bad, good], stagger=3600.0)

    run(main())


def test_a_name_is_called(run: Run) -> None:
    """localhost is found by whichever of its addresses listens."""

    async def main() -> None:
        network, server = SocketNetwork(), made_server()
        listener = await network.listen("127.0.0.1", 0, server.protocol)
        assert (await asked(network, "localhost", listener.port)).status == 200
        listener.close()
        await server.drain(1)

    run(main())


def test_a_whole_name_ends_with_a_dot_for_its_look_up_only(run: Run) -> None:
    """The dot spares the search list; the server is told the name as people write it, and so is whoever reads an error."""
    looked_up: list[str] = []

    async def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def main() -> None:
        network, server = SocketNetwork(lookup=lookup), made_server()
        listener = await network.listen("127.0.0.1", 0, server.protocol)
        name = "user.shop.svc.cluster.local"
        told = (await asked(network, f"{name}.", listener.port)).text.split()
        listener.close()
        await server.drain(1)
        assert (looked_up, told[0]) == ([f"{name}."], f"{name}:{listener.port}")
        with pytest.raises(ConnectFailed, match=rf"cannot connect to {name}:1: "):
            await asked(network, f"{name}.", 1)

    run(main())


def test_families_take_turns() -> None:
    """Addresses of both families alternate, beginning with the one that the system prefers."""
    six, four = socket.AF_INET6, socket.AF_INET
    order = interleaved([(six, 1), (six, 2), (six, 3), (four, 4), (four, 5)])
    assert order == [(six, 1), (four, 4), (six, 2), (four, 5), (six, 3)]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is plain state of what is tested
            await asyncio.sleep(0.001)
