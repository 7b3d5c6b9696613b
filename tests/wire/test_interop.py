"""Interoperation: our client against other servers, and other clients against our server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loops import LOOPS
from playing import run_on, until
from ports import free_port

from mizzen.edges.http import Limits, Pool, PoolLimits, Server, connect
from mizzen.words.message import Headers, Request, Response

pytestmark = pytest.mark.wire

PATIENCE = 30.0
"""Seconds until something that was started must answer: a Go program is compiled first."""
LARGE = 5_000_000
IDLE = 1
"""Seconds after which the servers close an idle connection."""

Run = Callable[[Coroutine[Any, Any, None]], None]


def program(name: str, how: str) -> str:
    """The path of a program; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: {how}")
    return found


def answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until somebody listens on that port."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.05)
    raise RuntimeError(f"nothing listens on {port}: {log.read_text()[-2000:]}")


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return partial(run_on, request.param)


# -- our client --------------------------------------------------------------------------------------------------------

NGINX = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off; gzip off; default_type text/plain; keepalive_timeout {idle}s; keepalive_requests 50;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        location = /small {{ return 200 "small"; }}
        location = /large {{ alias {folder}/large; }}
        location = /empty {{ return 204; }}
        location = /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
        location = /pieces {{ proxy_pass http://127.0.0.1:{behind}; }}
        location = /echo {{ proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_request_buffering off; }}
    }}
}}
"""

GO = """
package main

import (
    "fmt"
    "io"
    "net/http"
    "os"
    "strings"
    "time"
)

func main() {
    http.HandleFunc("/small", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "small") })
    http.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 5000000)) })
    http.HandleFunc("/pieces", func(w http.ResponseWriter, r *http.Request) {
        for number := 0; number < 100; number++ {
            fmt.Fprintf(w, "piece %d\\n", number)
            w.(http.Flusher).Flush()
        }
    })
    http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
        body, _ := io.ReadAll(r.Body) // before the answer: what follows one Go does not read
        w.Write(body)
    })
    http.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
    http.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
        w.Header().Set("Link", "</a>")
        w.WriteHeader(103)
        io.WriteString(w, "small")
    })
    server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], IdleTimeout: time.Second}
    fmt.Println(server.ListenAndServe())
}
"""


def nginx(port: int, folder: Path) -> list[str]:
    found = program("nginx", "apt-get install nginx-light")
    (folder / "large").write_bytes(b"x" * LARGE)
    user = "user root;" if os.geteuid() == 0 else ""  # whose files these are; nginx would choose somebody else
    text = NGINX.format(user=user, folder=folder, port=port, idle=IDLE, dead=free_port(), behind=behind(folder))
    (folder / "nginx.conf").write_text(text)
    return [found, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def go(port: int, folder: Path) -> list[str]:
    found = program("go", "https://go.dev/dl, or apt-get install golang-go")
    (folder / "main.go").write_text(GO)
    (folder / "go.mod").write_text("module others\n\ngo 1.19\n")
    subprocess.run([found, "build", "-o", "others", "."], cwd=folder, check=True, timeout=300)
    return [str(folder / "others"), str(port)]


def asgi(port: int, server: str, *options: str) -> list[str]:
    pytest.importorskip(server, reason=f"{server} is not installed: pip install {server}")
    return [sys.executable, "-m", server, "others:app", "--host", "127.0.0.1", "--port", str(port), *options]


def uvicorn(port: int, folder: Path) -> list[str]:
    return asgi(port, "uvicorn", "--timeout-keep-alive", str(IDLE))


def granian(port: int, folder: Path) -> list[str]:
    return asgi(port, "granian", "--interface", "asgi")


SERVERS = {"nginx": nginx, "go": go, "uvicorn": uvicorn, "granian": granian}
_running: dict[Path, subprocess.Popen[bytes]] = {}


def start(command: list[str], port: int, folder: Path, name: str) -> subprocess.Popen[bytes]:
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=Path(__file__).parent.parent / "support/apps", start_new_session=True
        )
    answers(port, process, log)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def behind(folder: Path) -> int:
    """What stands behind nginx: uvicorn with the app."""
    port = free_port()
    _running[folder] = start(uvicorn(port, folder), port, folder, "behind")
    return port


class Other:
    """Another server that runs."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    def pool(self) -> Pool:
        return Pool("127.0.0.1", self.port, connect=connect, limits=PoolLimits(), clock=time.monotonic, peer=self.name)


@pytest.fixture(scope="module", params=SERVERS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """Each of the servers, started once."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    try:
        process = start(SERVERS[request.param](port, folder), port, folder, request.param)
        try:
            yield Other(request.param, port)
        finally:
            stop(process)
    finally:
        if folder in _running:
            stop(_running.pop(folder))


def test_every_form_of_an_answer_is_understood(run: Run, other: Other) -> None:
    """Whole, chunked, large, empty, to HEAD and of an error: each arrives as it was meant, on one connection."""

    async def main() -> None:
        pool = other.pool()
        for _ in range(3):
            assert (await pool.send(Request("GET", "/small"))).body == b"small"
            head = await pool.send(Request("HEAD", "/small"))
            assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "5")
            assert (await pool.send(Request("GET", "/pieces"))).body == b"".join(b"piece %d\n" % each for each in range(100))
            assert len(await (await pool.send(Request("GET", "/large"))).read()) == LARGE
            assert (await pool.send(Request("GET", "/empty"))).status == 204
            assert (await pool.send(Request("GET", "/missing"))).status == 404
            assert pool.describe()["idle"] == 1
        pool.close()
        await until(lambda: not pool._open)

    run(main())


def test_answers_are_read_as_they_arrive(run: Run, other: Other) -> None:
    """A stream gives what there is, and can be left."""

    async def main() -> None:
        pool = other.pool()
        for path, size in (("/pieces", 890), ("/large", LARGE)):
            request = Request("GET", path)
            request.stream = True
            response = await pool.send(request)
            assert not isinstance(response.body, bytes)
            assert sum([len(piece) async for piece in response.body]) == size
        assert pool.describe()["idle"] == 1
        request = Request("GET", "/large")
        request.stream = True
        response = await pool.send(request)
        assert not isinstance(response.body, bytes)
        assert await anext(response.body)
        await response.close()
        await until(lambda: not pool._open)

    run(main())


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), 10_000):
        yield data[begin : begin + 10_000]


@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
def test_bodies_come_back_as_they_were_sent(run: Run, other: Other, size: int) -> None:
    """Whole or in pieces, small or large; nginx hands them on."""

    async def main() -> None:
        pool = other.pool()
        data = bytes(range(256)) * (size // 256 + 1)
        data = data[:size]
        for body in (data, pieces(data)):
            assert (await pool.send(Request("POST", "/echo", body=body))).body == data
        pool.close()
        await until(lambda: not pool._open)

    run(main())


def test_many_calls_at_once_and_one_after_another(run: Run, other: Other) -> None:
    """A thousand calls of 20 callers; nginx ends each connection after 50 of them, which nobody notices."""

    async def main() -> None:
        pool = other.pool()

        async def caller() -> None:
            for _ in range(50):
                assert (await pool.send(Request("GET", "/small"))).body == b"small"

        await asyncio.gather(*(caller() for _ in range(20)))
        assert pool.describe()["busy"] == 0
        pool.close()
        await until(lambda: not pool._open)

    run(main())


@pytest.mark.parametrize("other", ["nginx", "go", "uvicorn"], indirect=True)
def test_a_server_that_closes_idle_connections_costs_no_call(run: Run, other: Other) -> None:
    """Not even one that is never sent twice: it goes out on a new connection. (Granian closes none.)"""

    async def main() -> None:
        pool = other.pool()
        await pool.send(Request("GET", "/small"))
        [connection] = pool._idle
        await until(lambda: connection.closed)
        assert (await pool.send(Request("POST", "/echo", body=b"data"))).body == b"data"
        pool.close()
        await until(lambda: not pool._open)

    run(main())


@pytest.mark.parametrize("other", ["nginx"], indirect=True)
def test_nginx_says_that_its_upstream_is_dead(run: Run, other: Other) -> None:
    """A 502 with nginx's own page is an answer like any other, and the connection goes on."""

    async def main() -> None:
        pool = other.pool()
        response = await pool.send(Request("GET", "/dead"))
        assert response.status == 502
        assert b"502 Bad Gateway" in await response.read()
        assert (await pool.send(Request("GET", "/small"))).body == b"small"
        assert pool.describe()["idle"] == 1
        pool.close()
        await until(lambda: not pool._open)

    run(main())


@pytest.mark.parametrize("other", ["go"], indirect=True)
def test_go_sends_hints_first(run: Run, other: Other) -> None:
    """A 103 is passed over."""

    async def main() -> None:
        pool = other.pool()
        response = await pool.send(Request("GET", "/hints"))
        assert (response.status, response.body) == (200, b"small")
        pool.close()
        await until(lambda: not pool._open)

    run(main())


# -- our server --------------------------------------------------------------------------------------------------------


async def handle(request: Request) -> Response:
    """What other clients ask of our server."""
    if request.path == "/pieces":

        async def body() -> AsyncIterator[bytes]:
            for number in range(100):
                yield b"piece %d\n" % number

        return Response(200, body())
    if request.path == "/large":
        return Response(200, b"x" * LARGE)
    data = await request.read()
    if request.path == "/echo":
        return Response(200, data, headers=Headers({"x-method": request.method}))
    return Response(200, b"small", content_type="text/plain")


@pytest.fixture(scope="module", params=list(LOOPS))
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Our server, on a loop and in a thread of its own."""
    ready = threading.Event()
    found: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = Server(
            handle,
            limits=Limits(body=2 * LARGE),
            clock=time.monotonic,
            refuse=lambda status, detail, request: Response(status, detail.encode()),
        )
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(server.protocol, "127.0.0.1", 0)
        ends = asyncio.Event()
        found.append((listener.sockets[0].getsockname()[1], loop, ends))
        ready.set()
        await ends.wait()
        listener.close()
        await server.drain(1)

    def work() -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(PATIENCE)
    port, loop, ends = found[0]
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(ends.set)
    thread.join(PATIENCE)


def curl(*arguments: str, data: bytes = b"") -> bytes:
    """What curl prints; it must succeed."""
    found = program("curl", "apt-get install curl")
    done = subprocess.run([found, "-sS", "--max-time", "30", *arguments], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_gets(url: str) -> None:
    """Small, large and chunked answers; two of them over one connection."""
    assert curl(f"{url}/small") == b"small"
    assert len(curl(f"{url}/large")) == LARGE
    assert curl(f"{url}/pieces").count(b"\n") == 100
    told = curl("-w", "%{num_connects} ", "-o", "/dev/null", "-o", "/dev/null", f"{url}/small", f"{url}/pieces")
    assert told == b"1 0 "


def test_curl_speaks_http_1_0(url: str) -> None:
    """A caller of the last century gets a length or the end of the connection, and no chunks."""
    assert curl("--http1.0", f"{url}/small") == b"small"
    shown = curl("--http1.0", "-i", f"{url}/pieces")
    assert shown.count(b"piece") == 100
    assert b"transfer-encoding" not in shown.lower()


def test_curl_asks_for_the_head_alone(url: str) -> None:
    """As long as the answer would be, without it."""
    shown = curl("-I", f"{url}/large").lower()
    assert shown.startswith(b"http/1.1 200 ok\r\n")
    assert b"content-length: %d\r\n" % LARGE in shown


@pytest.mark.parametrize("options", [(), ("-H", "Expect: 100-continue"), ("--http1.0",)])
def test_curl_uploads(url: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    """A file with its length, also when it first asks whether it may."""
    data = bytes(range(256)) * 12_000
    (tmp_path / "data").write_bytes(data)
    began = time.monotonic()
    assert curl(*options, "-T", str(tmp_path / "data"), f"{url}/echo") == data
    assert time.monotonic() - began < 10


def test_curl_uploads_from_a_pipe(url: str) -> None:
    """A body whose length nobody knows comes in chunks."""
    data = b"line\n" * 100_000
    shown = curl("-i", "-T", "-", f"{url}/echo", data=data)
    head, _, body = shown.rpartition(b"\r\n\r\n")
    assert body == data
    assert b"x-method: PUT" in head


def test_wrk_sees_no_error(url: str) -> None:
    """Load over kept connections."""
    found = program("wrk", "apt-get install wrk")
    shown = subprocess.run([found, "-t1", "-c10", "-d1s", f"{url}/small"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+) requests in", shown)
    assert match is not None
    assert int(match[1]) > 100
    assert "Socket errors" not in shown
    assert "Non-2xx" not in shown


@pytest.mark.parametrize("path", ["/small", "/pieces"])
def test_h2load_sees_no_error(url: str, path: str) -> None:
    """In its HTTP/1.1 mode, eight requests ahead of their answers."""
    found = program("h2load", "apt-get install nghttp2-client")
    command = [found, "--h1", "-n", "2000", "-c", "10", "-m", "8", url + path]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in shown
    assert "2000 2xx, 0 3xx, 0 4xx, 0 5xx" in shown


def by_hand(url: str, data: bytes) -> bytes:
    """What comes back of bytes that are typed, and an end of file."""
    found = program("nc", "apt-get install netcat-openbsd")
    host, port = url.removeprefix("http://").split(":")
    return subprocess.run([found, "-w", "10", host, port], input=data, capture_output=True, check=True).stdout


def test_requests_are_typed_by_hand(url: str) -> None:
    """One after another without waiting, in the least that HTTP asks for; the last says that it is the last."""
    request = b"GET /small HTTP/1.1\r\nHost: h\r\n\r\n"
    last = b"POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndata"
    shown = by_hand(url, request + request + last)
    assert shown.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert shown.count(b"small") == 2
    assert shown.endswith(b"\r\n\r\ndata")


def test_a_typing_error_is_told(url: str) -> None:
    """Whoever types something else learns that it is no HTTP, and is hung up on."""
    assert by_hand(url, b"HELLO\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
