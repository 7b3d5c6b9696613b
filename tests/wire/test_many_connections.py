"""Ten thousand connections: most of them idle, held by another process, while others are served as if they were not there."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Iterator

import pytest
from harsh import FINAL, Run, in_time, on_loop, resident, serving, until
from loops import LOOPS

from mizzen.edges.http import Limits
from mizzen.edges.http.limits import CONNECTIONS

pytestmark = pytest.mark.wire

MORE = 500
"""Descriptors beside the connections: what the test run itself has open."""
EACH = 16 * 1024
"""Bytes that an idle connection may cost: some 4 KiB of ours, and the transport."""
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

HOLDER = """
import resource, socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 100), hard))
lines = []
for number in range(count):
    line = socket.create_connection(("127.0.0.1", port))
    if number % 10 == 0:
        line.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    if number % 10 == 1:
        line.sendall(b"GET / HTTP/1.1\\r\\nHost")
    lines.append(line)
print("open", flush=True)
sys.stdin.read()
"""
"""Opens connections, asks on some and half asks on others, and holds them until its input ends."""


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return on_loop(request.param)


@pytest.fixture
def _room() -> Iterator[None]:
    """As many descriptors as ten thousand connections need, for each of two processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + MORE
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"a process may open {hard} files here, and this needs {needed}: raise the hard limit (ulimit -Hn)")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    except (ValueError, OSError) as error:  # macOS has a lower limit of its own
        pytest.skip(f"this needs {needed} open files: {error}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_room")
def test_ten_thousand_connections_are_kept_and_others_served(run: Run) -> None:
    """With as many connections open as are allowed less some, requests are answered quickly; one too many is told so."""

    async def main() -> None:
        idle = CONNECTIONS - 10
        async with serving(limits=Limits(header_read=300.0, keep_alive=300.0)) as harm:
            before = resident()
            holder = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                HOLDER,
                str(harm.port),
                str(idle),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert holder.stdin is not None
            assert holder.stdout is not None
            try:
                assert await in_time(holder.stdout.readline()) == b"open\n"
                await until(lambda: harm.server.connections == idle)
                await until(lambda: len(harm.seen) == (idle + 9) // 10)
                assert resident() - before < idle * EACH
                seconds = []
                for _ in range(200):
                    began = time.monotonic()
                    assert FINAL.findall(await harm.talk(LAST)) == [b"200"]
                    seconds.append(time.monotonic() - began)
                assert sorted(seconds)[100] < 0.05
                lines = [await asyncio.open_connection("127.0.0.1", harm.port) for _ in range(10)]
                await until(lambda: harm.server.connections == CONNECTIONS)
                assert FINAL.findall(await harm.talk(b"")) == [b"503"]
                for _, writer in lines:
                    writer.close()
                    await writer.wait_closed()
                await until(lambda: harm.server.connections == idle)
                assert FINAL.findall(await harm.talk(LAST)) == [b"200"]
            finally:
                holder.stdin.close()
                await in_time(holder.wait())
            await until(lambda: not harm.server.connections)
            assert harm.errors == []

    run(main())
