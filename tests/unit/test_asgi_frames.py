"""Frames: bytes into messages and back, and what is no message."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from mizzen.edges.asgi.frames import GARBLED, TOO_BIG, Closed, Frames, Pinged


class Peer:
    """The other end, by the same library; and by hand where it would not say what a test wants said."""

    def __init__(self) -> None:
        self.connection = Connection(ConnectionType.CLIENT)

    def text(self, data: str, *, last: bool = True) -> bytes:
        return self.connection.send(TextMessage(data, message_finished=last))

    def binary(self, data: bytes, *, last: bool = True) -> bytes:
        return self.connection.send(BytesMessage(data, message_finished=last))

    def hear(self, data: bytes) -> list[object]:
        self.connection.receive_data(data)
        return list(self.connection.events())


def raw(opcode: int, payload: bytes, *, masked: bool = True, length: int | None = None) -> bytes:
    """A frame by hand, masked with zeros; ``length`` is what it claims to have."""
    size = len(payload) if length is None else length
    head = struct.pack("!B", 0x80 | opcode)
    mark = 0x80 if masked else 0
    if size < 126:
        head += struct.pack("!B", mark | size)
    elif size < 65536:
        head += struct.pack("!BH", mark | 126, size)
    else:
        head += struct.pack("!BQ", mark | 127, size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


def test_messages_go_both_ways() -> None:
    """Text arrives as text and bytes as bytes, in their order, however the bytes are cut."""
    peer, frames = Peer(), Frames(most=100)
    stream = peer.text("hällo") + peer.binary(b"\0\xff") + peer.text("")
    heard = [message for at in range(len(stream)) for message in frames.feed(stream[at : at + 1])]
    assert heard == ["hällo", b"\0\xff", ""]
    assert [event.data for event in peer.hear(frames.message("ja") + frames.message(b"no"))] == ["ja", b"no"]  # type: ignore[attr-defined]


def test_fragments_are_one_message() -> None:
    """A message in several frames is one, with a ping between them."""
    peer, frames = Peer(), Frames(most=100)
    stream = peer.text("a", last=False) + peer.text("", last=False) + peer.connection.send(Ping(b"?")) + peer.text("bc")
    assert list(frames.feed(stream)) == [Pinged(b"?"), "abc"]
    assert list(frames.feed(peer.text("next"))) == ["next"]


@pytest.mark.parametrize("piece", ["ab", b"ab"])
def test_a_message_in_tiny_fragments_costs_its_size(piece: str | bytes) -> None:
    """A caller cannot make a small message large in memory by cutting it up."""
    frames, count = Frames(most=10_000), 5_000
    data = piece.encode() if isinstance(piece, str) else piece
    first, next_one = bytearray(raw(1 if isinstance(piece, str) else 2, data)), bytearray(raw(0, data))
    first[0] &= 0x7F
    next_one[0] &= 0x7F
    tracemalloc.start()
    try:
        assert list(frames.feed(bytes(first))) == []
        for _ in range(100):
            assert list(frames.feed(bytes(next_one) * (count // 100 - 1))) == []
        assert tracemalloc.get_traced_memory()[0] < 60_000
    finally:
        tracemalloc.stop()
    (message,) = frames.feed(raw(0, data))
    assert isinstance(message, str | bytes)
    assert len(message) == 2 * (2 + 100 * (count // 100 - 1))


@pytest.mark.parametrize("parts", [["x" * 11], ["x" * 6, "y" * 5]])
def test_a_message_over_the_limit_ends_it(parts: list[str]) -> None:
    """Whole or in fragments, what is over the limit is refused with 1009 before it is whole, and nothing follows."""
    peer, frames = Peer(), Frames(most=10)
    stream = b"".join(peer.text(part, last=part is parts[-1]) for part in parts)
    assert list(frames.feed(stream)) == [Closed(TOO_BIG, "a message is over 10 bytes", ours=True)]
    assert list(frames.feed(peer.text("more"))) == []


def test_a_frame_that_claims_to_be_endless_is_not_waited_for() -> None:
    """What counts is what arrives: a header that promises exabytes costs nothing, and the limit holds for the rest."""
    frames = Frames(most=10)
    assert list(frames.feed(raw(2, b"x" * 10, length=2**62))) == []
    assert [event.code for event in frames.feed(b"x") if isinstance(event, Closed)] == [TOO_BIG]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw(1, b"hello", masked=False), GARBLED),
        (raw(3, b""), GARBLED),
        (b"\xc1\x80\0\0\0\0", GARBLED),  # a bit reserved for extensions
        (b"\x09\x80\0\0\0\0", GARBLED),  # a ping in fragments
        (raw(9, b"x" * 126), GARBLED),
        (raw(8, b"\x03"), GARBLED),
        (raw(8, struct.pack("!H", 1005)), GARBLED),
        (raw(0, b"nothing to continue"), GARBLED),
        (raw(1, b"\xff\xfe"), 1007),
        (b"GET / HTTP/1.1\r\n", GARBLED),
    ],
)
def test_what_is_no_websocket_ends_it(data: bytes, code: int) -> None:
    """Whatever breaks the protocol is answered with its close code."""
    frames = Frames(most=1000)
    (closed,) = frames.feed(data)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.ours) == (code, True)
    assert struct.unpack("!H", frames.close(closed.code)[2:4]) == (code,)


def test_a_close_is_answered_once() -> None:
    """The peer's code and reason are told, our Close follows, and nothing is sent after it."""
    peer, frames = Peer(), Frames(most=10)
    stream = peer.connection.send(CloseConnection(4001, "bye"))
    assert list(frames.feed(stream)) == [Closed(4001, "bye")]
    (answer,) = peer.hear(frames.close(4001))
    assert isinstance(answer, CloseConnection)
    assert frames.close(1000) == frames.pong(b"") == b""
