"""An event loop whose network is in memory: what is written for sockets runs on the in-memory transport, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loops import LOOPS

from mizzen.tools.testing.memory import MemoryListener, MemoryNetwork


class _Bound:
    """As much of a listening socket as tests look at."""

    def __init__(self, listener: MemoryListener) -> None:
        self._listener = listener

    def getsockname(self) -> tuple[str, int]:
        return self._listener.host, self._listener.port


class MemoryServer(asyncio.AbstractServer):
    """What ``create_server`` gives."""

    def __init__(self, listener: MemoryListener) -> None:
        self._listener = listener
        self.sockets = (_Bound(listener),)

    def close(self) -> None:
        self._listener.close()

    async def wait_closed(self) -> None:
        """Nothing goes on after ``close``."""

    def is_serving(self) -> bool:
        return True

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def start_serving(self) -> None:
        """It does from the beginning."""


class MemoryLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on real time, with a network of its own instead of sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        self._refuse(options, "start_serving", "backlog")
        return MemoryServer(await self.network.listen(host, port, protocol_factory))

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        self._refuse(options)
        return await self.network.connect(protocol_factory, host, port)

    @staticmethod
    def _refuse(options: dict[str, Any], *known: str) -> None:
        """A test that asks for more than a host and a port means a real socket."""
        more = {name: value for name, value in options.items() if value is not None and name not in known}
        assert not more, f"not in memory: {more}"


WIRES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {**LOOPS, "memory": MemoryLoop}
"""The loops, and the network in memory: what one suite for all of them runs on."""
