"""Server and client against bytes that nobody would send by mistake, judged by RFC 9112 and h11; `make fuzz` tries more."""

from __future__ import annotations

import pytest
from fuzz import campaign, clients, grammar, judge, servers
from fuzz.shrink import shrink

PART = 2_000
"""Inputs of one test: enough of them in the normal run, and `make fuzz` has a million."""

FOUND = {
    "a tunnel in origin form": b"CONNECT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 23\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a Host that opens a bracket": b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "a Host with two ports": b"GET / HTTP/1.1\r\nHost: x:1:2\r\n\r\n",
    "a Host with a port that is none": b"GET / HTTP/1.1\r\nHost: x:y\r\n\r\n",
    "a Host with half an escape": b"GET / HTTP/1.1\r\nHost: x%4\r\n\r\n",
    "a URL with a broken address": b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a URL without a host": b"GET http://:80/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a URL instead of a Host": b"GET http://x/ HTTP/1.1\r\n\r\n",
    "a URL beside a bad Host": b"GET http://x/ HTTP/1.1\r\nHost: u@y\r\n\r\n",
    "HTTP/1.0 that keeps and closes": b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "a second expectation": b"GET / HTTP/1.1\r\nHost: x\r\nExpect: y\r\nExpect: 100-continue\r\n\r\n",
}
"""Requests that were read wrongly once."""

OK = b"HTTP/1.1 200 OK\r\n"
ONE = b"Content-Length: 1\r\n\r\na"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
FOUND_ANSWERS = {
    "a body of an interim answer": ("GET", b"HTTP/1.1 199 A\r\nContent-Length: 2\r\n\r\nab" + OK + ONE),
    "chunks of an interim answer": ("GET", b"HTTP/1.1 199 A\r\n" + CHUNKS + b"\r\n" + OK + ONE),
    "an empty chunked body after HEAD": ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "half of one": ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r"),
    "HTTP/2.0": ("GET", b"HTTP/2.0 200 OK\r\n" + ONE),
    "HTTP/2.0 that is kept": ("GET", b"HTTP/2.0 200 OK\r\nConnection: keep-alive\r\n" + ONE),
    "HTTP/0.9": ("GET", b"HTTP/0.9 200 OK\r\n" + ONE),
    "chunks in HTTP/1.0": ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + CHUNKS + b"\r\n"),
    "HTTP/1.0 that keeps and closes": ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n" + ONE),
    "close in a trailer": ("GET", OK + CHUNKS + b"Connection: close\r\n\r\n"),
    "a coding in a trailer": ("GET", OK + CHUNKS + b"Transfer-Encoding: b\r\n\r\n"),
}
"""Answers that were read wrongly once."""


@pytest.mark.parametrize("first", range(0, 14_000, PART))
def test_the_server_reads_what_rfc_9112_reads(first: int) -> None:
    """No stream of requests is read otherwise than by RFC 9112, by h11 where both accept it, or when it is cut elsewhere."""
    assert report("server", first) == ""


@pytest.mark.parametrize("first", range(0, 6_000, PART))
def test_the_client_reads_what_rfc_9112_reads(first: int) -> None:
    """No answer is taken for more or less than it is, nor for another's, and a connection is kept only after a clean one."""
    assert report("client", first) == ""


def report(side: str, first: int) -> str:
    """What is wrong with these inputs, shortened and with the command that tries them again; empty when nothing is."""
    result = campaign.Report()
    side, count, explained, found = campaign.run_part(side, first, PART)
    result.tried[side] = count
    result.explained.update(explained)
    result.failures = found
    return "\n".join(result.lines()) if found else ""


@pytest.mark.parametrize("data", FOUND.values(), ids=FOUND.keys())
def test_requests_that_were_misread_once_are_not_again(data: bytes) -> None:
    """Each stream that the fuzzer found is read as RFC 9112 says, whole and byte by byte."""
    assert servers.check_stream(data) == ""


@pytest.mark.parametrize(("method", "data"), FOUND_ANSWERS.values(), ids=FOUND_ANSWERS.keys())
def test_answers_that_were_misread_once_are_not_again(method: str, data: bytes) -> None:
    """Each answer that the fuzzer found is read as RFC 9112 says, whole and byte by byte."""
    assert clients.check_stream(data, method) == ""


def test_the_same_number_makes_the_same_bytes() -> None:
    """An input is known by its number alone: what failed once can be tried again, anywhere."""
    assert grammar.Maker(7).requests() == grammar.Maker(7).requests()
    assert [servers.make(number) for number in range(50)] == [servers.make(number) for number in range(50)]
    assert len({servers.make(number)[0] for number in range(200)}) > 150


def test_inputs_are_of_every_kind() -> None:
    """Among the first inputs are enough well-formed ones, cut off ones and bad ones, so that each rule is met."""
    ends = [judge.requests(servers.make(number)[0]) for number in range(2_000)]
    for kind in ("end", "partial", "bad"):
        assert sum(verdict.end == kind for verdict in ends) > 50
    assert sum(len(verdict.messages) for verdict in ends) > 1_500
    assert len({verdict.reason for verdict in ends}) > 15


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", "one number"),
        (b"GET / HTTP/1.1\nHost: x\r\n\r\n", "CRLF"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "field line"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "after a chunk"),
        (b"GET / HTTP/1.1\r\n\r\n", "Host"),
    ],
)
def test_the_judge_is_strict(data: bytes, reason: str) -> None:
    """What h11 or a lenient server lets pass, the judge refuses."""
    verdict = judge.requests(data)
    assert (verdict.end, verdict.messages) == ("bad", [])
    assert reason in verdict.reason


def test_a_misreading_would_be_found() -> None:
    """A server that gave another body, one request more, or answered before a refusal is complained of."""
    data = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    good = judge.Message(b"POST", b"/a", [(b"host", b"x"), (b"content-length", b"3")], b"abc")
    assert servers.complaint(data, servers.Outcome([good], [200]), {}) == ""
    short = judge.Message(b"POST", b"/a", good.fields, b"ab")
    assert "body" in servers.complaint(data, servers.Outcome([short], [200]), {})
    assert "was answered" in servers.complaint(data, servers.Outcome([good, good], [200, 200]), {})
    assert "well-formed" in servers.complaint(data, servers.Outcome([], [400], closed=True), {})
    assert "closed" in servers.complaint(data + b"\0\r\n", servers.Outcome([good], [200, 400]), {})
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd"
    fields = [(b"content-length", b"3")]
    assert clients.complaint("GET", answer, clients.Outcome(200, fields, b"abc"), {}) == ""
    assert "follows" in clients.complaint("GET", answer, clients.Outcome(200, fields, b"abc", kept=True), {})
    assert "body" in clients.complaint("GET", answer, clients.Outcome(200, fields, b"abcd"), {})
    assert "well-formed" in clients.complaint("GET", answer, clients.Outcome(error="x"), {})


def test_a_failing_stream_is_shortened() -> None:
    """Of a stream that fails, what matters is left."""
    assert shrink(b"aaaaXbbbbbbbYcc", lambda data: b"X" in data and b"Y" in data) == b"XY"
