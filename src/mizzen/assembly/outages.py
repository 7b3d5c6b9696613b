"""Outages: what the users of one registry notice by themselves, told as one line when it is lost and one when it is back.

A process has a watch for each peer and a heartbeat, and each finds out alone. What an outage was like is known when all
of them are through it, the heartbeat too: only then is it known whether the registry still knew this instance.
"""

from __future__ import annotations

from collections.abc import Callable

from mizzen.rules.events import Event, Hook, RegistryBack, RegistryLost
from mizzen.words.clock import Clock

WAVE = 90.0
"""Seconds in which whoever loses a registry has lost it in the same outage. Where a registry hangs, a watch finds out when
its long poll is over, at most 69 s after the first."""

ANNOUNCER = ""
"""The user that is no peer: whatever keeps this instance registered."""


class User:
    """One of those in this process that a registry's outage touches: a peer's watch, or the heartbeat."""

    def __init__(
        self, outages: Outages, registry: str, name: str, clock: Clock, serving: Callable[[], int], failed: Callable[[], int]
    ) -> None:
        self.registry = registry
        self.name = name
        self.clock = clock
        self.serving = serving
        """How many instances of the peer are known."""
        self.failed = failed
        """How many calls to the peer have failed so far."""
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
    """One outage that has been told: whom it touches, and who is still in it."""

    def __init__(self, first: User, touched: list[User], *, alone: bool) -> None:
        self.registry = first.registry
        self.alone = alone
        self.since = self.over = first.clock()
        """When it began, and when the last one so far was through it."""
        self.inside = {first.name}
        self.unheard = any(user.name == ANNOUNCER for user in touched)
        """Whether the heartbeat has not said yet if we are still known."""
        self.instance, self.took = "", 0.0
        self._touched = touched
        self._failed = self._all_failed()

    def lost(self, error: str) -> RegistryLost:
        serving = {user.name: user.serving() for user in self._touched if user.name != ANNOUNCER}
        return RegistryLost(self.registry, 0.0, serving, error)

    def back(self) -> RegistryBack:
        failed = self._all_failed() - self._failed
        return RegistryBack(self.registry, self.over - self.since, self.instance, self.took, failed)

    def _all_failed(self) -> int:
        return sum(user.failed() for user in self._touched)

    def __repr__(self) -> str:
        return f"<Outage of {self.registry}, {len(self.inside)} in it>"


class Outages:
    """The outages of every registry that one process uses."""

    def __init__(self, emit: Hook) -> None:
        self._emit = emit
        self._users: dict[str, dict[str, User]] = {}
        self._open: dict[str, list[Outage]] = {}

    def user(
        self,
        registry: str,
        name: str,
        *,
        clock: Clock,
        serving: Callable[[], int] = lambda: 0,
        failed: Callable[[], int] = lambda: 0,
    ) -> User:
        """One more user of ``registry``: a peer's name, how many of its instances are known, and its failed calls."""
        made = self._users.setdefault(registry, {})[name] = User(self, registry, name, clock, serving, failed)
        return made

    def announcer(self, registry: str, *, clock: Clock) -> tuple[Hook, Callable[[], None]]:
        """What an announcer tells its events to, and what it calls for a beat that was answered."""
        user = self.user(registry, ANNOUNCER, clock=clock)

        def hook(event: Event) -> None:
            match event:
                case RegistryLost():
                    user.lost(event.error)
                case RegistryBack() if self.back(user, event.instance, event.took):
                    pass  # told with what the others noticed
                case _:
                    self._emit(event)

        return hook, user.back

    def lost(self, user: User, error: str, alone: bool) -> None:
        """Tell of an outage, or let ``user`` join the one that others noticed before."""
        now, known = user.clock(), self._open.setdefault(user.registry, [])
        for outage in known:
            if not alone and not outage.alone and now - outage.since < WAVE:
                outage.inside.add(user.name)
                return
        outage = Outage(user, [user] if alone else list(self._users[user.registry].values()), alone=alone)
        known.append(outage)
        self._emit(outage.lost(error))

    def back(self, user: User, instance: str = "", took: float = 0.0) -> bool:
        """Let ``user`` out of its outage, and tell that it is over when nobody is left in it; False when it was in none."""
        known = self._open.get(user.registry, [])
        mine = [outage for outage in known if user.name in outage.inside]
        for outage in mine:
            outage.inside.discard(user.name)
            outage.over = user.clock()
        if user.name == ANNOUNCER:
            mine = mine or [outage for outage in known if outage.unheard][-1:]
            for outage in mine:
                outage.instance, outage.took = instance, took
            for outage in known:
                outage.unheard = False
        for outage in [each for each in known if not each.inside and not each.unheard]:
            known.remove(outage)
            self._emit(outage.back())
        return bool(mine)

    def __repr__(self) -> str:
        lost = [registry for registry, known in self._open.items() if known]
        return f"<Outages {', '.join(lost) or 'none'}>"
