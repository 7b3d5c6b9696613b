"""An ASGI app served by Mizzen on a real port, in a thread of this process; also a plugin for pytest.

As a plugin (``pytest -p served``) it puts itself in the place of the framework's own test client, so that the tests of an
app run against the app as Mizzen serves it.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Self

import httpx
from ports import free_port
from talker import PATIENCE, Talker

from mizzen import Service
from mizzen.assembly.network import SocketNetwork
from mizzen.assembly.observing import Telemetry
from mizzen.assembly.running import Running
from mizzen.assembly.runtime import Runtime
from mizzen.rules.config import ServiceConfig


class Served:
    """Runs one app until it is told to stop; its exit code is 0 when nothing was cut off."""

    def __init__(self, app: Any) -> None:
        self.port = free_port()
        self.code: int | None = None
        self._app = app
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runtime: Runtime | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(PATIENCE)
        if self._runtime is None or self.code is not None:
            raise AssertionError("the app did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._runtime is not None
        self._loop.call_soon_threadsafe(self._runtime.stop)
        self._thread.join(PATIENCE)
        assert self.code == 0

    def _run(self) -> None:
        try:
            self.code = asyncio.run(self._main())
        finally:
            self._up.set()

    async def _main(self) -> int:
        service = Service("billing")
        service.mount_app("/", self._app)
        telemetry = Telemetry("billing", version="test")
        running = Running(service, ServiceConfig(port=self.port), peers={}, telemetry=telemetry, about={})
        self._loop = asyncio.get_running_loop()
        self._runtime = Runtime(
            running,
            network=SocketNetwork(),
            host="127.0.0.1",
            port=self.port,
            linger=0.0,
            drain=5.0,
            emit=telemetry.emit,
            announcer=lambda port: None,
        )
        return await self._runtime.run(signals=False, started=self._up.set)


class ServedClient(httpx.Client):
    """What stands for the framework's test client."""

    __test__ = False

    def __init__(self, app: Any) -> None:
        self.served = Served(app)
        super().__init__(base_url=f"http://127.0.0.1:{self.served.port}", timeout=PATIENCE)

    def __enter__(self) -> Self:
        self.served.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:  # noqa: PYI036  # as httpx types it
        super().__exit__(*exception)
        self.served.__exit__(*exception)

    def websocket_connect(self, path: str, subprotocols: list[str] | None = None) -> Talker:
        return Talker(self.served.port, path, subprotocols=subprotocols or [])


def pytest_configure() -> None:
    """Take the place of the framework's client before any test imports it."""
    import fastapi.testclient

    fastapi.testclient.TestClient = ServedClient  # type: ignore[misc, assignment]
