"""What RFC 9112 says about a stream of bytes, read strictly and in the order of its text; slow, and simple on purpose.

Every leeway that the RFC gives a recipient is refused here, but for those in ``LEEWAY``: each names what Mizzen's parser
takes and why no other reading of the same bytes exists. What a leeway was needed for is noted on the message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LEEWAY = {
    "empty line": "RFC 9112 §2.2 lets empty lines before a message be passed over; CR or LF alone, which the parser takes "
    "for one as well, cannot be part of a message either, so the next message begins at the same byte in every reading",
    "spaces": "RFC 9112 §3 lets runs of spaces part a request line, and a target can have no space in it: nothing else fits",
    "RTSP": "the parser takes RTSP/ and ICE/ for HTTP/ and does not tell; the version and the framing are the same",
    "no reason": "a status line without the space before an empty reason (RFC 9112 §4), which many servers send",
    "extension": "a chunk extension may lack its name, or have a quoted string behind its value: all of it is ignored anyway",
    "reason": "the parser takes controls in a reason phrase (never CR or LF); nobody reads it, and only its line end counts",
    "trailer": "framing in a trailer means nothing (RFC 9110 §6.5.1): trailers are dropped, and the body has ended before them",
}
"""Names of leniencies, each with the reason why it leaves one reading only."""

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
TARGET = re.compile(rb"[\x21-\x7e]+")
REG_NAME = rb"(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
HOST = re.compile(rb"(?:%b*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?" % REG_NAME)
ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
EXTENSION = re.compile(rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (TOKEN.pattern, TOKEN.pattern, QUOTED))
LOOSE_EXTENSION = re.compile(rb"(?:;(?:%b)?(?:=(?:%b)?(?:%b)?)?)*" % (TOKEN.pattern, TOKEN.pattern, QUOTED))
REQUEST_LINE = re.compile(rb"(\S+)( +)(\S+)( +)(HTTP|RTSP|ICE)/(\d)\.(\d)")
STATUS_LINE = re.compile(rb"(HTTP|RTSP|ICE)/(\d)\.(\d) ([1-9]\d\d)( [^\r\n]*)?")

MAX_BODY = 1 << 20
"""Bytes of a body at which Mizzen's own limit refuses it; a larger one is not malformed, and not read."""


class Bad(Exception):
    """The bytes are no HTTP/1.1, or could be read in two ways."""


class Partial(Exception):
    """The bytes end before the message does."""


@dataclass
class Message:
    """One request or answer."""

    start: bytes = b""
    """Method or status."""
    target: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    keep: bool = True
    leeway: set[str] = field(default_factory=set)
    until_end: bool = False
    """Whether the body ends with the connection."""


@dataclass
class Verdict:
    """The messages of a stream, and how it goes on after the last one."""

    messages: list[Message]
    end: str
    """``end`` (of the bytes, or of what may be read), ``partial`` or ``bad``."""
    reason: str = ""
    rest: bytes = b""
    """What was not read, after an ``end``."""
    leeway: frozenset[str] = frozenset()
    """What the bytes after the last message needed."""


class Bytes:
    """A position in a stream."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def line(self) -> bytes:
        """The next line; CRLF ends it, and neither of the two stands for itself anywhere."""
        end = self.data.find(b"\n", self.at)
        if end < 0:
            if b"\r" in self.data[self.at : -1]:
                raise Bad("CR without LF")
            raise Partial
        line = self.data[self.at : end]
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Bad("a line end that is not CRLF")
        self.at = end + 1
        return line[:-1]

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if len(self.data) - self.at < size:
            raise Partial
        self.at += size
        return self.data[self.at - size : self.at]


def requests(data: bytes) -> Verdict:
    """The requests in these bytes."""
    source = Bytes(data)
    messages: list[Message] = []
    while True:
        message = Message()
        try:
            _pass_empty_lines(source, message)
            if source.at == len(data):
                return Verdict(messages, "end")
            read_request(source, message)
        except Partial:
            return Verdict(messages, "partial", leeway=frozenset(message.leeway))
        except Bad as bad:
            return Verdict(messages, "bad", str(bad), leeway=frozenset(message.leeway))
        messages.append(message)
        if not message.keep:
            return Verdict(messages, "end", rest=data[source.at :])


def answer(data: bytes, method: str) -> Verdict:
    """The answer to a request of that method; interim ones are passed over."""
    source = Bytes(data)
    message = Message()
    try:
        while True:
            _pass_empty_lines(source, message)
            read_answer(source, message, method)
            if message.start >= b"200":
                break
            message.fields = []
    except Partial:
        return Verdict([message] if message.until_end else [], "partial", leeway=frozenset(message.leeway))
    except Bad as bad:
        return Verdict([], "bad", str(bad), leeway=frozenset(message.leeway))
    return Verdict([message], "end", rest=data[source.at :])


def _pass_empty_lines(source: Bytes, message: Message) -> None:
    data, start = source.data, source.at
    while data[source.at : source.at + 1] in (b"\r", b"\n"):
        source.at += 1
    if source.at > start:
        message.leeway.add("empty line")


def read_request(source: Bytes, message: Message) -> None:
    """RFC 9112 §3 and §6."""
    line = source.line()
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Bad("no request line")
    method, space, target, second_space, protocol, major, minor = match.groups()
    if len(space) + len(second_space) > 2:
        message.leeway.add("spaces")
    if protocol != b"HTTP":
        message.leeway.add("RTSP")
    if major != b"1" or minor not in b"01":
        raise Bad("another version")
    old = minor == b"0"
    if not TOKEN.fullmatch(method) or not TARGET.fullmatch(target):
        raise Bad("no request line")
    message.start, message.target = method, target
    message.fields = read_fields(source)
    hosts = values(message, b"host")
    if len(hosts) > 1 or (not hosts and not old):
        raise Bad("not one Host")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise Bad("a bad Host")
    check_target(message)
    length, chunked = framing(message)
    if chunked and old:
        raise Bad("chunked in HTTP/1.0")
    expect = values(message, b"expect")
    if expect and not old and any(value.lower() != b"100-continue" for value in expect):
        raise Bad("another expectation")
    message.keep = keeps(message, old)
    if chunked:
        message.body = read_chunks(source, message)
    elif length:
        if length > MAX_BODY:
            raise Bad("too large")
        message.body = source.take(length)


def check_target(message: Message) -> None:
    """RFC 9112 §3.2: the four forms."""
    target = message.target
    if message.start == b"CONNECT":
        raise Bad("CONNECT")
    if b"#" in target:
        raise Bad("a fragment")
    if target.startswith(b"/") or (target == b"*" and message.start == b"OPTIONS"):
        return
    match = ABSOLUTE.fullmatch(target)
    if match is None or not HOST.fullmatch(match[1]) or match[1].startswith(b":"):
        raise Bad("another form of target")


def read_answer(source: Bytes, message: Message, method: str) -> None:
    """RFC 9112 §4 and §6.3."""
    line = source.line()
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        raise Bad("no status line")
    protocol, major, minor, status, reason = match.groups()
    if reason is None:
        message.leeway.add("no reason")
    elif not VALUE.fullmatch(reason):
        message.leeway.add("reason")
    if protocol != b"HTTP":
        message.leeway.add("RTSP")
    if major != b"1" or minor not in b"01":
        raise Bad("another version")
    message.start = status
    message.fields = read_fields(source)
    if status == b"101":
        raise Bad("another protocol")
    if status < b"200":
        return
    length, chunked = framing(message)
    message.keep = keeps(message, minor == b"0")
    if method == "HEAD" or status in (b"204", b"304"):
        return
    if chunked:
        if minor == b"0":
            message.keep = False
        message.body = read_chunks(source, message)
    elif length is not None:
        message.body = source.take(length)
    else:
        message.until_end = True
        message.keep = False
        message.body = source.data[source.at :]
        source.at = len(source.data)
        raise Partial


def read_fields(source: Bytes) -> list[tuple[bytes, bytes]]:
    """RFC 9112 §5: field lines up to an empty one."""
    fields = []
    while line := source.line():
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise Bad("no field line")
        fields.append((name.lower(), value.strip(b" \t")))
    return fields


def values(message: Message, name: bytes) -> list[bytes]:
    """Every value of that name."""
    return [value for field, value in message.fields if field == name]


def framing(message: Message) -> tuple[int | None, bool]:
    """RFC 9112 §6: a length or chunks, never both, each said once."""
    lengths, codings = values(message, b"content-length"), values(message, b"transfer-encoding")
    if codings:
        if lengths:
            raise Bad("both a length and a coding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Bad("a coding that is not chunked alone")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
        raise Bad("a length that is not one number")
    if int(lengths[0]) >= 1 << 64:
        raise Bad("a length that overflows")
    return int(lengths[0]), False


def keeps(message: Message, old: bool) -> bool:
    """RFC 9112 §9.3."""
    options = {option.strip(b" \t").lower() for value in values(message, b"connection") for option in value.split(b",")}
    return b"close" not in options and (not old or b"keep-alive" in options)


def read_chunks(source: Bytes, message: Message) -> bytes:
    """RFC 9112 §7.1."""
    body = b""
    while True:
        line = source.line()
        digits = re.match(rb"[0-9A-Fa-f]+", line)
        if digits is None:
            raise Bad("no chunk size")
        extension = line[digits.end() :]
        if not EXTENSION.fullmatch(extension):
            if not LOOSE_EXTENSION.fullmatch(extension):
                raise Bad("a bad chunk extension")
            message.leeway.add("extension")
        size = int(digits[0], 16)
        if size >= 1 << 64:
            raise Bad("a chunk size that overflows")
        if not size:
            break
        if len(body) + size > MAX_BODY:
            raise Bad("too large")
        body += source.take(size)
        if source.data[source.at : source.at + 1] not in (b"\r", b""):
            raise Bad("no CRLF after a chunk")
        if source.line():
            raise Bad("no CRLF after a chunk")
    for name, _ in read_fields(source):
        if name in (b"content-length", b"transfer-encoding"):
            message.leeway.add("trailer")
    return body
