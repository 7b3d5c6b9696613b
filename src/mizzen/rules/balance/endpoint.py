"""Endpoint: an instance as this client sees it, and the load it is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from mizzen.words.handler import Handler
from mizzen.words.outcome import Verdict

SUCCESS = Verdict.SUCCESS  # a name of its own: this is on the path of every call

DECAY = 10.0
"""Seconds in which a remembered latency fades to 37 % (the τ of Finagle, linkerd and tower)."""
FIRST_GUESS = 0.030
"""Seconds assumed of an endpoint whose first answer is under way (linkerd)."""
LEAST = 0.005
"""Seconds; below it latencies are noise, and what is in flight alone decides, so that fast instances share evenly."""
PENALTY = 8.0
"""A failure counts as an answer that took this many times as long as usual: it must never look fast."""
PENALTY_MOST = 10.0
"""Seconds that penalties alone add up to, so that they fade within about a minute."""

State = Literal["ready", "ejected", "trial", "leaving"]


class Known(Protocol):
    """What is asked of an instance (``rules.discovery.Instance`` is one)."""

    @property
    def id(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def scheme(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def meta(self) -> Mapping[str, str]: ...


class Connection(Protocol):
    """What is asked of a way to an instance, such as its pool of connections."""

    @property
    def send(self) -> Handler: ...
    def close(self) -> None: ...


class Endpoint:
    """An instance as this client sees it: how it answers, what it has in flight, whether it is picked."""

    __slots__ = (
        "_at", "_busy_since", "_connection", "_cost", "_fresh", "answered", "barred", "ejections", "failures", "fence", "id",
        "in_flight", "instance", "picks", "readmitted", "send", "state", "trial", "until",
    )  # fmt: skip

    def __init__(self, instance: Known, connection: Connection, now: float) -> None:
        self.id = instance.id
        self.instance = instance
        self.send = connection.send
        self.state: State = "ready"
        self.in_flight = 0
        """Attempts under way, each until the head of its answer."""
        self.failures = 0
        """Failed attempts in a row."""
        self.ejections = 0
        """How often in a row it was ejected."""
        self.barred = 0.0
        """Seconds of the latest ejection."""
        self.until = 0.0
        """When its ejection or leave ends, on the balancer's clock."""
        self.readmitted = -math.inf
        """When it was last readmitted."""
        self.answered = -math.inf
        """When an attempt last succeeded."""
        self.picks = 0
        """Picks so far; the number of the latest one is the ticket of that attempt."""
        self.fence = 0
        """The last ticket of an earlier state: what comes of those attempts says nothing about this one."""
        self.trial = 0
        """The ticket of the trial under way, 0 without one."""
        self._connection = connection
        self._cost = FIRST_GUESS
        self._at = now
        self._fresh = True
        self._busy_since = 0.0

    def cost(self, now: float) -> float:
        """The latency expected of it, in seconds: peaks count at once, and fade."""
        return max(LEAST, self._cost * math.exp((self._at - now) / DECAY)) if now > self._at else max(LEAST, self._cost)

    def load(self, now: float) -> float:
        """What one more attempt would meet: expected latency times attempts in flight; the lesser is picked."""
        if not self.in_flight:
            # One attempt finds out about an endpoint that nothing is known of; until it has, the guess stands.
            return 0.0 if self._fresh else self.cost(now)
        # One that owes answers and has given none for longer than usual is at least that slow: it may well hang.
        return max(self.cost(now), now - self._busy_since) * (self.in_flight + 1)

    def begin(self, now: float) -> None:
        """An attempt goes out."""
        if not self.in_flight:
            self._busy_since = now
        self.in_flight += 1
        self.picks += 1

    def end(self, verdict: Verdict, seconds: float, now: float) -> None:
        """An attempt came to ``verdict`` after ``seconds``: learn the latency."""
        self.in_flight -= 1
        cost = self._cost
        if now > self._at:
            fade = math.exp((self._at - now) / DECAY)
            cost *= fade
        else:
            fade = 1.0
        if verdict is SUCCESS:
            self._busy_since = self.answered = now
            if seconds > cost or self._fresh:
                cost = seconds
            else:
                cost += seconds * (1.0 - fade)
        elif verdict is Verdict.FAILURE or verdict is Verdict.PENALISED:
            cost = max(cost, seconds, min(max(cost, LEAST) * PENALTY, PENALTY_MOST))
        elif seconds > cost:  # neutral: no answer to judge by, yet it kept somebody waiting
            cost = seconds
        self._fresh = False
        self._cost = cost
        self._at = now

    def readmit(self, seconds: float, now: float) -> None:
        """Back in the pick with a clean slate but for the latency of its trial."""
        self.state = "ready"
        self.failures = 0
        self.trial = 0
        self.readmitted = now
        self.fence = self.picks
        self._cost = seconds
        self._at = now

    def close(self) -> None:
        """Let go of its connections: idle ones at once, busy ones as their answers end."""
        self._connection.close()

    def describe(self, now: float) -> dict[str, Any]:
        """This endpoint as plain values."""
        return {
            "id": self.id,
            "address": f"{self.instance.host}:{self.instance.port}",
            "state": self.state,
            "in_flight": self.in_flight,
            "latency": round(self.cost(now), 4),
            "load": round(self.load(now), 4),
            "failures": self.failures,
            "ejections": self.ejections,
            "back_in": 0.0 if self.state == "ready" else round(max(0.0, self.until - now), 3),
        }

    def __repr__(self) -> str:
        return f"<Endpoint {self.id} {self.state}, {self.in_flight} in flight, {self.failures} failures>"
