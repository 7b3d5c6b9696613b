"""The channel between a supervisor and a worker, on a real socket pair and on every event loop there is."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from loops import LOOPS, Run, runner_of

from mizzen.assembly.crew.channel import Channel
from mizzen.assembly.crew.messages import Failed, Others, ToSupervisor, ToWorker

pytestmark = pytest.mark.wire

PATIENCE = 10.0
"""Seconds for what takes none."""


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""
    return runner_of(LOOPS[request.param])


async def pair(told: list[Any]) -> tuple[Channel, Channel]:
    """A worker's end and its supervisor's, which keeps what it is told."""
    worker, supervisor = Channel(ToWorker, lambda message: None, lambda: None), Channel(ToSupervisor, told.append, lambda: None)
    ours, theirs = socket.socketpair()
    await worker.open(ours)
    await supervisor.open(theirs)
    return worker, supervisor


def test_last_words_are_heard_whatever_is_said_meanwhile(run: Run) -> None:
    """A worker that ends while its supervisor, which has not read yet, writes to it is still understood."""

    async def main() -> None:
        told: list[Any] = []
        worker, supervisor = await pair(told)
        assert supervisor._transport is not None
        supervisor._transport.pause_reading()
        worker.send(Failed("it cannot start", [], "mend it"))
        closing = asyncio.ensure_future(worker.close(PATIENCE))
        for _ in range(10):
            await asyncio.sleep(0)
        supervisor.send(Others("starting", "unavailable", "", {}))
        for _ in range(10):
            await asyncio.sleep(0)
        supervisor._transport.resume_reading()
        async with asyncio.timeout(PATIENCE):
            await supervisor.ended
            await closing
        assert [message.what for message in told] == ["it cannot start"]
        assert worker.ended.done()

    run(main())


def test_who_does_not_listen_holds_up_nobody(run: Run) -> None:
    """A supervisor that reads nothing costs a worker that ends no more than the time it gives it."""

    async def main() -> None:
        told: list[Any] = []
        worker, supervisor = await pair(told)
        assert supervisor._transport is not None
        supervisor._transport.pause_reading()
        worker.send(Failed("it cannot start", [], "mend it"))
        async with asyncio.timeout(PATIENCE):
            await worker.close(0.05)
            await worker.ended
        supervisor._transport.resume_reading()
        async with asyncio.timeout(PATIENCE):
            await supervisor.ended
        assert len(told) == 1

    run(main())
