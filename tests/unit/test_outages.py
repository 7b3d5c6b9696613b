"""Outages: what many notice of one registry is told once, when it is lost and when it is back."""

from __future__ import annotations

from collections.abc import Callable

from mizzen.assembly.outages import WAVE, Outages, User
from mizzen.rules.events import Event, Registered, RegistryBack, RegistryLost, RegistryRefused

CONSUL, OTHER = "consul://10.0.3.2:8500", "consul://old-dc:8500"
OWN = "order-10.0.3.8-8102"


class Process:
    """One process with peers on a registry, and the lines that it wrote."""

    def __init__(self, *peers: str, announced: bool = False) -> None:
        self.now = 100.0
        self.events: list[Event] = []
        self.failed = dict.fromkeys(peers, 0)
        self.doubts: list[tuple[str, float]] = []
        self.outages = Outages(self.events.append)
        self.peers: dict[str, User] = {peer: self.user(peer, CONSUL) for peer in peers}
        self.tell: Callable[[Event], None]
        self.heard: Callable[[], None]
        if announced:
            self.tell, self.heard = self.outages.announcer(CONSUL, clock=lambda: self.now)

    def user(self, peer: str, registry: str) -> User:
        return self.outages.user(
            registry,
            peer,
            clock=lambda: self.now,
            serving=lambda: len(peer),
            failed=lambda: self.failed[peer],
            doubt=lambda seconds: self.doubts.append((peer, seconds)),
        )

    def lost(self, *peers: str, alone: bool = False) -> None:
        for peer in peers:
            self.peers[peer].lost("ConnectFailed: refused", alone=alone)

    def back(self, *peers: str) -> None:
        for peer in peers:
            self.peers[peer].back()

    def beat_fails(self) -> None:
        self.tell(RegistryLost(CONSUL, 0.0, {}, "CallTimeout: no answer"))

    def registered_again(self, took: float = 1.1, lost: float = 0.0) -> None:
        self.tell(RegistryBack(CONSUL, lost, OWN, took, 0))

    @property
    def lines(self) -> list[str]:
        return [event.text() for event in self.events]


def test_an_outage_is_one_line_at_each_end_however_many_notice_it() -> None:
    """The lines of the design: what is served when it is lost; what was done and what it cost when it is back."""
    process = Process("user", "stock", announced=True)
    process.lost("user", "stock")
    process.now += 3
    process.beat_fails()
    assert process.lines == [
        f"{CONSUL} lost (ConnectFailed: refused): serving the last snapshot (user 4, stock 5); nothing dropped"
    ]
    process.failed["stock"] += 2
    process.now += 299
    process.back("stock")
    process.registered_again()
    assert len(process.events) == 1
    process.back("user")
    assert process.lines[1:] == [f"{CONSUL} back after 5m02s: re-registered {OWN} in 1.1s; 2 calls failed"]


def test_without_an_announcer_the_last_peer_tells_that_it_is_back() -> None:
    """A service that announces itself elsewhere has no heartbeat to wait for."""
    process = Process("user", "stock")
    process.lost("user", "stock")
    process.now += 40
    process.back("user")
    assert len(process.events) == 1
    process.back("stock")
    assert process.lines[1:] == [f"{CONSUL} back after 40s: nothing was forgotten; 0 calls failed"]


def test_an_outage_between_two_beats_waits_for_what_the_next_one_finds() -> None:
    """Only the heartbeat knows whether the registry forgot us: the line does not say that it did not before that is known."""
    process = Process("user", announced=True)
    process.lost("user")
    process.now += 2
    process.back("user")
    assert len(process.events) == 1
    process.now += 3
    process.registered_again(took=0.1)
    assert process.lines[1:] == [f"{CONSUL} back after 2s: re-registered {OWN} in 100ms; 0 calls failed"]


def test_a_beat_that_is_answered_says_that_nothing_was_forgotten() -> None:
    """Before the peers are through the outage as well as after it; and it is no line by itself."""
    process = Process("user", announced=True)
    process.heard()
    process.lost("user")
    process.heard()
    process.now += 1
    process.back("user")
    process.heard()
    assert process.lines[1:] == [f"{CONSUL} back after 1s: nothing was forgotten; 0 calls failed"]


def test_what_the_announcer_alone_noticed_it_tells_alone() -> None:
    """A registry that forgot us in between, or that refused us, is back in the announcer's own words."""
    process = Process("user", announced=True)
    process.registered_again()
    process.tell(RegistryRefused(CONSUL, OWN, "403"))
    process.registered_again(lost=60.0)
    process.tell(Registered(CONSUL, OWN, "passing"))
    assert process.lines == [
        f"{CONSUL} had forgotten us: re-registered {OWN} in 1.1s; 0 calls failed",
        RegistryRefused(CONSUL, OWN, "403").text(),
        f"{CONSUL} back after 1m: re-registered {OWN} in 1.1s; 0 calls failed",
        f"registered {OWN} with {CONSUL} as passing",
    ]


def test_each_registry_has_outages_of_its_own() -> None:
    """A line names the peers that are found there, and no others."""
    process = Process("user")
    process.failed["billing"] = 0
    billing = process.user("billing", OTHER)
    process.lost("user")
    billing.lost("CallTimeout: no answer")
    assert [(event.registry, event.serving) for event in process.events if isinstance(event, RegistryLost)] == [
        (CONSUL, {"user": 4}), (OTHER, {"billing": 7}),
    ]  # fmt: skip
    billing.back()
    assert [event.registry for event in process.events if isinstance(event, RegistryBack)] == [OTHER]


def test_a_peer_that_the_registry_does_not_know_is_no_outage_of_the_registry() -> None:
    """Its line names that peer alone, and an outage of all is told beside it and ends without it."""
    process = Process("user", "stock")
    process.lost("stock", alone=True)
    process.lost("user")
    assert [event.serving for event in process.events if isinstance(event, RegistryLost)] == [
        {"stock": 5}, {"user": 4, "stock": 5},
    ]  # fmt: skip
    process.back("user")
    assert len(process.events) == 3
    process.back("stock")
    assert len(process.events) == 4


def test_who_loses_it_much_later_is_in_another_outage() -> None:
    """One peer that stays lost does not keep what happens afterwards from being told."""
    process = Process("user", "stock")
    process.lost("user")
    process.now += WAVE
    process.lost("stock")
    process.back("stock")
    assert [type(event) for event in process.events] == [RegistryLost, RegistryLost, RegistryBack]


def test_an_outage_does_not_wait_for_a_heartbeat_beyond_the_next_one() -> None:
    """A registry that refuses the heartbeat for hours and flaps meanwhile: each outage ends before the next begins."""
    process = Process("user", announced=True)
    process.tell(RegistryRefused(CONSUL, OWN, "403"))
    for _ in range(3):
        process.lost("user")
        process.now += 5
        process.back("user")
        process.now += WAVE
    assert [type(event) for event in process.events[1:]] == [
        RegistryLost,
        RegistryBack,
        RegistryLost,
        RegistryBack,
        RegistryLost,
    ]
    process.registered_again(lost=3600.0)
    assert process.lines[-1] == f"{CONSUL} back after 5s: re-registered {OWN} in 1.1s; 0 calls failed"
    assert repr(process.outages) == "<Outages none>"


def test_a_heartbeat_that_is_still_lost_when_others_lose_it_anew_ends_both() -> None:
    """Nothing stays open once everybody is through: one line at each end of each outage."""
    process = Process("user", announced=True)
    process.beat_fails()
    process.now += WAVE
    process.lost("user")
    process.back("user")
    process.registered_again()
    assert [type(event) for event in process.events] == [RegistryLost, RegistryLost, RegistryBack, RegistryBack]
    assert repr(process.outages) == "<Outages none>"


def test_a_registry_that_flaps_is_told_by_pairs() -> None:
    """Each outage begins and ends; nothing is left of it."""
    process = Process("user", "stock")
    for _ in range(3):
        process.lost("user", "stock")
        process.now += 5
        process.back("stock", "user")
        process.now += 5
    assert [type(event) for event in process.events] == [RegistryLost, RegistryBack] * 3
    assert repr(process.outages) == "<Outages none>"


# -- doubt


def test_a_heartbeat_that_fails_casts_doubt_on_the_registry_for_every_peer_there() -> None:
    """It finds out first; from the next beat that is answered they doubt for a hold alone."""
    process = Process("user", "stock", announced=True)
    process.failed["billing"] = 0
    process.user("billing", OTHER)
    process.beat_fails()
    assert process.doubts == [("user", WAVE), ("stock", WAVE)]
    process.doubts.clear()
    process.now += 12
    process.registered_again(lost=12.0)
    assert process.doubts == [("user", 0.0), ("stock", 0.0)]
    process.heard()
    assert len(process.doubts) == 2


def test_peers_doubt_until_nobody_misses_the_registry() -> None:
    """Who has it back first is not the last word."""
    process = Process("user", "stock", announced=True)
    process.lost("user")
    process.beat_fails()
    process.doubts.clear()
    process.registered_again()
    assert process.doubts == []
    process.back("user")
    assert process.doubts == [("user", 0.0), ("stock", 0.0)]


def test_a_peer_that_the_registry_does_not_know_casts_no_doubt_on_others() -> None:
    """Neither when it is lost nor when it is back, and it does not keep theirs from ending."""
    process = Process("user", "stock")
    process.lost("stock", alone=True)
    assert process.doubts == []
    process.lost("user")
    process.doubts.clear()
    process.back("user")
    assert process.doubts == [("user", 0.0), ("stock", 0.0)]
    process.back("stock")
    assert len(process.doubts) == 2


def test_a_heartbeat_that_is_refused_casts_no_doubt() -> None:
    """A registry that answers does not hang: what it says of others is as good as before."""
    process = Process("user", announced=True)
    process.tell(RegistryRefused(CONSUL, OWN, "403"))
    process.registered_again(lost=60.0)
    assert process.doubts == []
