"""Retry: another attempt where that is safe, where time is left, and where the budget pays for it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from msgspec import Struct

from mizzen.words.clock import Clock, Random, format_duration
from mizzen.words.handler import Handler, Layer
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import CANCELLED, Outcome, Resend

RETRIES = 2
"""Attempts after the first; of calls that fail twice, 3 % are saved by a third retry (article; dotnet/extensions#7686)."""
FREE_RESENDS = 2
"""Resends over stale pooled connections that cost nothing; one more means that something else is wrong."""
BACKOFF_BASE = 0.025
"""Seconds; the least wait before a retry (Envoy)."""
BACKOFF_CAP = 0.25
"""Seconds; the most: a call has 2 s in all (Envoy)."""
LEAST_SHARE = 0.1
"""Seconds; an attempt whose half of the time would be less gets all of it: a hurried caller's 50 ms end by that caller's
deadline, and not by a fault of the peer."""
BUDGET_SHARE = 0.2
"""Retries per call over time; more than a fifth on top turns an overload into an outage (Finagle, tower)."""
BUDGET_FLOOR = 10.0
"""Retries per second that need no calls to earn them, so that a service with little traffic can retry (Finagle, tower)."""
BUDGET_WINDOW = 10.0
"""Seconds that deposits, and retries made, are remembered (Finagle, tower)."""
GRAIN = 0.1
"""Seconds for which deposits are taken as made at once, at the first of them: they fade by up to a hundredth more."""
RETRY_AFTER = "retry-after"
NEVER = Resend.NEVER  # a name of its own: this is on the path of every call

OnRetry = Callable[[Request, Outcome, int], None]
"""Called before each resend with the outcome that led to it and its number, from 1."""
OnExhausted = Callable[[Request, Outcome], None]
"""Called when the budget begins to refuse; not again until it has recovered by half."""


class Budget:
    """What a process may spend on retries to one peer: a share of its calls, and a floor per second.

    Both are remembered for ``window`` seconds, fading evenly rather than dropping out: a spent budget comes back
    little by little, not in one burst. Over any stretch of time from the start, retries are at most
    ``share * calls + floor * (seconds + window)``.
    """

    __slots__ = ("_at", "_level", "exhausted", "floor", "refused", "share", "spent", "window")

    def __init__(self, *, share: float = BUDGET_SHARE, floor: float = BUDGET_FLOOR, window: float = BUDGET_WINDOW) -> None:
        """``floor`` in retries per second, ``window`` in seconds; ``ValueError`` when one cannot be."""
        if share < 0 or floor < 0 or window <= 0:
            raise ValueError(f"no budget has a share of {share}, a floor of {floor}/s and a window of {window} s")
        self.share = share
        self.floor = floor
        self.window = window
        self.spent = 0
        """Retries paid for so far."""
        self.refused = 0
        """Retries refused so far."""
        self.exhausted = False
        """Whether it refused, and has not recovered by half since."""
        self._level = 0.0  # deposits less withdrawals, faded; the floor comes on top
        self._at: float | None = None

    def deposit(self, now: float) -> float:
        """One more call was made; returns the balance."""
        if self._at is None or now - self._at >= GRAIN:
            self._fade(now)
        self._level += self.share
        return self._level + self.floor * self.window

    def withdraw(self, now: float) -> bool:
        """Pay for one more retry; False, and nothing is paid, when the balance does not cover it."""
        balance = self.balance(now)
        if balance < 1:
            self.refused += 1
            self.exhausted = True
            return False
        if self.exhausted and balance >= self.floor * self.window / 2:
            self.exhausted = False
        self._level -= 1
        self.spent += 1
        return True

    def balance(self, now: float) -> float:
        """Retries that could be paid for now."""
        self._fade(now)
        return self._level + self.floor * self.window

    def describe(self, now: float | None = None) -> dict[str, Any]:
        """The budget as plain values, its balance as of ``now`` or of its last use."""
        balance = self._level + self.floor * self.window if now is None else self.balance(now)
        return {
            "balance": round(balance, 1),
            "share": self.share,
            "floor": self.floor,
            "window": self.window,
            "spent": self.spent,
            "refused": self.refused,
            "exhausted": self.exhausted,
        }

    def _fade(self, now: float) -> None:
        if self._at is None:
            self._at = now
        elif now > self._at:
            self._level *= math.exp((self._at - now) / self.window)
            self._at = now

    def __repr__(self) -> str:
        balance = int(self._level + self.floor * self.window)
        return f"<Budget {balance} retries left, {self.spent} spent, {self.refused} refused>"


def retry(
    budget: Budget,
    *,
    retries: int = RETRIES,
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]],
    random: Random,
    on_retry: OnRetry | None = None,
    on_exhausted: OnExhausted | None = None,
) -> Layer:
    """Send a request again when ``call.outcome`` allows it, at most ``retries`` times, while time and budget last.

    Before each attempt ``call.last`` says whether no other can follow. Lines for ``--explain`` go to ``call.notes``.
    What the last attempt came to stands.
    """

    rule = _Rule(budget, retries, random, on_retry, on_exhausted)

    def layer(following: Handler) -> Handler:
        async def send(request: Request) -> Response:
            call = request.call
            assert call is not None  # the client's edge gives every request its call
            now = clock()
            balance = budget.deposit(now)
            course: _Course | None = None
            if call.notes is not None:
                course = _Explained(request, call, rule)
            elif request.body.__class__ is not bytes:
                course = _Course(request, call, rule)
            while True:
                if course is not None:
                    course.begin(now, balance)
                else:  # the first attempt, and nearly always the only one: it needs no course yet
                    call.outcome = None
                    call.last = (
                        not call.idempotent or not retries or balance < 1 or call.deadline - now < 2 * LEAST_SHARE
                    )  # as in _is_last
                response: Response | None = None
                try:
                    response = await following(request)
                except Exception:
                    outcome = call.outcome
                    if course is None:
                        if outcome is None or outcome.resend is NEVER:
                            raise
                        course = _Course(request, call, rule)
                    wait = course.again(outcome, None, clock())
                    if wait is None:
                        raise
                else:
                    outcome = call.outcome
                    if course is None:
                        if outcome is None or outcome.resend is NEVER:
                            return response
                        course = _Course(request, call, rule)
                    wait = course.again(outcome, response, clock())
                    if wait is None:
                        return response
                try:
                    if response is not None:
                        await response.close()
                    if wait:
                        await sleep(wait)
                except BaseException:  # cancelled between two attempts: the failure before is not this call's end
                    call.outcome = CANCELLED
                    raise
                now = clock()
                balance = budget.balance(now)

        return send

    return layer


class _Rule(Struct, frozen=True):
    """What is the same for every call to a peer."""

    budget: Budget
    retries: int
    random: Random
    on_retry: OnRetry | None
    on_exhausted: OnExhausted | None


class _Course:
    """The attempts of one call, and whether there will be another."""

    __slots__ = ("body", "call", "free", "paid", "request", "rule")

    def __init__(self, request: Request, call: Call, rule: _Rule) -> None:
        self.request = request
        self.call = call
        self.rule = rule
        self.paid = 0
        self.free = 0
        self.body: _Body | None = None
        if not isinstance(request.body, bytes):
            request.body = self.body = _Body(request.body)

    def begin(self, now: float, balance: float) -> None:
        """An attempt begins at ``now`` with that much in the budget: is it the last one that can be?"""
        call = self.call
        call.outcome = None
        call.last = (
            not call.idempotent or self.paid >= self.rule.retries or self.body is not None or _is_last(call, now, balance)
        )

    def again(self, outcome: Outcome | None, response: Response | None, now: float) -> float | None:
        """Seconds to wait before the next attempt; None when the call ends with what the latest came to."""
        if outcome is None or outcome.resend is NEVER:
            return None
        wait = self._decide(outcome, response, now)
        return wait if isinstance(wait, float) else None

    def _decide(self, outcome: Outcome, response: Response | None, now: float) -> float | str:
        """Seconds to wait before the next attempt, which is paid for then; or why there is none."""
        call, rule = self.call, self.rule
        if not outcome.resendable(idempotent=call.idempotent):
            return "not idempotent, never sent again"
        if self.body is not None and self.body.begun:
            return "its streamed body is used up, never sent again"
        if outcome.free and self.free < FREE_RESENDS:
            if now >= call.deadline:
                return "no time is left for another"
            self.free += 1
            wait = 0.0
        else:
            if self.paid >= rule.retries:
                return f"{self.paid} of {rule.retries} retries used"
            asked = _retry_after(response) if response is not None and outcome.resend is Resend.IDEMPOTENT else None
            if outcome.throttled and asked is None:
                return "the peer did not say when to come back"
            wait = backoff(self.paid + 1, rule.random()) + (asked or 0.0)
            if now + wait >= call.deadline:
                if asked:
                    return f"told to come back in {format_duration(asked)}, which is too late"
                return "no time is left for another"
            if not self._pay(outcome, now):
                return "the retry budget is spent"
            self.paid += 1
        if rule.on_retry is not None:
            rule.on_retry(self.request, outcome, self.paid + self.free)
        return wait

    def _pay(self, outcome: Outcome, now: float) -> bool:
        budget, on_exhausted = self.rule.budget, self.rule.on_exhausted
        known = budget.exhausted
        paid = budget.withdraw(now)
        if not paid and not known and on_exhausted is not None:
            on_exhausted(self.request, outcome)
        return paid


def _is_last(call: Call, now: float, balance: float) -> bool:
    """Whether no attempt can follow one that begins at ``now``, for want of time or budget."""
    # An empty budget pays for no other attempt, so this one need not leave time for it.
    return call.deadline - now < 2 * LEAST_SHARE or balance < 1


class _Explained(_Course):
    """The same, telling in ``call.notes`` what happens."""

    __slots__ = ("began", "wait")

    def begin(self, now: float, balance: float) -> None:
        super().begin(now, balance)
        self.began = now
        if self.paid + self.free == 0:
            self.wait = 0.0

    def again(self, outcome: Outcome | None, response: Response | None, now: float) -> float | None:
        notes, tried, number = self.call.notes, self.call.tried, self.paid + self.free + 1
        assert notes is not None
        if number > 1:
            other = "another instance" if len(tried) > 1 and tried[-1] != tried[-2] else "the same instance"
            waited = f"waited {format_duration(self.wait)}, " if self.wait else "at once, "
            notes.append(f"   {waited}next on {other}")
        took = format_duration(max(0.0, now - self.began))
        name = "failed" if outcome is None else outcome.name
        what = f"{name} after {took}" if response is None else f"{response.status} in {took}"
        line = f"{number}  {tried[-1] if tried else self.request.peer}  {what}"
        if outcome is None or outcome.resend is NEVER:
            notes.append(line)
            return None
        before = int(self.rule.budget.balance(now))
        wait = self._decide(outcome, response, now)
        if not isinstance(wait, float):
            notes.append(f"{line} · {wait}")
            return None
        paid = f"budget {before} → {int(self.rule.budget.balance(now))}" if wait else "no charge"
        notes.append(f"{line} · {_why(outcome)} · {paid}")
        self.wait = wait
        return wait


class _Body:
    """A request's body in pieces that remembers whether one was taken: then it cannot be sent a second time."""

    __slots__ = ("_pieces", "begun")

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = aiter(pieces)
        self.begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.begun = True
        return await anext(self._pieces)

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


def backoff(number: int, chance: float) -> float:
    """Seconds before retry ``number`` (from 1): evenly spread from the base to a bound that doubles up to the cap.

    ``chance`` in [0, 1) is drawn by the caller. The spread keeps callers that failed together from coming back together.
    """
    bound = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(number, 16))
    return BACKOFF_BASE + (bound - BACKOFF_BASE) * chance


def _retry_after(response: Response) -> float | None:
    """Seconds from a ``Retry-After``; None without one or for its date form, which would compare the clocks of two hosts."""
    value = response.headers.get(RETRY_AFTER)
    return float(value[:9]) if value is not None and value.isascii() and value.isdigit() else None


def _why(outcome: Outcome) -> str:
    if outcome.free:
        return "the connection was stale"
    if outcome.name == "refused":
        return "nothing sent, any method may retry"
    if outcome.resend is Resend.ANY:
        return "refused before any work, any method may retry"
    return "idempotent, may retry"
