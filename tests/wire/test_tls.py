"""TLS on real sockets, on every event loop there is: who is let in, who is believed, and certificates that change."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Pair, serial_in, serial_of
from loops import LOOPS, Run, runner_of

from mizzen.assembly.network import SocketNetwork
from mizzen.edges.http import Certificates, Limits, Pool, PoolLimits, Server, TlsFiles
from mizzen.words.errors import ConnectFailed, ConnectionLost
from mizzen.words.message import Headers, Request, Response

pytestmark = pytest.mark.wire

PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""
HOST = "127.0.0.1"


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return runner_of(LOOPS[request.param])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


class Site:
    """A server that speaks TLS, and pools that call it."""

    def __init__(self, files: TlsFiles, *, limits: Limits, clock: Callable[[], float]) -> None:
        self.tls = Certificates(files, server=True, clock=clock)
        self.clock = clock
        self.network = SocketNetwork()
        self.pools: list[Pool] = []
        self.sizes: list[int] = []
        self.server = Server(
            self._answer,
            limits=limits,
            clock=time.monotonic,
            refuse=lambda status, detail, request: Response(status, detail.encode()),
            streams=lambda request: request.path == "/streamed",
            tls=self.tls.context,
        )
        self.port = 0

    async def _answer(self, request: Request) -> Response:
        if request.path == "/endless":
            return Response(200, self._endless())
        if request.path == "/echo":
            return Response(200, await request.read())
        return Response(200, b"ok")

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            self.sizes.append(65536)
            yield b"x" * 65536

    def pool(self, files: TlsFiles, *, server_name: str = "", host: str = HOST, port: int = 0, limits: Any = None) -> Pool:
        pool = Pool(
            host,
            port or self.port,
            tls=Certificates(files, server=False, server_name=server_name, clock=self.clock),
            connect=self.network.connect,
            limits=limits or PoolLimits(),
            clock=time.monotonic,
            peer="user",
        )
        self.pools.append(pool)
        return pool

    def open_line(self) -> socket.socket:
        """A caller in raw bytes."""
        line = socket.create_connection((HOST, self.port))
        line.setblocking(False)
        return line


@asynccontextmanager
async def serving(
    pair: Pair, *, ca: str | None = None, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Site]:
    """A server with that certificate, which asks callers for one of ``ca``'s when given; nothing is left open after it."""
    site = Site(TlsFiles(cert=pair.cert, key=pair.key, ca=ca), limits=limits or Limits(), clock=clock)
    listener = await site.network.listen(HOST, 0, site.server.protocol)
    site.port = listener.port
    try:
        yield site
    finally:
        for pool in site.pools:
            pool.close()
        listener.close()
        await site.server.drain(0)
        await until(lambda: not site.server.connections)
        for pool in site.pools:
            await until(lambda pool=pool: not pool._open)  # type: ignore[misc]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is plain state of what is tested
            await asyncio.sleep(0.001)


def get(path: str = "/") -> Request:
    return Request("GET", path)


class Hours:
    """A clock that the test turns, so that files are looked at when it says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def presented(site: Site, ca: str) -> int:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=ca)
    _, writer = await asyncio.open_connection(HOST, site.port, ssl=context)
    try:
        return serial_of(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()
        await writer.wait_closed()


# -- who is believed ---------------------------------------------------------------------------------------------------


def test_a_verified_peer_is_called(run: Run, authority: Authority) -> None:
    """Whole and large bodies go both ways over one connection."""

    async def main() -> None:
        async with serving(authority.issue(), limits=Limits(body=10_000_000)) as site:
            pool = site.pool(TlsFiles(ca=authority.ca))
            large = os.urandom(3_000_000)
            sent = Request("POST", "/echo", body=large, headers=Headers({"content-length": str(len(large))}))
            assert (await pool.send(get())).body == b"ok"
            assert (await pool.send(sent)).body == large
            assert (await pool.send(get())).body == b"ok"
            assert site.server.connections == 1

    run(main())


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("expired", "has expired; renew it on 127.0.0.1"),
        ("early", "is not valid yet"),
        ("name", "is not for '127.0.0.1'; call it by a name that it has, or set clients.user.tls.server_name"),
        ("stranger", "is signed by nobody we trust (none in {ca}); set clients.user.tls.ca to the file of who signed it"),
        ("system", "(none in the system's store); set clients.user.tls.ca"),
    ],
)
def test_a_peer_that_cannot_be_verified_is_not_called(run: Run, authority: Authority, case: str, said: str) -> None:
    """A bad certificate is a failure to connect, and the message names peer, reason and fix; nothing stays open."""

    async def main() -> None:
        pair = {
            "expired": lambda: authority.issue(begins=-9, ends=-1),
            "early": lambda: authority.issue(begins=1),
            "name": lambda: authority.issue(hosts=("user.example",)),
        }.get(case, authority.issue)()
        settings = {part: f"clients.user.tls.{part}" for part in ("ca", "server_name")}
        trusted: str | None = authority.ca
        if case == "stranger":
            trusted = Authority(authority.folder, "other").ca
        elif case == "system":
            trusted = None
        async with serving(pair) as site:
            pool = site.pool(TlsFiles(ca=trusted, settings=settings))
            with pytest.raises(ConnectFailed) as raised:
                await pool.send(get())
            assert raised.value.peer == "user"
            assert raised.value.detail.startswith(f"cannot connect to 127.0.0.1:{site.port}: ")
            assert said.format(ca=trusted) in raised.value.detail
            await until(lambda: site.server.describe()["handshakes"] == {"under_way": 0, "failed": 1})

    run(main())


def test_the_name_can_be_said(run: Run, authority: Authority) -> None:
    """With server_name a peer that is called by its address shows that it has the name."""

    async def main() -> None:
        async with serving(authority.issue(hosts=("user.example",))) as site:
            pool = site.pool(TlsFiles(ca=authority.ca), server_name="user.example")
            assert (await pool.send(get())).status == 200

    run(main())


def test_a_whole_name_is_verified_without_its_dot(run: Run, authority: Authority) -> None:
    """A name that ends with a dot, for its look-up, is the same name in a certificate and in what the server is asked for."""
    name = "user.shop.svc.cluster.local"
    asked: list[str | None] = []

    async def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
        assert host == f"{name}."
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))]

    async def main() -> None:
        async with serving(authority.issue(hosts=(name,))) as site:
            site.network = SocketNetwork(lookup=lookup)
            site.tls.context().sni_callback = lambda line, server_name, context: asked.append(server_name)
            assert (await site.pool(TlsFiles(ca=authority.ca), host=f"{name}.").send(get())).status == 200
            assert asked == [name]

    run(main())


def test_a_peer_without_tls(run: Run, authority: Authority) -> None:
    """A peer that speaks plain HTTP is told apart from one with a bad certificate."""

    async def main() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        listener = await asyncio.start_server(plain, HOST, 0)
        async with serving(authority.issue()) as site:
            pool = site.pool(TlsFiles(ca=authority.ca), port=listener.sockets[0].getsockname()[1])
            with pytest.raises(ConnectFailed, match="does not speak TLS there; write http:// in its address"):
                await pool.send(get())
        listener.close()

    run(main())


# -- who is let in -----------------------------------------------------------------------------------------------------


def test_callers_show_who_they_are(run: Run, authority: Authority) -> None:
    """With client_ca a caller with our authority's certificate is answered; one with none or another's is not."""

    async def main() -> None:
        ours, theirs = authority.issue("order"), Authority(authority.folder / "other").issue("stranger")
        async with serving(authority.issue(), ca=authority.ca) as site:
            assert (await site.pool(TlsFiles(ca=authority.ca, cert=ours.cert, key=ours.key)).send(get())).status == 200
            for files in (TlsFiles(ca=authority.ca), TlsFiles(ca=authority.ca, cert=theirs.cert, key=theirs.key)):
                with pytest.raises(ConnectFailed, match="it ended the handshake") as raised:
                    await site.pool(files).send(get())
                assert "set cert to one that it accepts" in raised.value.detail
            await until(lambda: site.server.describe()["handshakes"]["failed"] == 2)

    run(main())


def test_an_expired_caller_is_not_let_in(run: Run, authority: Authority) -> None:
    """A caller's certificate counts only while it is valid."""

    async def main() -> None:
        late = authority.issue("order", begins=-9, ends=-1)
        async with serving(authority.issue(), ca=authority.ca) as site:
            with pytest.raises(ConnectFailed, match="it ended the handshake"):
                await site.pool(TlsFiles(ca=authority.ca, cert=late.cert, key=late.key)).send(get())

    run(main())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(run: Run, authority: Authority) -> None:
    """TLS 1.2 and 1.3 are spoken, 1.1 is not; the protocol that is agreed on is HTTP/1.1."""

    async def shake(site: Site, version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=authority.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        _, writer = await asyncio.open_connection(HOST, site.port, ssl=context)
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        await writer.wait_closed()
        return str(agreed)

    async def main() -> None:
        async with serving(authority.issue()) as site:
            assert await shake(site, ssl.TLSVersion.TLSv1_2) == "http/1.1"
            assert await shake(site, ssl.TLSVersion.TLSv1_3) == "http/1.1"
            with pytest.raises(OSError, match=r"(?i)version|protocol|reset|alert"):
                await shake(site, ssl.TLSVersion.TLSv1_1)

    run(main())


# -- callers that do not finish the handshake --------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\0\xff" * 100, b"\x16\x03\x01\x00\x05hello"])
def test_what_is_no_tls_is_closed_at_once(run: Run, authority: Authority, sent: bytes) -> None:
    """Plain HTTP gets an answer that says what is wrong, other bytes none; others do not notice."""

    async def main() -> None:
        async with serving(authority.issue()) as site:
            pool = site.pool(TlsFiles(ca=authority.ca))
            assert (await pool.send(get())).status == 200
            reader, writer = await asyncio.open_connection(HOST, site.port)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE / 2):
                got = await reader.read(-1)
            if sent.startswith(b"GET"):
                assert got.startswith(b"HTTP/1.1 400 ")
                assert b"this port speaks https, not http" in got
            else:
                assert b"HTTP" not in got
            writer.close()
            await until(lambda: site.server.describe()["handshakes"] == {"under_way": 0, "failed": 1})
            assert (await pool.send(get())).status == 200
            assert site.server.connections == 1

    run(main())


def test_slow_handshakes_are_bounded(run: Run, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that says nothing, or sends a handshake byte by byte, is closed after the time for a head; it is logged."""
    caplog.set_level(logging.DEBUG, "mizzen.tls")

    async def main() -> None:
        async with serving(authority.issue(), limits=Limits(header_read=0.3)) as site:
            began = time.monotonic()
            silent, slow = [await asyncio.open_connection(HOST, site.port) for _ in range(2)]
            trickle = asyncio.ensure_future(_trickle(slow[1]))
            for reader, _ in (silent, slow):
                await _to_end(reader)
            assert 0.25 < time.monotonic() - began < PATIENCE / 2
            trickle.cancel()
            await asyncio.wait({trickle})
            for _, writer in (silent, slow):
                writer.close()
            assert (await site.pool(TlsFiles(ca=authority.ca)).send(get())).status == 200
            assert site.server.describe()["handshakes"] == {"under_way": 0, "failed": 2}

    run(main())
    told = [record for record in caplog.records if record.name == "mizzen.tls"]
    assert [record.levelname for record in told] == ["DEBUG", "DEBUG"]
    assert all("no handshake within 0.3s" in record.getMessage() for record in told)
    assert not any(record.exc_info for record in caplog.records)


async def _to_end(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            await reader.read(-1)


async def _trickle(writer: asyncio.StreamWriter) -> None:
    """A handshake that never gets anywhere: the head of a record of 512 bytes, then one byte after the other."""
    writer.write(b"\x16\x03\x01\x02\x00")
    while not writer.is_closing():
        writer.write(b"\x01")
        await asyncio.sleep(0.01)


def test_handshakes_count_as_connections(run: Run, authority: Authority) -> None:
    """Who shakes hands holds a place; beyond the limit a socket is closed before anything costly, and places come back."""

    async def main() -> None:
        async with serving(authority.issue(), limits=Limits(connections=2)) as site:
            waiting = [await asyncio.open_connection(HOST, site.port) for _ in range(2)]
            await until(lambda: site.server.connections == 2)
            pool = site.pool(TlsFiles(ca=authority.ca))
            with pytest.raises(ConnectFailed):
                await pool.send(get())
            assert site.server.describe()["handshakes"]["under_way"] == 2
            waiting[0][1].close()
            await until(lambda: site.server.connections == 1)
            assert (await pool.send(get())).status == 200
            waiting[1][1].close()

    run(main())


def test_a_drain_ends_handshakes(run: Run, authority: Authority) -> None:
    """A stop does not wait for those who have asked for nothing yet, and none of them gets through afterwards."""

    async def main() -> None:
        async with serving(authority.issue()) as site:
            reader, writer = await asyncio.open_connection(HOST, site.port)
            await until(lambda: site.server.connections == 1)
            began = time.monotonic()
            assert await site.server.drain(PATIENCE) == 0
            assert time.monotonic() - began < PATIENCE / 2
            await _to_end(reader)
            writer.close()
            with pytest.raises(ConnectFailed):
                await site.pool(TlsFiles(ca=authority.ca)).send(get())

    run(main())


def test_who_shakes_hands_at_the_stop_gets_its_first_answer(run: Run, authority: Authority) -> None:
    """Before a drain, a moment is left for a handshake that is under way and the request behind it; then it is over."""

    async def main() -> None:
        async with serving(authority.issue()) as site:
            reader, writer = await asyncio.open_connection(HOST, site.port)
            await until(lambda: site.server.connections == 1)
            heard = asyncio.ensure_future(site.server.hear_out())
            await asyncio.sleep(0)
            await writer.start_tls(ssl.create_default_context(cafile=authority.ca), server_hostname="localhost")
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            assert await heard
            await _to_end(reader)
            writer.close()

    run(main())


def test_a_cancelled_call_leaves_no_connection(run: Run, authority: Authority) -> None:
    """Cancelled in the middle of a handshake with a peer that says nothing, a call closes its socket."""

    async def main() -> None:
        closed = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert (await reader.read(1))[0] == 22
            hello.set()
            await _to_end(reader)
            closed.set()
            writer.close()

        hello = asyncio.Event()
        listener = await asyncio.start_server(silent, HOST, 0)
        async with serving(authority.issue()) as site:
            pool = site.pool(TlsFiles(ca=authority.ca), port=listener.sockets[0].getsockname()[1])
            call = asyncio.ensure_future(pool.send(get()))
            await hello.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            async with asyncio.timeout(PATIENCE):
                await closed.wait()
            assert pool.describe() | {"address": ""} == {"address": "", "idle": 0, "busy": 0, "waiting": 0, "closed": False}
        listener.close()

    run(main())


# -- bodies and ends ---------------------------------------------------------------------------------------------------


def test_the_answer_to_a_refused_upload_arrives(run: Run, authority: Authority) -> None:
    """A body over the limit gets its 413 although the caller is still sending: we close one direction only."""

    async def main() -> None:
        async with serving(authority.issue(), limits=Limits(body=1000)) as site:
            context = ssl.create_default_context(cafile=authority.ca)
            reader, writer = await asyncio.open_connection(HOST, site.port, ssl=context)
            writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n")
            with suppress(ConnectionError):
                for _ in range(100):
                    writer.write(b"x" * 100_000)
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            writer.transport.abort()

    run(main())


def test_a_slow_reader_does_not_fill_our_memory(run: Run, authority: Authority) -> None:
    """Of an endless answer no more is made than fits into the buffers, until the caller reads on."""

    async def main() -> None:
        async with serving(authority.issue()) as site:
            context = ssl.create_default_context(cafile=authority.ca)
            reader, writer = await asyncio.open_connection(HOST, site.port, ssl=context, limit=1000)
            writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
            made, since = -1, time.monotonic()

            def stalled() -> bool:
                nonlocal made, since
                if made != len(site.sizes):
                    made, since = len(site.sizes), time.monotonic()
                return time.monotonic() - since > 0.3

            await until(stalled)
            assert 0 < made < 400  # 25 MB: the kernel's buffers on both sides, and the reader's own
            for _ in range(made + 50):
                await reader.readexactly(65536)
            assert len(site.sizes) > made
            writer.transport.abort()

    run(main())


def test_an_answer_that_ends_without_a_goodbye_is_cut_off(run: Run, authority: Authority) -> None:
    """A body that ends with its connection is whole if TLS says so, and lost if anybody may have cut it (RFC 9112 §9.8)."""

    async def main() -> None:
        pair = authority.issue()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.cert, pair.key)

        def serve() -> None:
            """A peer of HTTP/1.0 that says goodbye, and then one that does not."""
            for polite in (True, False):
                plain, _ = listener.accept()
                plain.settimeout(PATIENCE)
                with context.wrap_socket(plain, server_side=True) as line:
                    while not line.recv(65536).endswith(b"\r\n\r\n"):
                        pass
                    line.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf of it")
                    if polite:
                        with suppress(OSError):
                            line.unwrap()

        with socket.create_server((HOST, 0)) as listener:
            listener.settimeout(PATIENCE)
            peer = asyncio.ensure_future(asyncio.to_thread(serve))
            async with serving(pair) as site:
                pool = site.pool(TlsFiles(ca=authority.ca), port=listener.getsockname()[1])
                assert (await pool.send(get())).body == b"half of it"
                with pytest.raises(ConnectionLost, match="without TLS's own goodbye"):
                    await pool.send(get())
            await peer

    run(main())


# -- certificates that change ------------------------------------------------------------------------------------------


def test_new_certificates_cost_no_request(run: Run, authority: Authority, tmp_path: Path) -> None:
    """While calls go on, certificates are replaced again and again: no call fails, no connection ends, new ones see new
    certificates."""

    async def main() -> None:
        place = tmp_path / "live"
        pair = authority.issue(into=place)
        clock = Hours()
        async with serving(pair, clock=clock) as site:
            kept = site.pool(TlsFiles(ca=authority.ca))
            await kept.send(get())
            done = asyncio.Event()
            answered = 0

            async def call(pool: Pool) -> None:
                nonlocal answered
                while not done.is_set():
                    assert (await pool.send(get())).status == 200
                    answered += 1

            brief = [site.pool(TlsFiles(ca=authority.ca), limits=PoolLimits(age=0.0)) for _ in range(4)]
            callers = [asyncio.ensure_future(call(pool)) for pool in [kept, *brief]]
            seen = {serial_in(pair.cert)}
            for _ in range(5):
                authority.issue(into=place)
                clock.now += 2
                assert await presented(site, authority.ca) == serial_in(pair.cert)
                seen.add(serial_in(pair.cert))
                before = answered
                await until(lambda before=before: answered > before + 20)  # type: ignore[misc]
            done.set()
            await asyncio.gather(*callers)
            assert len(seen) == 6
            assert [len(pool._open) for pool in site.pools] == [1, 0, 0, 0, 0]

    run(main())


def test_a_turned_link_is_a_new_certificate(run: Run, authority: Authority, tmp_path: Path) -> None:
    """Kubernetes replaces a secret by turning a symbolic link to a folder: the new certificate is served."""

    async def main() -> None:
        for name in ("one", "two"):
            authority.issue(into=tmp_path / name)
        link = tmp_path / "data"
        link.symlink_to("one")
        (tmp_path / "server.pem").symlink_to("data/server.pem")
        (tmp_path / "server.key").symlink_to("data/server.key")
        clock = Hours()
        async with serving(Pair(str(tmp_path / "server.pem"), str(tmp_path / "server.key")), clock=clock) as site:
            first = await presented(site, authority.ca)
            turned = tmp_path / "turned"
            turned.symlink_to("two")
            turned.replace(link)
            assert await presented(site, authority.ca) == first  # within the same second nobody looks
            clock.now += 2
            assert await presented(site, authority.ca) == serial_in(str(tmp_path / "two" / "server.pem")) != first

    run(main())


@pytest.mark.parametrize("broken", ["cert", "key", "gone", "mismatch"])
def test_a_broken_new_certificate_is_not_taken(
    run: Run, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """The old one stays in use, one warning names the file and the fix, and the next good one is taken."""
    caplog.set_level(logging.INFO, "mizzen.tls")
    place = tmp_path / "live"
    pair = authority.issue(into=place)
    another = authority.issue("another")

    def damage() -> None:
        if broken == "gone":
            Path(pair.cert).unlink()
        elif broken == "mismatch":
            shutil.copyfile(another.key, pair.key)
        else:
            Path(pair.cert if broken == "cert" else pair.key).write_text("not yet\n")

    async def main() -> None:
        clock = Hours()
        async with serving(pair, clock=clock) as site:
            first = await presented(site, authority.ca)
            damage()
            for _ in range(3):
                clock.now += 2
                assert await presented(site, authority.ca) == first
            authority.issue(into=place)
            clock.now += 2
            assert await presented(site, authority.ca) == serial_in(pair.cert) != first

    run(main())
    file = pair.cert if broken in ("cert", "gone") else pair.key
    why = {
        "gone": "cannot be read (No such file or directory)",
        "mismatch": f"does not belong to the certificate in {pair.cert}",
    }
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert file in warning
    assert why.get(broken, "in PEM form") in warning
    assert "the certificates loaded before stay in use; fix: " in warning
    assert sum("new TLS certificates from" in record.getMessage() for record in caplog.records) == 1


def test_who_is_let_in_can_change(run: Run, authority: Authority, tmp_path: Path) -> None:
    """A new client_ca counts for new connections: who was let in no longer is, and the other way round."""

    async def main() -> None:
        other = Authority(tmp_path / "other")
        ours, theirs = authority.issue("order"), other.issue("order")
        trusted = tmp_path / "callers.pem"
        shutil.copyfile(authority.ca, trusted)
        clock = Hours()
        async with serving(authority.issue(), ca=str(trusted), clock=clock) as site:
            old, new = (
                site.pool(TlsFiles(ca=authority.ca, cert=pair.cert, key=pair.key), limits=PoolLimits(age=0.0))
                for pair in (ours, theirs)
            )
            assert (await old.send(get())).status == 200
            with pytest.raises(ConnectFailed):
                await new.send(get())
            shutil.copyfile(other.ca, trusted)
            clock.now += 2
            assert (await new.send(get())).status == 200
            with pytest.raises(ConnectFailed):
                await old.send(get())

    run(main())


def test_a_client_shows_its_new_certificate(run: Run, authority: Authority, tmp_path: Path) -> None:
    """A caller whose certificate was replaced is let in again without a restart."""

    async def main() -> None:
        place = tmp_path / "caller"
        pair = authority.issue("order", begins=-9, ends=-1, into=place)
        clock = Hours()
        async with serving(authority.issue(), ca=authority.ca, clock=clock) as site:
            pool = site.pool(TlsFiles(ca=authority.ca, cert=pair.cert, key=pair.key))
            with pytest.raises(ConnectFailed):
                await pool.send(get())
            authority.issue("order", into=place)
            clock.now += 2
            assert (await pool.send(get())).status == 200

    run(main())
