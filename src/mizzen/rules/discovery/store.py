"""EndpointStore: what callers know of one service, the one policy over every resolver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from mizzen.words.clock import Clock
from mizzen.words.errors import MizzenError

from .happenings import Back, Changed, Held, Lost, Recalled, StoreEvent
from .instance import Instance

HOLD = 30.0
"""Seconds that a suspect removal is held: long enough for instances that beat every 5 s to register again with a
registry that came back empty, short enough that a service which really went away is soon said to be away."""

SUSPECT_SHARE = 0.5
"""Removing more than this share of a set in one step is suspect. A rolling restart takes instances out a few at a
time; registries that misbehave (hashicorp/consul#21548, tokens without rights) drop nearly all of them at once."""

LONGEST = 600.0
"""Seconds that an instance which answers is kept while the registry knows others of its service but not this one. Agents
and controllers tell a registry anew what they run within 1 to 10 minutes (Consul's anti-entropy, Kubernetes' resync): who
is not back by then was taken out on purpose."""

LOOK = 1.0
"""Seconds between two looks at whether those that are kept for their answers still answer."""

State = Literal["never", "fresh", "stale", "held"]
"""``never`` read · ``fresh`` · ``stale``: the last read failed, or the set is from disk · ``held``: instances missing from
it are kept."""


class EndpointStore:
    """What callers know of one service's instances: the one policy over every resolver. A `Feed`.

    * errors hold the last set for ever;
    * additions, and changes to an instance that stays, apply at once;
    * removals of up to half of the set apply at once;
    * a larger one is held for ``hold`` seconds, unless the next read misses the same instances;
    * after an error or a regress it is held for all of that time, whatever further reads say: a registry that
      lost its state is honestly empty, and wrong. So is one that hung, a moment after it gave out the whole set: the
      doubt lasts as long as a hold. While the registry cannot be read the time does not run;
    * in doubt, which is after an error or a regress, when others of this process lost the registry (``doubt``), and
      when nothing confirmed a removal in its time, one that is absent but answers stays for as long as it does. What
      is absent and does not answer goes.

    No I/O and no timer: whoever owns the store calls ``tick`` when it says so, and knows who ``answers``.
    """

    def __init__(
        self,
        service: str,
        *,
        clock: Clock,
        on_change: Callable[[tuple[Instance, ...]], None],
        on_event: Callable[[StoreEvent], None] | None = None,
        answers: Callable[[str], bool] | None = None,
        hold: float = HOLD,
    ) -> None:
        """``on_change`` gets the whole set at the first snapshot, were it empty, and at every change.

        ``answers`` says of an instance's id whether calls to it were answered in the last ``hold`` seconds.
        """
        self.service = service
        self.instances: tuple[Instance, ...] = ()
        self.first = False
        """Whether there is a set, were it an empty one."""
        self.last_error: Exception | None = None
        """Why the registry cannot be read; None while it can."""
        self.reads = self.errors = self.holds = 0
        """How often it was read, could not be read, and left out so many that they were put on hold."""
        self._clock = clock
        self._on_change = on_change
        self._on_event = on_event or _nobody
        self._answers = answers or _silent
        self._hold = hold
        self._on_first: list[Callable[[], None]] = []
        self._known: dict[str, Instance] = {}
        self._held: dict[str, float] = {}  # id -> when it is let go, unless it answers then
        self._spared: dict[str, float] = {}  # id -> since when it is kept; absent, and there because it answers
        self._offered = 0  # instances in the last read
        self._doubt = False  # until ``_doubt_until``, and, as a regress, until a read that misses nothing
        self._doubt_until = 0.0
        self._recalled = False  # the set is from disk, and no read has come
        self._told = False  # of the hold under way
        self._read_at: float | None = None
        self._lost_at = 0.0

    # -- what a resolver says

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        """Take a complete read; True when the resolver shall read again at once, for a second opinion."""
        now = self._clock()
        offered = {instance.id: instance for instance in instances}
        recalled, self._recalled = self._recalled, False
        self.reads += 1
        self._read_at, self._offered = now, len(offered)
        if self.last_error is None and not recalled:
            self._settled(now)  # a doubt whose time is over says nothing about this read
        if regressed or self.last_error is not None:
            self._doubt = True
            self._hold_anew(now)  # what it said before is no evidence any more
        if self.last_error is not None:
            self.last_error = None
            # one that hung gives out the set of before, and then strikes off everybody who could not beat meanwhile
            self._doubt_until = max(self._doubt_until, now + self._hold)
            self._on_event(Back(self.service, now - self._lost_at))
        self._take_back(offered)
        added = tuple(id for id in offered if id not in self._known)
        removed, suspect = self._judge(offered, now, trusted=recalled and bool(offered))
        self._publish({**self._without(removed), **offered}, added, removed)
        self._ready()
        if not self._settled(now) and self._doubt and self._held:
            self._tell(now)  # no second read can settle it
        return suspect and not self._doubt

    def error(self, error: Exception) -> None:
        """The registry could not be read: serve the last set, and do not believe its next empty answer at once."""
        self.errors += 1
        lost = self.last_error is None
        self.last_error = error
        self._doubt = True
        if lost:
            self._lost_at = self._clock()
            self._on_event(Lost(self.service, len(self._known), error))

    def doubt(self, lasting: float = 0.0) -> None:
        """Others noticed that the registry is lost, or back: in doubt for ``lasting`` seconds from now, and a hold.

        A registry that hangs strikes off, once it goes on, everybody who could not beat meanwhile, one after the other;
        a watch that was silent for less than its limit on silence has noticed nothing.
        """
        self._doubt = True
        self._doubt_until = self._clock() + lasting + self._hold

    def recall(self, instances: Sequence[Instance], age: float) -> bool:
        """Take what an earlier life of this process knew ``age`` seconds ago; False when the registry was read already.

        It stands until the first read, which is in doubt if it is empty. One that knows anybody is believed: what is
        from disk was never seen alive.
        """
        if self.first or not instances:
            return False
        self._recalled = self._doubt = True
        self._read_at = self._clock() - age
        self._set({instance.id: instance for instance in instances})
        self._on_event(Recalled(self.service, len(self._known), age))
        self._ready()
        return True

    # -- the policy

    def _judge(self, offered: dict[str, Instance], now: float, *, trusted: bool) -> tuple[tuple[str, ...], bool]:
        """The ids to remove now, and whether others were put on hold by this very read."""
        over = self._over(now)
        known = self._without(over)
        missing = [id for id in known if id not in offered]
        again = [id for id in missing if id in self._held or id in self._spared]
        fresh = [id for id in missing if id not in self._held and id not in self._spared]
        # missing from two reads in a row, with nothing in between that casts doubt on them
        confirmed = [] if self._doubt else again
        self._take_back(confirmed)
        if len(missing) - len(confirmed) > SUSPECT_SHARE * (len(known) - len(confirmed)) and not trusted:
            if fresh and not self._held:
                self.holds += 1
            self._held.update(dict.fromkeys(fresh, now + self._hold))
            return (*over, *confirmed), bool(fresh)
        if self._doubt:
            self._spared.update({id: now for id in fresh if self._answers(id)})
        return (*over, *confirmed, *(id for id in fresh if id not in self._spared)), False

    def _over(self, now: float) -> tuple[str, ...]:
        """Strike off those whose time on hold is over, and give their ids; who answers then is kept for that."""
        due = [id for id, until in self._held.items() if until <= now]
        for id in due:
            self._spared[id] = self._held.pop(id) - self._hold
        silent = tuple(id for id, since in self._spared.items() if not self._stays(id, now - since))
        self._take_back(silent)
        return silent

    def _stays(self, id: str, seconds: float) -> bool:
        # While the registry knows nobody there is no limit: the other choice is no call at all.
        return self._answers(id) and (not self._offered or seconds < LONGEST)

    def _hold_anew(self, now: float) -> None:
        self._held = dict.fromkeys((*self._held, *self._spared), now + self._hold)
        self._spared.clear()

    def _without(self, ids: Iterable[str]) -> dict[str, Instance]:
        """What is known but for these."""
        known = dict(self._known)
        for id in ids:
            del known[id]
        return known

    def _take_back(self, ids: Iterable[str]) -> None:
        """Whatever becomes of these: they are not on hold any more."""
        for id in ids:
            self._held.pop(id, None)
            self._spared.pop(id, None)

    def _settled(self, now: float) -> bool:
        """Whether nobody is on hold; then no doubt is left either, once its time is over."""
        if self._held or self._spared:
            return False
        self._told = False
        self._doubt = self._doubt and now < self._doubt_until
        return True

    # -- time

    def tick(self, now: float) -> float | None:
        """Let go what was held long enough; seconds until the next look, None when nothing waits for one."""
        if self.last_error is not None or self._recalled:
            return None
        gone = self._over(now)
        if gone:
            self._publish(self._without(gone), (), gone)
        if self._settled(now):
            return max(0.0, self._doubt_until - now) if self._doubt else None
        if not self._held:
            return LOOK
        self._tell(now)
        return min(self._left(now), LOOK) if self._spared else self._left(now)

    def _tell(self, now: float) -> None:
        # once per hold, and not when the second read, which comes at once, settles it: every last instance that
        # stops would be a warning
        if not self._told:
            self._told = True
            self._on_event(Held(self.service, len(self._known), self._offered, self._left(now)))

    def _left(self, now: float) -> float:
        return max(0.0, min(self._held.values()) - now)

    # -- what callers see

    def _publish(self, known: dict[str, Instance], added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        if known == self._known and self.first:
            return
        self._set(known)
        if added or removed:
            self._on_event(Changed(self.service, added, removed, len(known)))

    def _set(self, known: dict[str, Instance]) -> None:
        self._known = known
        self.instances = tuple(known.values())
        self._on_change(self.instances)

    def on_first(self, callback: Callable[[], None]) -> None:
        """Call back once there is a set; at once when there is."""
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
        if self.last_error is not None or self._recalled:
            return "stale"
        return "held" if self.held else "fresh"

    @property
    def held(self) -> int:
        """How many are known although the last read has them not."""
        return len(self._held) + len(self._spared)

    @property
    def trouble(self) -> str | None:
        """Why the registry cannot be read, for everybody to see: only our own words are known to hold no secret."""
        error = self.last_error
        return None if error is None else str(error) if isinstance(error, MizzenError) else type(error).__name__

    def age(self, now: float) -> float | None:
        """Seconds since the registry was last read, by this process or an earlier one; None when it never was."""
        return None if self._read_at is None else now - self._read_at

    def report(self) -> dict[str, object]:
        """State, age in seconds and numbers, for everybody to see."""
        age = self.age(self._clock())
        return {
            "state": self.state,
            "age_s": None if age is None else round(age, 3),
            "instances": len(self.instances),
            "held": self.held,
            "error": self.trouble,
        }

    def describe(self) -> dict[str, object]:
        """The report with every instance, for the dashboard and for our own people."""
        return {
            "service": self.service,
            **self.report(),
            "instances": [
                {"id": i.id, "at": i.origin, "held": i.id in self._held or i.id in self._spared} for i in self.instances
            ],
            "error": None if self.last_error is None else str(self.last_error),
            "reads": self.reads,
            "errors": self.errors,
            "holds": self.holds,
        }

    def __repr__(self) -> str:
        held = f", {self.held} held" if self.held else ""
        return f"<EndpointStore {self.service} {self.state}: {len(self.instances)} instances{held}>"


def _nobody(event: StoreEvent) -> None:
    """Nobody to tell."""


def _silent(_: str) -> bool:
    """Nobody is known to answer."""
    return False
