"""A FastAPI app that knows nothing of Mizzen, as a service: it answers as under uvicorn, and is operated as any other."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from certificates import Authority
from fleet import APPS, Fleet, Process, ask, until
from ports import free_port
from talker import PATIENCE, Refused, Talker

pytestmark = pytest.mark.wire

OWN_TESTS = APPS / "billing" / "own_tests.py"
HOST = "billing.test"
"""What every request says, so that answers which quote it are the same on every port."""
OURS = {"date", "server", "x-trace-id"}
"""Fields that a server says of itself."""
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Said(NamedTuple):
    """An answer as far as it should not depend on the server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(APPS), *filter(None, sys.path)])}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A registry, billing, and a service that calls it."""
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.with_registry()
        fleet.start("billing").ready()
        fleet.start("till").ready()
        yield fleet


def named(fleet: Fleet, name: str) -> Process:
    return next(process for process in fleet.processes if process.name == name)


@pytest.fixture(scope="module")
def uvicorn(fleet: Fleet) -> Process:
    """The same app under uvicorn."""
    port = free_port()
    arguments = ["-m", "uvicorn", "billing.main:app", "--port", str(port), "--http", "httptools", "--ws", "wsproto"]
    process = Process("uvicorn", arguments, env=environment(), cwd=APPS, port=port, folder=fleet.folder)
    fleet.processes.append(process)
    return process.ready("/items")


def say(port: int, method: str, target: str, headers: dict[str, str], body: Any) -> Said:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, target, body=body, headers={"host": HOST, **headers}, encode_chunked=chunked)
        answer = connection.getresponse()
        content = answer.read()
        fields = sorted((name.lower(), value) for name, value in answer.getheaders() if name.lower() not in OURS)
        return Said(answer.status, fields, content)
    finally:
        connection.close()


def form(size: int) -> tuple[dict[str, str], bytes]:
    """A form with a file of so many bytes."""
    parts = [
        b'--line\r\ncontent-disposition: form-data; name="note"\r\n\r\nhi\r\n',
        b'--line\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\ncontent-type: image/png\r\n\r\n',
        bytes(range(256)) * (size // 256),
        b"\r\n--line--\r\n",
    ]
    return {"content-type": "multipart/form-data; boundary=line"}, b"".join(parts)


JSON = {"content-type": "application/json"}
CHUNKED = {"transfer-encoding": "chunked", "content-type": "application/octet-stream"}
CASES: list[Any] = [
    pytest.param("GET", "/invoices/1", {"accept-currency": "CHF"}, None, id="dependency"),
    pytest.param("GET", "/invoices/none", {}, None, id="http-exception"),
    pytest.param("POST", "/invoices", JSON, b'{"id": "7", "lines": []}', id="background-task"),
    pytest.param("POST", "/invoices", JSON, b'{"id": "2", "lines": [{"item": 3}]}', id="validation-error"),
    pytest.param("POST", "/invoices", JSON, b"{", id="malformed-json"),
    pytest.param("DELETE", "/invoices/8", {}, None, id="no-content"),
    pytest.param("GET", "/items?limit=3", {}, None, id="query"),
    pytest.param("GET", "/items?limit=many", {}, None, id="wrong-query"),
    pytest.param("GET", "/export?rows=200", {}, None, id="streaming"),
    pytest.param("HEAD", "/export", {}, None, id="head-without-a-route"),
    pytest.param("GET", "/events", {}, None, id="server-sent-events"),
    pytest.param("POST", "/upload", *form(256), id="small-upload"),
    pytest.param("POST", "/upload", *form(900_000), id="upload"),
    pytest.param("POST", "/sum", {"content-type": "application/octet-stream"}, b"a" * 300_000, id="streamed-body"),
    pytest.param("POST", "/sum", CHUNKED, [b"one", b"two" * 9000, b"three"], id="chunked-request"),
    pytest.param("POST", "/sum", {}, None, id="no-body"),
    pytest.param("GET", "/cookies", {}, None, id="two-fields-of-one-name"),
    pytest.param("GET", "/report", {}, None, id="text"),
    pytest.param("HEAD", "/report", {}, None, id="head"),
    pytest.param("GET", "/old", {}, None, id="redirect"),
    pytest.param("GET", "/items/", {}, None, id="redirected-slash"),
    pytest.param("GET", "/not-modified", {}, None, id="not-modified"),
    pytest.param("GET", "/boom", {}, None, id="unexpected-error"),
    pytest.param("GET", "/after", {}, None, id="background-of-a-response"),
    pytest.param("GET", "/scope?a=1&b=%20", {}, None, id="scope"),
    pytest.param("GET", "/any/a%2Fb%20c/%C3%A9?x", {}, None, id="encoded-path"),
    pytest.param("GET", "/any//double//", {}, None, id="empty-segments"),
    pytest.param("GET", "/admin/users/ada", {}, None, id="mounted-app"),
    pytest.param("GET", "/admin/none", {}, None, id="mounted-404"),
    pytest.param("GET", "/nowhere", {}, None, id="404"),
    pytest.param("PUT", "/items", {}, None, id="405"),
    pytest.param("OPTIONS", "/items", {}, None, id="options"),
    pytest.param("GET", "/openapi.json", {}, None, id="openapi"),
]


@pytest.mark.parametrize(("method", "target", "headers", "body"), CASES)
def test_it_answers_as_under_uvicorn(fleet: Fleet, uvicorn: Process, method: str, target: str, headers: Any, body: Any) -> None:
    """Status, headers and body are the same as another server's, whatever kind of answer it is."""
    ours = say(named(fleet, "billing").port, method, target, headers, body)
    theirs = say(uvicorn.port, method, target, headers, body)
    assert ours == theirs


def test_a_body_streams_both_ways_at_once(fleet: Fleet) -> None:
    """What arrives is answered while more of it arrives; servers of ASGI before 2.4 lose some of that."""
    said = say(named(fleet, "billing").port, "POST", "/mirror", {}, b"ab" * 250_000)
    assert (said.status, said.body) == (200, b"ab" * 250_000)


def test_a_websocket_talks_as_under_uvicorn(fleet: Fleet, uvicorn: Process) -> None:
    """Subprotocol, headers, text, bytes, fragments, pings and both ways to end are the same as another server's."""

    def talk(port: int) -> list[Any]:
        said: list[Any] = []
        with Talker(port, "/talk/ada", subprotocols=["chat", "other"]) as talker:
            said += [talker.accepted_subprotocol, [field for field in talker.headers if field[0] == "x-room"]]
            talker.send_text("hällo")
            said.append(talker.receive())
            talker.send_bytes(bytes(range(256)) * 1000)
            said.append(talker.receive())
            talker.fragments("a", "", "bc")
            said.append(talker.receive())
            said.append(talker.ping(b"there?"))
            talker.send_text("bye")
            said.append(talker.receive())
        with Talker(port, "/talk/bob") as talker:
            said += [talker.accepted_subprotocol, talker.close(3001, "enough")]
        with pytest.raises(Refused) as denied:
            Talker(port, "/denied")
        said += [denied.value.status, denied.value.body, [f for f in denied.value.headers if f[0] == "content-type"]]
        for path in ("/talk/nobody", "/nowhere"):
            with pytest.raises(Refused) as refused:
                Talker(port, path)
            said.append(refused.value.status)
        return said

    ours = talk(named(fleet, "billing").port)
    assert ours == talk(uvicorn.port)
    assert ours[2] == {"type": "websocket.send", "text": '{"name":"ada","said":"hällo"}'}
    assert ours[-2:] == [403, 403]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x05hello", 1002),
        (b"\x82\xff" + (2 * 1024 * 1024).to_bytes(8, "big") + bytes(4) + bytes(2 * 1024 * 1024), 1009),
    ],
    ids=["unmasked", "too-big"],
)
def test_what_breaks_the_protocol_is_told_and_cut_off(fleet: Fleet, frame: bytes, code: int) -> None:
    """The close code arrives although more was on its way, the end follows at once, and others do not notice."""
    port = named(fleet, "billing").port
    with Talker(port, "/talk/other") as other, Talker(port, "/talk/rude", rude=True) as talker:
        talker.raw(frame)
        assert talker.receive()["code"] == code
        with pytest.raises(EOFError):
            talker.receive()
        other.send_text("still here")
        assert other.receive_json()["said"] == "still here"


@pytest.mark.parametrize("plugins", [[], ["-p", "served"]], ids=["by-themselves", "served-by-mizzen"])
def test_its_own_tests_pass(plugins: list[str], tmp_path: Path) -> None:
    """The tests of the app pass as its authors run them, and again with Mizzen in the place of the test client."""
    config = tmp_path / "pytest.ini"
    config.write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(config), "-p", "no:cacheprovider", *plugins, str(OWN_TESTS)]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout


def test_it_is_found_and_called(fleet: Fleet) -> None:
    """It is in the registry like any service, and another service calls it: one trace, and answers that are typed."""
    billing, till = named(fleet, "billing"), named(fleet, "till")
    until(lambda: fleet.instances("billing") == [f"billing-127.0.0.1-{billing.port}"], "billing is registered")

    def paid() -> bool:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        answer = ask(f"{till.url}/totals/1", headers=headers)
        return (answer.status, answer.body) == (200, b"300")

    until(paid, "till has found billing")
    assert ask(f"{till.url}/totals/none").body in (b"", b"null")
    lines = until(
        lambda: [line for line in billing.lines() if line.get("trace_id") == TRACE and line.get("status") == 200],
        "an access line of billing with the caller's trace",
    )
    assert {(line["method"], line["route"], line["path"]) for line in lines} == {("GET", "/invoices/{id}", "/invoices/1")}


def test_metrics_and_access_lines_have_its_own_templates(fleet: Fleet) -> None:
    """Each of its routes is counted and logged under its own template; what none of them answers is unmatched."""
    billing = named(fleet, "billing")
    for target in ("/invoices/1", "/invoices/2", "/admin/users/zoe", "/any/x/y", "/nowhere/else", "/items"):
        ask(billing.url + target)
    with Talker(billing.port, "/talk/zoe") as talker:
        talker.close()

    def counted() -> set[tuple[str, str]]:
        page = ask(f"{billing.url}/metrics").body.decode()
        labels = r'_count{.*http_route="(.*)",http_response_status_code="(.*)"}'
        return set(re.findall(rf"^http_server_request_duration_seconds{labels}", page, re.MULTILINE))

    wanted = {
        ("/invoices/{id}", "200"),
        ("/invoices/{id}", "404"),
        ("/admin/users/{name}", "200"),
        ("/any/{rest}", "200"),
        ("/items", "200"),
        ("/talk/{name}", "101"),
        ("unmatched", "404"),
    }
    until(lambda: wanted <= counted(), "every template is on the page")
    assert not [route for route, _ in counted() if "zoe" in route or "nowhere" in route]
    routes = {line["route"] for line in billing.lines() if line["logger"] == "mizzen.access"}
    assert {route for route, _ in wanted} <= routes
    assert not [route for route in routes if "zoe" in route or "nowhere" in route]


def test_the_platform_is_answered_by_mizzen(fleet: Fleet) -> None:
    """Probes, health and the trace id are there although the app has none of it."""
    billing = named(fleet, "billing")
    assert ask(f"{billing.url}/live").json()["status"] == "live"
    health = ask(f"{billing.url}/health").json()
    assert (health["service"], health["state"]) == ("billing", "serving")
    assert len(ask(f"{billing.url}/items").headers["x-trace-id"]) == 32


def test_an_error_is_logged_whole_and_tells_the_caller_nothing(fleet: Fleet) -> None:
    """What the app does not catch is one record with its traceback, under the route's template."""
    billing = named(fleet, "billing")
    answer = ask(f"{billing.url}/boom", headers={"traceparent": "00-" + "1" * 32 + "-b7ad6b7169203331-01"})
    assert (answer.status, answer.body) == (500, b"Internal Server Error")

    def record() -> list[dict[str, Any]]:
        return [each for each in billing.lines() if each["trace_id"] == "1" * 32 and each["logger"] == "mizzen.server"]

    (logged,) = until(record, "the error is logged")
    assert logged["message"].startswith("GET /boom failed after its answer: RuntimeError")
    assert "a secret that nobody should read" in str(logged)


def test_a_websocket_talks_over_tls(tmp_path: Path) -> None:
    """Text, large bytes and the end go over TLS as they go without it, and the scope says so."""
    authority = Authority(tmp_path / "tls")
    pair = authority.issue()
    settings = {f"MIZZEN__SERVICES__BILLING__TLS__{key}": value for key, value in (("CERT", pair.cert), ("KEY", pair.key))}
    context = ssl.create_default_context(cafile=authority.ca)
    with Fleet(tmp_path) as fleet:
        billing = fleet.start("billing", settings=settings)

        def scheme() -> str:
            connection = http.client.HTTPSConnection("127.0.0.1", billing.port, timeout=PATIENCE, context=context)
            try:
                connection.request("GET", "/scope")
                return str(json.loads(connection.getresponse().read()).get("scheme", ""))
            finally:
                connection.close()

        assert until(scheme, "billing serves") == "https"
        with Talker(billing.port, "/talk/ada", tls=context) as talker:
            talker.send_text("hello")
            assert talker.receive_json() == {"name": "ada", "said": "hello"}
            talker.send_bytes(bytes(range(256)) * 3000)
            assert talker.receive_bytes() == bytes(range(255, -1, -1)) * 3000
            assert talker.close(3000) == {"type": "websocket.close", "code": 3000, "reason": ""}
        with Talker(billing.port, "/talk/ada", tls=context, rude=True) as talker:
            talker.raw(b"\x81\x05hello")
            assert talker.receive()["code"] == 1002


def test_a_stop_tells_websockets_and_closes_the_app(tmp_path: Path) -> None:
    """SIGTERM ends open WebSockets with 1012, runs the end of the lifespan, and the process exits 0."""
    with Fleet(tmp_path) as fleet:
        billing = fleet.start("billing", settings={"MIZZEN__SERVICES__BILLING__STOP__LINGER": "100ms"}).ready()
        with Talker(billing.port, "/talk/ada") as talker:
            talker.send_text("hello")
            assert talker.receive_json() == {"name": "ada", "said": "hello"}
            billing.signal(signal.SIGTERM)
            assert talker.receive() == {"type": "websocket.close", "code": 1012, "reason": "the server restarts"}
        assert billing.popen.wait(PATIENCE) == 0, billing.stdout + billing.stderr
        messages = [line["message"] for line in billing.lines()]
        assert any(message.startswith("open the app at /") for message in messages)
        assert any(message.startswith("close the app at /") for message in messages)
        line = next(line for line in billing.lines() if line.get("status") == 101)
        assert (line["route"], line["bytes"]) == ("/talk/{name}", len('{"name":"ada","said":"hello"}'))
