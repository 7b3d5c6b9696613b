"""Discovery: what an instance is, and what a change in a registry's answer means to those who call.

Drivers hold no policy. A `Resolver` feeds complete snapshots or errors into an `EndpointStore`, and the store
decides what the callers see: a registry that is lost, or has lost its memory, never takes traffic away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from mizzen.words.clock import Clock

HOLD = 30.0
"""Seconds that a suspect removal is held: long enough for instances that beat every 5 s to register again with a
registry that came back empty, short enough that a service which really went away is soon said to be away."""

SUSPECT_SHARE = 0.5
"""Removing more than this share of a set in one step is suspect. A rolling restart takes instances out a few at a
time; registries that misbehave (hashicorp/consul#21548, tokens without rights) drop nearly all of them at once."""

State = Literal["never", "fresh", "stale", "held"]
"""``never`` read · ``fresh`` · ``stale``: the last read failed · ``held``: instances missing from it are kept."""


class Instance(msgspec.Struct, frozen=True):
    """One running process of a service, as it announces itself."""

    id: str
    service: str
    host: str
    port: int
    scheme: str = "http"
    version: str = ""
    zone: str = ""
    weight: int = 1
    meta: dict[str, str] = {}

    @property
    def boot(self) -> str:
        """Tells the lives of one instance apart; empty when whoever registered it knows no such thing."""
        return self.meta.get("boot", "")

    @property
    def origin(self) -> str:
        """Such as ``http://10.0.3.7:8101``; an IPv6 address stands in brackets, a Unix socket is its path."""
        if self.host.startswith("/"):
            return f"{self.scheme}://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def instance_id(service: str, address: str, port: int) -> str:
    """The id of an instance: unique because its address is, and the same after a restart."""
    if address.startswith(("/", "unix:")):  # a Unix socket has no port
        return f"{service}-{address.removeprefix('unix:')}"
    return f"{service}-{address.strip('[]')}-{port}"


class Feed(Protocol):
    """Where a resolver puts what it read."""

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        """Take the complete set as the registry has it; True asks to read again at once, the set is suspect.

        ``regressed`` says that the registry's own index went back since the read before.
        """
        ...

    def error(self, error: Exception) -> None:
        """The registry could not be read."""
        ...


class Resolver(Protocol):
    """Reads one registry."""

    async def watch(self, service: str, feed: Feed) -> None:
        """Feed every change of ``service`` until cancelled; errors go to the feed, never to the caller."""
        ...


class Registrar(Protocol):
    """Writes one registry. A verdict is ``passing``, ``warning`` or ``critical``; a note stays the same while the
    verdict does, since registries write every change of it to disk.

    Every method raises ``CallError`` when the registry cannot be reached or refuses.
    """

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        """Announce ``instance`` with its current verdict; safe to repeat."""
        ...

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        """Say that the instance lives; False when the registry does not know it: register again."""
        ...

    async def withdraw(self, instance: Instance) -> None:
        """Remove this life of ``instance``; another life under the same id is left alone."""
        ...

    async def mismatch(self, instance: Instance) -> str | None:
        """Why the registry keeps ``instance`` out although its beats pass, and the fix; None while it does not."""
        ...


class Changed(msgspec.Struct, frozen=True):
    """Instances came or went, as callers see it."""

    service: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    total: int


class Held(msgspec.Struct, frozen=True):
    """Instances missing from the last read are kept; told once per hold."""

    service: str
    known: int
    offered: int
    seconds: float
    """Until they are let go, unless something changes; look again (``tick``) then."""


class Lost(msgspec.Struct, frozen=True):
    """The registry cannot be read any more; told once per outage."""

    service: str
    serving: int
    error: Exception


class Back(msgspec.Struct, frozen=True):
    """The registry can be read again."""

    service: str
    seconds: float
    """How long it was lost."""


StoreEvent = Changed | Held | Lost | Back


class EndpointStore:
    """What callers know of one service's instances: the one policy over every resolver. A `Feed`.

    * errors hold the last set for ever;
    * additions, and changes to an instance that stays, apply at once;
    * removals of up to half of the set apply at once;
    * a larger one is held for ``hold`` seconds, unless the next read misses the same instances;
    * after an error or a regress it is held for all of that time, whatever further reads say: a registry that
      lost its state is honestly empty, and wrong. While the registry cannot be read the time does not run.

    No I/O and no timer: whoever owns the store calls ``tick`` when ``Held.seconds`` are over.
    """

    def __init__(
        self,
        service: str,
        *,
        clock: Clock,
        on_change: Callable[[tuple[Instance, ...]], None],
        on_event: Callable[[StoreEvent], None] | None = None,
        hold: float = HOLD,
    ) -> None:
        """``on_change`` gets the whole set at the first snapshot, were it empty, and at every change."""
        self.service = service
        self.instances: tuple[Instance, ...] = ()
        self.first = False
        """Whether a first snapshot has come, were it an empty one."""
        self.last_error: Exception | None = None
        """Why the registry cannot be read; None while it can."""
        self._clock = clock
        self._on_change = on_change
        self._on_event = on_event or (lambda event: None)
        self._hold = hold
        self._on_first: list[Callable[[], None]] = []
        self._known: dict[str, Instance] = {}
        self._held: dict[str, float] = {}  # id -> when it is let go
        self._doubt = False  # an error or a regress since the last read that missed nothing
        self._told = False  # of the hold under way
        self._read_at: float | None = None
        self._lost_at = 0.0

    # -- what a resolver says

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        """Take a complete read; True when the resolver shall read again at once, for a second opinion."""
        now = self._clock()
        if self._read_at is None or self.last_error is not None:
            self._recover(now)
        elif not regressed:
            self._let_go(now)
        self._read_at = now
        offered = {instance.id: instance for instance in instances}
        added = tuple(id for id in offered if id not in self._known)
        if regressed:  # what it said before is no evidence either
            self._doubt = True
            self._held = dict.fromkeys(self._held, now + self._hold)
        removed, suspect = self._judge(offered, now)
        kept = {id: instance for id, instance in self._known.items() if id not in removed}
        self._publish({**kept, **offered}, added, removed)
        self._ready()
        if not self._held:
            self._doubt = self._told = False
        elif self._doubt:
            self._tell(now)
        return suspect and not self._doubt

    def error(self, error: Exception) -> None:
        """The registry could not be read: serve the last set, and do not believe its next empty answer at once."""
        if self.last_error is None:
            self._lost_at = self._clock()
            self._on_event(Lost(self.service, len(self._known), error))
        self.last_error = error
        self._doubt = True

    def _judge(self, offered: dict[str, Instance], now: float) -> tuple[tuple[str, ...], bool]:
        """The ids to remove now, and whether others were put on hold by this very read."""
        missing = [id for id in self._known if id not in offered]
        if self._doubt:
            confirmed: tuple[str, ...] = ()
        else:  # missing from two reads in a row, with nothing in between that casts doubt on them
            confirmed = tuple(id for id in missing if id in self._held)
        left = [id for id in missing if id not in confirmed]
        self._held = {id: until for id, until in self._held.items() if id in left}
        fresh = [id for id in left if id not in self._held]
        if len(left) > SUSPECT_SHARE * (len(self._known) - len(confirmed)):
            self._held.update(dict.fromkeys(fresh, now + self._hold))
            return confirmed, bool(fresh)
        return (*confirmed, *fresh), False

    def _recover(self, now: float) -> None:
        # what a registry said before it was lost is no evidence after it: their time begins anew
        self._held = dict.fromkeys(self._held, now + self._hold)
        if self.last_error is not None:
            self.last_error = None
            self._on_event(Back(self.service, now - self._lost_at))

    # -- time

    def tick(self, now: float) -> float | None:
        """Let go what was held long enough; seconds until the next look, None when nothing waits for one."""
        if self.last_error is not None:
            return None
        self._let_go(now)
        if not self._held:
            return None
        self._tell(now)
        return self._left(now)

    def _tell(self, now: float) -> None:
        # once per hold, and not when the second read, which comes at once, settles it: every last instance that
        # stops would be a warning
        if not self._told:
            self._told = True
            self._on_event(Held(self.service, len(self._known), len(self._known) - len(self._held), self._left(now)))

    def _let_go(self, now: float) -> None:
        gone = tuple(id for id, until in self._held.items() if until <= now)
        if not gone:
            return
        for id in gone:
            del self._held[id]
        if not self._held:
            self._doubt = self._told = False
        self._publish({id: instance for id, instance in self._known.items() if id not in gone}, (), gone)

    def _left(self, now: float) -> float:
        return max(0.0, min(self._held.values()) - now)

    # -- what callers see

    def _publish(self, known: dict[str, Instance], added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        if known == self._known and self.first:
            return
        self._known = known
        self.instances = tuple(known.values())
        self._on_change(self.instances)
        if added or removed:
            self._on_event(Changed(self.service, added, removed, len(known)))

    def on_first(self, callback: Callable[[], None]) -> None:
        """Call back once the first snapshot has come; at once when it has."""
        if self.first:
            callback()
        else:
            self._on_first.append(callback)

    def _ready(self) -> None:
        self.first = True
        callbacks, self._on_first = self._on_first, []
        for callback in callbacks:
            callback()

    @property
    def state(self) -> State:
        if self._read_at is None:
            return "never"
        if self.last_error is not None:
            return "stale"
        return "held" if self._held else "fresh"

    def age(self, now: float) -> float | None:
        """Seconds since the registry was last read; None when it never was."""
        return None if self._read_at is None else now - self._read_at

    def describe(self) -> dict[str, object]:
        """State, age and instances, for the dashboard and for people."""
        return {
            "service": self.service,
            "state": self.state,
            "age_s": self.age(self._clock()),
            "instances": [{"id": i.id, "at": i.origin, "held": i.id in self._held} for i in self.instances],
            "error": None if self.last_error is None else str(self.last_error),
        }

    def __repr__(self) -> str:
        held = f", {len(self._held)} held" if self._held else ""
        return f"<EndpointStore {self.service} {self.state}: {len(self.instances)} instances{held}>"
