"""Bytes to try: messages made by the grammar, bent where it matters, and cut into reads. A number makes the same bytes."""

from __future__ import annotations

from itertools import pairwise
from random import Random

RARELY, OFTEN = 0.3, 2.0
"""How much a part is bent: a bad first line hides everything after it, and framing is where readers come to disagree."""

EOLS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n ", b"\r\n\t", b"\r\n\r", b"\n\n", b"\x0b", b" \r\n", b"\x00\r\n", b"\x85")
METHODS = (
    b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND", b"QUERY", b"SOURCE", b"CONNECT", b"PRI",
    b"get", b"GE\nT", b"G T", b"", b"\tGET", b" GET", b"M-SEARCH", b"DESCRIBE", b"G\x00T", b"GET\x0b", b"XXXX",
)  # fmt: skip
SPACES = (b"  ", b"\t", b"", b" \t", b"\x0b", b"\r", b"\n", b"\xa0", b"   ")
TARGETS = (
    b"*", b"http://x/", b"http://x", b"HTTP://x:80/a?b", b"https://y/z", b"http://u@x/", b"http://", b"http:///", b"x:80",
    b"a", b"//x/y", b"/a#b", b"/\xff", b"/a\x00b", b"/a\tb", b"/a\\b", b"/%00", b"/%zz", b"/?", b"?a", b"/a\x7f",
    b"ftp://x/", b"http://x:y/", b"http://[::1]/", b"http://[::1/", b"http://x\\y/", b"/" + b"a" * 300, b"http://:80/",
    b"/a\x0bb", b"",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"http/1.1",
    b"HTTP/1,1", b"HTTP /1.1", b"HTTP/1.1x", b"", b"RTSP/1.0", b"RTSP/1.1", b"ICE/1.0", b"HTTP/3", b"HTTP/1.",
    b"HTTP/1.1\t", b"HTTPS/1.1",
)  # fmt: skip
HOSTS = (
    b"", b"x:80", b"x:", b"x:y", b"x,y", b"x y", b"u@x", b"x/y", b"[::1]", b"[::1]:8", b"[::1", b"x:1:2", b"x\x80", b"%41",
    b"%4", b"x#y", b"x?y", b":80", b"x\\y", b"]", b"x\ty", b"1.2.3.4:80", b"x%",
)  # fmt: skip
LENGTHS = (
    b"+3", b"-3", b" 3", b"3 ", b"3\t", b"0x3", b"3,3", b"3, 3", b"3, 4", b"1 2", b"03", b"0", b"00", b"", b"3.0", b"3e0",
    b"3;", b"\x0b3", b"3\x00", b"18446744073709551616", b"18446744073709551619", b"9223372036854775808",
    b"99999999999999999999999", b"4294967299", b"1048577", b"\xb2", b"\xd9\xa3", b"'3'", b'"3"', b"3\r", b"_3", b"3_0",
    b"4", b"2", b"1000",
)  # fmt: skip
CODINGS = (
    b"chunked, identity", b"identity, chunked", b"identity", b"xchunked", b"chunkedx", b"chunked, chunked",
    b"gzip, chunked", b"chunked, gzip", b"gzip", b"\tchunked", b"chunked\t", b"chunked ", b" chunked", b"\x0bchunked",
    b"chunked\x0b", b"CHUNKED", b"Chunked", b",chunked", b"chunked,", b"chunked;q=1", b'"chunked"', b"'chunked'", b"chunk",
    b"", b"chunked\x00", b"chun ked", b"chunked\r\n ", b"\r\n chunked", b"cow\r\nTransfer-Encoding: chunked",
    b"chunked\xa0", b"ch\xc3\xbcnked", b"tchunked", b"chunked\n", b"\nchunked", b"chunked\rx",
)  # fmt: skip
NAMES = (
    b"Content-Length ", b"Content-Length\t", b" Content-Length", b"Content_Length", b"Content-Length\x00",
    b"Content\r-Length", b"Content\rLength", b"CONTENT-LENGTH", b"Transfer-Encoding ", b"Transfer-Encoding\t",
    b"Transfer-Encoding\x0b", b" Transfer-Encoding", b"Transfer\r-Encoding", b"transfer-encoding", b"Transfer_Encoding",
    b"X Y", b"", b"X\x00", b"X(", b'"X"', b"X\x80", b"Host ", b"Transfer-Encodin\xe7", b"\x00Host", b"Foo\x7f", b"[X",
    b"X\n", b"Xx\r", b"__proto__", b"Content-Length\r\n",
)  # fmt: skip
COLONS = (b"", b" :", b"\t:", b"::", b" ", b":\r\n", b"\x0b:", b"\x00:", b"=", b":\n", b":\r", b":\r\n ")
VALUES = (
    b"", b" ", b"\t", b"b\tc", b"b\rc", b"b\nc", b"b\r\n c", b"b\r\n\tc", b"b\x00", b"b\x07c", b"b\x7f", b"\xff\x80",
    b"b\x0b", b"b\rX: y", b"b\nTransfer-Encoding: chunked", b"b\rTransfer-Encoding: chunked", b"b\r\n\r\nGET /q HTTP/1.1",
    b"  b  ", b"\rb", b"b\r", b"\r\n",
)  # fmt: skip
EXTRAS = (
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: close, \r\n", b"Connection: close\t\r\n",
    b"Connection: x, close\r\n", b"Connection: keep-alive, close\r\n", b"Connection: closed\r\n", b"connection: CLOSE\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: upgrade, close\r\nUpgrade: websocket\r\n",
    b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", b"Expect: 100-continue\r\n",
    b"Expect: 100-Continue\r\n", b"Expect: x\r\n", b"Connection: x\r\nConnection: close\r\n",
    b"Connection: close\r\nConnection: x\r\n", b"Connection:close\r\n", b'Connection: "close"\r\n',
    b"Connection: ,close\r\n", b"Trailer: x\r\n", b"TE: trailers\r\n", b"Proxy-Connection: close\r\n", b"X: y\r\n" * 40,
    b"Connection:\r\n", b"Connection: close keep-alive\r\n", b"Connection: keep-alive\r\nConnection: close\r\n",
    b"Keep-Alive: x\r\n", b"Expect: 100-continue\r\nExpect: x\r\n", b"X-Content-Length: 5\r\n",
    b"X-Transfer-Encoding: chunked\r\n",
)  # fmt: skip
SIZES = (
    b"+%x", b"-%x", b" %x", b"%x ", b"%x\t", b"0x%x", b"0%x", b"0000000000000000000000%x", b"1000000000000000%x", b"%x_",
    b"%xg", b"%x;", b"%x;a", b"%x;a=b", b'%x;a="b;c"', b'%x;a="b', b'%x;a="b\nc"', b'%x;a="b\r\nc"', b"%x;a\n", b"%x;\rb",
    b"%x ;a", b"%x; a", b"%x;a = b", b"%x,", b"%x\x00", b"%x\x0b", b"\t%x", b"%x;=", b"%x;a=", b"%x;;", b'%x;a="\\"',
    b'%x;a="\\""', b'%x;a="b"c', b"%x;" + b"a" * 60, b"FFFFFFFFFFFFFFFF%x", b"%x;\x80", b"%x;a=b;c", b"%x\r",
    b'%x;a="\x80"', b"%x;a\x00", b"%x;a=b\x01", b"ffffffff%x", b"-0%x", b"%x.0", b"%x;=b", b"", b";a", b'%x;a="b";c=d',
    b'%x;a=\t"b"',
)  # fmt: skip
TRAILERS = (
    b"X: y\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: z\r\n", b"Connection: close\r\n",
    b"X\r\n", b"X : y\r\n", b"X: y\n", b"X: y\r", b" X: y\r\n", b"X: b\x00\r\n", b"A: b\r\n c\r\n", b": y\r\n",
    b"Connection: upgrade\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Expect: x\r\n", b"X: y\r\n" * 10,
)  # fmt: skip
BODIES = (
    b"abc", b"", b"hello world", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\n", b"\x00\xff\r\n",
    b"a" * 70,
)  # fmt: skip
BYTES = (
    b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"0", b"\x7f", b"\x80", b"\xff", b"a", b"-", b"\x0b",
    b'"',
)  # fmt: skip
STATUSES = (
    b"204", b"304", b"100", b"103", b"101", b"199", b"404", b"500", b"000", b"099", b"600", b"999", b"20", b"2000", b"2x0",
    b"-20", b"+200", b" 200", b"200.", b"", b"1", b"206", b"301", b"102",
)  # fmt: skip
REASONS = (b"", b" ", b" O\tK", b" O\x00K", b" O\rK", b" \xff", b"  OK", b"\tOK", b" OK\x0b", b" O\nK", b" \x7f", b"OK")


class Maker:
    """Makes the stream of one number."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.bend = 0.0

    def _bent(self, usual: bytes, others: tuple[bytes, ...], weight: float = 1.0) -> bytes:
        random = self.random
        return others[int(random.random() * len(others))] if random.random() < self.bend * weight else usual

    def _pick(self, items: tuple[bytes, ...]) -> bytes:
        return items[int(self.random.random() * len(items))]

    def _line_end(self) -> bytes:
        return self._bent(b"\r\n", EOLS) if self.random.random() < 0.3 else b"\r\n"

    def _field(self, name: bytes, value: bytes) -> bytes:
        random = self.random
        if random.random() < self.bend:
            kind = random.random()
            if kind < 0.3:
                name = self._pick(NAMES)
            elif kind < 0.6:
                return name + self._pick(COLONS) + value + b"\r\n"
            elif kind < 0.8:
                name = name.swapcase()
            else:
                return name + b":" + value + b"\r\n"
        return name + b": " + value + self._line_end()

    def _framed(self, body: bytes) -> tuple[list[bytes], bytes]:
        """Fields that frame a body, and the body as it stands on the wire; often they fit each other."""
        random = self.random
        kind = random.random()
        fields = []
        if kind < 0.5:
            fields.append(self._field(b"Content-Length", self._bent(b"%d" % len(body), LENGTHS, OFTEN)))
            wire = body
        else:
            fields.append(self._field(b"Transfer-Encoding", self._bent(b"chunked", CODINGS, OFTEN)))
            wire = self._chunks(body)
        if random.random() < self.bend:
            second = random.random()
            if second < 0.4:
                fields.append(self._field(b"Content-Length", self._pick((b"%d" % len(body), b"%d" % len(wire), *LENGTHS))))
            elif second < 0.8:
                fields.append(self._field(b"Transfer-Encoding", self._pick((b"chunked", b"identity", *CODINGS))))
            else:
                fields.append(fields[0])
            random.shuffle(fields)
        return fields, wire

    def _chunks(self, body: bytes) -> bytes:
        random = self.random
        parts = []
        cut = 1 + int(random.random() * max(len(body), 1)) if random.random() < 0.6 else max(len(body), 1)
        for start in range(0, len(body), cut):
            piece = body[start : start + cut]
            size = self._bent(b"%x", SIZES, OFTEN)
            if b"%x" in size:
                size = size.replace(b"%x", b"%x" % len(piece) if random.random() < 0.8 else b"%X" % len(piece))
            parts += (size, self._line_end(), piece, self._line_end())
            if len(parts) > 40:
                parts += (b"%x\r\n" % len(body[start + cut :]), body[start + cut :], b"\r\n") if body[start + cut :] else ()
                break
        parts.append(self._bent(b"0", tuple(size.replace(b"%x", b"0") for size in SIZES)) if random.random() < 0.4 else b"0")
        parts.append(self._line_end())
        if random.random() < 0.2:
            parts.append(self._pick(TRAILERS))
        parts.append(self._line_end())
        return b"".join(parts)

    def _noise(self, data: bytes) -> bytes:
        """Single bytes bent, anywhere."""
        random = self.random
        for _ in range(1 + int(random.random() * 3)):
            at = int(random.random() * (len(data) + 1))
            kind = random.random()
            if kind < 0.45:
                data = data[:at] + self._pick(BYTES) + data[at:]
            elif kind < 0.65:
                data = data[:at] + data[at + 1 + int(random.random() * 4) :]
            elif kind < 0.85:
                data = data[:at] + self._pick(BYTES) + data[at + 1 :]
            elif kind < 0.95:
                end = at + int(random.random() * 30)
                data = data[:end] + data[at:]
            else:
                data = data[:at]
        return data

    def requests(self) -> bytes:
        """One to three requests, most of the time."""
        random = self.random
        self.bend = (0.0, 0.02, 0.05, 0.1, 0.25)[int(random.random() * 5)]
        stream = b"".join(self._request() for _ in range(1 + int(random.random() * 3)))
        if random.random() < 0.05:
            stream = stream + self._request() * 12
        if random.random() < 0.25:
            stream = self._noise(stream)
        return self._cut_off(stream)

    def _cut_off(self, stream: bytes) -> bytes:
        return stream[: int(self.random.random() * len(stream))] if self.random.random() < 0.08 else stream

    def _request(self) -> bytes:
        random = self.random
        with_body = random.random() < 0.6
        method = self._bent(b"POST" if with_body else b"GET", METHODS, RARELY)
        line = [
            method, self._bent(b" ", SPACES, RARELY), self._bent(b"/a", TARGETS, RARELY), self._bent(b" ", SPACES, RARELY),
            self._bent(b"HTTP/1.1", VERSIONS, RARELY), self._line_end(),
        ]  # fmt: skip
        fields = [self._field(b"Host", self._bent(b"x", HOSTS))]
        wire = b""
        if with_body:
            framed, wire = self._framed(self._pick(BODIES))
            fields += framed
        if random.random() < 0.3 + self.bend:
            fields.append(self._pick(EXTRAS))
        if random.random() < 2 * self.bend:
            fields.append(self._field(b"A", self._pick(VALUES)))
        if random.random() < self.bend / 2:
            fields.append(fields[int(random.random() * len(fields))])
        if random.random() < self.bend / 2:
            del fields[int(random.random() * len(fields))]
        if random.random() < 0.3:
            random.shuffle(fields)
        before = self._pick((b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ")) if random.random() < self.bend / 2 else b""
        after = self._pick(BYTES) if random.random() < self.bend / 3 else b""
        return b"".join((before, *line, *fields, self._line_end(), wire, after))

    def answer(self) -> tuple[str, bytes]:
        """The method of a request, and bytes in answer to it."""
        random = self.random
        self.bend = (0.0, 0.02, 0.05, 0.1, 0.25)[int(random.random() * 5)]
        method = ("GET", "GET", "POST", "HEAD")[int(random.random() * 4)]
        parts = []
        if random.random() < 0.15:
            interim = self._pick((b"100 Continue", b"103 Early Hints", b"102 Processing"))
            extra = self._pick(
                (b"", b"Link: x\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n")
            )
            parts.append(b"HTTP/1.1 " + interim + b"\r\n" + extra + self._line_end())
        parts.append(self._answer(method))
        if random.random() < 0.15:
            parts.append(self._pick((self._answer("GET"), b"x", b"\r\n", b"HTTP/1.1 200", b"\n", b"0\r\n\r\n", b"\x00")))
        stream = b"".join(parts)
        if random.random() < 0.25:
            stream = self._noise(stream)
        return method, self._cut_off(stream)

    def _answer(self, method: str) -> bytes:
        random = self.random
        status = self._pick(STATUSES) if random.random() < 0.1 + self.bend else b"200"
        line = [
            self._bent(b"HTTP/1.1", VERSIONS, RARELY),
            self._bent(b" ", SPACES, RARELY),
            status,
            self._bent(b" OK", REASONS, RARELY),
            self._line_end(),
        ]
        fields = [self._field(b"Server", b"y")]
        wire = self._pick(BODIES)
        if random.random() < 0.9:
            framed, wire = self._framed(wire)
            fields += framed
        if status in (b"204", b"304") or method == "HEAD":
            if random.random() < 0.8:
                wire = b""
            if random.random() < 0.5:
                del fields[1:]
        if random.random() < 0.2 + self.bend:
            fields.append(self._pick(EXTRAS))
        if random.random() < 2 * self.bend:
            fields.append(self._field(b"A", self._pick(VALUES)))
        if random.random() < 0.3:
            random.shuffle(fields)
        return b"".join((*line, *fields, self._line_end(), wire))

    def cuts(self, size: int) -> list[int]:
        """Where a stream of that size is cut into reads."""
        random = self.random
        kind = random.random()
        if size < 2 or kind < 0.2:
            return []
        if kind < 0.6:
            return [1 + int(random.random() * (size - 1))]
        if kind < 0.9:
            return sorted({1 + int(random.random() * (size - 1)) for _ in range(5)})
        return list(range(1, min(size, 400)))


def reads(data: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces."""
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]
