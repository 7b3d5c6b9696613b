"""Breaker: closed, open after failed calls in a row, and one trial that decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mizzen.rules.breaker import COOLDOWN, FAILURES, TRIAL_WAIT, Breaker, Change, breaking, count_outcomes
from mizzen.words.errors import BreakerOpen, ConnectFailed
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import BREAKER_OPEN, LEAVING, OK, REFUSED, SHED, THROTTLED, Outcome, Verdict

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


def call(breaker: Breaker, verdict: Verdict, now: float, name: str = "refused") -> bool:
    """One whole call; False when it was refused."""
    token = breaker.enter(now)
    if token is None:
        return False
    breaker.settle(token, verdict, now, name)
    return True


def state(breaker: Breaker) -> str:
    """Read anew each time, where a type checker would believe an earlier assertion."""
    return breaker.state


def opened(now: float = 0.0, on_change: Callable[[Change], None] | None = None) -> Breaker:
    breaker = Breaker(on_change=on_change)
    for _ in range(FAILURES):
        call(breaker, FAILURE, now)
    return breaker


def test_the_defaults_are_the_articles() -> None:
    """Five failures open it for thirty seconds."""
    assert (FAILURES, COOLDOWN) == (5, 30.0)
    assert (Breaker().threshold, Breaker().cooldown) == (5, 30.0)


def test_exactly_the_fifth_failure_in_a_row_opens_it() -> None:
    """Four do not, five do."""
    breaker = Breaker()
    for _ in range(4):
        call(breaker, FAILURE, 0.0)
    assert state(breaker) == "closed"
    call(breaker, FAILURE, 0.0)
    assert state(breaker) == "open"


def test_a_success_begins_the_count_anew() -> None:
    """Failures with a success between them are not in a row."""
    breaker = Breaker()
    for _ in range(20):
        for _ in range(4):
            call(breaker, FAILURE, 0.0)
        call(breaker, SUCCESS, 0.0)
    assert state(breaker) == "closed"


@pytest.mark.parametrize("verdict", [NEUTRAL, Verdict.PENALISED, Verdict.LEAVING])
def test_neutral_neither_counts_nor_resets(verdict: Verdict) -> None:
    """Four failures, any number of neutral calls, one more failure: open."""
    breaker = Breaker()
    for _ in range(4):
        call(breaker, FAILURE, 0.0)
    for _ in range(10):
        call(breaker, verdict, 0.0)
    assert state(breaker) == "closed"
    call(breaker, FAILURE, 0.0)
    assert state(breaker) == "open"


def test_while_open_every_call_is_refused() -> None:
    """Until the cooldown is over nothing passes, and the wait is known."""
    breaker = opened(100.0)
    assert breaker.enter(129.99) is None
    assert breaker.refused == 1
    assert breaker.retry_after(110.0) == pytest.approx(20.0)


def test_after_the_cooldown_exactly_one_call_is_the_trial() -> None:
    """The others are refused until it is settled."""
    breaker = opened()
    assert breaker.enter(30.0) is not None
    assert state(breaker) == "half_open"
    assert [breaker.enter(30.0 + wait) for wait in (0, 1, 1000)] == [None] * 3
    assert breaker.retry_after(31.0) == TRIAL_WAIT


def test_a_trial_that_succeeds_closes_it() -> None:
    """Then all calls pass, and the count begins at none."""
    breaker = opened()
    call(breaker, SUCCESS, 30.0)
    assert (state(breaker), breaker.count) == ("closed", 0)
    for _ in range(4):
        assert call(breaker, FAILURE, 31.0)
    assert state(breaker) == "closed"


def test_a_trial_that_fails_opens_it_for_a_whole_cooldown() -> None:
    """One failure is enough then, and the time counts from the end of the trial."""
    breaker = opened()
    token = breaker.enter(30.0)
    assert token is not None
    breaker.settle(token, FAILURE, 32.0)
    assert state(breaker) == "open"
    assert breaker.enter(61.9) is None
    assert breaker.enter(62.0) is not None


def test_a_neutral_trial_gives_its_lease_to_the_next_call() -> None:
    """Neither closed nor open again: the next call is the trial."""
    breaker = opened()
    call(breaker, NEUTRAL, 30.0)
    assert state(breaker) == "half_open"
    assert breaker.retry_after(30.0) == 0.0
    assert breaker.enter(30.0) is not None
    assert breaker.enter(30.0) is None


def test_answers_from_before_it_opened_are_ignored() -> None:
    """A late success does not close it, a late failure does not end a trial."""
    breaker = Breaker()
    late = [breaker.enter(0.0) for _ in range(3)]
    for _ in range(5):
        call(breaker, FAILURE, 0.0)
    assert late[0] is not None
    breaker.settle(late[0], SUCCESS, 1.0)
    assert state(breaker) == "open"
    trial = breaker.enter(30.0)
    assert late[1] is not None
    breaker.settle(late[1], FAILURE, 30.0)
    assert state(breaker) == "half_open"
    assert trial is not None
    breaker.settle(trial, SUCCESS, 30.0)
    assert late[2] is not None
    breaker.settle(late[2], FAILURE, 31.0)
    assert (state(breaker), breaker.count) == ("closed", 0)


def test_a_trial_that_gave_its_lease_back_cannot_settle_again() -> None:
    """Its token is of a generation that is over once the next trial has begun."""
    breaker = opened()
    first = breaker.enter(30.0)
    assert first is not None
    breaker.settle(first, NEUTRAL, 30.0)
    breaker.settle(first, SUCCESS, 30.0)
    assert state(breaker) == "half_open"
    assert breaker.enter(30.0) is not None
    breaker.settle(first, SUCCESS, 30.0)
    assert state(breaker) == "half_open"


def test_every_change_is_told_with_what_led_to_it() -> None:
    """Opening says which outcomes, by how many calls each."""
    changes: list[Change] = []
    breaker = Breaker(on_change=changes.append)
    for name in ("refused", "refused", "timeout", "refused", "refused"):
        call(breaker, FAILURE, 0.0, name)
    call(breaker, FAILURE, 30.0, "timeout")
    call(breaker, SUCCESS, 60.0)
    assert changes == [
        Change("open", "closed", {"refused": 4, "timeout": 1}, 30.0),
        Change("half_open", "open", {}, 0.0),
        Change("open", "half_open", {"timeout": 1}, 30.0),
        Change("half_open", "open", {}, 0.0),
        Change("closed", "half_open", {}, 0.0),
    ]


def test_outcomes_before_a_success_are_not_told() -> None:
    """Only the failures in the row that opened it are named."""
    changes: list[Change] = []
    breaker = Breaker(failures=2, on_change=changes.append)
    call(breaker, FAILURE, 0.0, "lost")
    call(breaker, SUCCESS, 0.0)
    call(breaker, FAILURE, 0.0, "timeout")
    call(breaker, FAILURE, 0.0, "timeout")
    assert changes[0].failures == {"timeout": 2}


def test_it_is_printable() -> None:
    """describe has plain values, repr is a status line."""
    breaker = Breaker()
    call(breaker, FAILURE, 0.0)
    assert repr(breaker) == "<Breaker closed, 1 of 5 failures>"
    breaker = opened()
    assert repr(breaker) == "<Breaker open for 30s: 5 calls failed (5 refused)>"
    assert breaker.describe(10.0) == {
        "state": "open",
        "failures": 5,
        "threshold": 5,
        "cooldown": 30.0,
        "outcomes": {"refused": 5},
        "trial": False,
        "refused": 0,
        "retry_after": 20.0,
    }
    breaker.enter(30.0)
    assert repr(breaker) == "<Breaker half-open, trial under way>"
    assert "retry_after" not in breaker.describe()
    assert count_outcomes({"refused": 1}) == "1 call failed (1 refused)"
    assert count_outcomes({}) == "no call failed"


def test_numbers_that_cannot_be_are_refused() -> None:
    """The error says the least there is."""
    with pytest.raises(ValueError, match="at least 1"):
        Breaker(failures=0)
    with pytest.raises(ValueError, match="0 is the least"):
        Breaker(cooldown=-1.0)


class AgainstModel(RuleBasedStateMachine):
    """Any interleaving of calls, compared with the rule said in other words.

    The model keeps every call with the era it began in; an era ends when the state changes or a trial is given out.
    """

    @initialize(failures=st.integers(1, 4), cooldown=st.integers(0, 5))
    def start(self, failures: int, cooldown: int) -> None:
        self.breaker = Breaker(failures=failures, cooldown=float(cooldown))
        self.failures, self.cooldown = failures, float(cooldown)
        self.now = 0.0
        self.calls: list[tuple[int, int]] = []
        self.era = 0
        self.row = 0
        self.opened_at: float | None = None
        self.probing = False
        self.trial_era: int | None = None

    @rule()
    def begin(self) -> None:
        token = self.breaker.enter(self.now)
        if self.opened_at is None:
            allowed = True
        elif self.trial_era is None and (self.probing or self.now >= self.opened_at + self.cooldown):
            allowed = self.probing = True
            self.era += 1
            self.trial_era = self.era
        else:
            allowed = False
        assert (token is not None) == allowed
        if token is not None:
            self.calls.append((token, self.era))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), verdict=st.sampled_from(list(Verdict)))
    def end(self, data: st.DataObject, verdict: Verdict) -> None:
        token, era = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.breaker.settle(token, verdict, self.now)
        if era != self.era:
            return
        if self.opened_at is None:
            if verdict is SUCCESS:
                self.row = 0
            elif verdict is FAILURE:
                self.row += 1
                if self.row >= self.failures:
                    self.trip()
        elif era == self.trial_era:
            self.trial_era = None
            if verdict is FAILURE:
                self.trip()
            elif verdict is SUCCESS:
                self.opened_at, self.probing, self.row = None, False, 0
                self.era += 1

    def trip(self) -> None:
        self.opened_at, self.probing = self.now, False
        self.era += 1

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "breaker"):
            return
        expected = "closed" if self.opened_at is None else "half_open" if self.probing else "open"
        assert state(self.breaker) == expected
        assert self.breaker.describe()["trial"] == (self.trial_era is not None)
        if expected == "closed":
            assert self.breaker.count == self.row


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- the layer


class Peer:
    """The next handler: sets the outcome as the layers below do, then answers, raises or waits."""

    def __init__(self) -> None:
        self.seen = 0
        self.outcome: Outcome | None = OK
        self.error: BaseException | None = None
        self.waits: Callable[[], Awaitable[object]] | None = None

    async def __call__(self, request: Request) -> Response:
        self.seen += 1
        if self.waits is not None:
            await self.waits()
        assert request.call is not None
        request.call.outcome = self.outcome
        if self.error is not None:
            raise self.error
        return Response(200)


class Scene:
    """A breaker's layer over a peer, at a time that stands."""

    def __init__(self) -> None:
        self.now = 0.0
        self.peer = Peer()
        self.breaker = Breaker()
        self.send = breaking(self.breaker, peer="user", clock=lambda: self.now)(self.peer)

    def request(self) -> Request:
        call = Call(idempotent=True, timeout=2.0, started=self.now, deadline=self.now + 2.0)
        return Request("GET", "/users/7", call=call)

    def call(self) -> Request:
        request = self.request()
        asyncio.run(self._call(request))
        return request

    async def _call(self, request: Request) -> Response:
        return await self.send(request)

    def fail(self, times: int, outcome: Outcome = REFUSED) -> None:
        self.peer.outcome, self.peer.error = outcome, ConnectFailed("refused")
        for _ in range(times):
            with pytest.raises(ConnectFailed):
                self.call()
        self.peer.outcome, self.peer.error = OK, None


def test_the_layer_counts_calls_by_the_outcome_of_their_last_attempt() -> None:
    """Five calls whose last attempt failed open it; the sixth does not reach the peer."""
    scene = Scene()
    scene.fail(5)
    with pytest.raises(BreakerOpen) as caught:
        scene.call()
    assert scene.peer.seen == 5
    assert caught.value.retry_after == 30.0
    assert caught.value.peer == "user"
    assert str(caught.value) == "not sent: the breaker of user is open: 5 calls failed (5 refused); next trial in 30s"


def test_a_refusal_is_an_outcome_of_its_own() -> None:
    """Metrics and our own answer see that the breaker was open."""
    scene = Scene()
    scene.fail(5)
    request = scene.request()
    with pytest.raises(BreakerOpen) as caught:
        asyncio.run(scene._call(request))
    assert request.call is not None
    assert request.call.outcome is caught.value.outcome is BREAKER_OPEN


def test_an_answer_may_be_a_failure_as_well() -> None:
    """It is the outcome that counts, not whether something was raised."""
    scene = Scene()
    scene.peer.outcome = SHED
    for _ in range(5):
        scene.call()
    assert state(scene.breaker) == "open"


@pytest.mark.parametrize("outcome", [THROTTLED, LEAVING, None])
def test_neutral_outcomes_and_none_leave_it_as_it_is(outcome: Outcome | None) -> None:
    """Nothing is concluded from a call that says nothing about the peer."""
    scene = Scene()
    scene.fail(4)
    scene.peer.outcome = outcome
    scene.call()
    assert (state(scene.breaker), scene.breaker.count) == ("closed", 4)


def test_a_cancelled_call_is_neutral_whatever_went_before() -> None:
    """Cancelled after an attempt that failed: the call did not fail, nobody waited for its end."""
    scene = Scene()

    async def main() -> None:
        request = scene.request()
        started = asyncio.Event()

        async def hang() -> None:
            assert request.call is not None
            request.call.outcome = REFUSED
            started.set()
            await asyncio.Event().wait()

        scene.peer.waits = hang
        task = asyncio.create_task(scene._call(request))
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(main())
    assert (state(scene.breaker), scene.breaker.count) == ("closed", 0)


def test_a_cancelled_trial_gives_its_lease_back() -> None:
    """A lease lasts as long as its call, so that none is ever lost."""
    scene = Scene()
    scene.fail(5)
    scene.now = 30.0

    async def main() -> None:
        started = asyncio.Event()

        async def hang() -> None:
            started.set()
            await asyncio.Event().wait()

        scene.peer.waits = hang
        task = asyncio.create_task(scene._call(scene.request()))
        await started.wait()
        with pytest.raises(BreakerOpen, match="a trial call is under way") as caught:
            await scene.send(scene.request())
        assert caught.value.retry_after == TRIAL_WAIT
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        scene.peer.waits = None
        await scene.send(scene.request())

    asyncio.run(main())
    assert state(scene.breaker) == "closed"


def test_a_call_abandoned_without_a_word_gives_its_lease_back_too() -> None:
    """Even a coroutine that is closed from outside settles."""
    scene = Scene()
    scene.fail(5)
    scene.now = 30.0

    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        scene.peer.waits = forever
        trial = scene._call(scene.request())
        trial.send(None)
        trial.close()

    asyncio.run(main())
    assert scene.breaker.enter(30.0) is not None


def test_a_defect_without_an_outcome_is_neutral_and_passes_through() -> None:
    """An exception that no layer accounts for is not the peer's failure."""
    scene = Scene()
    scene.peer.outcome, scene.peer.error = None, ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        scene.call()
    assert scene.breaker.count == 0
