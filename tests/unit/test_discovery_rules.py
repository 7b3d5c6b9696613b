"""The store's promises, held against every sequence of reads, errors and time that chance can think of."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mizzen.rules.balance import Balancer, Endpoint
from mizzen.rules.discovery import HOLD, LONGEST, EndpointStore, Held, Instance, Lost, StoreEvent
from mizzen.words.message import Request, Response
from mizzen.words.outcome import Verdict

IDS = "abcdefgh"
SETS = st.sets(st.sampled_from(IDS), max_size=len(IDS))


class Connection:
    """The way to one instance, which is closed once and never used again."""

    def __init__(self) -> None:
        self.closed = False

    async def send(self, request: Request) -> Response:
        raise AssertionError("nothing is sent here")

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Registry(RuleBasedStateMachine):
    """A store between a registry that does what it likes and a balancer that calls whom it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.events: list[StoreEvent] = []
        self.absent: dict[str, float] = {}  # known ids that the last read missed, and since when that is evidence
        self.offered: set[str] = set()
        self.lost = False
        self.doubt = False
        self.held_told = 0
        self.connections: dict[str, Connection] = {}
        self.balancer = Balancer(self.connect, clock=lambda: self.now, random=random.Random(1).random)
        self.store = EndpointStore(
            "user",
            clock=lambda: self.now,
            on_change=self.balancer.update,
            on_event=self.events.append,
            answers=self.answers,
        )

    def connect(self, instance: Any) -> Connection:
        self.connections[instance.id] = Connection()
        return self.connections[instance.id]

    def answers(self, known: str) -> bool:
        return self.balancer.answers(known, HOLD)

    @property
    def known(self) -> set[str]:
        return {each.id for each in self.store.instances}

    def endpoints(self) -> dict[str, Endpoint]:
        return {each.id: each for each in self.balancer.endpoints}

    # -- what happens

    @initialize(names=SETS)
    def begin(self, names: set[str]) -> None:
        self.read(names, regressed=False)

    @rule(names=SETS, regressed=st.booleans())
    def read(self, names: set[str], regressed: bool) -> None:
        before, endpoints, answering = self.known, self.endpoints(), {each for each in self.known if self.answers(each)}
        self.doubt = self.doubt or regressed or self.lost
        if regressed or self.lost:  # the 30 seconds begin anew
            self.absent = dict.fromkeys(self.absent, self.now)
        again = self.store.snapshot([Instance(each, "user", "10.0.0.1", 80) for each in sorted(names)], regressed=regressed)
        after = self.known

        assert names <= after, "additions apply at once"
        at_once = before - after - set(self.absent)
        assert len(at_once) <= len(before) / 2, "at most half of a set goes with the read that first misses it"
        if self.doubt:
            going = (before - after) & answering
            assert all(self.now - self.absent.get(each, self.now) >= LONGEST for each in going), (
                "in doubt one that answers stays"
            )
        assert not again or (self.store.held and not self.doubt), "a second read is asked for where it could confirm"
        for each in before & after:
            assert self.endpoints()[each] is endpoints[each], "a survivor keeps what is known of it"
        self.lost, self.offered = False, names
        self.absent = {each: self.absent.get(each, self.now) for each in after - names}
        self.doubt = self.doubt and bool(self.absent)

    @rule()
    def fail(self) -> None:
        before = self.known
        self.store.error(ConnectionError("refused"))
        self.lost = True
        assert self.known == before, "an error removes nobody"

    @rule(seconds=st.sampled_from([1, 5, 29, 30, 31, 300]))
    def wait(self, seconds: int) -> None:
        """Time passes, and the owner looks every second."""
        for _ in range(seconds):
            self.now += 1
            before = self.known
            self.store.tick(self.now)
            if self.lost:
                assert self.known == before, "while the registry is lost nobody goes by time"
                continue
            for each, since in list(self.absent.items()):
                if each not in self.known:
                    assert not self.answers(each) or self.now - since >= LONGEST, "in doubt one that answers stays"
                    del self.absent[each]
                elif self.now - since >= HOLD:
                    assert self.answers(each), "one that is absent and silent goes after 30 seconds"
                    assert not self.offered or self.now - since < LONGEST, "beside others it goes after 10 minutes"
            self.doubt = self.doubt and bool(self.absent)

    @rule(names=SETS, verdict=st.sampled_from([Verdict.SUCCESS, Verdict.SUCCESS, Verdict.FAILURE, Verdict.LEAVING]))
    def call(self, names: set[str], verdict: Verdict) -> None:
        """Calls come to something: five in a row, so that failures eject."""
        for endpoint in self.balancer.endpoints:
            for _ in range(5 if endpoint.id in names else 0):
                endpoint.begin(self.now)
                self.balancer.done(endpoint, verdict, 0.01, self.now, endpoint.picks)

    @precondition(lambda self: not self.lost)
    @rule()
    def second_read(self) -> None:
        """The registry says the same again."""
        self.read(self.offered, regressed=False)

    # -- what is always true

    @invariant()
    def the_callers_see_what_the_store_knows(self) -> None:
        assert set(self.endpoints()) == self.known
        assert not any(self.connections[each].closed for each in self.known)
        assert all(one.closed for each, one in self.connections.items() if each not in self.known)

    @invariant()
    def fresh_is_what_the_registry_said(self) -> None:
        if self.store.state == "fresh":
            assert self.known == self.offered
        assert self.store.held == len(self.known - self.offered)

    @invariant()
    def a_hold_is_told_once(self) -> None:
        told = sum(isinstance(event, Held) for event in self.events)
        assert told <= self.held_told + 1, "never more than once per hold"
        if not self.store.held:
            self.held_told = told

    @invariant()
    def an_outage_is_told_once(self) -> None:
        told = [type(event).__name__ for event in self.events if type(event).__name__ in ("Lost", "Back")]
        assert told == ["Lost", "Back"] * (len(told) // 2) + ["Lost"] * (len(told) % 2)
        assert self.lost == bool(len(told) % 2)
        assert all(event.serving <= len(IDS) for event in self.events if isinstance(event, Lost))

    def teardown(self) -> None:
        """In the end a registry that is quiet is believed, once nobody answers who is not there."""
        if not self.store.first:
            return
        self.read(self.offered, regressed=False)
        self.now += HOLD + 1  # no answer is recent any more
        self.wait(round(HOLD))
        assert (self.known, self.store.state) == (self.offered, "fresh")


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
