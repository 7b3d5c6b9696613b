"""The embedded registry on real sockets: callers who misbehave cost it nothing that lasts, nor does what it probes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, ask
from fleet import until as eventually
from harsh import until
from loops import LOOPS, Run, runner_of
from ports import free_port

from mizzen.assembly.registry import RegistryServer, open_registry

pytestmark = pytest.mark.wire

PATIENCE = 20.0
"""Seconds after which a test that waits for something gives up: never reached unless something is broken."""
MANY = 300
"""Queries that wait: below the limit of open files that macOS has by default, with both ends in one process."""


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return runner_of(LOOPS[request.param])


class Caller:
    """One connection to the registry."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, method: str, path: str, body: Any = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
        )

    async def hear(self) -> tuple[int, dict[str, str], Any]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name: value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body) if headers.get("content-type") == "application/json" else body

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        self.say(method, path, body)
        return await self.hear()


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[RegistryServer, Callable[[], Awaitable[Caller]]]]:
    """A registry, and what connects to it."""
    server = await open_registry("127.0.0.1", 0)
    callers: list[Caller] = []

    async def call() -> Caller:
        callers.append(Caller(*await asyncio.open_connection("127.0.0.1", server.port)))
        return callers[-1]

    try:
        async with asyncio.timeout(PATIENCE):
            yield server, call
    finally:
        for each in callers:
            each.writer.close()
        await server.close()


async def waiting(server: RegistryServer, call: Callable[[], Awaitable[Caller]]) -> list[Caller]:
    """Callers whose queries wait for a service that there is not."""
    callers = [await call() for _ in range(MANY)]
    for each in callers:
        each.say("GET", f"/v1/health/service/user?index={2**60}&wait=600s")
    await until(lambda: server.registry.describe()["waiting"] == MANY)
    return callers


def test_queries_whose_callers_are_gone_wait_no_longer(run: Run) -> None:
    """Whether they closed their side or were cut off."""

    async def test() -> None:
        async with opened() as (server, call):
            for number, each in enumerate(await waiting(server, call)):
                if number % 2:
                    each.writer.transport.abort()
                else:
                    each.writer.write_eof()
            await until(lambda: server.registry.describe()["waiting"] == 0)

    run(test())


def test_every_query_that_waits_is_answered_before_the_registry_ends(run: Run) -> None:
    """Rather than cut off: whoever waited learns of the end when asking again."""

    async def test() -> None:
        async with opened() as (server, call):
            callers = await waiting(server, call)
            answers = asyncio.gather(*(each.hear() for each in callers))
            await server.close()
            assert {status for status, _, _ in await answers} == {200}

    run(test())


def test_the_command_says_how_its_token_is_shown(tmp_path: Path) -> None:
    """To services and by hand; the token itself is not printed, and without it nobody is served."""
    file = tmp_path / "token"
    file.write_text("geheim\n")
    with Fleet(tmp_path) as fleet:
        port = free_port()
        registry = fleet.start_program("registry", ["registry", "--port", str(port), "--token-file", str(file)], port=port)
        url = f"{registry.url}/v1/status/leader"
        eventually(lambda: ask(url, headers={"X-Consul-Token": "geheim"}).status == 200, "an answer for the token")
        assert ask(url).status == 403
        assert f'discovery.token_file = "{file}"' in registry.stderr
        assert f'curl -H "X-Consul-Token: $(cat {file})" {registry.url}/v1/catalog/services' in registry.stderr
        assert "geheim" not in registry.stderr


def test_a_probe_reads_the_beginning_of_an_answer_that_does_not_end(run: Run) -> None:
    """The status decides; what is no more than shown is not waited for, nor kept."""

    async def test() -> None:
        gone = asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
            except ConnectionError:
                gone.set()
            finally:
                writer.close()

        target = await asyncio.start_server(endless, "127.0.0.1", 0)
        async with target, opened() as (_, call):
            caller, port = await call(), target.sockets[0].getsockname()[1]
            check = {"CheckID": "probe", "HTTP": f"http://127.0.0.1:{port}/", "Interval": "1h"}
            assert (await caller.ask("PUT", "/v1/agent/service/register", {"Name": "user", "Check": check}))[0] == 200
            await gone.wait()
            checks: dict[str, Any] = {}
            while not (checks and checks["probe"]["Output"]):
                checks = (await caller.ask("GET", "/v1/agent/checks"))[2]
            assert checks["probe"]["Status"] == "passing"
            assert 4096 < len(checks["probe"]["Output"]) < 4200

    run(test())
