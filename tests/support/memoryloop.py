"""An event loop whose network is in memory: what is written for sockets runs on the in-memory transport, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
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

NOT_IN_MEMORY = {
    "test_an_error_in_a_streamed_answer_truncates_it": "a kernel delivers what was written before an abort",
    "test_an_end_that_the_loop_has_not_told_of_is_noticed_before_a_post": "only a kernel knows more than the loop was told",
    "test_who_waits_gets_the_place_of_a_connection_that_ends": "an abort is an end of file there, a reset comes by a fault",
    "test_an_answer_that_is_cut_at_any_byte_is_an_error": "the same, for half of it",
    "test_a_request_is_with_the_kernel_when_it_is_said_to_be": "it is about the kernel",
    "test_a_reset_that_the_loop_has_not_told_of_is_noticed_before_a_post": "only a kernel knows more than the loop was told",
    "test_a_call_that_is_given_up_leaves_nothing": "descriptors are a kernel's, and the stack's own tests are in memory",
    "test_a_call_that_is_given_up_while_it_connects_leaves_nothing": "the same",
    "test_a_reset_is_a_lost_connection": "an abort is an end of file there, a reset comes by a fault",
}
"""Tests of sockets that mean the kernel's own part, which memory does not have, and what that part is."""


def wire_of(request: pytest.FixtureRequest) -> str:
    """The parameter of a fixture that goes through ``WIRES``; skips a test that needs a kernel where there is none."""
    name = getattr(request.node, "originalname", request.node.name)
    if request.param == "memory" and name in NOT_IN_MEMORY:
        pytest.skip(f"needs sockets, as the other loops here have: {NOT_IN_MEMORY[name]}")
    wire: str = request.param
    return wire
