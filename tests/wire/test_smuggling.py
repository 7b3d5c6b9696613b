"""Requests made to be read in two ways: each is refused, or has one reading; nothing after a refused one counts."""

from __future__ import annotations

import pytest
from harsh import FINAL, Run, on_loop, serving
from loops import LOOPS

from mizzen.edges.http import Limits

pytestmark = pytest.mark.wire

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
"""Follows each bad request: it must never be answered."""
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
INSIDE = b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request in the body of another."""


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return on_loop(request.param)


LENGTHS = {
    "with a sign": b"+3",
    "negative": b"-3",
    "signed zero": b"-0",
    "hexadecimal": b"0x3",
    "a list of equals": b"3, 3",
    "a list of two": b"3, 4",
    "a list without space": b"3,3",
    "two numbers": b"1 2",
    "with a tab inside": b"3\t3",
    "empty": b"",
    "a fraction": b"3.0",
    "an exponent": b"3e0",
    "with a parameter": b"3;",
    "quoted": b'"3"',
    "with an underscore": b"3_0",
    "other digits": "\u0663".encode(),
    "superscript": b"\xb2",
    "2 to the 64": b"18446744073709551616",
    "2 to the 64 and 3": b"18446744073709551619",
    "a thousand digits": b"1" * 1000,
    "vertical tab": b"\x0b3",
    "form feed": b"3\x0c",
    "NUL": b"3\x00",
    "a lone CR": b"3\r3",
}
CODINGS = {
    "chunked not last": b"chunked, identity",
    "identity": b"identity",
    "identity first": b"identity, chunked",
    "with a letter more": b"xchunked",
    "with a letter behind": b"chunkedx",
    "twice": b"chunked, chunked",
    "gzip first": b"gzip, chunked",
    "gzip last": b"chunked, gzip",
    "gzip": b"gzip",
    "vertical tab first": b"\x0bchunked",
    "vertical tab last": b"chunked\x0b",
    "a comma first": b",chunked",
    "a comma last": b"chunked,",
    "with a parameter": b"chunked;q=1",
    "quoted": b'"chunked"',
    "single quoted": b"'chunked'",
    "a letter less": b"chunke",
    "empty": b"",
    "NUL": b"chunked\x00",
    "in two words": b"chun ked",
    "no-break space": b"chunked\xa0",
    "an umlaut": "ch\u00fcnked".encode(),
    "kelvin for k": "chun\u212aed".encode(),
    "a lone CR": b"chunked\rx",
    "a lone LF": b"\nchunked",
    "folded": b"\r\n chunked",
    "folded behind": b"chunked\r\n ",
    "cow": b"cow\r\nTransfer-Encoding: chunked",
    "tab behind": b"chunked\t\x0b",
}
NAMES = {
    "a space behind": b"Transfer-Encoding ",
    "a tab behind": b"Transfer-Encoding\t",
    "vertical tab behind": b"Transfer-Encoding\x0b",
    "a space before": b" Transfer-Encoding",
    "a tab before": b"\tTransfer-Encoding",
    "a CR inside": b"Transfer\r-Encoding",
    "a LF before": b"\nTransfer-Encoding",
    "NUL behind": b"Transfer-Encoding\x00",
    "NUL before": b"\x00Transfer-Encoding",
    "over seven bits": b"Transfer-Encodin\xe7",
    "a bracket": b"[Transfer-Encoding",
    "a quote": b'"Transfer-Encoding"',
    "DEL": b"Transfer-Encoding\x7f",
    "two words": b"X Transfer-Encoding",
    "a parenthesis": b"Transfer-Encoding(x)",
}
SIZES = {
    "a plus": b"+3\r\n",
    "a minus": b"-3\r\n",
    "a space before": b" 3\r\n",
    "a space behind": b"3 \r\n",
    "a tab behind": b"3\t\r\n",
    "hexadecimal": b"0x3\r\n",
    "an underscore": b"3_\r\n",
    "no digit": b"g\r\n",
    "empty": b"\r\n",
    "a comma": b"3,\r\n",
    "a point": b"3.0\r\n",
    "NUL": b"3\x00\r\n",
    "2 to the 64 and 3": b"10000000000000003\r\n",
    "far over": b"F" * 40 + b"\r\n",
    "bare LF": b"3\n",
    "bare CR": b"3\r",
    "CR CR LF": b"3\r\r\n",
    "LF CR": b"3\n\r",
    "other digits": "\u0663\r\n".encode(),
    "an extension with LF": b"3;a\nb\r\n",
    "an extension with CR": b"3;a\rb\r\n",
    "a quoted LF": b'3;a="\n"\r\n',
    "a quoted CRLF": b'3;a="\r\n"\r\n',
    "an open quote": b'3;a="b\r\n',
    "something behind a quote": b'3;a="b"c\r\n',
    "a control in an extension": b"3;a\x01\r\n",
    "NUL in an extension": b"3;a\x00\r\n",
    "spaces around an extension": b"3 ; a\r\n",
    "an extension that ends in LF": b"3;a\n",
    "a quoted pair of LF": b'3;a="\\\n"\r\n',
    "vertical tab": b"3\x0b\r\n",
}
AFTER_DATA = {
    "nothing": b"",
    "bare LF": b"\n",
    "bare CR": b"\r",
    "two letters": b"XX",
    "CR and a letter": b"\rX",
    "LF CR": b"\n\r",
    "a space": b" \r\n",
    "one byte more": b"d\r\n",
    "two line ends": b"\r\n\r\n",
}
ENDS = {
    "bare LF after the last chunk": b"0\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "a field without a colon": b"0\r\nx\r\n\r\n",
    "a field with a space": b"0\r\nX : y\r\n\r\n",
    "a folded field": b"0\r\nX: y\r\n z\r\n\r\n",
    "a space before": b"0\r\n X: y\r\n\r\n",
    "a lone LF in a field": b"0\r\nX: y\nZ: w\r\n\r\n",
    "NUL in a field": b"0\r\nX: \x00\r\n\r\n",
    "a length": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "CR and a letter": b"0\r\n\rX",
    "an empty name": b"0\r\n: y\r\n\r\n",
    "CR CR LF": b"0\r\n\r\r\n",
    "a lone CR in a field": b"0\r\nX: y\rZ\r\n\r\n",
}
LINES = {
    "bare LF": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\rHost: x\r\n\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab before the version": b"GET /\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "vertical tab": b"GET\x0b/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space at its end": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a space at its beginning": b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\nHost: x\r\n\r\n",
    "lower case": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1": b"GET / HTTP/1\r\nHost: x\r\n\r\n",
    "no digit": b"GET / HTTP/1.x\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a preface in HTTP/1.1": b"PRI * HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 10,
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method with LF": b"GE\nT / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method with CRLF": b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n"[:3] + b"\r\n/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method with NUL": b"GET\x00 / HTTP/1.1\r\nHost: x\r\n\r\n",
    "over seven bits": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "DEL in the target": b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bare name": b"GET next HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT to a path": b"CONNECT / HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n",
    "CONNECT to a URL": b"CONNECT http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
}
FIELDS = {
    "no host": b"",
    "two hosts": b"Host: x\r\nHost: x\r\n",
    "two different hosts": b"Host: x\r\nHost: y\r\n",
    "a list of hosts and ports": b"Host: x:80:81\r\n",
    "a host with a path": b"Host: x/y\r\n",
    "a host with userinfo": b"Host: u@x\r\n",
    "a host with a space": b"Host: x y\r\n",
    "a host with a backslash": b"Host: x\\y\r\n",
    "a host with an open bracket": b"Host: [::1\r\n",
    "a host with a bracket": b"Host: ]\r\n",
    "a port that is no number": b"Host: x:y\r\n",
    "half an escape": b"Host: x%4\r\n",
    "a host over seven bits": b"Host: x\xff\r\n",
    "a host with a query": b"Host: x?y\r\n",
    "a host with a fragment": b"Host: x#y\r\n",
    "a space before the colon": b"Host : x\r\n",
    "no colon": b"Host: x\r\nA\r\n",
    "an empty name": b"Host: x\r\n: b\r\n",
    "a space in a name": b"Host: x\r\nA b: c\r\n",
    "a fold": b"Host: x\r\nA: b\r\n c\r\n",
    "a fold with a tab": b"Host: x\r\nA: b\r\n\tc\r\n",
    "an empty fold": b"Host: x\r\nA: b\r\n \r\n",
    "a fold of the first field": b" Host: x\r\n",
    "a lone LF": b"Host: x\r\nA: b\nC: d\r\n",
    "a lone CR": b"Host: x\r\nA: b\rC: d\r\n",
    "CR CR LF": b"Host: x\r\nA: b\r\r\n",
    "NUL": b"Host: x\r\nA: b\x00c\r\n",
    "a control": b"Host: x\r\nA: b\x01c\r\n",
    "DEL": b"Host: x\r\nA: b\x7f\r\n",
    "a lone LF at the end": b"Host: x\r\n\n",
    "a CR and a letter at the end": b"Host: x\r\n\rX",
    "vertical tab": b"Host: x\r\nA: b\x0bc\r\n",
    "a name over seven bits": b"Host: x\r\n\xc3\xa9: b\r\n",
    "another expectation": b"Host: x\r\nExpect: 200-ok\r\n",
    "a second expectation": b"Host: x\r\nExpect: y\r\nExpect: 100-continue\r\n",
    "a length beside a coding": b"Host: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "a coding beside a length": b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "two lengths": b"Host: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
    "two different lengths": b"Host: x\r\nContent-Length: 0\r\nContent-Length: 33\r\n",
    "two codings": b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "two different codings": b"Host: x\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "an empty coding beside a length": b"Host: x\r\nTransfer-Encoding:\r\nContent-Length: 33\r\n",
    "a length with a space before": b"Host: x\r\n Content-Length: 33\r\n",
    "a length with a space behind": b"Host: x\r\nContent-Length : 33\r\n",
    "a CR for a hyphen": b"Host: x\r\nContent\rLength: 33\r\n",
}
TARGETS = {
    "a URL without a Host": GET.replace(b"/ ", b"http://x/ ") + b"\r\n",
    "a URL and two hosts": GET.replace(b"/ ", b"http://x/ ") + HOST + HOST + b"\r\n",
    "a URL and a bad host": GET.replace(b"/ ", b"http://x/ ") + b"Host: a b\r\n\r\n",
    "a URL with userinfo": GET.replace(b"/ ", b"http://u:p@x/ ") + HOST + b"\r\n",
    "a URL without a name": GET.replace(b"/ ", b"http:///a ") + HOST + b"\r\n",
    "a URL with a port only": GET.replace(b"/ ", b"http://:80/ ") + HOST + b"\r\n",
    "another scheme": GET.replace(b"/ ", b"ftp://x/ ") + HOST + b"\r\n",
    "a URL with a broken address": GET.replace(b"/ ", b"http://[::1/ ") + HOST + b"\r\n",
    "a star": GET.replace(b"/ ", b"* ") + HOST + b"\r\n",
    "a URL with a backslash": GET.replace(b"/ ", b"http://x\\y/ ") + HOST + b"\r\n",
}

REFUSED: dict[str, bytes] = {
    **{f"length {name}": POST + b"Content-Length: " + value + b"\r\n\r\nabc" for name, value in LENGTHS.items()},
    **{f"coding {name}": POST + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n" for name, value in CODINGS.items()},
    **{
        f"coding {name} beside a length": POST + b"Content-Length: 5\r\nTransfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n"
        for name, value in CODINGS.items()
    },
    **{f"name with {name}": POST + value + b": chunked\r\n\r\n0\r\n\r\n" for name, value in NAMES.items()},
    **{f"chunk size with {name}": CHUNKED + value + b"abc\r\n0\r\n\r\n" for name, value in SIZES.items()},
    **{f"after a chunk {name}": CHUNKED + b"3\r\nabc" + value + b"0\r\n\r\n" for name, value in AFTER_DATA.items()},
    **{f"last chunk with {name}": CHUNKED + b"3\r\nabc\r\n" + value for name, value in ENDS.items()},
    **{f"first line: {name}": value for name, value in LINES.items()},
    **{f"fields: {name}": b"POST / HTTP/1.1\r\n" + value + b"\r\n" for name, value in FIELDS.items()},
    **{f"target: {name}": value for name, value in TARGETS.items()},
    "a coding in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding and keep-alive in HTTP/1.0": b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n"
    + CHUNKED.removeprefix(POST)
    + b"0\r\n\r\n",
    "a body over the limit": POST + b"Content-Length: 2000000\r\n\r\n",
    "an upgrade with both framings": POST
    + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an upgrade with a bad chunk": CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    + b"3\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("pieces", [0, 1], ids=["whole", "by bytes"])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_with_two_readings_is_refused(run: Run, data: bytes, pieces: int) -> None:
    """What two readers could read differently is answered once, with an error, and nothing after it is answered or handled."""

    async def main() -> None:
        async with serving() as harm:
            answer = await harm.talk(data + NEXT, pieces=pieces)
            statuses = [int(status) for status in FINAL.findall(answer)]
            assert len(statuses) == 1
            assert statuses[0] in (400, 413, 417, 431, 501, 505), answer
            assert b"\r\nconnection: close\r\n" in answer
            assert harm.seen == []
            assert harm.errors == []

    run(main())


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
ONE_READING: dict[str, tuple[bytes, list[tuple[str, str, bytes]]]] = {
    "a request in a body with a length": (POST + b"Content-Length: %d\r\n\r\n" % len(INSIDE) + INSIDE, [("POST", "/", INSIDE)]),
    "a request in a chunk": (CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE), [("POST", "/", INSIDE)]),
    "a request after an empty body": (
        POST + b"Content-Length: 0\r\n\r\n" + INSIDE,
        [("POST", "/", b""), ("GET", "/inside", b"")],
    ),
    "a GET with a body": (
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(INSIDE) + INSIDE,
        [("GET", "/", INSIDE)],
    ),
    "a HEAD with chunks": (
        CHUNKED.replace(b"POST", b"HEAD") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE),
        [("HEAD", "/", INSIDE)],
    ),
    "a DELETE without a body": (
        b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n" + INSIDE,
        [("DELETE", "/", b""), ("GET", "/inside", b"")],
    ),
    "a POST without framing": (POST + b"\r\n" + INSIDE, [("POST", "/", b""), ("GET", "/inside", b"")]),
    "h2c with a body": (POST + H2C + b"Content-Length: %d\r\n\r\n" % len(INSIDE) + INSIDE, [("POST", "/", INSIDE)]),
    "h2c without one": (GET + HOST + H2C + b"\r\n" + INSIDE, [("GET", "/", b""), ("GET", "/inside", b"")]),
    "a WebSocket that nobody speaks": (
        GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n" + INSIDE,
        [("GET", "/", b""), ("GET", "/inside", b"")],
    ),
    "an upgrade with chunks": (
        POST + H2C + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE),
        [("POST", "/", INSIDE)],
    ),
    "100-continue with the body at once": (
        POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(INSIDE) + INSIDE,
        [("POST", "/", INSIDE)],
    ),
    "100-continue without a body": (
        GET + HOST + b"Expect: 100-continue\r\n\r\n" + INSIDE,
        [("GET", "/", b""), ("GET", "/inside", b"")],
    ),
    "two of the same expectation": (
        POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
        [("POST", "/", b"ab")],
    ),
    "leading zeros of a length": (POST + b"Content-Length: 003\r\n\r\nabc", [("POST", "/", b"abc")]),
    "spaces around a length": (POST + b"Content-Length: \t 3 \t\r\n\r\nabc", [("POST", "/", b"abc")]),
    "leading zeros of a chunk": (CHUNKED + b"00000000000000000000003\r\nabc\r\n000\r\n\r\n", [("POST", "/", b"abc")]),
    "chunked in capitals": (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [("POST", "/", b"abc")]),
    "a tab before chunked": (POST + b"Transfer-Encoding:\tchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [("POST", "/", b"abc")]),
    "extensions": (CHUNKED + b'3;a;b=c;d="e;\\"f"\r\nabc\r\n0;z\r\n\r\n', [("POST", "/", b"abc")]),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nHost: evil\r\nX-User: root\r\n\r\n", [("POST", "/", b"abc")]),
    "the URL's authority against Host": (
        b"GET http://x/?a HTTP/1.1\r\nHost: y\r\n\r\n",
        [("GET", "/?a", b"")],
    ),
    "two spaces": (b"GET  /a  HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "/a", b"")]),
    "empty lines before": (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "/", b"")]),
    "names that look like framing": (
        POST + b"Content_Length: 9\r\nX-Content-Length: 9\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        [("POST", "/", b"abc")],
    ),
    "a dangerous name": (GET + HOST + b"__proto__: x\r\nconstructor: y\r\n\r\n", [("GET", "/", b"")]),
}


@pytest.mark.parametrize("pieces", [0, 1], ids=["whole", "by bytes"])
@pytest.mark.parametrize(("data", "seen"), ONE_READING.values(), ids=ONE_READING.keys())
def test_a_request_with_one_reading_is_read_so(run: Run, data: bytes, seen: list[tuple[str, str, bytes]], pieces: int) -> None:
    """What is unusual but clear is read as RFC 9112 says, to the byte, and the request after it is found."""

    async def main() -> None:
        async with serving() as harm:
            answer = await harm.talk(data + LAST, pieces=pieces)
            assert harm.seen == [*seen, ("GET", "/last", b"")]
            assert FINAL.findall(answer) == [b"200"] * len(harm.seen)

    run(main())


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x\r\nConnection: CLOSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
    ],
)
@pytest.mark.parametrize("more", [NEXT, b"\x00" * 100, b"0\r\n\r\n" + NEXT], ids=["a request", "zeros", "a chunk"])
def test_what_follows_the_last_request_is_nothing(run: Run, head: bytes, more: bytes) -> None:
    """After a request that ends its connection, whatever follows is neither answered nor handled."""

    async def main() -> None:
        async with serving() as harm:
            answer = await harm.talk(head + more)
            assert (len(harm.seen), FINAL.findall(answer)) == (1, [b"200"])
            assert harm.settled == [200]

    run(main())


def test_a_streaming_handler_never_gets_the_end_of_a_bad_body(run: Run) -> None:
    """A handler that takes its body as it arrives meets an error instead of an end when the framing breaks."""

    async def main() -> None:
        async with serving(streams=lambda request: True, limits=Limits(progress=5.0)) as harm:
            for bad in (*SIZES.values(), b"3\r\nabcXX", b"3\r\nabc\n", b"0\r\n\n"):
                answer = await harm.talk(CHUNKED + b"1\r\na\r\n" + bad + b"abc\r\n0\r\n\r\n" + NEXT)
                assert b"HTTP/1.1 200" not in answer
            assert harm.seen == []

    run(main())
