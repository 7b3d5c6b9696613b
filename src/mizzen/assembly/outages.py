"""Outages: what the users of one registry notice by themselves, told as one line when it is lost and one when it is back.

A process has a watch for each peer and a heartbeat, and each finds out alone. What an outage was like is known when all
of them are through it, the heartbeat too: only then is it known whether the registry still knew this instance.

And who finds out first tells the others to doubt what the registry says: a heartbeat that fails knows of a hang within 7 s,
a watch after its long poll of up to 69 s, and the registry drops within 15 s who cannot beat.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mizzen.rules.events import Event, Hook, RegistryBack, RegistryLost
from mizzen.words.clock import Clock

WAVE = 90.0
"""Seconds in which whoever loses a registry has lost it in the same outage. Where a registry hangs, a watch finds out when
its long poll is over, at most 69 s after the first. Whoever reads on for so long has a registry that works: no other
user's trouble is reason to doubt it for longer."""

ANNOUNCER = ""
"""The user that is no peer: whatever keeps this instance registered."""


class User:
    """One of those in this process that a registry's outage touches: a peer's watch, or the heartbeat."""

    def __init__(
        self,
        outages: Outages,
        registry: str,
        name: str,
        *,
        clock: Clock,
        serving: Callable[[], int],
        failed: Callable[[], int],
        doubt: Callable[[float], None],
    ) -> None:
        self.registry = registry
        self.name = name
        self.clock = clock
        self.serving = serving
        """How many instances of the peer are known."""
        self.failed = failed
        """How many calls to the peer have failed so far."""
        self.doubt = doubt
        """Called with seconds when anybody loses the registry, and with 0 when nobody misses it any more."""
        self.outage: Outage | None = None
        """The one that it is in."""
        self._outages = outages

    def lost(self, error: str, *, alone: bool = False) -> None:
        """It cannot read or write the registry; ``alone`` says that this is about its own question, not the registry."""
        self._outages.lost(self, error, alone)

    def back(self) -> None:
        """It can."""
        self._outages.back(self)

    def __repr__(self) -> str:
        return f"<User {self.name or 'heartbeat'} of {self.registry}>"


class Outage:
    """One outage that has been told: whom it touches, and how many are still in it."""

    def __init__(self, registry: str, now: float, touched: list[User], *, alone: bool) -> None:
        self.registry = registry
        self.alone = alone
        """Whether it is about one user's own question, and not about the registry."""
        self.since = self.over = now
        """When it began, and when the last one so far was through it."""
        self.inside = 0
        self.unheard = any(user.name == ANNOUNCER for user in touched)
        """Whether the heartbeat has not said yet if we are still known."""
        self.again: RegistryBack | None = None
        """How this instance was registered again, if it had to be."""
        self._touched = touched
        self._failed = self._all_failed()

    def lost(self, error: str) -> RegistryLost:
        serving = {user.name: user.serving() for user in self._touched if user.name != ANNOUNCER}
        return RegistryLost(self.registry, 0.0, serving, error)

    def back(self) -> RegistryBack:
        failed = self._all_failed() - self._failed
        again = self.again or RegistryBack(self.registry)
        return msgspec.structs.replace(again, seconds_lost=self.over - self.since, failed_calls=failed)

    def _all_failed(self) -> int:
        return sum(user.failed() for user in self._touched)

    def __repr__(self) -> str:
        return f"<Outage of {self.registry}, {self.inside} in it>"


class Outages:
    """The outages of every registry that one process uses."""

    def __init__(self, emit: Hook) -> None:
        self._emit = emit
        self._users: dict[str, dict[str, User]] = {}
        self._latest: dict[str, Outage] = {}  # of each registry, until it is over; without those that are about one user alone

    def user(
        self,
        registry: str,
        name: str,
        *,
        clock: Clock,
        serving: Callable[[], int] = lambda: 0,
        failed: Callable[[], int] = lambda: 0,
        doubt: Callable[[float], None] = lambda _: None,
    ) -> User:
        """One more user of ``registry``: a peer's name, how many of its instances are known, its failed calls and its doubt."""
        made = User(self, registry, name, clock=clock, serving=serving, failed=failed, doubt=doubt)
        self._users.setdefault(registry, {})[name] = made
        return made

    def announcer(self, registry: str, *, clock: Clock) -> tuple[Hook, Callable[[], None]]:
        """What an announcer tells its events to, and what it calls for a beat that was answered."""
        user = self.user(registry, ANNOUNCER, clock=clock)

        def hook(event: Event) -> None:
            match event:
                case RegistryLost():
                    user.lost(event.error)
                case RegistryBack() if self._heard(user, event):
                    pass  # told with what the others noticed
                case _:
                    self._emit(event)

        def heard() -> None:
            self._heard(user, None)

        return hook, heard

    def lost(self, user: User, error: str, alone: bool) -> None:
        """Tell of an outage, or let ``user`` join the one that others noticed before."""
        now, outage = user.clock(), None if alone else self._latest.get(user.registry)
        if outage is None or now - outage.since >= WAVE:
            if outage is not None:  # it is over with those in it: what the heartbeat finds next belongs to the new one
                self._settle(outage, heard=True)
            touched = [user] if alone else list(self._users[user.registry].values())
            outage = Outage(user.registry, now, touched, alone=alone)
            if not alone:
                self._latest[user.registry] = outage
            self._emit(outage.lost(error))
        outage.inside += 1
        user.outage = outage
        if not alone:
            self._doubt(user.registry, WAVE)

    def back(self, user: User) -> None:
        """Let ``user`` out of its outage, and tell that it is over when nobody is left in it."""
        outage, user.outage = user.outage, None
        if outage is not None:
            outage.inside -= 1
            outage.over = user.clock()
            if not outage.alone and not self._missed(user.registry):
                self._doubt(user.registry, 0.0)
            self._settle(outage)

    def _missed(self, registry: str) -> bool:
        """Whether anybody is still without it."""
        return any(user.outage is not None and not user.outage.alone for user in self._users[registry].values())

    def _doubt(self, registry: str, seconds: float) -> None:
        for user in self._users[registry].values():
            user.doubt(seconds)

    def _heard(self, announcer: User, again: RegistryBack | None) -> bool:
        """A beat was answered, or the instance registered ``again``; False when that is part of no outage."""
        latest = self._latest.get(announcer.registry)
        unheard = latest if latest is not None and latest.unheard else None
        outage = announcer.outage or unheard
        if outage is None:
            return False
        outage.again = again
        if unheard is not None:
            self._settle(unheard, heard=True)
        self.back(announcer)
        return True

    def _settle(self, outage: Outage, *, heard: bool = False) -> None:
        outage.unheard = outage.unheard and not heard
        if outage.inside or outage.unheard:
            return
        if self._latest.get(outage.registry) is outage:
            del self._latest[outage.registry]
        self._emit(outage.back())

    def __repr__(self) -> str:
        lost = [f"{user!r}" for users in self._users.values() for user in users.values() if user.outage is not None]
        return f"<Outages {', '.join([*self._latest, *lost]) or 'none'}>"
