"""Hosted: what ``mizzen.asgi`` makes of a service, with the test as the server and no registry."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from stage import settle

import mizzen
from mizzen import Service

FILE = """
[discovery]
url = "none:"

[services.order]
build = "orders:build"
port = 8102
limits.body = 10
"""


class Store: ...


def make(diary: list[str], name: str = "order") -> Service:
    @asynccontextmanager
    async def open_store() -> AsyncIterator[Store]:
        diary.append("open")
        yield Store()
        diary.append("close")

    async def post(request: mizzen.Request) -> int:
        return len(await request.read())

    service = Service(name)
    service.provide(Store, open_store)
    service.router.post("/", post)
    return service


class Host:
    """A server for one application."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.told: list[dict[str, Any]] = []
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._queue.put_nowait({"type": "lifespan.startup"})

        async def send(message: dict[str, Any]) -> None:
            self.told.append(message)
            said.set()

        said = asyncio.Event()
        self._task = asyncio.create_task(self.app({"type": "lifespan"}, self._queue.get, send))
        await said.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._queue.put_nowait({"type": "lifespan.shutdown"})
        await self._task

    async def post(self, body: bytes) -> tuple[int, Any]:
        messages = [{"type": "http.request", "body": body}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        fields = [(b"content-length", str(len(body)).encode())]
        await self.app({"type": "http", "method": "POST", "path": "/", "headers": fields}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_service_object_needs_no_file(caplog: pytest.LogCaptureFixture) -> None:
    """It opens, answers and closes with the defaults, and says that nothing announces it."""

    async def main() -> None:
        diary: list[str] = []
        async with Host(mizzen.asgi(make(diary), logs=False)) as host:
            assert (diary, host.told) == (["open"], [{"type": "lifespan.startup.complete"}])
            assert await host.post(b"x" * 11) == (200, 11)
        assert diary == ["open", "close"]
        assert host.told[-1] == {"type": "lifespan.shutdown.complete"}

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "no registry: nothing announces order-127.0.0.1-0 (discovery.url is auto)"
    ]


def test_the_environment_configures_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the variables still name its settings, and a wrong one keeps it from starting."""

    async def main() -> list[Any]:
        async with Host(mizzen.asgi(make([]), logs=False)) as host:
            if host.told[0]["type"] == "lifespan.startup.complete":
                return list(await host.post(b"xxx"))
            return host.told

    monkeypatch.setenv("MIZZEN__SERVICES__ORDER__LIMITS__BODY", "2")
    assert asyncio.run(main())[0] == 413
    monkeypatch.setenv("MIZZEN__SERVICES__ORDER__LIMITS__BODY", "much")
    (told,) = asyncio.run(main())
    assert told["type"] == "lifespan.startup.failed"
    assert "MIZZEN__SERVICES__ORDER__LIMITS__BODY" in told["message"]


@pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
def test_the_file_configures_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    """The mizzen.toml above the working directory counts, or the one of the folder that was given."""
    folder = tmp_path / "system"
    (folder / "below").mkdir(parents=True)
    (folder / "mizzen.toml").write_text(FILE)
    if not given:
        monkeypatch.chdir(folder / "below")

    async def main() -> None:
        async with Host(mizzen.asgi(make([]), system=folder if given else None, logs=False)) as host:
            assert (await host.post(b"x" * 11))[0] == 413

    asyncio.run(main())


def test_a_file_that_does_not_name_it_is_somebody_elses(tmp_path: Path) -> None:
    """A file found on the way up is left alone, one that was given must name the service."""
    (tmp_path / "mizzen.toml").write_text(FILE)

    async def told(**options: Any) -> dict[str, Any]:
        async with Host(mizzen.asgi(make([], "billing"), logs=False, **options)) as host:
            return host.told[0]

    assert asyncio.run(told())["type"] == "lifespan.startup.complete"
    assert "no service 'billing'" in asyncio.run(told(system=tmp_path))["message"]


def test_a_name_is_loaded_from_the_file(tmp_path: Path) -> None:
    """Its build is imported from the file's folder, when the server starts it and not before."""
    app = mizzen.asgi("order", logs=False)

    async def told() -> dict[str, Any]:
        async with Host(app) as host:
            return host.told[0]

    assert "no mizzen.toml" in asyncio.run(told())["message"]
    (tmp_path / "mizzen.toml").write_text(FILE.replace("orders:build", "hosted_orders:build"))
    (tmp_path / "hosted_orders.py").write_text("import mizzen\n\n\ndef build():\n    return mizzen.Service('order')\n")
    assert asyncio.run(told())["type"] == "lifespan.startup.complete"


def test_what_is_wrong_is_found_at_start() -> None:
    """A handler that needs what nobody provides is told to the server, with the fix."""

    async def get(store: Store) -> None: ...

    async def main() -> str:
        service = Service("order")
        service.router.get("/", get)
        async with Host(mizzen.asgi(service, logs=False)) as host:
            return str(host.told[0]["message"])

    message = asyncio.run(main())
    assert "needs Store; nothing provides it" in message
    assert "fix: " in message


def test_a_server_that_gives_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it starts, the application closes what is open."""

    async def main() -> None:
        diary: list[str] = []
        service = make(diary)

        async def never(_: Store) -> None:
            await asyncio.Event().wait()

        service.check("never", lambda: never(Store()))
        host = Host(mizzen.asgi(service, logs=False))
        entering = asyncio.create_task(host.__aenter__())
        for _ in range(5):
            await settle()
        entering.cancel()
        await asyncio.wait([entering])
        assert host._task is not None
        host._task.cancel()
        await asyncio.wait([host._task])
        assert diary == ["open", "close"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_importing_mizzen_costs_nothing_more() -> None:
    """The application is made without what runs a service, and what runs it is imported when it starts."""
    import subprocess
    import sys

    program = (
        "import sys, mizzen; assert 'mizzen.tools.asgi' not in sys.modules\n"
        "mizzen.asgi(mizzen.Service('order')); assert 'mizzen.assembly.hosted' not in sys.modules\n"
        "assert 'httptools' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
