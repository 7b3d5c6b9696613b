"""The embedded registry, broken: as a process of its own, or in a thread where the fault is one of its switches."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from ports import free_port
from servers.process import ServerProcess

from mizzen.assembly.registry import RegistryServer, open_registry
from mizzen.rules.config import DiscoveryConfig

from .consul import WAIT, SpeaksConsul
from .rig import Fault

SWITCHED: tuple[Fault, ...] = ("filtered", "auth expiry", "index regress")
"""Faults that only a registry in our own process can be told to have."""
PATIENCE = 10.0
"""Seconds for the thread to do something; never waited for when all is well."""


class EmbeddedRig(SpeaksConsul):
    """``mizzen registry``."""

    name = "embedded"
    real: ClassVar[bool] = False
    cannot: ClassVar[Mapping[Fault, str]] = {
        "restart with state": "it keeps nothing, by design: a restart is always without state",
        "compaction": "blocking queries have no history to be cut off",
    }

    hold = 1.2
    margin = 1.0  # so that `make test` need not wait for the product's 5 s; they are waited for at the real Consul
    silence = WAIT * 17 / 16 + margin

    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder, fault)
        self.host, self.port = "127.0.0.1", free_port()
        self._token_file = folder / "token"
        self._secret = fault == "auth expiry"
        self._lives = 0
        if fault == "hung":  # over before it is told and after a TTL, as it may be with the product's
            self.margin = 3.0
            self.silence = WAIT * 17 / 16 + self.margin
        self._process: ServerProcess | None = None
        self._thread: Threaded | None = None
        if self._secret:
            self._token_file.write_text("first")

    @property
    def url(self) -> str:
        host, port = self.front(self.host, self.port)
        return f"consul://{host}:{port}"

    def config(self) -> DiscoveryConfig:
        file = str(self._token_file) if self._secret else None
        return DiscoveryConfig(url=self.url, http_check=False, token_file=file)

    # -- its life

    def up(self, *, keep_state: bool = True) -> None:
        if self.fault in SWITCHED:
            self._thread = Threaded(self.host, self.port, "first" if self._secret else None)
            return
        if self._process is None:
            environ = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, "-m", "mizzen", "registry", "--port", str(self.port)]
            self._process = ServerProcess("registry", command, folder=self.folder, environ=environ)
        self._process.start()
        self._process.until(self._ready)

    def _ready(self) -> bool:
        try:
            return bool(self.say("GET", "/v1/status/leader"))
        except OSError:
            return False

    def down(self) -> None:
        assert self._process is not None
        self._process.kill()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.freeze()

    def thaw(self) -> None:
        assert self._process is not None
        self._process.thaw()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
        if self._thread is not None:
            self._thread.close()
        super().close()

    # -- what an operator does, and its switches

    def say(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        headers = {"X-Consul-Token": self._token_file.read_text()} if self._secret else {}
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            answer = connection.getresponse()
            said = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"the embedded registry cut its answer to {method} {path}: {error}") from None
        finally:
            connection.close()
        if answer.status not in (200, 404):
            raise OSError(f"the embedded registry answered {answer.status} to {method} {path}: {said.decode()[:200]}")
        return json.loads(said) if answer.status == 200 and said.strip() else None

    def filtered(self, on: bool) -> None:
        self._switch(lambda server: setattr(server.registry.faults, "filtered", on))

    def expire_auth(self) -> None:
        self._lives += 1
        self._switch(lambda server: server.registry.faults.change_token(f"next-{self._lives}"))

    def renew_auth(self) -> None:
        self._token_file.write_text(f"next-{self._lives}")

    def regress(self, service: str) -> None:
        self._switch(lambda server: server.registry.faults.index_back())

    def _switch(self, do: Callable[[RegistryServer], object]) -> None:
        assert self._thread is not None
        self._thread.do(do)


class Threaded:
    """A registry on a loop and a thread of its own."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready: Future[RegistryServer] = Future()
        self._thread = threading.Thread(target=self._run, args=(host, port, token), name="registry", daemon=True)
        self._thread.start()
        self._server = self._ready.result(PATIENCE)

    def do(self, what: Callable[[RegistryServer], object]) -> None:
        """Do that in its thread, and wait until it is done; what it raises is raised here."""

        async def now() -> None:
            what(self._server)

        asyncio.run_coroutine_threadsafe(now(), self._loop).result(PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the registry does not end"

    def _run(self, host: str, port: int, token: str | None) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(host, port, token))

    async def _serve(self, host: str, port: int, token: str | None) -> None:
        try:
            server = await open_registry(host, port, token=token)
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(server)
        await self._end.wait()
        await server.close()
