"""TLS on one connection, without sockets: two ends that hand each other bytes, in whatever pieces."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from certificates import Authority
from hypothesis import given
from hypothesis import strategies as st
from newkeys import CIPHER, NewKeys

from mizzen.edges.http import Certificates, TlsFiles
from mizzen.edges.http.securing import secured
from mizzen.edges.http.tls import TlsConnection
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import ConfigError

NAME = "user.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, and of a client that trusts it."""
    pair = authority.issue(hosts=(NAME,))
    server = Certificates(TlsFiles(cert=pair.cert, key=pair.key), server=True, clock=lambda: 0.0)
    client = Certificates(TlsFiles(ca=authority.ca), server=False, clock=lambda: 0.0)
    return server.context(), client.context()


class Ends(asyncio.Protocol):
    """A protocol that keeps what it is told."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.got = bytearray()
        self.events: list[str] = []
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.events.append("lost")


class Cut(asyncio.Protocol):
    """Hands bytes on in pieces of the sizes it is given, over and over."""

    def __init__(self, inner: asyncio.Protocol, sizes: list[int]) -> None:
        self.inner = inner
        self.sizes = sizes
        self.turn = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        while data:
            size = self.sizes[self.turn % len(self.sizes)]
            self.turn += 1
            self.inner.data_received(data[:size])
            data = data[size:]

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()


class Pair:
    """Two ends over a network in memory."""

    def __init__(self, contexts: tuple[ssl.SSLContext, ssl.SSLContext], sizes: list[int] | None = None) -> None:
        self.server, self.client = Ends(), Ends()
        self.done: list[BaseException | None] = []
        self.network = MemoryNetwork()
        self._contexts = contexts
        self._sizes = sizes or [65536]

    async def connect(self) -> None:
        def note(_: TlsConnection, error: BaseException | None) -> None:
            self.done.append(error)

        def wrapped(inner: Ends, context: ssl.SSLContext, name: str | None) -> Callable[[], asyncio.Protocol]:
            return lambda: Cut(TlsConnection(inner, context, name=name, done=note), self._sizes)

        await self.network.listen("user", 443, wrapped(self.server, self._contexts[0], None))
        await self.network.connect(wrapped(self.client, self._contexts[1], NAME), "user", 443)
        await settled()


def _line(end: Ends) -> TlsConnection:
    return cast("TlsConnection", end.transport)


async def settled() -> None:
    """Let everything happen that needs no time."""
    for _ in range(50):
        await asyncio.sleep(0)


@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    pieces=st.lists(st.binary(max_size=40_000), min_size=1, max_size=4),
)
def test_bytes_arrive_in_whatever_pieces(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], sizes: list[int], pieces: list[bytes]
) -> None:
    """However records and handshakes are cut, both sides get what was written, in order, and a clean end."""

    async def main() -> None:
        pair = Pair(contexts, sizes)
        await pair.connect()
        assert pair.done == [None, None]
        for piece in pieces:
            pair.client.transport.write(piece)
            pair.server.transport.writelines([piece, b"", piece])
        await settled()
        pair.client.transport.close()
        await settled()
        assert bytes(pair.server.got) == b"".join(pieces)
        assert bytes(pair.client.got) == b"".join(piece + piece for piece in pieces)
        assert pair.server.events == ["made", "eof", "lost"]
        assert pair.client.events == ["made", "lost"]
        assert pair.server.error is pair.client.error is None

    run(main())


def test_reading_can_be_held(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Whoever pauses gets nothing, however much has arrived, and everything once it resumes."""

    async def main() -> None:
        pair = Pair(contexts)
        await pair.connect()
        pair.server.transport.pause_reading()
        assert not pair.server.transport.is_reading()
        pair.client.transport.write(b"x" * 50_000)
        await settled()
        assert not pair.server.got
        pair.server.transport.resume_reading()
        await settled()
        assert len(pair.server.got) == 50_000

    run(main())


def test_a_pause_between_two_records(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A pause from within a callback holds what came in the same read, also when the other side has left since."""

    class Picky(Ends):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        pair = Pair(contexts)
        pair.server = Picky()
        await pair.connect()
        pair.client.transport.write(b"x" * 40_000)
        pair.client.transport.close()
        await settled()
        seen = [len(pair.server.got)]
        while "lost" not in pair.server.events:
            pair.server.transport.resume_reading()
            await settled()
            seen.append(len(pair.server.got))
        assert seen[0] <= 16_384 < seen[-1] == 40_000
        assert pair.server.events == ["made", "eof", "lost"]

    run(main())


@pytest.mark.parametrize("after", [0, 100, 600, 1000, 10_000])
def test_a_reset_at_any_byte(contexts: tuple[ssl.SSLContext, ssl.SSLContext], after: int) -> None:
    """A connection that breaks during the handshake never reaches the protocol above; later it is lost, once."""

    async def main() -> None:
        pair = Pair(contexts)
        pair.network.cut("user", 443, after)
        await pair.connect()
        if pair.client.events:
            pair.server.transport.write(b"x" * 20_000)
            await settled()
            assert pair.client.events == ["made", "lost"]
            assert isinstance(pair.client.error, OSError)
        else:
            assert isinstance(pair.done[-1], OSError)
        assert pair.network.describe()["connections"] == 0

    run(main())


def test_one_direction_can_be_closed(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """After write_eof the other side has everything and the end of it, and what it still sends does no harm."""

    class Stays(Ends):
        def eof_received(self) -> bool | None:
            super().eof_received()
            return True

    async def main() -> None:
        pair = Pair(contexts)
        pair.client = Stays()
        await pair.connect()
        pair.server.transport.write(b"all of it")
        pair.server.transport.write_eof()
        pair.client.transport.write(b"x" * 50_000)
        await settled()
        assert bytes(pair.client.got) == b"all of it"
        assert pair.client.events == ["made", "eof"]
        assert (pair.server.events, bytes(pair.server.got)) == (["made"], b"")
        pair.client.transport.close()
        await settled()
        assert pair.server.events == ["made", "lost"]

    run(main())


def test_what_follows_a_goodbye_is_dropped(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Whoever said that nothing more comes from it cannot fill our memory while we go on answering."""

    class Stays(Ends):
        def eof_received(self) -> bool | None:
            super().eof_received()
            return True

    async def main() -> None:
        pair = Pair(contexts)
        pair.server = Stays()
        await pair.connect()
        line, talker = _line(pair.server), _line(pair.client)
        talker._say_bye()
        talker._below.write(b"x" * 500_000)
        await settled()
        assert line._incoming.pending < 65_536  # what came in the same read
        line.pause_reading()
        line.resume_reading()
        await settled()
        assert pair.server.events == ["made", "eof"]
        line.close()
        await settled()

    run(main())


def test_an_end_without_a_goodbye_waits_for_what_came_before(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Who holds reading gets all that arrived and then learns that more may be missing, also when it holds at the last."""

    class Picky(Ends):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        pair = Pair(contexts)
        pair.server = Picky()
        await pair.connect()
        pair.client.transport.write(b"x" * 30_000)
        await settled()
        assert _line(pair.server).eof_received() is True
        for _ in range(2):
            assert pair.server.events == ["made"]
            pair.server.transport.resume_reading()
            await settled()
        assert len(pair.server.got) == 30_000
        assert pair.server.events == ["made", "lost"]
        assert "without TLS's own goodbye" in str(pair.server.error)

    run(main())


def test_a_protocol_that_fails_loses_its_connection(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """An exception in a callback ends the connection and goes to the event loop, wherever the callback came from."""

    class Fails(Ends):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            if len(self.got) > 20_000:
                raise LookupError("a defect")

    async def main() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        pair = Pair(contexts)
        pair.server = Fails()
        await pair.connect()
        pair.client.transport.write(b"x" * 30_000)
        await settled()
        assert pair.server.events == ["made"]
        pair.server.transport.resume_reading()
        await settled()
        assert pair.server.events == pair.client.events == ["made", "lost"]
        assert [str(each["exception"]) for each in told] == ["a defect"]

    run(main())


@pytest.mark.parametrize("reads", [True, False])
def test_new_keys_without_end(authority: Authority, tmp_path: Path, reads: bool) -> None:
    """New keys are given a hundred times over, and to nobody who does not read them: that would fill our memory."""
    pair_of = authority.issue(hosts=(NAME,))
    server = Certificates(TlsFiles(cert=pair_of.cert, key=pair_of.key), server=True, clock=lambda: 0.0).context()
    client = Certificates(TlsFiles(ca=authority.ca), server=False, clock=lambda: 0.0).context()
    client.keylog_filename = str(tmp_path / "keys")

    async def main() -> None:
        pair = Pair((server, client))
        await pair.connect()
        below = _line(pair.client)._below
        assert _line(pair.client).get_extra_info("ssl_object").cipher()[0] == CIPHER
        keys = NewKeys(tmp_path / "keys")
        if not reads:
            below.pause_reading()
        sent = 0
        for _ in range(20):
            below.write(b"".join(keys.ask() for _ in range(100)))
            await settled()
            sent += 100
            if "lost" in pair.server.events:
                break
        if reads:
            below.write(keys.say(b"still here"))
            pair.server.transport.write(b"so am I")
            await settled()
            assert (bytes(pair.server.got), bytes(pair.client.got)) == (b"still here", b"so am I")
            pair.client.transport.abort()
            await settled()
        else:
            assert 500 < sent < 1000
            assert "asks for new keys again and again" in str(pair.server.error)

    run(main())


def test_a_client_waits_a_limited_time(authority: Authority) -> None:
    """A peer that never answers the handshake is given up after ten seconds."""

    async def main() -> None:
        network = MemoryNetwork()
        await network.listen("user", 443, Ends)
        tls = Certificates(TlsFiles(ca=authority.ca), server=False, clock=lambda: 0.0)
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError, match="no handshake within 10s"):
            await secured(lambda line: network.connect(line, "user", 443), Ends, tls, "user")
        assert loop.time() == pytest.approx(10.0)

    run(main())


@pytest.mark.parametrize("name", [".example", "a\0b", "x" * 64 + ".example"])
def test_a_name_that_no_certificate_has(authority: Authority, name: str) -> None:
    """It is an error of connecting, not a defect."""

    async def main() -> None:
        tls = Certificates(TlsFiles(ca=authority.ca), server=False, clock=lambda: 0.0)

        async def never(line: Any) -> None:
            raise AssertionError("opened")

        with pytest.raises(OSError, match="is no name that a certificate could have"):
            await secured(never, Ends, tls, name)

    run(main())


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "our certificate is none; set cert to one that it accepts"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "it speaks neither TLS 1.2 nor 1.3"),
        ("UNSUPPORTED_PROTOCOL", "it speaks neither TLS 1.2 nor 1.3"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "the TLS handshake failed: TLSV1_ALERT_INTERNAL_ERROR"),
    ],
)
def test_why_a_handshake_failed(authority: Authority, reason: str, said: str) -> None:
    """Our certificate is blamed where the peer's alert does so, and nowhere else."""
    error = ssl.SSLError(1, "OpenSSL's own words")
    error.reason = reason
    assert said in Certificates(TlsFiles(ca=authority.ca), server=False, clock=lambda: 0.0).explain(error, NAME)


@pytest.mark.parametrize(("presented", "believed"), [("own", True), ("other", False)])
def test_ourselves_alone_are_believed(authority: Authority, tmp_path: Path, presented: str, believed: bool) -> None:
    """Who knows the peer by its very certificate takes no other, though the file has who signed both."""
    pairs = {name: authority.issue(name, hosts=(f"{name}.example",)) for name in ("own", "other")}
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"".join(Path(file).read_bytes() for file in (pairs["own"].key, pairs["own"].cert, authority.ca)))
    shown = pairs[presented]
    server = Certificates(TlsFiles(cert=shown.cert, key=shown.key), server=True, clock=lambda: 0.0)
    client = Certificates(TlsFiles(ca=str(chain)), server=False, exact=True, clock=lambda: 0.0)

    async def main() -> None:
        pair = Pair((server.context(), client.context()))
        await pair.connect()
        assert (pair.client.events == ["made"]) is believed
        assert believed or any("verify failed" in str(error) for error in pair.done)
        if believed:
            pair.client.transport.abort()
            await settled()

    run(main())


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(authority: Authority, tmp_path: Path) -> dict[str, TlsFiles]:
    good, sealed = authority.issue("good"), authority.issue("sealed", password="hush")
    empty, garbage = tmp_path / "empty.pem", tmp_path / "garbage.pem"
    empty.write_text("")
    garbage.write_text("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")
    return {
        "missing": TlsFiles(cert="/nowhere.pem", key=good.key),
        "folder": TlsFiles(cert=str(tmp_path), key=good.key),
        "empty": TlsFiles(cert=str(empty), key=good.key),
        "swapped": TlsFiles(cert=good.key, key=good.cert),
        "no key": TlsFiles(cert=good.cert),
        "another's": TlsFiles(cert=good.cert, key=authority.issue("another").key),
        "sealed": TlsFiles(cert=sealed.cert, key=sealed.key),
        "wrong word": TlsFiles(cert=sealed.cert, key=sealed.key, password="no"),
        "garbage": TlsFiles(cert=str(garbage), key=good.key),
        "garbage ca": TlsFiles(cert=good.cert, key=good.key, ca=str(garbage)),
        "empty ca": TlsFiles(cert=good.cert, key=good.key, ca=str(empty)),
    }


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing", "cert: /nowhere.pem cannot be read (No such file or directory)"),
        ("folder", "cannot be read (Is a directory)"),
        ("empty", "empty.pem has no certificate in PEM form"),
        ("swapped", "good.key has no certificate in PEM form"),
        ("no key", "good.pem has no private key in PEM form"),
        ("another's", "another.key does not belong to the certificate in"),
        ("sealed", "sealed.key is encrypted, and its password is not set"),
        ("wrong word", "sealed.key is encrypted, and its password is wrong"),
        ("garbage", "garbage.pem or its key is damaged"),
        ("garbage ca", "ca: "),
        ("empty ca", "empty.pem has no certificate in PEM form"),
    ],
)
def test_a_wrong_file_is_named(damaged: dict[str, TlsFiles], case: str, said: str) -> None:
    """Whatever is wrong with a file, the error names it and asks nobody for a password."""
    with pytest.raises(ConfigError) as raised:
        Certificates(damaged[case], server=True, clock=lambda: 0.0)
    assert said in raised.value.what
    assert raised.value.fix


def test_an_encrypted_key(authority: Authority) -> None:
    """With its password it is read."""
    pair = authority.issue("sealed", password="hush")
    tls = Certificates(TlsFiles(cert=pair.cert, key=pair.key, password="hush"), server=True, clock=lambda: 0.0)
    assert tls.context() is tls.context()
    assert "hush" not in repr(tls)


def test_both_in_one_file(authority: Authority, tmp_path: Path) -> None:
    """Certificate and key may share a file."""
    pair = authority.issue()
    both = tmp_path / "both.pem"
    both.write_bytes(Path(pair.cert).read_bytes() + Path(pair.key).read_bytes())
    assert Certificates(TlsFiles(cert=str(both)), server=True, clock=lambda: 0.0).context().cert_store_stats()


def test_files_are_looked_at_once_a_second(authority: Authority, tmp_path: Path) -> None:
    """Between two looks a change is not seen, and a look that finds nothing new keeps the context."""
    now = [0.0]
    pair = authority.issue(into=tmp_path)
    tls = Certificates(TlsFiles(cert=pair.cert, key=pair.key), server=True, clock=lambda: now[0])
    first = tls.context()
    authority.issue(into=tmp_path)
    now[0] = 0.9
    assert tls.context() is first
    now[0] = 1.0
    second = tls.context()
    assert second is not first
    now[0] = 5.0
    assert tls.context() is second
