"""Balance: the less loaded of two, none that keeps failing, and one trial to come back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mizzen.rules.balance import (
    EJECT_AFTER,
    EJECT_MOST,
    FIRST_GUESS,
    LEAST,
    Balancer,
    Endpoint,
)
from mizzen.words.errors import NoInstances
from mizzen.words.message import Call, Request, Response
from mizzen.words.outcome import Verdict

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL
PENALISED, LEAVING = Verdict.PENALISED, Verdict.LEAVING


class Instance:
    """What discovery hands over."""

    def __init__(
        self, id: str, *, host: str = "10.0.0.1", port: int = 8101, scheme: str = "http", boot: str = "1", weight: int = 1
    ) -> None:
        self.id, self.host, self.port, self.scheme, self.meta = id, host, port, scheme, {"boot": boot}
        self.weight = weight


class Connection:
    """A way to an instance that answers at once."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.closed = False

    async def send(self, request: Request) -> Response:
        return Response(200)

    def close(self) -> None:
        self.closed = True


class Scene:
    """A balancer with a clock and dice of its own."""

    def __init__(self, *ids: str, seed: int = 7, dice: Callable[[], float] | None = None) -> None:
        self.now = 1000.0
        self.connections: list[Connection] = []
        self.ejected: list[tuple[str, float]] = []
        self.readmitted: list[str] = []
        self.balancer = Balancer(
            self.connect,
            clock=lambda: self.now,
            random=dice or random.Random(seed).random,
            peer="user",
            detail=lambda: "consul: no snapshot for 12s",
            on_eject=lambda endpoint, seconds: self.ejected.append((endpoint.id, seconds)),
            on_readmit=lambda endpoint: self.readmitted.append(endpoint.id),
        )
        self.balancer.update([Instance(id) for id in ids])

    def connect(self, instance: Instance) -> Connection:
        self.connections.append(Connection(instance))
        return self.connections[-1]

    def __getitem__(self, id: str) -> Endpoint:
        return next(endpoint for endpoint in self.balancer.endpoints if endpoint.id == id)

    def pick(self, *, idempotent: bool = True, tried: tuple[str, ...] = ()) -> Endpoint:
        return self.balancer.pick(request(idempotent=idempotent, tried=tried), self.now)

    def call(self, verdicts: dict[str, Verdict] | None = None, seconds: float = 0.001, **how: Any) -> str:
        """One attempt, which comes to ``verdicts`` by the instance it got, success otherwise."""
        endpoint = self.pick(**how)
        ticket = endpoint.picks
        self.now += seconds
        self.balancer.done(endpoint, (verdicts or {}).get(endpoint.id, SUCCESS), seconds, self.now, ticket)
        return endpoint.id

    def calls(self, times: int, verdicts: dict[str, Verdict] | None = None, **how: Any) -> Counter[str]:
        return Counter(self.call(verdicts, **how) for _ in range(times))

    def fail(self, id: str, times: int = EJECT_AFTER) -> None:
        """So many failed attempts to that one, past the pick."""
        endpoint = self[id]
        for _ in range(times):
            endpoint.begin(self.now)
            self.balancer.done(endpoint, FAILURE, 0.001, self.now, endpoint.picks)


def request(*, idempotent: bool = True, tried: tuple[str, ...] = ()) -> Request:
    call = Call(idempotent=idempotent, timeout=2.0, started=0.0, deadline=2.0)
    call.tried.extend(tried)
    return Request("GET", "/", peer="user", call=call)


def state(endpoint: Endpoint) -> str:
    """Read anew each time, where a type checker would believe an earlier assertion."""
    return endpoint.state


# -- the pick


def test_without_instances_the_error_says_what_discovery_knows() -> None:
    """The peer and the reason are in the message."""
    with pytest.raises(NoInstances, match="no instance of user: consul: no snapshot for 12s") as caught:
        Scene().pick()
    assert caught.value.peer == "user"


def test_a_single_instance_gets_everything() -> None:
    """There is nothing to choose."""
    assert Scene("a").calls(10) == {"a": 10}


def test_instances_that_are_alike_share_evenly() -> None:
    """Latencies below five milliseconds are noise; none of three gets much more than its third."""
    counts = Scene("a", "b", "c").calls(3000)
    assert all(850 < counts[id] < 1150 for id in "abc")


def test_the_less_loaded_of_two_is_picked() -> None:
    """What is in flight counts at once."""
    scene = Scene("a", "b")
    scene.calls(20)
    busy = scene["a"]
    for _ in range(3):
        busy.begin(scene.now)
    assert scene.calls(10) == {"b": 10}


def weighing(scene: Scene, **weights: int) -> Scene:
    """The scene with instances of these weights."""
    scene.balancer.update([Instance(id, weight=weight) for id, weight in weights.items()])
    return scene


def test_instances_share_by_their_weights() -> None:
    """Idle ones that answer alike get calls as their weights say; equal weights, whatever they are, change nothing."""
    shares = weighing(Scene(), a=3, b=1).calls(4000)
    assert shares["a"] / 4000 == pytest.approx(0.75, abs=0.03)
    shares = weighing(Scene(), a=2, b=1, c=1).calls(4000)
    assert shares["a"] / 4000 == pytest.approx(0.5, abs=0.03)
    alike, heavy = weighing(Scene(), a=1, b=1, c=1), weighing(Scene(), a=7, b=7, c=7)
    assert [alike.call() for _ in range(50)] == [heavy.call() for _ in range(50)]


def test_attempts_in_flight_spread_by_weight() -> None:
    """One that weighs three times as much may have three times as much under way."""
    scene = weighing(Scene(), a=3, b=1)
    for _ in range(400):
        scene.pick()
    assert scene["a"].in_flight / 400 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("weight", [0, -3, 10**400], ids=["nothing", "less", "endless"])
def test_a_weight_that_is_none_breaks_no_call(weight: int) -> None:
    """Whatever a registry says, or a file that was edited: there is an instance, and somebody is picked."""
    assert weighing(Scene(), a=weight, b=2).calls(50).total() == 50


def test_a_weight_that_changes_counts_from_the_next_snapshot_on() -> None:
    """The endpoint, and what is known of it, stays."""
    scene = weighing(Scene("a", "b"), a=1, b=9)
    assert len(scene.connections) == 2
    assert scene.calls(1000)["b"] > 850
    assert weighing(scene, a=1, b=1).calls(1000)["b"] < 550


def test_weight_does_not_excuse_slowness_or_failure() -> None:
    """Whenever another one is drawn beside it, a heavy one that is slow loses; a failed attempt goes elsewhere, and an
    ejected one gets nothing."""
    scene = weighing(Scene(), a=2, b=1, c=1)
    scene.balancer.done(scene.pick(tried=("b", "c")), SUCCESS, 5.0, scene.now)
    assert scene.calls(1000)["a"] / 1000 == pytest.approx(0.25, abs=0.05)  # both draws were it
    assert "a" not in scene.calls(100, tried=("a",))
    scene.fail("a")
    assert "a" not in scene.calls(100)


def test_attempts_in_flight_spread_evenly() -> None:
    """A burst at one moment is shared out."""
    scene = Scene("a", "b", "c", "d")
    scene.calls(40)
    for _ in range(100):
        scene.pick()
    assert all(15 <= endpoint.in_flight <= 35 for endpoint in scene.balancer.endpoints)


def test_a_slow_instance_gets_less() -> None:
    """Peaks count at once: after one slow answer the other is preferred."""
    scene = Scene("a", "b")
    scene.calls(20)
    slow = scene["a"]
    slow.begin(scene.now)
    scene.balancer.done(slow, SUCCESS, 0.5, scene.now, slow.picks)
    assert scene.calls(50) == {"b": 50}


def test_a_peak_fades() -> None:
    """After a while the slow one is tried again, and judged anew."""
    scene = Scene("a", "b")
    slow = scene["a"]
    slow.begin(scene.now)
    scene.balancer.done(slow, SUCCESS, 0.5, scene.now, slow.picks)
    assert slow.cost(scene.now) == 0.5
    assert slow.cost(scene.now + 10.0) == pytest.approx(0.184, abs=0.001)
    assert slow.cost(scene.now + 1000.0) == LEAST
    scene.now += 60.0
    assert scene.calls(100)["a"] > 20


def test_a_quicker_answer_brings_the_cost_down_with_time() -> None:
    """The average follows the samples at the pace of its decay."""
    scene = Scene("a", "b")
    endpoint = scene["a"]
    for seconds in (1.0, 0.1):
        endpoint.begin(scene.now)
        scene.balancer.done(endpoint, SUCCESS, seconds, scene.now, endpoint.picks)
        scene.now += 10.0
    before = scene.now - 10.0
    assert endpoint.cost(before) == pytest.approx(1.0 * 0.3679 + 0.1 * 0.6321, abs=0.001)


def test_a_new_instance_is_asked_once_and_guessed_until_it_answers() -> None:
    """One attempt finds out about it; with that under way it counts as 30 ms."""
    scene = Scene("a")
    scene.calls(10)
    scene.balancer.update([Instance("a"), Instance("b")])
    assert scene["b"].load(scene.now) == 0.0
    probe = scene.pick()
    assert probe.id == "b"
    assert probe.load(scene.now) == FIRST_GUESS * 2
    assert [scene.pick().id for _ in range(3)] == ["a"] * 3


def test_failures_that_are_fast_do_not_attract() -> None:
    """A failure counts as a slow answer, however fast it was."""
    scene = Scene("a", "b")
    scene.calls(20)
    scene.fail("a", 1)
    assert scene["a"].load(scene.now) > 5 * scene["b"].load(scene.now)
    assert scene.calls(50) == {"b": 50}


def test_penalties_grow_but_fade_within_two_minutes() -> None:
    """However many failures, an endpoint is not forgotten for long."""
    scene = Scene("a")
    scene.fail("a", 1000)
    assert scene["a"].cost(scene.now) <= 10.0
    assert scene["a"].cost(scene.now + 90.0) == LEAST


def test_what_shed_looks_slow_but_is_not_blamed() -> None:
    """Overload is a reason to go elsewhere, not to eject."""
    scene = Scene("a", "b")
    scene.calls(20)
    for _ in range(20):
        scene["a"].begin(scene.now)
        scene.balancer.done(scene["a"], PENALISED, 0.001, scene.now, scene["a"].picks)
    assert (state(scene["a"]), scene["a"].failures) == ("ready", 0)
    assert scene.calls(20) == {"b": 20}


def test_a_hung_instance_loses_while_its_attempts_still_wait() -> None:
    """What owes an answer for longer than usual is at least that slow, before any timeout says so."""
    scene = Scene("a", "b", "c")
    scene.calls(60)
    hung: list[str] = []
    for _ in range(100):  # one call every ten milliseconds; "a" never answers any more
        endpoint = scene.pick()
        if endpoint.id == "a":
            hung.append(endpoint.id)
        else:
            scene.balancer.done(endpoint, SUCCESS, 0.002, scene.now + 0.002, endpoint.picks)
        scene.now += 0.010
    assert len(hung) <= 2


def test_a_hung_instance_loses_against_busy_ones_that_answer() -> None:
    """One attempt that has waited for a second outweighs six that are answered as usual."""
    scene = Scene("a", "b", "c")
    scene.calls(60)
    scene["a"].begin(scene.now)
    scene.now += 1.0
    for id in "bc":
        for _ in range(6):
            scene[id].begin(scene.now)
    assert scene.calls(30, seconds=0.0)["a"] == 0


def test_whoever_gave_up_waiting_tells_how_slow_it_was() -> None:
    """A cancelled attempt is no failure, but the time it waited counts; a short one counts for nothing."""
    scene = Scene("a", "b")
    scene.calls(20)
    scene["a"].begin(scene.now)
    scene.balancer.done(scene["a"], NEUTRAL, 1.5, scene.now, scene["a"].picks)
    assert scene["a"].cost(scene.now) == 1.5
    scene["a"].begin(scene.now)
    scene.balancer.done(scene["a"], NEUTRAL, 0.001, scene.now, scene["a"].picks)
    assert scene["a"].cost(scene.now) == 1.5


def test_a_slow_request_does_not_accuse_an_instance_that_answers_others() -> None:
    """Long work beside quick answers is no sign of a hang."""
    scene = Scene("a", "b")
    scene.calls(20)
    report = scene["a"]
    report.begin(scene.now)
    for _ in range(50):
        scene.now += 0.1
        report.begin(scene.now)
        scene.balancer.done(report, SUCCESS, 0.002, scene.now, report.picks)
    assert report.load(scene.now + 0.01) < 0.05


def test_the_next_attempt_goes_to_another_instance() -> None:
    """Those that this call has tried come last."""
    scene = Scene("a", "b", "c")
    scene.calls(30)
    assert {scene.call(tried=("a",)) for _ in range(30)} == {"b", "c"}
    assert {scene.call(tried=("a", "c")) for _ in range(10)} == {"b"}


def test_when_all_were_tried_any_may_be_tried_again() -> None:
    """With a virtual IP in front there is only one, and it gets the next attempt too."""
    assert Scene("a").call(tried=("a",)) == "a"
    assert {Scene("a", "b", seed=seed).call(tried=("a", "b")) for seed in range(10)} == {"a", "b"}


# -- snapshots


def test_a_snapshot_keeps_what_is_known_of_survivors() -> None:
    """State goes by id."""
    scene = Scene("a", "b")
    scene.fail("a")
    before = scene["a"]
    scene.balancer.update([Instance("b"), Instance("a"), Instance("c")])
    assert scene["a"] is before
    assert state(scene["a"]) == "ejected"
    assert [endpoint.id for endpoint in scene.balancer.endpoints] == ["b", "a", "c"]


def test_a_withdrawn_instance_is_let_go() -> None:
    """Its connections are closed, those of the others are not."""
    scene = Scene("a", "b")
    scene.balancer.update([Instance("b")])
    assert [connection.closed for connection in scene.connections] == [True, False]
    assert scene.calls(5) == {"b": 5}


@pytest.mark.parametrize("again", [{"boot": "2"}, {"host": "10.0.0.9"}, {"port": 9999}, {"scheme": "https"}])
def test_another_life_at_the_same_id_begins_anew(again: dict[str, Any]) -> None:
    """A restarted or moved instance does not inherit its predecessor's failures or connections."""
    scene = Scene("a", "b")
    scene.fail("a")
    scene.balancer.update([Instance("a", **again), Instance("b")])
    assert (state(scene["a"]), scene["a"].failures) == ("ready", 0)
    assert [connection.closed for connection in scene.connections] == [True, False, False]


def test_an_answer_from_a_former_life_says_nothing_of_the_new_one() -> None:
    """Late failures of a replaced endpoint are not counted."""
    scene = Scene("a", "b")
    old = scene["a"]
    for _ in range(10):
        old.begin(scene.now)
    scene.balancer.update([Instance("a", boot="2"), Instance("b")])
    for _ in range(10):
        scene.balancer.done(old, FAILURE, 1.0, scene.now)
    assert (state(scene["a"]), scene["a"].failures, old.in_flight) == ("ready", 0, 0)
    assert scene.ejected == []


def test_an_id_that_stands_twice_is_taken_once() -> None:
    """The first of them counts."""
    scene = Scene("a", "a")
    assert len(scene.balancer.endpoints) == 1


def test_who_answers_has_answered_lately_and_is_in_the_pick() -> None:
    """An answer counts for as long as it is recent; one that is left out since, or is not known, does not answer."""
    scene = Scene("a", "b", "c", "d")
    start = scene.now
    assert not scene.balancer.answers("a", 30)
    for name in "abc":
        scene[name].begin(scene.now)
        scene.balancer.done(scene[name], SUCCESS, 0.001, scene.now, scene[name].picks)
    scene.now = start + 30
    assert [scene.balancer.answers(name, 30) for name in "abcdx"] == [True, True, True, False, False]
    assert not scene.balancer.answers("a", 29)
    scene.fail("a", EJECT_AFTER - 1)
    assert scene.balancer.answers("a", 30)
    scene.fail("a", 1)
    scene["b"].begin(scene.now)
    scene.balancer.done(scene["b"], Verdict.LEAVING, 0.001, scene.now, scene["b"].picks)
    assert [scene.balancer.answers(name, 30) for name in "abc"] == [False, False, True]
    scene.now = start + 31
    assert not scene.balancer.answers("c", 30)


def test_close_lets_go_of_everything() -> None:
    """After it there are no instances."""
    scene = Scene("a", "b")
    scene.balancer.close()
    assert all(connection.closed for connection in scene.connections)
    with pytest.raises(NoInstances):
        scene.pick()


# -- ejection


def test_five_failed_attempts_in_a_row_eject() -> None:
    """Four do not; then it gets nothing, and the others everything."""
    scene = Scene("a", "b", "c")
    scene.fail("a", 4)
    assert state(scene["a"]) == "ready"
    scene.fail("a", 1)
    assert state(scene["a"]) == "ejected"
    assert scene["a"].failures == 5
    assert scene.calls(100, seconds=0.001)["a"] == 0


def test_a_success_begins_the_count_anew() -> None:
    """Failures have to be in a row."""
    scene = Scene("a", "b")
    for _ in range(10):
        scene.fail("a", 4)
        scene["a"].begin(scene.now)
        scene.balancer.done(scene["a"], SUCCESS, 0.001, scene.now, scene["a"].picks)
    assert state(scene["a"]) == "ready"


def test_neutral_attempts_neither_count_nor_reset() -> None:
    """Four failures, some that say nothing, one more failure: ejected."""
    scene = Scene("a", "b")
    scene.fail("a", 4)
    for verdict in (NEUTRAL, PENALISED, NEUTRAL):
        scene["a"].begin(scene.now)
        scene.balancer.done(scene["a"], verdict, 0.001, scene.now, scene["a"].picks)
    assert scene["a"].failures == 4
    scene.fail("a", 1)
    assert state(scene["a"]) == "ejected"


@pytest.mark.parametrize(("dice", "share"), [(0.0, 1.0), (0.999999, 0.8)])
def test_an_ejection_doubles_up_to_a_minute_with_jitter(dice: float, share: float) -> None:
    """5, 10, 20, 40, 60, 60 seconds, each shortened by up to a fifth."""
    scene = Scene("a", "b", dice=lambda: dice)
    scene.fail("a")
    for _ in range(5):
        scene.now = scene["a"].until
        trial = scene.pick()
        assert trial.id == "a"
        scene.balancer.done(trial, FAILURE, 0.001, scene.now, trial.picks)
    assert [seconds for _, seconds in scene.ejected] == pytest.approx(
        [share * seconds for seconds in (5, 10, 20, 40, 60, 60)], abs=0.001
    )


def test_a_very_long_outage_does_not_overflow() -> None:
    """Thousands of failed trials later the ejection is still a minute."""
    scene = Scene("a", "b", dice=lambda: 0.0)
    scene.fail("a")
    for _ in range(3000):
        scene.now = scene["a"].until
        trial = scene.pick()
        scene.balancer.done(trial, FAILURE, 0.001, scene.now, trial.picks)
    assert scene.ejected[-1] == ("a", EJECT_MOST)


def test_the_last_one_is_never_ejected() -> None:
    """Of any number, one stays, however often it fails."""
    scene = Scene("a", "b", "c")
    for id in "abc":
        scene.fail(id, 50)
    assert scene.balancer.states() == {"ready": 1, "ejected": 2, "trial": 0, "leaving": 0}


def test_a_single_endpoint_is_never_ejected() -> None:
    """A virtual IP or a fixed address has nothing to fall back on."""
    scene = Scene("a")
    scene.calls(100, {"a": FAILURE})
    assert state(scene["a"]) == "ready"


def test_the_only_one_left_is_readmitted() -> None:
    """When discovery takes the others away, an ejected one is better than none."""
    scene = Scene("a", "b")
    scene.fail("a")
    scene.balancer.update([Instance("a")])
    assert state(scene["a"]) == "ready"
    assert scene.readmitted == ["a"]


def test_when_fewer_than_half_are_left_all_are_picked_from() -> None:
    """Panic doubts the judgement, but keeps the penalties: who failed gets work only when others are loaded."""
    scene = Scene("a", "b", "c")
    scene.calls(30)
    scene.fail("a")
    scene.fail("b")
    assert scene.balancer.panic
    assert scene.calls(50) == {"c": 50}
    for _ in range(10_000):
        scene["c"].begin(scene.now)
    assert scene.pick().id in ("a", "b")


def test_half_left_is_no_panic() -> None:
    """Two of four are enough."""
    scene = Scene("a", "b", "c", "d")
    scene.fail("a")
    scene.fail("b")
    assert not scene.balancer.panic


def test_one_dead_instance_costs_a_handful_of_attempts_and_no_more() -> None:
    """Not one in three for ever: until it is ejected, and then one per trial."""
    scene = Scene("a", "b", "c")
    scene.calls(30)
    counts: Counter[str] = Counter()
    for _ in range(6000):  # a minute at a hundred calls a second
        first = scene.call({"a": FAILURE}, seconds=0.01)
        counts[first] += 1
        if first == "a":
            assert scene.call(tried=("a",)) != "a"
    assert counts["a"] <= 12


# -- trials


def ejected(scene: Scene, id: str = "a") -> Endpoint:
    """That one ejected, and its time over."""
    scene.fail(id)
    scene.now = scene[id].until
    return scene[id]


def test_when_its_time_is_over_exactly_one_call_is_the_trial() -> None:
    """The others go where it is safe until the trial has ended."""
    scene = Scene("a", "b", "c")
    endpoint = ejected(scene)
    assert scene.pick() is endpoint
    assert state(endpoint) == "trial"
    assert {scene.call() for _ in range(50)} == {"b", "c"}


def test_before_its_time_is_over_there_is_no_trial() -> None:
    """An ejection lasts as long as was said."""
    scene = Scene("a", "b", "c")
    ejected(scene)
    scene.now -= 0.001
    assert scene.pick().id != "a"


def test_a_trial_that_succeeds_readmits() -> None:
    """It is one of them again, with a clean slate."""
    scene = Scene("a", "b")
    endpoint = ejected(scene)
    assert scene.call() == "a"
    assert (state(endpoint), endpoint.failures) == ("ready", 0)
    assert scene.readmitted == ["a"]
    assert scene.calls(100)["a"] > 20


def test_a_trial_that_fails_ejects_at_once_and_for_longer() -> None:
    """One failure is enough then."""
    scene = Scene("a", "b")
    endpoint = ejected(scene)
    assert scene.call({"a": FAILURE}) == "a"
    assert state(endpoint) == "ejected"
    assert [id for id, _ in scene.ejected] == ["a", "a"]
    assert scene.ejected[1][1] > scene.ejected[0][1]
    assert endpoint.until > scene.now


@pytest.mark.parametrize("verdict", [NEUTRAL, PENALISED])
def test_a_trial_that_says_nothing_gives_its_turn_to_the_next_call(verdict: Verdict) -> None:
    """A cancelled trial neither readmits nor ejects."""
    scene = Scene("a", "b")
    endpoint = ejected(scene)
    assert scene.call({"a": verdict}) == "a"
    assert (state(endpoint), endpoint.trial) == ("ejected", 0)
    assert scene.call() == "a"
    assert state(endpoint) == "ready"


def test_a_trial_that_meets_an_instance_still_starting_waits_a_second() -> None:
    """It is there, and not ready: tried again soon."""
    scene = Scene("a", "b")
    endpoint = ejected(scene)
    assert scene.call({"a": LEAVING}) == "a"
    assert state(endpoint) == "ejected"
    assert scene.call() == "b"
    scene.now += 1.0
    assert scene.call() == "a"
    assert state(endpoint) == "ready"


def test_the_trial_is_a_call_that_can_be_repeated() -> None:
    """A POST is not risked, until a second ejection time has passed and no other call came."""
    scene = Scene("a", "b")
    endpoint = ejected(scene)
    assert scene.call(idempotent=False) == "b"
    scene.now += endpoint.barred
    assert scene.call(idempotent=False) == "a"
    assert state(endpoint) == "ready"


def test_the_second_attempt_of_a_call_is_not_a_trial() -> None:
    """It has failed once and goes where it is safe."""
    scene = Scene("a", "b", "c")
    ejected(scene)
    assert scene.call(tried=("b",)) == "c"


def test_answers_from_before_the_ejection_do_not_end_it() -> None:
    """Attempts that were under way then say nothing about the trial, nor of the time after it."""
    scene = Scene("a", "b")
    endpoint = scene["a"]
    late = []
    for _ in range(8):
        endpoint.begin(scene.now)
        late.append(endpoint.picks)
    ejected(scene)
    scene.balancer.done(endpoint, SUCCESS, 1.0, scene.now, late.pop())
    assert state(endpoint) == "ejected"
    trial = scene.pick()
    ticket = trial.picks
    scene.balancer.done(endpoint, FAILURE, 1.0, scene.now, late.pop())
    scene.balancer.done(endpoint, SUCCESS, 1.0, scene.now, late.pop())
    assert state(endpoint) == "trial"
    scene.balancer.done(trial, SUCCESS, 0.001, scene.now, ticket)
    for ticket in late:
        scene.balancer.done(endpoint, FAILURE, 1.0, scene.now, ticket)
    assert (state(endpoint), endpoint.failures, endpoint.in_flight) == ("ready", 0, 0)


def test_answers_to_attempts_made_in_panic_do_not_count_after_the_trial() -> None:
    """What went out while it was ejected was sent against better knowledge."""
    scene = Scene("a", "b")
    endpoint = ejected(scene)
    panicked = []
    for _ in range(5):
        endpoint.begin(scene.now)
        panicked.append(endpoint.picks)
    assert scene.call() == "a"
    for ticket in panicked:
        scene.balancer.done(endpoint, FAILURE, 1.0, scene.now, ticket)
    assert (state(endpoint), endpoint.failures) == ("ready", 0)


def test_an_endpoint_that_stayed_in_for_a_minute_begins_at_the_base_again() -> None:
    """Old ejections are forgiven."""
    scene = Scene("a", "b", dice=lambda: 0.0)
    ejected(scene)
    scene.call({"a": FAILURE})
    scene.now = scene["a"].until
    scene.call()
    scene.fail("a")
    scene.now = scene["a"].until
    scene.call()
    scene.now += 60.0
    scene.fail("a")
    assert [seconds for _, seconds in scene.ejected] == [5, 10, 20, 5]


# -- leaving


def test_an_instance_that_is_draining_is_out_for_a_second() -> None:
    """At once, without blame, and back if the registry still has it."""
    scene = Scene("a", "b", "c")
    scene.calls(30)
    scene["a"].begin(scene.now)
    scene.balancer.done(scene["a"], LEAVING, 0.001, scene.now, scene["a"].picks)
    assert (state(scene["a"]), scene["a"].failures) == ("leaving", 0)
    assert scene.calls(90, seconds=0.01)["a"] == 0
    scene.now += 0.2
    assert scene.calls(90)["a"] > 10


def test_leaving_is_no_reason_for_panic() -> None:
    """In a rolling restart the ready ones take the work, and no ejected one is dug out."""
    scene = Scene("a", "b", "c")
    scene.fail("b")
    scene["a"].begin(scene.now)
    scene.balancer.done(scene["a"], LEAVING, 0.001, scene.now, scene["a"].picks)
    assert not scene.balancer.panic
    assert scene.calls(20) == {"c": 20}


def test_when_all_are_leaving_they_are_still_better_than_none() -> None:
    """Behind a virtual IP the next connection may reach another one."""
    scene = Scene("a")
    assert scene.calls(5, {"a": LEAVING}) == {"a": 5}
    assert state(scene["a"]) == "leaving"


# -- what is told


def test_it_is_printable() -> None:
    """describe has plain values, reprs are status lines."""
    scene = Scene("a", "b", dice=lambda: 0.0)
    scene.fail("a")
    told = scene.balancer.describe()
    assert (told["peer"], told["panic"]) == ("user", False)
    assert told["endpoints"][0] == {
        "id": "a",
        "address": "10.0.0.1:8101",
        "state": "ejected",
        "in_flight": 0,
        "latency": 10.0,
        "load": 10.0,
        "failures": 5,
        "ejections": 1,
        "back_in": 5.0,
    }
    assert repr(scene.balancer) == "<Balancer user: 1 ready 1 ejected>"
    assert repr(scene["a"]) == "<Endpoint a ejected, 0 in flight, 5 failures>"
    assert repr(Scene().balancer) == "<Balancer user: no endpoints>"


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order, what was promised holds."""

    @initialize(count=st.integers(1, 4), seed=st.integers(0, 1000))
    def start(self, count: int, seed: int) -> None:
        self.scene = Scene(*"abcd"[:count], seed=seed)
        self.open: list[tuple[Endpoint, int]] = []
        self.boots = 1

    @rule(idempotent=st.booleans(), tried=st.sets(st.sampled_from("abcd")))
    def pick(self, idempotent: bool, tried: set[str]) -> None:
        endpoint = self.scene.pick(idempotent=idempotent, tried=tuple(tried))
        assert endpoint in self.scene.balancer.endpoints
        untried = [one for one in self.scene.balancer.endpoints if one.id not in tried and state(one) == "ready"]
        if untried:
            assert endpoint.id not in tried
        if state(endpoint) == "trial" and endpoint.trial == endpoint.picks:
            assert idempotent or self.scene.now >= endpoint.until + endpoint.barred
            assert self.scene.now >= endpoint.until
        self.open.append((endpoint, endpoint.picks))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), verdict=st.sampled_from([*Verdict, FAILURE, FAILURE]), seconds=st.floats(0, 2))
    def done(self, data: st.DataObject, verdict: Verdict, seconds: float) -> None:
        endpoint, ticket = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.scene.balancer.done(endpoint, verdict, seconds, self.scene.now, ticket)
        staying = [one for one in self.scene.balancer.endpoints if state(one) != "leaving"]
        if state(endpoint) == "ejected" and verdict is FAILURE and endpoint.fence == endpoint.picks and len(staying) > 1:
            assert endpoint.until <= self.scene.now + EJECT_MOST

    @rule(id=st.sampled_from("abcd"), times=st.integers(1, 6))
    def fail(self, id: str, times: int) -> None:
        if any(one.id == id for one in self.scene.balancer.endpoints):
            left = self.scene.balancer.states()["ready"]
            self.scene.fail(id, times)
            assert left == 0 or self.scene.balancer.states()["ready"] >= 1

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, 5.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.scene.now += seconds

    @rule(ids=st.sets(st.sampled_from("abcd"), min_size=1), restarted=st.booleans())
    def snapshot(self, ids: set[str], restarted: bool) -> None:
        self.boots += restarted
        self.scene.balancer.update([Instance(id, boot=str(self.boots)) for id in sorted(ids)])

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "scene"):
            return
        endpoints = self.scene.balancer.endpoints
        for endpoint in endpoints:
            assert endpoint.in_flight == sum(one is endpoint for one, _ in self.open)
            assert endpoint.load(self.scene.now) >= 0
            trials = sum(one is endpoint and ticket == endpoint.trial for one, ticket in self.open)
            assert trials == (state(endpoint) == "trial")
        if len(endpoints) == 1:
            assert state(endpoints[0]) in ("ready", "leaving")


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- the layer
