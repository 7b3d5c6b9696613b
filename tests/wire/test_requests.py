"""Requests that are wrong, sent to a real process: each is told what is wrong with it, and the service goes on."""

from __future__ import annotations

import http.client
import io
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import PATIENCE, Answer, Fleet, Process, ask, until

pytestmark = pytest.mark.wire

JSON = {"content-type": "application/json"}
TICKET = b'{"title": "a", "colour": "red", "count": 1}'
TRACE_ID = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One service for all these requests: that it goes on is part of what is tested."""
    folder: Path = tmp_path_factory.mktemp("desk")
    with Fleet(folder) as fleet:
        yield fleet.start("desk").ready()


@pytest.fixture(autouse=True)
def _goes_on(desk: Process) -> Iterator[None]:
    """After each of these requests the service answers a right one, and has nothing left in flight."""
    yield
    answer = ask(desk.url + "/tickets", "POST", body=TICKET, headers=JSON)
    assert (answer.status, answer.json()["colour"]) == (201, "red")
    assert b"\nhttp_server_active_requests 1\n" in ask(desk.url + "/metrics").body


class _Bytes:
    """Lets http.client read an answer from bytes that are there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def send(port: int, data: bytes) -> Answer:
    """The answer to bytes that no client library would send, on a connection that the server closes after it."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    answer = http.client.HTTPResponse(_Bytes(received))  # type: ignore[arg-type]
    answer.begin()
    fields = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, fields, answer.read(), 0.0)


def problem(answer: Answer, status: int) -> Any:
    """The problem that an answer carries, checked for what every one of them has."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    said = answer.json()
    assert TRACE_ID.fullmatch(said["trace_id"])
    assert answer.headers["x-trace-id"] == said["trace_id"]
    assert said["status"] == status
    assert said["title"]
    assert said["detail"]
    return said


def access_line(desk: Process, trace_id: str) -> dict[str, Any]:
    """The line that the access log has for the request with that trace."""
    found: dict[str, Any] = until(
        lambda: next((line for line in desk.lines() if line["trace_id"] == trace_id and "status" in line), None),
        "its access line",
    )
    return found


# -- the body


@pytest.mark.parametrize("size", [2 << 20, (1 << 20) + 1])
def test_body_over_the_limit(desk: Process, size: int) -> None:
    """A body over 1 MiB is a 413 that names both sizes, read by a caller that was still sending."""
    said = problem(ask(desk.url + "/tickets", "POST", body=b"x" * size, headers=JSON), 413)
    assert said["detail"] == f"a body of {size} bytes is over the limit of 1048576 bytes"
    line = access_line(desk, said["trace_id"])
    assert (line["method"], line["path"], line["status"]) == ("POST", "/tickets", 413)


def test_chunked_body_over_the_limit(desk: Process) -> None:
    """A body that does not say its size is a 413 once it has passed the limit."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST /tickets HTTP/1.1\r\nhost: desk\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    said = problem(send(desk.port, head + chunk * 17 + b"0\r\n\r\n"), 413)
    assert said["detail"] == "the body is over the limit of 1048576 bytes"


def test_body_at_the_limit_is_read(desk: Process) -> None:
    """A body of exactly 1 MiB is not too large."""
    body = TICKET + b" " * ((1 << 20) - len(TICKET))
    assert ask(desk.url + "/tickets", "POST", body=body, headers=JSON).status == 201


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"title": "a",\n "colour": }', "invalid character at line 2, column 12"),
        (b'{"title": "a", "colour": "red", "count": 1', "it ends too early, at line 1, column 43"),
        (TICKET + b"}", "trailing characters at line 1, column 44"),
        (b'{"title": "\xff", "colour": "red", "count": 1}', "its text is not UTF-8"),
        (b"[" * 100_000, None),
    ],
    ids=["character", "cut", "trailing", "utf-8", "deep"],
)
def test_body_that_is_not_json(desk: Process, body: bytes, why: str | None) -> None:
    """Malformed JSON is a 400 that says where it stops being JSON."""
    said = problem(ask(desk.url + "/tickets", "POST", body=body, headers=JSON), 400)
    assert said["detail"] == ("the body is nested too deeply" if why is None else f"the body is not JSON: {why}")
    assert "errors" not in said


def test_wrong_types_in_three_fields_at_once(desk: Process) -> None:
    """A body that is wrong in several fields is a 422 that names every one, nested ones by their path."""
    body = b'{"title": 1, "colour": "red", "count": "x", "items": [{"name": "a", "price": 1}, {"name": "b", "price": "c"}]}'
    said = problem(ask(desk.url + "/tickets", "POST", body=body, headers=JSON), 422)
    assert said["detail"] == "3 fields are at fault"
    assert said["errors"] == [
        {"path": "body.title", "reason": "expected str, got int"},
        {"path": "body.count", "reason": "expected int, got str"},
        {"path": "body.items[1].price", "reason": "expected float, got str"},
    ]


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        (b'{"title": "a", "colour": "green", "count": 1}', "body.colour", "expected one of 'red', 'blue'"),
        (b'{"colour": "red", "count": 1}', "body.title", "missing"),
        (b'{"title": "a", "colour": "red", "count": 0}', "body.count", "expected int >= 1"),
        (b"[]", "body", "expected object, got array"),
        (b"", "body", "missing"),
    ],
    ids=["enum", "missing", "range", "list", "empty"],
)
def test_one_field_at_fault(desk: Process, body: bytes, path: str, reason: str) -> None:
    """An unknown enum value, a missing field and a number out of range are 422, with the field and what it takes."""
    said = problem(ask(desk.url + "/tickets", "POST", body=body, headers=JSON), 422)
    assert said["errors"] == [{"path": path, "reason": reason}]
    assert said["detail"] == f"{path}: {reason}"


def test_path_query_and_body_at_fault_together(desk: Process) -> None:
    """Faults in path, query and body are all named in one answer."""
    said = problem(ask(desk.url + "/tickets/seven?limit=many&colour=green"), 422)
    assert [fault["path"] for fault in said["errors"]] == ["path.id", "query.limit", "query.colour"]
    said = problem(ask(desk.url + "/tickets/seven", "PUT", body=b"{}", headers=JSON), 422)
    assert [fault["path"] for fault in said["errors"]] == ["path.id", "body.title", "body.colour", "body.count"]


@pytest.mark.parametrize("kind", ["text/csv", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_media_type_that_nobody_reads(desk: Process, kind: str) -> None:
    """A body of another kind is a 415 that names its kind and the one that is read."""
    said = problem(ask(desk.url + "/tickets", "POST", body=TICKET, headers={"content-type": kind}), 415)
    assert said["detail"] == f"the body is {kind.partition(';')[0]}; this reads application/json"


def test_errors_are_problems_whatever_accept_says(desk: Process) -> None:
    """A caller that accepts only HTML is answered all the same, and never 406."""
    headers = {"accept": "text/html"}
    assert ask(desk.url + "/tickets/1", headers=headers).status == 200
    problem(ask(desk.url + "/tickets/x", headers=headers), 422)


# -- the head


@pytest.mark.parametrize(
    ("fields", "status", "why"),
    [
        (b"content-length: 3\r\ncontent-length: 4\r\n", 400, "Content-Length"),
        (b"content-length: 3, 4\r\n", 400, "Content-Length"),
        (b"content-length: 3\r\ntransfer-encoding: chunked\r\n", 400, "Transfer-Encoding"),
        (b"content-length: -1\r\n", 400, "Content-Length"),
        (b"no colon\r\n", 400, "malformed request"),
        (b"host: other\r\n", 400, "Host"),
        (b"x-large: " + b"x" * 40_000 + b"\r\n", 431, "32768 bytes"),
        (b"transfer-encoding: gzip\r\n", 501, "Transfer-Encoding"),
    ],
    ids=["two-lengths", "list-of-lengths", "length-and-chunked", "negative", "no-colon", "two-hosts", "large", "gzip"],
)
def test_head_that_cannot_be_trusted(desk: Process, fields: bytes, status: int, why: str) -> None:
    """A head that two parsers could read differently is refused with the reason, and its connection closed."""
    answer = send(desk.port, b"POST /tickets HTTP/1.1\r\nhost: desk\r\nconnection: close\r\n" + fields + b"\r\nabcd")
    assert why.lower() in problem(answer, status)["detail"].lower()
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("after", ["", "?q=" + "y" * 10_000])
def test_path_of_10000_characters(desk: Process, after: str) -> None:
    """A target over 8 KiB is a 414 that says the limit; the log keeps only its beginning."""
    target = "/" + "x" * (9_999 if not after else 9) + after
    said = problem(ask(desk.url + target), 414)
    assert said["detail"] == "the request target is over 8192 bytes"
    line = access_line(desk, said["trace_id"])
    assert target.startswith(line["path"])
    assert 0 < len(line["path"]) <= 200


def test_bytes_that_are_no_http(desk: Process) -> None:
    """Whoever speaks another protocol is told so."""
    said = problem(send(desk.port, b"\x16\x03\x01\x02\x00\x01\x00\x01"), 400)
    assert said["detail"].startswith("malformed request")


# -- methods and paths


def test_unknown_path(desk: Process) -> None:
    """A path that nothing serves is a 404 that names it, in every method."""
    for method in ("GET", "POST", "DELETE", "PATCH"):
        assert problem(ask(desk.url + "/nowhere", method), 404)["detail"] == "no such path: /nowhere"


def test_absent_resource(desk: Process) -> None:
    """A resource that is absent is a 404 in the handler's own words."""
    assert problem(ask(desk.url + "/tickets/0"), 404)["detail"] == "no ticket 0"


def test_path_that_is_not_text(desk: Process) -> None:
    """A percent-encoded part that is not UTF-8 is a 400."""
    assert "UTF-8" in problem(ask(desk.url + "/tickets/%ff"), 400)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/tickets/7", "GET, HEAD, OPTIONS, PUT"),
        ("TRACE", "/tickets/7", "GET, HEAD, OPTIONS, PUT"),
        ("GET", "/tickets", "OPTIONS, POST"),
        ("HEAD", "/tickets", "OPTIONS, POST"),
        ("POST", "/live", "GET, HEAD, OPTIONS"),
    ],
)
def test_method_that_a_path_has_not(desk: Process, method: str, path: str, allow: str) -> None:
    """A wrong method is a 405 whose Allow lists the right ones."""
    answer = ask(desk.url + path, method)
    assert answer.headers["allow"] == allow
    if method == "HEAD":
        assert (answer.status, answer.body) == (405, b"")
    else:
        assert problem(answer, 405)["detail"] == f"{path} has {allow}, not {method}"


def test_method_that_does_not_exist(desk: Process) -> None:
    """A method that HTTP does not know is a 400."""
    assert "method" in problem(ask(desk.url + "/tickets/7", "BREW"), 400)["detail"].lower()


def test_options_says_what_a_path_has(desk: Process) -> None:
    """OPTIONS is a 204 with Allow, and a 404 where there is no such path."""
    answer = ask(desk.url + "/tickets/7", "OPTIONS")
    assert (answer.status, answer.headers["allow"], answer.body) == (204, "GET, HEAD, OPTIONS, PUT", b"")
    assert TRACE_ID.fullmatch(answer.headers["x-trace-id"])
    problem(ask(desk.url + "/nowhere", "OPTIONS"), 404)


@pytest.mark.parametrize(("path", "status"), [("/tickets/7", 200), ("/tickets/0", 404), ("/nowhere", 404), ("/tickets/x", 422)])
def test_head_is_get_without_its_body(desk: Process, path: str, status: int) -> None:
    """HEAD has the status, the type and the length that GET has, and no body; the connection goes on after it."""
    connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=PATIENCE)
    seen = []
    for method in ("HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        seen.append((answer.status, answer.headers["content-type"], answer.headers["content-length"]))
        assert len(body) == (0 if method == "HEAD" else int(answer.headers["content-length"]))
    connection.close()
    assert seen[0] == seen[1]
    assert seen[0][0] == status
