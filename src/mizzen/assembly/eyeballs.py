"""Happy eyeballs (RFC 8305): of a name's addresses, the first that answers, without waiting long for one that does not."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

STAGGER = 0.25
"""Seconds that an address has before the next is tried as well: the RFC's recommendation (§5)."""

Address = tuple[Any, ...]
"""As ``getaddrinfo`` gives it: family, kind, protocol, canonical name, socket address."""


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """The same addresses, families by turns, beginning with that of the first: one family may be a black hole (§4)."""
    families: dict[int, deque[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], deque()).append(address)
    queues = deque(families.values())
    out = []
    while queues:
        queue = queues.popleft()
        out.append(queue.popleft())
        if queue:
            queues.append(queue)
    return out


async def connect_first(addresses: Sequence[Address], *, stagger: float = STAGGER) -> socket.socket:
    """A socket that is connected to the first of ``addresses`` that accepts; ``OSError`` of the first tried when none does.

    Nothing else is left open in the loop's next turn, cancelled or not.
    """
    waiting = deque(interleaved(addresses))
    attempts: list[asyncio.Task[socket.socket]] = []
    won: asyncio.Task[socket.socket] | None = None
    try:
        while won is None:
            if waiting:
                attempts.append(asyncio.ensure_future(_attempt(waiting.popleft())))
            running = {task for task in attempts if not task.done()}
            if running:
                await asyncio.wait(running, timeout=stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            won = next((task for task in attempts if task.done() and task.exception() is None), None)
            if won is None and not waiting and all(task.done() for task in attempts):
                raise _error(attempts)
        return won.result()
    finally:
        for task in attempts:
            if task is not won:  # which are not waited for: cancelled meanwhile, we would leave the winner open
                task.add_done_callback(_close)
                task.cancel()


async def _attempt(address: Address) -> socket.socket:
    family, kind, protocol, _, target = address
    line = socket.socket(family, kind, protocol)
    try:
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, target)
    except BaseException:
        line.close()
        raise
    return line


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close what came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _error(attempts: Sequence[asyncio.Task[socket.socket]]) -> BaseException:
    """The first address is the one that the system prefers: its error says most."""
    return next((error for task in attempts if (error := task.exception()) is not None), OSError("no address"))
