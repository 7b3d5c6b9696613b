"""Timeouts: every call ends, an attempt leaves time for the next one, and its endpoint is judged by what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mizzen.rules import timeouts
from mizzen.rules.balance import Balancer, Endpoint
from mizzen.rules.timeouts import CALL_TIMEOUT, out_of_time
from mizzen.words.errors import CallError, CallTimeout, ConnectFailed, ConnectionLost, NoInstances
from mizzen.words.handler import Handler, Layer
from mizzen.words.message import Call, Headers, Request, Response
from mizzen.words.outcome import (
    CANCELLED,
    DEADLINE,
    DEADLINE_SHORT,
    LOST,
    NO_INSTANCES,
    OK,
    REFUSED,
    TIMEOUT,
    UNAVAILABLE,
    UNKNOWN,
    Classifier,
    Outcome,
    classify,
)

WHERE = "user-10.0.3.7-8101"


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            self.now = max(self.now, min(timers, default=self.now))
        super()._run_once()  # type: ignore[misc]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def clock() -> float:
    return asyncio.get_running_loop().time()


def request(*, timeout: float = 2.0, inherited: float | None = None, last: bool = True) -> Request:
    """A request whose call begins now; ``inherited`` seconds are left of the deadline it works under."""
    now = clock()
    left = timeout if inherited is None else inherited
    call = Call(idempotent=True, timeout=timeout, started=now, deadline=now + left, inherited=inherited is not None)
    call.last = last
    made = Request("GET", "/users/7", peer="user", call=call, headers=Headers({"x-request-timeout-ms": "1"}))
    made.route = "/users/{id}"
    return made


class Instance:
    """What discovery hands over."""

    host, port, weight, meta = "10.0.3.7", 8101, 1, dict[str, str]()

    def __init__(self, id: str) -> None:
        self.id = id


class Connection:
    """A way to an instance, which no attempt here takes."""

    def __init__(self, instance: Instance) -> None:
        self.send: Handler = hang

    def close(self) -> None: ...


def balancer(*ids: str) -> Balancer:
    made = Balancer(Connection, clock=clock, random=lambda: 0.0, peer="user")
    made.update([Instance(id) for id in ids])
    return made


def attempt(judge: Classifier, clock: Callable[[], float]) -> Layer:
    """The layer with one endpoint to pick from."""
    return timeouts.attempt(balancer(WHERE), judge, clock)


def outcome_of(made: Request) -> Outcome | None:
    assert made.call is not None
    return made.call.outcome


async def hang(_: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def answer(_: Request) -> Response:
    return Response(200)


def raising(error: BaseException) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def send(_: Request) -> Response:
        raise error

    return send


def test_a_call_has_two_seconds() -> None:
    """The default is the article's."""
    assert CALL_TIMEOUT == 2.0


@pytest.mark.parametrize(("last", "seconds", "limit"), [(True, 2.0, "call"), (False, 1.0, "attempt")])
def test_a_hung_attempt_ends_after_its_share(last: bool, seconds: float, limit: str) -> None:
    """Half of what remains while another attempt can follow, all of it for the last."""

    async def main() -> None:
        made, began = request(last=last), clock()
        with pytest.raises(CallTimeout) as caught:
            await attempt(classify, clock)(hang)(made)
        assert clock() - began == pytest.approx(seconds, abs=1e-6)
        assert caught.value.limit == limit
        assert caught.value.peer == "user"
        assert outcome_of(made) is caught.value.outcome is TIMEOUT

    run(main)


def test_a_later_attempt_gets_half_of_what_is_left_then() -> None:
    """The share is of the time that remains, not of the timeout."""

    async def main() -> None:
        made = request(last=False)
        send = attempt(classify, clock)(hang)
        ends = []
        for last in (False, False, True):
            assert made.call is not None
            made.call.last = last
            with pytest.raises(CallTimeout):
                await send(made)
            ends.append(round(clock() - made.call.started, 6))
        assert ends == [1.0, 1.5, 2.0]

    run(main)


@pytest.mark.parametrize(
    ("left", "outcome", "short"), [(0.9, DEADLINE_SHORT, True), (1.0, DEADLINE, False), (1.9, DEADLINE, False)]
)
def test_the_callers_deadline_is_told_from_our_own_timeout(left: float, outcome: Outcome, short: bool) -> None:
    """It is the peer's failure only if the caller left at least half of the usual time."""

    async def main() -> None:
        made, began = request(inherited=left), clock()
        with pytest.raises(CallTimeout, match="the deadline of the request it was made for") as caught:
            await attempt(classify, clock)(hang)(made)
        assert clock() - began == pytest.approx(left, abs=1e-6)
        assert (caught.value.limit, caught.value.short) == ("deadline", short)
        assert outcome_of(made) is outcome

    run(main)


def test_an_attempt_under_a_deadline_that_can_be_repeated_is_an_attempt() -> None:
    """Its half ran out, not the deadline."""

    async def main() -> None:
        made = request(inherited=1.0, last=False)
        with pytest.raises(CallTimeout) as caught:
            await attempt(classify, clock)(hang)(made)
        assert caught.value.limit == "attempt"
        assert outcome_of(made) is TIMEOUT

    run(main)


def test_the_messages_say_who_what_and_how_long() -> None:
    """They name the instance for an attempt and the peer for a call."""

    async def main() -> None:
        texts = []
        for made in (request(last=False), request(), request(inherited=0.8)):
            with pytest.raises(CallTimeout) as caught:
                await attempt(classify, clock)(hang)(made)
            texts.append(str(caught.value))
        assert texts == [
            "user-10.0.3.7-8101 did not answer GET /users/{id} within 1s, half of what the call had left",
            "user did not answer GET /users/{id} within the 2s of this call",
            "user did not answer GET /users/{id} before the deadline of the request it was made for; 800ms were left for it",
        ]

    run(main)


def test_an_answer_is_classified_and_leaves_no_timer() -> None:
    """After an answer in time nothing is left running."""

    async def main() -> None:
        made = request()
        assert (await attempt(classify, clock)(answer)(made)).status == 200
        assert outcome_of(made) is OK
        await asyncio.sleep(10.0)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run(main)


def test_an_answer_that_is_a_failure_is_classified_too() -> None:
    """The outcome is set whatever the status."""

    async def main() -> None:
        made = request()

        async def unavailable(_: Request) -> Response:
            return Response(503)

        await attempt(classify, clock)(unavailable)(made)
        assert outcome_of(made) is UNAVAILABLE

    run(main)


@pytest.mark.parametrize(
    ("error", "outcome"), [(ConnectFailed("refused"), REFUSED), (ConnectionLost("reset"), LOST), (TimeoutError(), UNKNOWN)]
)
def test_errors_pass_through_with_their_outcome(error: Exception, outcome: Outcome) -> None:
    """Our own errors carry it; a foreign TimeoutError is not taken for ours."""

    async def main() -> None:
        made = request()
        with pytest.raises(type(error)) as caught:
            await attempt(classify, clock)(raising(error))(made)
        assert caught.value is error
        assert outcome_of(made) is outcome
        if isinstance(error, CallError):
            assert error.outcome is outcome

    run(main)


def test_a_caller_who_cancels_is_told_so() -> None:
    """Cancellation stays cancellation, and its outcome is neutral."""

    async def main() -> None:
        made = request()
        send = attempt(classify, clock)(hang)

        async def work() -> None:
            await send(made)

        task = asyncio.create_task(work())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcome_of(made) is CANCELLED

    run(main)


def test_a_cancellation_at_the_same_moment_as_the_timeout_wins() -> None:
    """Whoever cancelled from outside must see the task end as cancelled."""

    async def main() -> None:
        made = request()
        send = attempt(classify, clock)(hang)

        async def work() -> None:
            await send(made)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(clock() + 2.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcome_of(made) is CANCELLED

    run(main)


def test_a_timeout_leaves_the_task_as_it_was() -> None:
    """The next await of the same task is not cancelled, and an outer timeout still works."""

    async def main() -> None:
        with pytest.raises(CallTimeout):
            await attempt(classify, clock)(hang)(request())
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await attempt(classify, clock)(hang)(request())

    run(main)


def test_what_a_transport_makes_of_being_cut_off_is_still_a_timeout() -> None:
    """A connection that breaks because its attempt was ended is not a lost one."""

    async def breaks(made: Request) -> Response:
        try:
            return await hang(made)
        except asyncio.CancelledError:
            raise ConnectionLost("closed while waiting") from None

    async def main() -> None:
        made = request()
        with pytest.raises(CallTimeout) as caught:
            await attempt(classify, clock)(breaks)(made)
        assert isinstance(caught.value.__cause__, ConnectionLost)
        assert outcome_of(made) is TIMEOUT

    run(main)


def test_an_answer_given_in_spite_of_the_end_counts() -> None:
    """Somebody below who answers all the same is believed, and the task is not left cancelled."""

    async def answers(made: Request) -> Response:
        try:
            return await hang(made)
        except asyncio.CancelledError:
            return Response(200)

    async def main() -> None:
        made = request()
        assert (await attempt(classify, clock)(answers)(made)).status == 200
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        assert outcome_of(made) is OK

    run(main)


def test_an_attempt_without_time_is_not_made() -> None:
    """Nothing is sent when the time is up already."""

    async def main() -> None:
        made = request(timeout=0.0)
        with pytest.raises(CallTimeout):
            await attempt(classify, clock)(raising(AssertionError("sent")))(made)
        assert outcome_of(made) is TIMEOUT

    run(main)


def test_the_classifier_is_the_clients() -> None:
    """A client that judges for itself is asked about every result."""

    async def main() -> None:
        made = request()
        await attempt(lambda _, result: UNAVAILABLE, clock)(answer)(made)
        assert outcome_of(made) is UNAVAILABLE

    run(main)


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_a_call_without_time_left_says_so(left: float) -> None:
    """Its caller no longer waits: nothing was sent, and the peer is not blamed."""

    async def main() -> None:
        made = request(inherited=left)
        assert made.call is not None
        error = out_of_time(made, made.call)
        assert str(error).startswith("GET /users/{id} was not sent to user: no time before the deadline of the request")
        assert (error.limit, error.short) == ("deadline", True)
        assert outcome_of(made) is error.outcome is DEADLINE_SHORT

    run(main)


def test_a_timeout_of_none_is_the_callers_own_doing() -> None:
    """A call that was given no time at all says so."""

    async def main() -> None:
        made = request(timeout=0.0)
        assert made.call is not None
        error = out_of_time(made, made.call)
        assert str(error) == "GET /users/{id} was not sent to user: no time is left of its own"
        assert error.limit == "call"

    run(main)


@pytest.mark.parametrize(("last", "told"), [(True, "2000"), (False, "1000")])
def test_the_peer_is_told_how_long_the_attempt_has(last: bool, told: str) -> None:
    """In the field that the edge put last."""

    async def main() -> None:
        made = request(last=last)
        await attempt(classify, clock)(answer)(made)
        assert made.headers["x-request-timeout-ms"] == told

    run(main)


# -- the endpoint of an attempt


def test_an_attempt_gets_its_endpoint() -> None:
    """The call knows the endpoint and remembers whom it tried; afterwards nothing is in flight."""

    async def main() -> None:
        picker = balancer("a")
        [endpoint] = picker.endpoints
        made = request()
        assert made.call is not None
        call = made.call

        async def following(_: Request) -> Response:
            assert call.endpoint is endpoint
            assert call.tried == ["a"]
            assert endpoint.in_flight == 1
            return Response(200)

        await timeouts.attempt(picker, classify, clock)(following)(made)
        assert endpoint.in_flight == 0

    run(main)


def test_an_endpoint_is_judged_by_its_attempts() -> None:
    """Five attempts refused, and it is out; each was observed with what it came to and how long it took."""
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        picker = balancer("a", "b")

        async def following(made: Request) -> Response:
            assert made.call is not None
            await asyncio.sleep(0.25)
            if made.call.endpoint.id == "a":
                raise ConnectFailed("refused")
            return Response(200)

        layer = timeouts.attempt(
            picker, classify, clock, observe=lambda _, outcome, seconds: seen.append((outcome.name, round(seconds, 6)))
        )
        for _ in range(5):
            made = request()
            assert made.call is not None
            made.call.tried.append("b")
            with pytest.raises(ConnectFailed):
                await layer(following)(made)
        assert picker.endpoints[0].state == "ejected"
        assert seen == [("refused", 0.25)] * 5

    run(main)


def test_no_instance_is_an_outcome_of_its_own() -> None:
    """Nothing was attempted, so nothing is observed."""

    async def main() -> None:
        made = request()
        layer = timeouts.attempt(balancer(), classify, clock, observe=lambda *_: pytest.fail("observed"))
        with pytest.raises(NoInstances) as caught:
            await layer(answer)(made)
        assert outcome_of(made) is caught.value.outcome is NO_INSTANCES

    run(main)


def test_a_cancelled_trial_is_not_lost() -> None:
    """Whatever becomes of the task, the endpoint can be tried again."""

    async def main() -> None:
        picker = balancer("a", "b")
        endpoint = ejected(picker)
        await asyncio.sleep(5.0)
        layer = timeouts.attempt(picker, classify, clock)

        async def work() -> None:
            await layer(hang)(request())

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert endpoint.state == "trial"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (endpoint.state, endpoint.in_flight) == ("ejected", 0)
        assert picker.pick(request(), clock()) is endpoint

    run(main)


def ejected(picker: Balancer) -> Endpoint:
    """The first endpoint, put out by failures."""
    endpoint = picker.endpoints[0]
    for _ in range(5):
        endpoint.begin(clock())
        picker.done(endpoint, UNAVAILABLE.ejection, 0.0, clock(), endpoint.picks)
    assert endpoint.state == "ejected"
    return endpoint
