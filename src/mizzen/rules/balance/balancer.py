"""Balancer: which endpoint gets the next attempt, and which are left out for a while because they fail."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from mizzen.words.clock import Clock, Random
from mizzen.words.errors import NoInstances
from mizzen.words.message import Call, Request
from mizzen.words.outcome import Verdict

from .endpoint import Connection, Endpoint, Known, State

SUCCESS = Verdict.SUCCESS  # a name of its own: this is on the path of every call

EJECT_AFTER = 5
"""Failed attempts in a row (Envoy, Finagle)."""
EJECT_BASE = 5.0
"""Seconds of a first ejection; short, since one Python process sees few requests and learns little (Finagle)."""
EJECT_MOST = 60.0
"""Seconds of the longest; an endpoint that stayed in for as long begins at the base again (linkerd)."""
EJECT_JITTER = 0.2
"""An ejection is shortened by up to this share, so that many clients do not try an instance at once."""
LEAVE = 1.0
"""Seconds without picks after a refusal because of starting or draining: what a registry takes to agree."""
HEAVIEST = 65_535
"""The largest weight that registries know (Consul's, and that of SRV records)."""
PANIC_BELOW = 0.5
"""Share of endpoints; when fewer are left, the judgement is doubted and all are picked from (Envoy, Finagle)."""


class Balancer:
    """Picks endpoints by the power of two choices over their load, and leaves out those that keep failing.

    An endpoint is ejected after 5 failed attempts in a row, and readmitted by one trial. Any but the last may be;
    when fewer than half are left, all are picked from, the least loaded first: failures then still count as load.
    Where weights differ the two are drawn by them, and each may have as much more in flight as it weighs more.
    """

    def __init__(
        self,
        connect: Callable[[Any], Connection],
        *,
        clock: Clock,
        random: Random,
        peer: str = "",
        detail: Callable[[], str] | None = None,
        on_eject: Callable[[Endpoint, float], None] | None = None,
        on_readmit: Callable[[Endpoint], None] | None = None,
    ) -> None:
        """``detail`` says why there are no instances; ``on_eject`` gets the endpoint and the seconds."""
        self.peer = peer
        self.panic = False
        """Whether so many are ejected that all are picked from."""
        self._connect = connect
        self._clock = clock
        self._random = random
        self._detail = detail
        self._on_eject = on_eject
        self._on_readmit = on_readmit
        self._endpoints: dict[str, Endpoint] = {}
        self._pool: tuple[Endpoint, ...] = ()
        self._lots: list[int] = []  # running sums of the pool's weights; empty while they are equal, as nearly always
        self._lightest = 1
        self._special = False  # panic, or weights that differ: one question, on the path of every call
        self._review_at = math.inf

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order of the latest snapshot."""
        return tuple(self._endpoints.values())

    def update(self, instances: Iterable[Known]) -> None:
        """Take a complete snapshot: survivors keep their state, a new address or life of an instance begins anew."""
        now = self._clock()
        before, after = self._endpoints, dict[str, Endpoint]()
        for instance in instances:
            if instance.id in after:
                continue
            endpoint = before.get(instance.id)
            if endpoint is None or _life(endpoint.instance) != _life(instance):
                endpoint = Endpoint(instance, self._connect(instance), now)
            endpoint.instance = instance
            after[instance.id] = endpoint
        self._endpoints = after
        if len(after) == 1:
            for endpoint in after.values():  # the only one left is better than none
                if endpoint.state == "ejected" or endpoint.state == "trial":
                    self._readmit(endpoint, endpoint.cost(now), now)
        self._sort()
        for endpoint in before.values():
            if after.get(endpoint.id) is not endpoint:
                endpoint.close()

    def pick(self, request: Request, now: float) -> Endpoint:
        """The endpoint for the next attempt, in flight from now until :meth:`done`; raises :class:`NoInstances`."""
        call = request.call
        endpoint = None
        if now >= self._review_at:
            endpoint = self._review(call, now)
        if endpoint is None:
            pool = self._pool
            if call is not None and call.tried and len(pool) > 1:
                tried = call.tried
                pool = tuple([one for one in pool if one.id not in tried]) or pool
            endpoint = pool[0] if len(pool) == 1 else self._choose(pool, now)
        endpoint.begin(now)
        if endpoint.state == "trial" and not endpoint.trial:
            endpoint.trial = endpoint.picks
        return endpoint

    def done(self, endpoint: Endpoint, verdict: Verdict, seconds: float, now: float, ticket: int | None = None) -> None:
        """An attempt ended after ``seconds``; ``ticket`` is ``endpoint.picks`` as :meth:`pick` left it."""
        endpoint.end(verdict, seconds, now)
        if verdict is SUCCESS and not endpoint.failures and endpoint.state == "ready":
            return  # as nearly always: there is nothing to learn or to forget
        if ticket is None:
            ticket = endpoint.trial or endpoint.picks
        if ticket <= endpoint.fence or self._endpoints.get(endpoint.id) is not endpoint:
            return  # a late answer, of an earlier state or of an endpoint that is gone
        if verdict is Verdict.LEAVING:
            self._leave(endpoint, now, of_trial=ticket == endpoint.trial)
        elif ticket == endpoint.trial:
            self._conclude(endpoint, verdict, seconds, now)
        elif endpoint.state == "ready" or endpoint.state == "leaving":
            if verdict is Verdict.SUCCESS:
                endpoint.failures = 0
            elif verdict is Verdict.FAILURE:
                endpoint.failures += 1
                if endpoint.failures >= EJECT_AFTER and self._expendable(endpoint):
                    if now - endpoint.readmitted >= EJECT_MOST:
                        endpoint.ejections = 0
                    self._eject(endpoint, now)

    def answers(self, id: str, within: float) -> bool:
        """Whether calls to an instance were answered in the last ``within`` seconds, and it is not left out since."""
        endpoint = self._endpoints.get(id)
        return endpoint is not None and endpoint.state == "ready" and self._clock() - endpoint.answered <= within

    def states(self) -> dict[State, int]:
        """How many endpoints are in each state."""
        counts: dict[State, int] = {"ready": 0, "ejected": 0, "trial": 0, "leaving": 0}
        for endpoint in self._endpoints.values():
            counts[endpoint.state] += 1
        return counts

    def describe(self) -> dict[str, Any]:
        """Every endpoint as plain values."""
        now = self._clock()
        return {"peer": self.peer, "panic": self.panic, "endpoints": [one.describe(now) for one in self._endpoints.values()]}

    def close(self) -> None:
        """Let go of every endpoint."""
        self.update(())

    # -- choosing

    def _choose(self, pool: tuple[Endpoint, ...], now: float) -> Endpoint:
        count = len(pool)
        if count == 0:
            detail = self._detail() if self._detail is not None else "discovery knows none"
            raise NoInstances(f"no instance of {self.peer or 'the peer'}: {detail}", peer=self.peer)
        first = int(self._random() * count)
        if self._special:
            if self.panic:  # two random ones would both be failing ones too often: the least loaded of all
                return min(pool[first:] + pool[:first], key=lambda one: one.load(now))
            if pool is self._pool:
                return self._weigh(now)
        second = int(self._random() * (count - 1))
        if second >= first:
            second += 1
        one, other = pool[first], pool[second]
        return one if one.load(now) <= other.load(now) else other

    def _weigh(self, now: float) -> Endpoint:
        """The less loaded, for its weight, of two that are drawn by weight. They may be the same one: of two endpoints
        both would be drawn every time, and their weights say nothing."""
        pool, lots = self._pool, self._lots
        one = pool[bisect(lots, self._random() * lots[-1])]
        other = pool[bisect(lots, self._random() * lots[-1])]
        return one if self._weighed(one, now) <= self._weighed(other, now) else other

    def _weighed(self, endpoint: Endpoint, now: float) -> float:
        """Its load, divided by its weight as far as that is load by what is in flight: idle ones are drawn alike."""
        return endpoint.load(now) / min(_weight(endpoint) / self._lightest, endpoint.in_flight + 1)

    def _review(self, call: Call | None, now: float) -> Endpoint | None:
        """Some ejection or leave is over: let leavers back in, and give this call a trial if it may have one."""
        trial = None
        back = False
        for endpoint in self._endpoints.values():
            if endpoint.until > now:
                continue
            if endpoint.state == "leaving":
                endpoint.state = "ready"
                back = True
            elif endpoint.state == "ejected" and trial is None and _may_try(call, endpoint, now):
                trial = endpoint
        if trial is not None:
            trial.state = "trial"
        if back or trial is not None:
            self._sort()
        return trial

    def _sort(self) -> None:
        """Who is picked from, and when that must be looked at again."""
        everyone = tuple(self._endpoints.values())
        ready = tuple([one for one in everyone if one.state == "ready"])
        staying = tuple([one for one in everyone if one.state != "leaving"])
        self.panic = len(ready) < len(staying) * PANIC_BELOW
        self._pool = staying if self.panic else ready or everyone
        weights = [_weight(one) for one in self._pool]
        self._lightest = min(weights, default=1)
        self._lots = list(accumulate(weights)) if self._lightest != max(weights, default=1) else []
        self._special = self.panic or bool(self._lots)
        waiting = [one.until for one in everyone if one.state == "ejected" or one.state == "leaving"]
        self._review_at = min(waiting, default=math.inf)

    # -- judging

    def _expendable(self, endpoint: Endpoint) -> bool:
        return any(one.state == "ready" for one in self._endpoints.values() if one is not endpoint)

    def _eject(self, endpoint: Endpoint, now: float) -> None:
        longest = min(EJECT_MOST, EJECT_BASE * 2.0 ** min(endpoint.ejections, 16))
        seconds = longest * (1.0 - EJECT_JITTER * self._random())
        endpoint.state = "ejected"
        endpoint.ejections += 1
        endpoint.barred = seconds
        endpoint.until = now + seconds
        endpoint.fence = endpoint.picks
        endpoint.trial = 0
        self._sort()
        if self._on_eject is not None:
            self._on_eject(endpoint, seconds)

    def _leave(self, endpoint: Endpoint, now: float, *, of_trial: bool) -> None:
        if of_trial:
            endpoint.trial = 0
            endpoint.state = "ejected"
        if endpoint.state == "ready":
            endpoint.state = "leaving"
        endpoint.until = max(endpoint.until, now + LEAVE)
        self._sort()

    def _conclude(self, endpoint: Endpoint, verdict: Verdict, seconds: float, now: float) -> None:
        """A trial ended."""
        endpoint.trial = 0
        if verdict is Verdict.SUCCESS:
            self._readmit(endpoint, seconds, now)
            self._sort()
        elif verdict is Verdict.FAILURE:
            endpoint.failures += 1
            self._eject(endpoint, now)
        else:  # it says nothing: the next call is the trial
            endpoint.state = "ejected"
            self._sort()

    def _readmit(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        endpoint.readmit(seconds, now)
        if self._on_readmit is not None:
            self._on_readmit(endpoint)

    def __repr__(self) -> str:
        counts = " ".join(f"{count} {state}" for state, count in self.states().items() if count) or "no endpoints"
        return f"<Balancer {self.peer or 'peer'}: {counts}{', panic' if self.panic else ''}>"


def _life(instance: Known) -> tuple[str, int, str, str]:
    """What makes it the same process at the same place, reached in the same way: a restart gets a new boot id."""
    return instance.host, instance.port, instance.scheme, instance.meta.get("boot", "")


def _weight(endpoint: Endpoint) -> int:
    """What its registry says, within what can be drawn by."""
    return max(1, min(endpoint.instance.weight, HEAVIEST))


def _may_try(call: Call | None, endpoint: Endpoint, now: float) -> bool:
    """Whether this call may be the trial: one that can be sent again if it fails, or any once it waited twice as long."""
    if call is not None and call.tried:
        return False  # an attempt after a failed one goes where it is safe
    return (call is not None and call.idempotent) or now >= endpoint.until + endpoint.barred
