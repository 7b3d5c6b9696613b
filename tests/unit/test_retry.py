"""Retry: another attempt where it is safe, in time, and paid for by the budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.rules.retry import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    BUDGET_FLOOR,
    BUDGET_SHARE,
    BUDGET_WINDOW,
    FREE_RESENDS,
    RETRIES,
    Budget,
    backoff,
    retry,
)
from mizzen.words.errors import CallError, ConnectFailed, ConnectionLost
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import CANCELLED, OK, Outcome, classify


def test_the_defaults_are_those_of_the_design() -> None:
    """Two retries, 25 to 250 ms apart, a fifth of the calls and ten per second over ten seconds."""
    assert (RETRIES, BACKOFF_BASE, BACKOFF_CAP) == (2, 0.025, 0.25)
    assert (BUDGET_SHARE, BUDGET_FLOOR, BUDGET_WINDOW) == (0.2, 10.0, 10.0)


# -- the budget


def test_a_new_budget_holds_its_floor_for_one_window() -> None:
    """A service that has made no call yet can retry: ten per second for ten seconds."""
    budget = Budget()
    assert budget.balance(0.0) == 100.0
    assert [budget.withdraw(0.0) for _ in range(101)] == [True] * 100 + [False]
    assert (budget.spent, budget.refused, budget.exhausted) == (100, 1, True)


def test_five_calls_earn_one_retry() -> None:
    """Each call adds a fifth of a retry."""
    budget = Budget(floor=0.0)
    balances = [budget.deposit(0.0) for _ in range(5)]
    assert balances[-1] == pytest.approx(1.0)
    assert budget.balance(0.0) == pytest.approx(1.0)


def test_what_was_earned_is_forgotten() -> None:
    """Calls of a while ago do not pay for a storm of retries now."""
    budget = Budget(floor=0.0)
    for _ in range(500):
        budget.deposit(0.0)
    assert budget.balance(0.0) == pytest.approx(100.0)
    assert budget.balance(10.0) == pytest.approx(36.8, abs=0.1)
    assert budget.balance(60.0) < 1


def test_what_was_spent_comes_back_little_by_little() -> None:
    """After a second about ten retries are there again, not all hundred at once."""
    budget = Budget()
    while budget.withdraw(0.0):
        pass
    assert 9 <= budget.balance(1.0) <= 10.5
    assert budget.balance(60.0) > 99


def test_it_recovers_from_exhaustion_by_half_before_it_says_so_again() -> None:
    """One retry that is possible again is not the end of being exhausted."""
    budget = Budget()
    while budget.withdraw(0.0):
        pass
    assert budget.withdraw(1.0)
    assert budget.exhausted
    assert budget.withdraw(20.0)
    assert not budget.exhausted


def test_a_clock_that_stands_or_steps_back_does_no_harm() -> None:
    """Time that does not pass fades nothing."""
    budget = Budget()
    budget.withdraw(10.0)
    assert budget.balance(10.0) == budget.balance(9.0) == 99.0


def test_a_budget_is_printable() -> None:
    """describe has plain values, repr is a status line."""
    budget = Budget()
    budget.withdraw(0.0)
    assert repr(budget) == "<Budget 99 retries left, 1 spent, 0 refused>"
    assert budget.describe() == {
        "balance": 99.0,
        "share": 0.2,
        "floor": 10.0,
        "window": 10.0,
        "spent": 1,
        "refused": 0,
        "exhausted": False,
    }
    assert budget.describe(60.0)["balance"] == 100.0


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"floor": -1.0}, {"window": 0.0}])
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """The error shows them."""
    with pytest.raises(ValueError, match="no budget has"):
        Budget(**wrong)


STEPS = st.lists(
    st.tuples(st.floats(0, 15), st.integers(0, 60), st.integers(0, 150)), max_size=25
)  # wait, then so many calls, then so many attempts to withdraw


@given(STEPS, st.sampled_from([(0.2, 10.0, 10.0), (0.2, 0.0, 10.0), (0.0, 10.0, 5.0), (1.0, 1.0, 1.0)]))
def test_retries_never_exceed_a_fifth_of_the_calls_and_ten_per_second(
    steps: list[tuple[float, int, int]], numbers: tuple[float, float, float]
) -> None:
    """However calls and failures come, and from whatever moment one counts, the promise holds."""
    share, floor, window = numbers
    budget = Budget(share=share, floor=floor, window=window)
    now, made, history = 0.0, 0, [(0.0, 0, 0, budget.balance(0.0))]
    for wait, calls, retries in steps:
        now += wait
        for _ in range(calls):
            budget.deposit(now)
        made += calls
        for _ in range(retries):
            budget.withdraw(now)
        history.append((now, made, budget.spent, budget.balance(now)))
    assert budget.spent <= share * made + floor * (now + window) + 1e-6
    for index, (began, calls_before, spent_before, balance) in enumerate(history):
        for ended, calls_then, spent_then, _ in history[index:]:
            earned = share * (calls_then - calls_before) + floor * (ended - began)
            assert spent_then - spent_before <= balance + earned + 1e-6


@pytest.mark.parametrize(("calls_per_second", "retries_per_second"), [(0, 10), (100, 30), (1000, 210)])
def test_in_a_lasting_outage_the_rate_settles_at_the_promise(calls_per_second: int, retries_per_second: int) -> None:
    """Withdrawn as often as possible: a fifth of the calls and ten per second, evenly, with no burst later on."""
    budget, each_second = Budget(), []
    for second in range(30):
        before = budget.spent
        for tenth in range(10):
            now = second + tenth / 10
            for _ in range(calls_per_second // 10):
                budget.deposit(now)
            while budget.withdraw(now):
                pass
        each_second.append(budget.spent - before)
    assert all(spent == pytest.approx(retries_per_second, abs=2) for spent in each_second[1:])


# -- the wait


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True))
def test_every_wait_is_between_25_and_250_milliseconds(number: int, chance: float) -> None:
    """Whichever retry it is, and whatever the dice say."""
    assert 0.025 <= backoff(number, chance) <= 0.25


def test_waits_spread_wider_with_each_retry() -> None:
    """The bound doubles up to the cap."""
    assert [round(backoff(number, 0.999999), 3) for number in (1, 2, 3, 4, 5)] == [0.05, 0.1, 0.2, 0.25, 0.25]


# -- the layer


class Peer:
    """Plays one script: answers and errors, one for each attempt, classified as the attempt layer does it."""

    def __init__(self, scene: Scene, *script: Response | Exception | Outcome) -> None:
        self.scene = scene
        self.script = list(script)
        self.last: list[bool] = []
        self.at: list[float] = []
        self.takes = 0.001
        self.reads = False
        self.instances = ["a", "b", "c", "d", "e"]

    async def __call__(self, request: Request) -> Response:
        call = request.call
        assert call is not None
        self.last.append(call.last)
        self.at.append(self.scene.now)
        call.tried.append(self.instances[len(self.at) - 1])
        self.scene.now += self.takes
        if self.reads:
            await request.read()
        result = self.script.pop(0)
        call.outcome = classify(request, result) if isinstance(result, Response | Exception) else result
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, Response) else Response(500)


class Scene:
    """A retry layer over a scripted peer, on a clock that moves when somebody sleeps."""

    def __init__(self, *script: Any, **options: Any) -> None:
        self.now = 0.0
        self.peer = Peer(self, *script)
        self.budget = Budget()
        self.retried: list[tuple[str, int]] = []
        self.exhausted: list[str] = []
        self.sleeps: list[float] = []
        self.send = retry(
            self.budget,
            clock=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 0.04,
            on_retry=lambda request, outcome, number: self.retried.append((outcome.name, number)),
            on_exhausted=lambda request, outcome: self.exhausted.append(request.peer),
            **options,
        )(self.peer)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def request(self, *, idempotent: bool = True, body: Any = b"", explain: bool = False) -> Request:
        call = Call(idempotent=idempotent, timeout=2.0, started=self.now, deadline=self.now + 2.0)
        call.notes = [] if explain else None
        return Request("GET" if idempotent else "POST", "/", peer="user", body=body, call=call)

    def run(self, **how: Any) -> Response:
        return self.send_one(self.request(**how))

    def send_one(self, request: Request) -> Response:
        async def main() -> Response:
            return await self.send(request)

        return asyncio.run(main())

    @property
    def attempts(self) -> int:
        return len(self.peer.at)


def ok() -> Response:
    return Response(200)


def refused() -> ConnectFailed:
    return ConnectFailed("refused")


def stale(*, sent: bool) -> ConnectionLost:
    return ConnectionLost("closed", idle=True, sent=sent)


def test_a_success_is_one_attempt_that_earns_a_fifth_of_a_retry() -> None:
    """Nothing is waited for, and the budget grows."""
    scene = Scene(ok())
    assert scene.run().status == 200
    assert (scene.attempts, scene.sleeps, scene.retried) == (1, [], [])
    assert scene.budget.balance(0.0) == pytest.approx(100.2)


def test_a_failure_is_tried_again_and_the_success_stands() -> None:
    """A get that meets a 503 and then a 200 is a 200."""
    scene = Scene(Response(503), ok())
    request = scene.request()
    assert scene.send_one(request).status == 200
    assert request.call is not None
    assert request.call.outcome is OK
    assert scene.retried == [("unavailable", 1)]
    assert scene.budget.spent == 1


def test_at_most_two_retries_and_the_last_failure_stands() -> None:
    """The third answer is the caller's, whatever it is."""
    scene = Scene(Response(503), ConnectionLost("reset"), Response(502))
    assert scene.run().status == 502
    assert scene.retried == [("unavailable", 1), ("lost", 2)]


def test_an_error_of_the_last_attempt_is_raised_as_it_is() -> None:
    """No wrapper around it."""
    errors = [refused(), refused(), refused()]
    scene = Scene(*errors)
    with pytest.raises(ConnectFailed) as caught:
        scene.run()
    assert caught.value is errors[2]


def test_each_attempt_knows_whether_another_may_follow() -> None:
    """The last one may use all the time that is left."""
    scene = Scene(Response(503), Response(503), Response(503))
    scene.run()
    assert scene.peer.last == [False, False, True]


def test_without_retries_the_first_attempt_is_the_last() -> None:
    """A client that is set to none sends once."""
    scene = Scene(Response(503), retries=0)
    assert scene.run().status == 503
    assert scene.peer.last == [True]


@pytest.mark.parametrize("result", [Response(500), Response(404), Response(302), ZeroDivisionError()])
def test_what_a_retry_cannot_mend_is_not_sent_again(result: Any) -> None:
    """Outcomes that are never resent end the call at once."""
    scene = Scene(result)
    if isinstance(result, Exception):
        with pytest.raises(ZeroDivisionError):
            scene.run()
    else:
        scene.run()
    assert scene.attempts == 1


@pytest.mark.parametrize("result", [Response(503), Response(502), ConnectionLost("reset"), stale(sent=True)])
def test_a_post_that_a_handler_may_have_seen_is_not_sent_again(result: Any) -> None:
    """No handler ever sees a POST twice."""
    scene = Scene(result)
    try:
        scene.run(idempotent=False)
    except CallError:
        assert isinstance(result, CallError)
    assert scene.attempts == 1
    assert scene.peer.last == [True]


@pytest.mark.parametrize(
    "result",
    [
        refused(),
        stale(sent=False),
        Response(503, headers={"x-rejected": "shed"}),
        Response(503, headers={"x-rejected": "draining"}),
        Response(503, headers={"x-rejected": "starting"}),
    ],
)
def test_a_post_that_no_handler_can_have_seen_is_sent_again(result: Any) -> None:
    """Refused before any work: any method goes elsewhere."""
    scene = Scene(result, ok())
    assert scene.run(idempotent=False).status == 200
    assert scene.attempts == 2


def test_a_stale_connection_costs_neither_time_nor_budget_nor_a_retry() -> None:
    """Twice at once and free of charge; after that it is a retry like any other."""
    scene = Scene(*[stale(sent=True)] * 4, ok())
    before = scene.budget.balance(0.0)
    assert scene.run().status == 200
    assert FREE_RESENDS == 2
    assert scene.sleeps == [pytest.approx(0.026), pytest.approx(0.028)]
    assert scene.budget.spent == 2
    assert scene.budget.balance(0.0) == pytest.approx(before + 0.2 - 2, abs=0.2)
    assert [number for _, number in scene.retried] == [1, 2, 3, 4]
    assert scene.peer.last == [False, False, False, False, True]


def test_free_resends_do_not_go_on_past_the_deadline() -> None:
    """When no time is left, stale connections are an error too."""
    scene = Scene(stale(sent=True))
    scene.peer.takes = 2.0
    with pytest.raises(ConnectionLost):
        scene.run()


def test_a_wait_that_does_not_fit_before_the_deadline_is_not_begun() -> None:
    """The failure is reported at once instead, and nothing is paid."""
    scene = Scene(Response(503))
    scene.peer.takes = 1.98
    assert scene.run().status == 503
    assert (scene.sleeps, scene.budget.spent) == ([], 0)


@pytest.mark.parametrize(("told", "wait"), [("1", 1.026), ("0", 0.026)])
def test_a_429_is_sent_again_when_its_retry_after_fits(told: str, wait: float) -> None:
    """Told to come back in time, it comes back then, a little spread."""
    scene = Scene(Response(429, headers={"retry-after": told}), ok())
    assert scene.run().status == 200
    assert scene.sleeps == [pytest.approx(wait)]


@pytest.mark.parametrize("told", ["2", "3600", "9" * 400, "Fri, 31 Dec 1999 23:59:59 GMT", "soon", "-1", None])
def test_a_429_whose_retry_after_does_not_fit_stands(told: str | None) -> None:
    """Too late, as a date, malformed or absent: the caller hears of the 429."""
    scene = Scene(Response(429, headers={} if told is None else {"retry-after": told}))
    assert scene.run().status == 429
    assert scene.attempts == 1


@pytest.mark.parametrize(("told", "attempts"), [("1", 2), ("30", 1)])
def test_a_503_is_believed_when_it_says_when(told: str, attempts: int) -> None:
    """Retry-After is honoured where the peer could be the same one."""
    scene = Scene(Response(503, headers={"retry-after": told}), ok())
    scene.run()
    assert scene.attempts == attempts


def test_a_refusal_before_any_work_goes_elsewhere_without_waiting_for_its_retry_after() -> None:
    """What one instance asks for does not bind the next."""
    scene = Scene(Response(503, headers={"x-rejected": "draining", "retry-after": "30"}), ok())
    assert scene.run().status == 200


def test_an_empty_budget_leaves_the_failure_standing_and_is_told_once() -> None:
    """An outage does not get worse by retries, nor the log by lines."""
    scene = Scene(*[Response(503)] * 3)
    while scene.budget.withdraw(0.0):
        pass
    scene.budget.exhausted = False
    scene.budget.refused = 0
    for _ in range(3):
        assert scene.run().status == 503
    assert scene.attempts == 3
    assert scene.budget.refused == 3
    assert scene.exhausted == ["user"]


def test_when_no_retry_could_be_paid_the_attempt_is_the_last() -> None:
    """It need not leave half of its time to one that cannot follow."""
    scene = Scene(ok())
    while scene.budget.withdraw(0.0):
        pass
    scene.run()
    assert scene.peer.last == [True]


async def pieces() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


def test_a_streamed_body_that_was_begun_is_never_sent_again() -> None:
    """Half of it is gone: not even a refusal before any work is tried elsewhere."""
    scene = Scene(Response(503, headers={"x-rejected": "shed"}))
    scene.peer.reads = True
    assert scene.run(body=pieces()).status == 503
    assert scene.attempts == 1
    assert scene.peer.last == [True]


def test_a_streamed_body_that_nobody_touched_is_sent_again() -> None:
    """A refused connection took nothing of it."""
    scene = Scene(refused(), ok())
    request = scene.request(idempotent=False, body=pieces())
    assert scene.send_one(request).status == 200

    async def rest() -> bytes:
        return await request.read()

    assert asyncio.run(rest()) == b"ab"


def test_a_streamed_body_can_be_closed_unread() -> None:
    """What wraps it hands closing on."""
    scene = Scene(ok())
    body = pieces()
    request = scene.request(idempotent=False, body=body)
    scene.send_one(request)

    async def close() -> None:
        await request.body.aclose()  # type: ignore[union-attr]
        with pytest.raises(StopAsyncIteration):
            await anext(body)

    asyncio.run(close())


def test_an_answer_that_is_not_the_last_gives_its_connection_back() -> None:
    """Before the next attempt the answer before is closed, the last one is the caller's."""
    first, second = Response(503), Response(503)
    closed: list[str] = []
    first.on_close(lambda: closed.append("first"))
    second.on_close(lambda: closed.append("second"))
    scene = Scene(first, second, retries=1)
    scene.run()
    assert closed == ["first"]


def test_cancelled_between_attempts_it_is_cancelled() -> None:
    """The failure of the attempt before is not what the call came to."""
    scene = Scene(Response(503))

    async def main() -> None:
        waiting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        send = retry(Budget(), clock=lambda: scene.now, sleep=sleep, random=lambda: 0.0)(scene.peer)
        request = scene.request()

        async def work() -> None:
            await send(request)

        task = asyncio.create_task(work())
        await waiting.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert request.call is not None
        assert request.call.outcome is CANCELLED

    asyncio.run(main())


def test_the_story_of_a_call_is_told_to_whoever_asks() -> None:
    """Each attempt is a line, each wait is one, with what it cost and why it was allowed."""
    scene = Scene(refused(), ok())
    request = scene.request(explain=True)
    scene.send_one(request)
    assert request.call is not None
    assert request.call.notes == [
        "1  a  refused after 1ms · nothing sent, any method may retry · budget 100 → 99",
        "   waited 26ms, next on another instance",
        "2  b  200 in 1ms",
    ]


def test_the_story_tells_of_free_resends_and_of_the_same_instance() -> None:
    """A stale connection is told as such."""
    scene = Scene(stale(sent=True), ok())
    scene.peer.instances = ["a", "a"]
    request = scene.request(explain=True)
    scene.send_one(request)
    assert request.call is not None
    assert request.call.notes == [
        "1  a  closed_idle after 1ms · the connection was stale · no charge",
        "   at once, next on the same instance",
        "2  a  200 in 1ms",
    ]


@pytest.mark.parametrize(
    ("result", "how", "takes", "ending"),
    [
        (Response(503), {"idempotent": False}, 0.001, "503 in 1ms · not idempotent, never sent again"),
        (Response(503), {}, 1.99, "503 in 2s · no time is left for another"),
        (Response(429), {}, 0.001, "429 in 1ms · the peer did not say when to come back"),
        (
            Response(429, headers={"retry-after": "30"}),
            {},
            0.001,
            "429 in 1ms · told to come back in 30s, which is too late",
        ),
        (Response(404), {}, 0.001, "404 in 1ms"),
    ],
)
def test_the_story_says_why_it_ended(result: Any, how: dict[str, Any], takes: float, ending: str) -> None:
    """A call that is not sent again says what forbade it."""
    scene = Scene(result)
    scene.peer.takes = takes
    request = scene.request(explain=True, **how)
    scene.send_one(request)
    assert request.call is not None
    assert request.call.notes == [f"1  a  {ending}"]


def test_the_story_names_a_spent_budget_and_used_up_retries() -> None:
    """The two limits are told apart."""
    scene = Scene(Response(503), Response(503), retries=1)
    request = scene.request(explain=True)
    scene.send_one(request)
    assert request.call is not None
    assert request.call.notes is not None
    assert request.call.notes[-1] == "2  b  503 in 1ms · 1 of 1 retries used"
    while scene.budget.withdraw(scene.now):
        pass
    scene.peer.script = [Response(503)]
    request = scene.request(explain=True)
    scene.send_one(request)
    assert request.call is not None
    assert request.call.notes == ["1  c  503 in 1ms · the retry budget is spent"]


@given(
    st.lists(st.sampled_from(["ok", "503", "500", "refused", "stale", "shed", "lost"]), min_size=12, max_size=12),
    st.booleans(),
    st.integers(0, 4),
)
def test_a_call_never_makes_more_attempts_than_it_may(script: list[str], idempotent: bool, retries: int) -> None:
    """Whatever happens: one attempt, the retries, the free ones, and none past the deadline."""
    makers: dict[str, Any] = {
        "ok": ok,
        "503": lambda: Response(503),
        "500": lambda: Response(500),
        "refused": refused,
        "stale": lambda: stale(sent=True),
        "shed": lambda: Response(503, headers={"x-rejected": "shed"}),
        "lost": lambda: ConnectionLost("reset"),
    }
    scene = Scene(*[makers[name]() for name in script], retries=retries)
    scene.peer.instances = ["a"] * 12
    raised = False
    try:
        scene.run(idempotent=idempotent)
    except CallError:
        raised = True
    assert raised == (script[scene.attempts - 1] in ("refused", "stale", "lost"))
    assert scene.attempts <= 1 + retries + FREE_RESENDS
    assert scene.budget.spent <= retries
    assert all(at < 2.0 for at in scene.peer.at)
    if not idempotent:
        assert all(name in ("refused", "shed") for name in script[: scene.attempts - 1])
