"""Breaker: after too many failed calls in a row a peer is left alone, then tried with one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from mizzen.words.clock import Clock, format_duration
from mizzen.words.errors import BreakerOpen
from mizzen.words.handler import Handler, Layer
from mizzen.words.message import Request, Response
from mizzen.words.outcome import BREAKER_OPEN, Verdict

FAILURES = 5
"""Failed calls in a row that open it: fewer trip on a hiccup; the count is of calls, retries included (article)."""
COOLDOWN = 30.0
"""Seconds that it stays open: about what a process needs to come back, and short enough to wait for (article)."""
TRIAL_WAIT = 1.0
"""Seconds that a refused caller is told while a trial is under way: its end is not known, and 0 would invite a storm."""

SUCCESS = Verdict.SUCCESS  # a name of its own: this is on the path of every call

State = Literal["closed", "open", "half_open"]


class Change(msgspec.Struct, frozen=True):
    """A breaker went from one state into another."""

    state: State
    previous: State
    failures: dict[str, int]
    """What the calls that opened it came to, by outcome; one entry when a trial failed, empty when it did not open."""
    cooldown: float
    """Seconds until the next trial when it is open now, else 0."""


class Breaker:
    """Closed, open or half-open; a trial is a lease that one call holds until it is settled.

    Every entry gets a token. Tokens of a generation that is over are ignored, so an answer to a call from before
    the breaker opened neither closes it nor opens it again.
    """

    __slots__ = ("_on_change", "_trial", "_until", "cooldown", "count", "generation", "names", "refused", "state", "threshold")

    def __init__(
        self, *, failures: int = FAILURES, cooldown: float = COOLDOWN, on_change: Callable[[Change], None] | None = None
    ) -> None:
        """Open for ``cooldown`` seconds after ``failures`` failed calls in a row; ``ValueError`` for less than one."""
        if failures < 1:
            raise ValueError(f"a breaker that opens after {failures} failures could never be closed; it needs at least 1")
        if cooldown < 0:
            raise ValueError(f"a cooldown of {cooldown} s cannot be; 0 is the least")
        self.threshold = failures
        self.cooldown = cooldown
        self.state: State = "closed"
        self.generation = 0
        self.count = 0
        """Failed calls in a row."""
        self.names: dict[str, int] = {}
        """The same by outcome; while open, those that opened it."""
        self.refused = 0
        """Calls turned away so far."""
        self._on_change = on_change
        self._trial = False
        self._until = 0.0

    def enter(self, now: float) -> int | None:
        """A token for one call, to be given to :meth:`settle` however the call ends; None when it is refused."""
        if self.state == "closed":
            return self.generation
        if self.state == "open" and now >= self._until:
            self._become("half_open")
        if self.state == "half_open" and not self._trial:
            self._trial = True
            self.generation += 1  # each trial is a generation: a trial that gave its lease back is late as well
            return self.generation
        self.refused += 1
        return None

    def settle(self, token: int, verdict: Verdict, now: float, name: str = "failed") -> None:
        """Say what the call with that token came to; ``name`` is its outcome's. Neutral gives a trial's lease back."""
        if token != self.generation:
            return
        if self.state == "closed":
            if verdict is Verdict.SUCCESS:
                if self.count:
                    self.count, self.names = 0, {}
            elif verdict is Verdict.FAILURE:
                self.count += 1
                self.names[name] = self.names.get(name, 0) + 1
                if self.count >= self.threshold:
                    self._open(now)
        elif self._trial:
            self._trial = False
            if verdict is Verdict.SUCCESS:
                self.count, self.names = 0, {}
                self._become("closed")
            elif verdict is Verdict.FAILURE:
                self.count, self.names = self.count + 1, {name: 1}
                self._open(now)

    def retry_after(self, now: float) -> float:
        """Seconds until a call may pass again: 0 when one may now."""
        if self.state == "open":
            return max(0.0, self._until - now)
        return TRIAL_WAIT if self._trial else 0.0

    def describe(self, now: float | None = None) -> dict[str, Any]:
        """The state as plain values; with ``now`` also the seconds until the next trial."""
        told: dict[str, Any] = {
            "state": self.state,
            "failures": self.count,
            "threshold": self.threshold,
            "cooldown": self.cooldown,
            "outcomes": dict(self.names),
            "trial": self._trial,
            "refused": self.refused,
        }
        if now is not None:
            told["retry_after"] = self.retry_after(now)
        return told

    def _open(self, now: float) -> None:
        self._until = now + self.cooldown
        self._become("open")

    def _become(self, state: State) -> None:
        previous, self.state = self.state, state
        self.generation += 1
        self._trial = False
        if self._on_change is not None:
            opened = state == "open"
            self._on_change(Change(state, previous, dict(self.names) if opened else {}, self.cooldown if opened else 0.0))

    def __repr__(self) -> str:
        if self.state == "closed":
            return f"<Breaker closed, {self.count} of {self.threshold} failures>"
        if self.state == "open":
            return f"<Breaker open for {format_duration(self.cooldown)}: {count_outcomes(self.names)}>"
        return f"<Breaker half-open, {'trial under way' if self._trial else 'waiting for a trial'}>"


def breaking(breaker: Breaker, *, peer: str, clock: Clock) -> Layer:
    """Refuse calls while ``breaker`` is open, and settle each that passed by the outcome of its last attempt.

    Raises :class:`BreakerOpen`, with the seconds until the next trial.
    """

    def layer(following: Handler) -> Handler:
        async def send(request: Request) -> Response:
            call = request.call
            assert call is not None  # the client's edge gives every request its call
            token = breaker.generation if breaker.state == "closed" else breaker.enter(clock())
            if token is None:
                error = _refusal(breaker, peer, clock())
                error.outcome = call.outcome = BREAKER_OPEN
                raise error
            outcome = None
            try:
                response = await following(request)
                outcome = call.outcome
                return response
            except Exception:
                outcome = call.outcome
                raise
            finally:  # a cancelled call has no outcome of its own: neutral, and a trial's lease is free again
                if outcome is None:
                    breaker.settle(token, Verdict.NEUTRAL, clock())
                elif breaker.count or breaker.state != "closed" or outcome.breaker is not SUCCESS:
                    breaker.settle(token, outcome.breaker, clock(), outcome.name)
                # else a success among successes, as nearly always, which changes nothing

        return send

    return layer


def count_outcomes(names: Mapping[str, int]) -> str:
    """``5 calls failed (4 refused, 1 timeout)``."""
    total = sum(names.values())
    each = ", ".join(f"{count} {name}" for name, count in names.items())
    return f"{total} {'call' if total == 1 else 'calls'} failed ({each})" if each else "no call failed"


def _refusal(breaker: Breaker, peer: str, now: float) -> BreakerOpen:
    wait = breaker.retry_after(now)
    if breaker.state == "open":
        why = f"{count_outcomes(breaker.names)}; next trial in {format_duration(wait)}"
    else:
        why = "a trial call is under way"
    return BreakerOpen(f"not sent: the breaker of {peer} is open: {why}", peer=peer, retry_after=wait)
