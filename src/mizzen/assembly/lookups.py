"""Look-ups of names by the system, in a few threads of their own: a DNS that stalls must not take what handlers run in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

AT_ONCE = 4
"""Names that are looked up at the same time."""
STUCK = 10.0
"""Seconds after which a look-up that has not ended no longer keeps others waiting: nothing can end it from outside, and
a system that gets no answer gives up after 5 to 30 s, or in a broken name service module never."""
LEFT_BEHIND = 12
"""Look-ups that hang for so long and are begun anew for whoever asks next; beyond that they are waited for as well."""
SHOWN = 80
"""Characters of a name that is none, in the error about it."""

Addresses = list[tuple[Any, ...]]
"""As ``getaddrinfo`` gives them."""


class Lookups:
    """Looks names up. Whoever asks for a name that is being looked up shares the answer.

    Each look-up has a thread that ends with it: there is none while nobody asks, and since they are daemons one that
    hangs does not keep the process from its end. One that hangs delays the others by ``STUCK`` seconds; a name service
    that hangs for ever costs ``LEFT_BEHIND`` threads, and one more for each name.
    """

    def __init__(self, find: Callable[[str, int], Addresses] | None = None, *, stuck: float = STUCK) -> None:
        """``find`` blocks and may be called in several threads; ``stuck`` in seconds."""
        self._find = find or _find
        self._stuck = stuck
        self._reset(None)

    def _reset(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop  # of which everything below is
        self._free = AT_ONCE
        self._left = 0
        self._asked: dict[tuple[str, int], _Lookup] = {}
        self._queue: deque[_Lookup] = deque()

    async def __call__(self, host: str, port: int) -> Addresses:
        """The addresses of ``host``; ``OSError`` when there are none. Cancelled, it leaves the look-up to the others."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what an earlier loop waited for ended with it
            self._reset(loop)
        lookup = self._asked.get((host, port))
        if lookup is None:
            lookup = self._asked[host, port] = _Lookup(host, port)
            self._queue.append(lookup)
        waiter: asyncio.Future[Addresses] = loop.create_future()
        lookup.waiters.append(waiter)
        self._begin(loop)
        try:
            return await waiter
        finally:
            lookup.waiters.remove(waiter)
            if not lookup.waiters and lookup in self._queue:  # nobody wants it any more
                self._queue.remove(lookup)
                del self._asked[host, port]

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._free and self._queue:
            lookup = self._queue.popleft()
            self._free -= 1
            lookup.holds = loop.call_later(self._stuck, self._leave, loop, lookup)
            thread = threading.Thread(target=self._run, args=(loop, lookup), name=f"lookup-{lookup.host}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads are to be had; said later, since the next would fail too
                loop.call_soon(self._ended, loop, lookup, OSError(str(error)))

    def _run(self, loop: asyncio.AbstractEventLoop, lookup: _Lookup) -> None:
        found: Addresses | Exception
        try:
            found = self._find(lookup.host, lookup.port)
        except UnicodeError as error:  # longer than names are, or of letters that none has
            found = socket.gaierror(socket.EAI_NONAME, f"{lookup.host[:SHOWN]!r} is no name: {error}")
        except Exception as error:
            found = error
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(self._ended, loop, lookup, found)

    def _ended(self, loop: asyncio.AbstractEventLoop, lookup: _Lookup, found: Addresses | Exception) -> None:
        if loop is not self._loop:
            return
        if lookup.left:
            self._left -= 1
        else:
            del self._asked[lookup.host, lookup.port]
        for waiter in lookup.waiters:
            if waiter.done():
                continue
            if isinstance(found, Exception):
                waiter.set_exception(found)
            else:
                waiter.set_result(found)
        self._release(loop, lookup)

    def _leave(self, loop: asyncio.AbstractEventLoop, lookup: _Lookup) -> None:
        if loop is self._loop and self._left < LEFT_BEHIND:
            self._left += 1
            lookup.left = True
            del self._asked[lookup.host, lookup.port]
        self._release(loop, lookup)

    def _release(self, loop: asyncio.AbstractEventLoop, lookup: _Lookup) -> None:
        if lookup.holds is not None and loop is self._loop:
            lookup.holds.cancel()
            lookup.holds = None
            self._free += 1
            self._begin(loop)

    def __repr__(self) -> str:
        working = AT_ONCE - self._free
        return f"<Lookups {len(self._asked)} names asked for, {working} of {AT_ONCE} at work, {self._left} left behind>"


def _find(host: str, port: int) -> Addresses:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _Lookup:
    """One name under way."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.waiters: list[asyncio.Future[Addresses]] = []
        self.holds: asyncio.TimerHandle | None = None
        """Runs while it keeps a place."""
        self.left = False
        """Whether whoever asks next no longer waits for it."""
