"""The endpoint store: what every change in a registry's answer means to those who call."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from mizzen.rules.discovery import HOLD, Back, Changed, EndpointStore, Held, Instance, Lost, StoreEvent, instance_id, is_host


class Known:
    """A store with a clock of its own, and all that it said."""

    def __init__(self, *names: str) -> None:
        self.now = 100.0
        self.sets: list[str] = []
        self.events: list[StoreEvent] = []
        self.store = EndpointStore("user", clock=lambda: self.now, on_change=self.changed, on_event=self.events.append)
        if names:
            self.read(*names)
        self.sets.clear()
        self.events.clear()

    def changed(self, instances: tuple[Instance, ...]) -> None:
        self.sets.append("".join(instance.id for instance in instances))

    def read(self, *names: str, regressed: bool = False) -> bool:
        return self.store.snapshot([instance(name) for name in "".join(names)], regressed=regressed)

    def wait(self, seconds: float) -> float | None:
        self.now += seconds
        return self.store.tick(self.now)

    @property
    def names(self) -> str:
        return "".join(instance.id for instance in self.store.instances)


def instance(name: str, boot: str = "1", host: str = "10.0.0.1") -> Instance:
    return Instance(name, "user", host, 8101, meta={"boot": boot})


LOST = ConnectionError("refused")


# -- the first read


def test_a_store_that_was_never_fed_knows_nothing_and_says_so() -> None:
    """Before the first snapshot the state is never, there is no age and no instance."""
    known = Known()
    assert (known.store.state, known.store.age(known.now), known.names, known.store.first) == ("never", None, "", False)


def test_the_first_snapshot_applies_whole() -> None:
    """There is nothing to protect yet."""
    known = Known()
    assert known.read("abc") is False
    assert (known.sets, known.store.state, known.store.first) == (["abc"], "fresh", True)
    assert known.events == [Changed("user", ("a", "b", "c"), (), 3)]


def test_a_first_snapshot_without_instances_is_an_answer() -> None:
    """An empty first answer is told to the callers too, once, so that nobody waits for more."""
    known = Known()
    assert known.read("") is False
    known.read("")
    assert (known.sets, known.store.state, known.events) == ([""], "fresh", [])


def test_an_error_is_no_first_answer() -> None:
    """Who waits for the first snapshot goes on waiting over errors, and is called once it comes."""
    known = Known()
    called: list[str] = []
    known.store.on_first(lambda: called.append("early"))
    known.store.error(LOST)
    assert (called, known.store.first, known.store.state) == ([], False, "never")
    known.read("a")
    known.read("ab")
    known.store.on_first(lambda: called.append("late"))
    assert called == ["early", "late"]


# -- additions and changes


def test_additions_apply_at_once() -> None:
    """A new instance is seen with the read that has it."""
    known = Known("a")
    assert known.read("abc") is False
    assert known.sets == ["abc"]
    assert known.events == [Changed("user", ("b", "c"), (), 3)]


def test_an_instance_that_stays_and_says_something_else_is_replaced_at_once() -> None:
    """A new boot id or address under the same id reaches the callers, and is neither an addition nor a removal."""
    known = Known("ab")
    known.store.snapshot([instance("a", boot="2"), instance("b")])
    assert [each.boot for each in known.store.instances] == ["2", "1"]
    assert (known.sets, known.events) == (["ab"], [])


def test_a_read_without_news_changes_nothing() -> None:
    """The same set again is no change, in whatever order it comes."""
    known = Known("abc")
    known.read("cab")
    assert (known.sets, known.events) == ([], [])


def test_additions_apply_even_while_removals_are_held() -> None:
    """A set that is replaced whole grows first; the old half goes when a second read confirms it."""
    known = Known("ab")
    assert known.read("cd") is True
    assert known.names == "abcd"
    assert known.read("cd") is False
    assert known.names == "cd"


# -- removals


@pytest.mark.parametrize(("before", "after"), [("ab", "a"), ("abc", "ab"), ("abcd", "ab"), ("abcde", "abc")])
def test_removals_of_up_to_half_apply_at_once(before: str, after: str) -> None:
    """Half of a set may go in one step, as a rolling restart takes it."""
    known = Known(before)
    assert known.read(after) is False
    assert (known.names, known.store.state) == (after, "fresh")
    assert known.events == [Changed("user", (), tuple(before[len(after) :]), len(after))]


@pytest.mark.parametrize(("before", "after"), [("a", ""), ("ab", ""), ("abc", "a"), ("abcde", "ab"), ("abcd", "")])
def test_a_larger_removal_is_held_and_asks_for_a_second_read(before: str, after: str) -> None:
    """More than half, or all, is suspect: nothing goes, and the resolver is asked to read again."""
    known = Known(before)
    assert known.read(after) is True
    assert (known.names, known.store.state, known.sets) == (before, "held", [])


def test_a_second_read_confirms_a_large_removal() -> None:
    """What two reads in a row miss is gone."""
    known = Known("abc")
    known.read("a")
    assert known.read("a") is False
    assert (known.names, known.store.state) == ("a", "fresh")
    assert known.events == [Changed("user", (), ("b", "c"), 1)]


def test_a_second_read_confirms_that_a_service_is_gone() -> None:
    """An empty set that is read twice is empty."""
    known = Known("a")
    known.read("")
    known.read("")
    assert (known.names, known.sets) == ("", [""])


def test_a_second_read_that_has_them_again_takes_the_suspicion_back() -> None:
    """An empty answer in between costs nothing, not even an event."""
    known = Known("abc")
    known.read("")
    assert known.read("abc") is False
    assert (known.store.state, known.sets, known.events) == ("fresh", [], [])


def test_a_second_read_confirms_only_what_the_first_one_missed() -> None:
    """What goes with the second read is judged by itself: here it is all that is left, and held."""
    known = Known("abcd")
    known.read("d")
    assert known.read("") is True
    assert (known.names, known.store.state) == ("d", "held")


def test_a_second_read_confirms_some_and_gives_others_back() -> None:
    """Of the instances on hold those that are back stay, the others go."""
    known = Known("abcd")
    known.read("a")
    known.read("ab")
    assert (known.names, known.store.state) == ("ab", "fresh")


def test_a_hold_ends_after_30_seconds() -> None:
    """Without a second read the removal is believed when its time is over."""
    known = Known("abc")
    known.read("")
    assert known.wait(HOLD - 1) == pytest.approx(1)
    assert known.names == "abc"
    assert known.wait(1) is None
    assert (known.names, known.store.state, HOLD) == ("", "fresh", 30.0)


def test_a_read_after_the_hold_lets_go_as_well() -> None:
    """Whoever looks first, a timer or a read, the time is over."""
    known = Known("abc")
    known.store.error(LOST)
    known.read("")
    known.now += HOLD
    known.read("")
    assert (known.names, known.store.state) == ("", "fresh")


def test_nothing_to_look_at_without_a_hold() -> None:
    """A store that holds nothing asks for no timer."""
    assert Known("abc").wait(5) is None


def test_a_hold_is_told_once_and_only_when_it_lasts() -> None:
    """A removal that its second read settles is no warning; one that is still held at the next look is, once."""
    known = Known("abc")
    known.read("c")
    assert known.events == []
    known.wait(1)
    known.wait(1)
    assert known.events == [Held("user", 3, 1, HOLD - 1)]


class Counted(str):
    """An id that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)  # type: ignore[arg-type]

    __hash__ = str.__hash__


def test_a_large_service_is_replaced_at_a_cost_in_proportion() -> None:
    """Each of a thousand instances is looked up a few times, not compared with every other: nothing else runs meanwhile."""

    def thousand(prefix: str) -> list[Instance]:
        return [instance(Counted(f"{prefix}{number}")) for number in range(1000)]

    known = Known()
    known.store.snapshot(thousand("a"))
    Counted.compared = 0
    known.store.snapshot(thousand("b"))
    known.store.snapshot(thousand("b"))
    assert len(known.store.instances) == 1000
    known.store.error(LOST)
    known.store.snapshot(())
    known.wait(HOLD)
    assert known.names == ""
    assert Counted.compared < 50_000


# -- errors


def test_errors_hold_the_last_set_for_ever() -> None:
    """A registry that cannot be read takes nothing away, whatever the time."""
    known = Known("abc")
    known.store.error(LOST)
    for _ in range(10):
        assert known.wait(10_000) is None
        known.store.error(LOST)
    assert (known.names, known.store.state, known.sets) == ("abc", "stale", [])
    assert known.store.age(known.now) == 100_000


def test_an_outage_is_told_once_at_each_end() -> None:
    """Lost with the first error and what is served, back with the first read and how long it was."""
    known = Known("abc")
    known.store.error(LOST)
    known.wait(40)
    known.store.error(LOST)
    known.wait(2)
    known.read("abc")
    assert known.events == [Lost("user", 3, LOST), Back("user", 42)]
    assert (known.store.state, known.store.last_error) == ("fresh", None)


def test_after_an_error_a_large_removal_is_held_whatever_a_second_read_says() -> None:
    """A registry that lost its state is honestly empty, and wrong: it gets all of the 30 seconds."""
    known = Known("abc")
    known.store.error(LOST)
    for _ in range(5):
        assert known.read("") is False
        known.wait(5)
    assert (known.names, known.store.state) == ("abc", "held")
    assert known.wait(5) is None
    assert known.names == ""


def test_instances_that_register_again_within_the_hold_never_went() -> None:
    """A registry that restarted empty fills up one by one, and no caller sees any of it."""
    known = Known("abcd")
    known.store.error(LOST)
    for names in ("", "a", "ab", "abc", "abcd"):
        known.read(names)
        known.wait(5)
    assert (known.sets, known.store.state) == ([], "fresh")


def test_instances_on_hold_stay_until_their_time_even_when_they_are_the_smaller_part() -> None:
    """Half of a set that is on hold does not go at once because the other half came back."""
    known = Known("abcd")
    known.store.error(LOST)
    known.read("")
    known.wait(10)
    known.read("abc")
    assert known.names == "abcd"
    known.wait(HOLD - 10)
    assert known.names == "abc"


def test_a_small_removal_after_an_error_applies_at_once() -> None:
    """Doubt is about sets that nearly vanish; a restart somewhere in between is ordinary."""
    known = Known("abcd")
    known.store.error(LOST)
    known.read("abc")
    assert known.names == "abc"


def test_doubt_ends_a_hold_after_the_registry_is_back() -> None:
    """An outage long ago does not slow a service down that is stopped on purpose."""
    known = Known("ab")
    known.store.error(LOST)
    known.read("ab")
    known.wait(HOLD)
    assert known.read("") is True
    known.read("")
    assert known.names == ""


def test_a_registry_that_hung_is_in_doubt_although_it_has_the_whole_set_at_first() -> None:
    """It then strikes off everybody who could not beat meanwhile, one by one or all at once: that is held as well."""
    known = Known("ab")
    known.store.error(LOST)
    known.read("ab")
    known.wait(1)
    assert known.read("") is False
    assert (known.names, known.store.state) == ("ab", "held")
    known.read("ab")
    assert (known.names, known.store.state) == ("ab", "fresh")


def test_doubt_ends_with_its_hold() -> None:
    """What was waited out is over: the next large removal is settled by a second read again."""
    known = Known("ab")
    known.store.error(LOST)
    known.read("")
    known.wait(HOLD)
    known.read("cd")
    assert known.read("") is True


def test_time_on_hold_does_not_run_while_the_registry_is_lost() -> None:
    """What it said before it was lost is no evidence after it: the 30 seconds begin with the next read."""
    known = Known("abc")
    known.read("")
    known.wait(20)
    known.store.error(LOST)
    assert known.wait(100) is None
    assert known.names == "abc"
    known.read("")
    assert known.wait(HOLD - 1) == pytest.approx(1)
    assert known.names == "abc"
    known.wait(1)
    assert known.names == ""


def test_an_error_between_two_reads_makes_the_second_no_confirmation() -> None:
    """Suspect, lost, empty again: that is a registry which restarted, not a service which stopped."""
    known = Known("abc")
    assert known.read("") is True
    known.store.error(LOST)
    assert known.read("") is False
    assert (known.names, known.store.state) == ("abc", "held")


def test_a_hold_in_doubt_is_told_at_once() -> None:
    """No second read can settle it, so the warning does not wait; it says how long."""
    known = Known("abc")
    known.store.error(LOST)
    known.read("a")
    known.read("a")
    assert [event for event in known.events if isinstance(event, Held)] == [Held("user", 3, 1, HOLD)]


# -- an index that went back


def test_after_a_regress_a_large_removal_is_held_whatever_a_second_read_says() -> None:
    """A registry whose index went back may have lost its memory."""
    known = Known("abc")
    assert known.read("", regressed=True) is False
    assert known.read("") is False
    assert known.read("") is False
    assert known.names == "abc"
    known.wait(HOLD)
    assert known.names == ""


def test_a_second_read_that_regressed_confirms_nothing() -> None:
    """The suspicion of the first read becomes doubt, and its time begins anew."""
    known = Known("abc")
    assert known.read("") is True
    known.wait(20)
    assert known.read("", regressed=True) is False
    known.wait(HOLD - 1)
    assert known.names == "abc"
    known.wait(1)
    assert known.names == ""


def test_a_regress_that_misses_nothing_leaves_no_doubt() -> None:
    """An index that differs between two servers is no event."""
    known = Known("abc")
    known.read("abc", regressed=True)
    assert (known.store.state, known.events) == ("fresh", [])
    assert known.read("") is True


# -- what it shows


def test_age_counts_from_the_last_read() -> None:
    """Age is how old the last word of the registry is, unchanged sets included."""
    known = Known("abc")
    known.wait(7)
    assert known.store.age(known.now) == 7
    known.read("abc")
    assert known.store.age(known.now) == 0


@pytest.mark.parametrize(
    ("do", "line"),
    [
        (lambda known: None, "<EndpointStore user fresh: 3 instances>"),
        (lambda known: known.store.error(LOST), "<EndpointStore user stale: 3 instances>"),
        (lambda known: known.read("a"), "<EndpointStore user held: 3 instances, 2 held>"),
    ],
)
def test_a_store_prints_as_a_status_line(do: Callable[[Known], object], line: str) -> None:
    """The repr says state, number and what is held."""
    known = Known("abc")
    do(known)
    assert repr(known.store) == line


def test_a_store_describes_itself() -> None:
    """Everything a dashboard shows, ready for JSON."""
    known = Known("abc")
    known.read("c")
    known.store.error(LOST)
    said = msgspec.to_builtins(known.store.describe())
    assert said["error"] == "refused"
    assert [(each["id"], each["held"]) for each in said["instances"]] == [("a", True), ("b", True), ("c", False)]


# -- an instance


def test_an_id_is_the_service_its_address_and_its_port() -> None:
    """Unique because the address is, and the same after a restart."""
    assert instance_id("user", "10.0.3.7", 8101) == "user-10.0.3.7-8101"
    assert instance_id("user", "[::1]", 8101) == "user-::1-8101"


@pytest.mark.parametrize("text", ["10.0.0.7", "fd00::7", "fe80::1%eth0", "user_1.example.internal", "user", "units"])
def test_a_name_or_an_address_is_a_host(text: str) -> None:
    """As DNS and IP have them, with the underscores of container names and the zones of IPv6."""
    assert is_host(text)


@pytest.mark.parametrize(
    "text", ["", "/run/docker.sock", "unix:/run/x.sock", "unix:x.sock", "a b", "a\r\nb: c", "\u00fc.example"]
)
def test_what_no_registry_gives_is_no_host(text: str) -> None:
    """Neither the path of a socket of this machine nor anything that would need quoting somewhere."""
    assert not is_host(text)


def test_an_origin_brackets_an_ipv6_address() -> None:
    """The origin of an instance can stand in a URL."""
    assert instance("a").origin == "http://10.0.0.1:8101"
    assert instance("a", host="fd00::7").origin == "http://[fd00::7]:8101"
