"""Switches by which a test makes the registry fail as real ones do."""

from __future__ import annotations

import asyncio

from .guard import Guard
from .state import State


class Faults:
    """Off when made. The attributes last until they are set back; the methods happen once.

    They are for whoever holds the registry as an object, which tests do: no request can reach them.
    """

    def __init__(self, state: State, guard: Guard) -> None:
        self._state = state
        self._guard = guard
        self._thawed = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        """Switch every fault off; what hung goes on."""
        self.path = ""
        """Only requests whose path begins so are delayed, hang or are given ``status``."""
        self.delay = 0.0
        """Seconds before each answer."""
        self.status: int | None = None
        """The status of every answer, such as 429 or 500; nothing is done then."""
        self.text = "a fault that a test asked for"
        """What answers of ``status`` say."""
        self.filtered = False
        """Reads answer an empty set, marked as filtered: a token that lacks rights."""
        self.empty = False
        """Reads answer an empty set as if it were the truth: the false empty of a registry that has lost its view."""
        self.leaderless = False
        """Reads fail as in a cluster without a leader, unless they are ``stale`` or ``cached``; writes of agents go on."""
        self.index: int | None = None
        """The index that every read claims, such as 0."""
        self.hang = False

    @property
    def hang(self) -> bool:
        """Connections are taken, and nobody gets an answer, not even those who wait already: SIGSTOP."""
        return not self._thawed.is_set()

    @hang.setter
    def hang(self, on: bool) -> None:
        if on:
            self._thawed.clear()
        else:
            self._thawed.set()

    async def thawed(self, path: str) -> None:
        """Wait while it hangs."""
        while self.hang and self.concern(path):
            await self._thawed.wait()

    def concern(self, path: str) -> bool:
        """Whether ``delay``, ``hang`` and ``status`` hold for that path."""
        return path.startswith(self.path)

    def drop_state(self) -> None:
        """Forget every service, as a development agent that restarts; the index goes on."""
        self._state.forget()

    def index_back(self, by: int = 1_000_000) -> None:
        """Make the index go back and wake every query that waits."""
        self._state.index.rewind(by)

    def wake(self) -> None:
        """Let every query that waits answer, although nothing changed: returning is no proof of a change."""
        self._state.index.abandon()

    def change_token(self, token: str) -> None:
        """Take that token from now on and no other: the one that clients have has expired."""
        self._guard.token = token

    def __repr__(self) -> str:
        names = ("path", "delay", "status", "hang", "filtered", "empty", "leaderless")
        on = [f"{name}={value}" for name in names if (value := getattr(self, name))]
        on += [] if self.index is None else [f"index={self.index}"]
        return f"<Faults {', '.join(on) or 'off'}>"
