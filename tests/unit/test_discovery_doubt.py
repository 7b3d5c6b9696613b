"""The store in doubt: who is absent and answers stays, who is absent and silent goes; and what is known from disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mizzen.rules.discovery import HOLD, LONGEST, Back, Changed, EndpointStore, Held, Instance, Lost, Recalled, StoreEvent
from mizzen.words.errors import ConnectFailed

LOST = ConnectFailed("refused", peer="consul")


def instance(name: str) -> Instance:
    return Instance(name, "user", "10.0.0.1", 8101, meta={"boot": "1"})


class Known:
    """A store that knows who answers."""

    def __init__(self, names: str = "", answering: str = "") -> None:
        self.now = 100.0
        self.answering = set(answering)
        self.events: list[StoreEvent] = []
        self.sets: list[str] = []
        self.store = EndpointStore(
            "user",
            clock=lambda: self.now,
            on_change=lambda known: self.sets.append("".join(each.id for each in known)),
            on_event=self.events.append,
            answers=lambda id: id in self.answering,  # noqa: A006
        )
        if names:
            self.read(names)
        self.events.clear()

    def read(self, names: str, *, regressed: bool = False) -> bool:
        return self.store.snapshot([instance(name) for name in names], regressed=regressed)

    def fail(self) -> None:
        self.store.error(LOST)

    def wait(self, seconds: float) -> None:
        """Let time pass as the store's owner does: a look at least every second."""
        for _ in range(round(seconds)):
            self.now += 1
            self.store.tick(self.now)

    def recall(self, names: str, age: float = 60.0) -> bool:
        return self.store.recall([instance(name) for name in names], age)

    @property
    def names(self) -> str:
        return "".join(each.id for each in self.store.instances)


def lost(known: Known) -> None:
    known.fail()
    known.read("")


def regressed(known: Known) -> None:
    known.read("", regressed=True)


def suspect(known: Known) -> None:
    known.read("")  # and no second read in time


IN_DOUBT = [lost, regressed, suspect]


# -- the four cases of absent or not, answering or not


@pytest.mark.parametrize("doubt", IN_DOUBT)
def test_absent_and_answering_stays_when_its_time_is_over(doubt: Callable[[Known], None]) -> None:
    """What a registry forgot goes on getting traffic: for as long as nothing else is known it may be the registry's fault."""
    known = Known("abc", answering="ab")
    doubt(known)
    known.wait(HOLD - 1)
    assert known.names == "abc"
    known.wait(1)
    assert (known.names, known.store.state, known.store.held) == ("ab", "held", 2)


@pytest.mark.parametrize("doubt", IN_DOUBT)
def test_absent_and_silent_goes_when_its_time_is_over(doubt: Callable[[Known], None]) -> None:
    """One that fails, or that nobody calls, is believed to be gone."""
    known = Known("abc")
    doubt(known)
    known.wait(HOLD)
    assert (known.names, known.store.state) == ("", "fresh")


def test_present_and_silent_stays() -> None:
    """Whether one that the registry has can be called is not discovery's to judge."""
    known = Known("abc")
    lost(known)
    known.read("abc")
    known.wait(2 * HOLD)
    assert known.names == "abc"


def test_one_that_stops_answering_goes_at_the_next_look() -> None:
    """It was kept for its answers alone."""
    known = Known("abc", answering="ab")
    lost(known)
    known.wait(HOLD)
    known.answering.discard("b")
    known.wait(1)
    assert known.names == "a"


def test_one_whose_time_is_not_over_may_be_silent_for_a_while() -> None:
    """A pause between two calls is no reason to give anybody up early."""
    known = Known("abc", answering="abc")
    lost(known)
    known.answering.clear()
    known.wait(HOLD - 1)
    known.answering.update("abc")
    known.wait(1)
    assert known.names == "abc"


# -- no doubt, no difference


def test_an_ordinary_removal_applies_at_once_to_one_that_answers() -> None:
    """One withdrawn of three gets nothing more, however well it works."""
    known = Known("abc", answering="abc")
    assert known.read("ab") is False
    assert (known.names, known.store.state) == ("ab", "fresh")


def test_a_second_read_confirms_a_large_removal_of_those_that_answer() -> None:
    """Two reads with nothing in between are the registry's word, not its failure."""
    known = Known("abc", answering="abc")
    assert known.read("") is True
    known.read("")
    assert known.names == ""


def test_a_late_second_read_confirms_the_removal_of_those_that_were_kept() -> None:
    """A hold that ran out unconfirmed is doubt only until the registry says it again."""
    known = Known("abc", answering="abc")
    known.read("")
    known.wait(HOLD + 5)
    assert known.names == "abc"
    known.read("")
    assert (known.names, known.store.state) == ("", "fresh")


def test_errors_keep_the_silent_as_well() -> None:
    """While the registry cannot be read nobody goes, neither by time nor by silence."""
    known = Known("abc", answering="a")
    lost(known)
    known.wait(HOLD)
    known.fail()
    known.answering.clear()
    known.wait(2 * HOLD)
    assert (known.names, known.store.state) == ("a", "stale")
    known.read("")
    known.wait(HOLD - 1)
    assert known.names == "a"
    known.wait(1)
    assert known.names == ""


# -- what others of the process noticed


def test_a_registry_that_others_lost_is_in_doubt_although_it_was_never_silent_here() -> None:
    """It hung for less than the watch's limit, and then strikes off one after the other: who answers misses nothing."""
    known = Known("abcd", answering="abcd")
    known.store.doubt(90)
    for names in ("abc", "bc", "c", ""):
        assert known.read(names) is False
        known.wait(1)
        assert (known.names, known.store.state) == ("abcd", "held")
    known.read("abcd")
    assert (known.names, known.store.state) == ("abcd", "fresh")
    assert [type(event) for event in known.events] == [Held]


def test_without_doubt_a_registry_that_strikes_off_one_after_the_other_is_believed() -> None:
    """A rolling stop looks the same: each of its steps applies at once, whatever went a moment before."""
    known = Known("abcd", answering="abcd")
    known.read("abc")
    known.wait(3)
    known.read("ab")
    assert (known.names, known.store.state) == ("ab", "fresh")


def test_doubt_takes_nothing_from_what_is_shown_unless_somebody_is_held() -> None:
    """The registry can be read and has everybody: that others miss it is told elsewhere."""
    known = Known("abc", answering="abc")
    before = known.store.report()
    known.store.doubt(90)
    known.read("abc")
    assert (known.store.report(), known.events, known.store.holds) == (before, [], 0)


@pytest.mark.parametrize(("lasting", "over"), [(0.0, HOLD), (90.0, 90 + HOLD)])
def test_the_doubt_of_others_ends_a_hold_after_they_have_the_registry_back(lasting: float, over: float) -> None:
    """While they miss it for the time they say; a read in between ends it no sooner, and then a removal applies at once."""
    known = Known("abc", answering="abc")
    known.store.doubt(lasting)
    known.wait(over - 1)
    known.read("abc")
    known.read("ab")
    assert known.names == "abc"
    known.read("abc")
    known.wait(1)
    known.read("ab")
    assert (known.names, known.store.state) == ("ab", "fresh")


def test_others_that_have_it_back_end_a_doubt_that_would_last_longer() -> None:
    """The latest word counts: a hold from then."""
    known = Known("abc", answering="abc")
    known.store.doubt(90)
    known.wait(5)
    known.store.doubt()
    known.wait(HOLD)
    known.read("ab")
    assert known.names == "ab"


def test_a_store_that_has_it_back_doubts_for_as_long_as_others_miss_it() -> None:
    """Its own outage ends with a hold; theirs, which goes on, with theirs."""
    known = Known("abc", answering="abc")
    known.fail()
    known.store.doubt(90)
    known.read("abc")
    known.wait(HOLD + 1)
    known.read("ab")
    assert (known.names, known.store.state) == ("abc", "held")


def test_a_second_read_confirms_nothing_that_came_into_doubt_in_between() -> None:
    """A large removal that was just put on hold stays there for all of its time."""
    known = Known("abc")
    assert known.read("") is True
    known.store.doubt(90)
    known.read("")
    assert known.names == "abc"
    known.wait(HOLD)
    assert known.names == ""


# -- a registry that came back without its memory


def test_a_registry_that_stays_empty_keeps_those_that_answer_without_limit() -> None:
    """Instances that never register again are called for as long as they answer: the other choice is no call at all."""
    known = Known("abc", answering="abc")
    lost(known)
    for _ in range(20):
        known.wait(LONGEST / 10)
        known.read("")
    assert (known.names, known.store.state) == ("abc", "held")
    known.answering.clear()
    known.wait(1)
    assert (known.names, known.store.state) == ("", "fresh")


def test_a_registry_that_knows_others_again_is_believed_after_ten_minutes() -> None:
    """Who answers but is not back beside those that are was taken out on purpose, such as the old half of a switch."""
    known = Known("abc", answering="abc")
    known.fail()
    known.read("xyz")
    known.wait(LONGEST - 1)
    assert (known.names, LONGEST) == ("abcxyz", 600.0)
    known.wait(1)
    assert (known.names, known.store.state) == ("xyz", "fresh")


def test_a_part_that_came_back_is_not_left_alone_with_the_load() -> None:
    """One of ten has registered again: the nine that answer keep their share, those that do not lose it after 30 s."""
    known = Known("abcdefghij", answering="bcdefgh")
    known.fail()
    known.read("a")
    known.wait(HOLD)
    assert known.names == "abcdefgh"
    known.read("abc")
    known.wait(HOLD)
    assert (known.names, known.store.held) == ("abcdefgh", 5)
    known.read("abcdefgh")
    assert (known.store.state, known.store.held) == ("fresh", 0)


def test_in_doubt_not_even_the_smaller_half_of_those_that_answer_goes() -> None:
    """A registry that fills up again may be read when most are back: the last ones are not dropped for a second."""
    known = Known("abcd", answering="abc")
    known.fail()
    assert known.read("ab") is False
    assert (known.names, known.store.state) == ("abc", "held")
    known.read("abc")
    assert (known.names, known.store.state) == ("abc", "fresh")


def test_one_of_the_smaller_half_that_fails_meanwhile_goes_at_the_next_look() -> None:
    """An instance that really stopped during the outage gets no calls for longer than it takes to notice."""
    known = Known("abcd", answering="abcd")
    known.fail()
    known.read("abc")
    assert known.names == "abcd"
    known.answering.discard("d")
    known.wait(1)
    assert (known.names, known.store.state) == ("abc", "fresh")


def test_doubt_lasts_as_long_as_somebody_is_kept() -> None:
    """Until the registry and the facts agree, another large removal has no second opinion either."""
    known = Known("abc", answering="abc")
    lost(known)
    known.wait(HOLD)
    known.read("xyz")
    assert known.read("") is False
    assert known.names == "abcxyz"


def test_a_doubt_whose_time_is_over_says_nothing_about_the_next_read() -> None:
    """Between the end of a doubt and a removal no look needs to fall: an undoubted second read confirms it."""
    known = Known("abc", answering="abc")
    known.fail()
    known.read("abc")
    known.now += HOLD
    assert known.read("") is True
    assert known.read("") is False
    assert known.names == ""


def test_one_that_is_back_just_when_its_time_is_over_never_went() -> None:
    """The read that has it again and the end of its hold are one moment: it keeps its connections and its record."""
    known = Known("abc")
    lost(known)
    known.sets.clear()
    known.now += HOLD
    known.read("abc")
    assert (known.names, known.sets, known.store.state) == ("abc", [], "fresh")


def test_a_hold_in_doubt_is_told_once_whatever_it_turns_into() -> None:
    """One warning for the hold; what is let go is told as what it is, and keeping on for answers is not told again."""
    known = Known("abc", answering="ab")
    lost(known)
    known.wait(HOLD + 60)
    assert [type(event) for event in known.events] == [Lost, Back, Held, Changed]
    assert known.events[3] == Changed("user", (), ("c",), 2)


# -- from disk


def test_a_set_from_disk_stands_until_the_registry_is_read() -> None:
    """Callers have it at once; it is stale and as old as its file, whatever the time."""
    known = Known()
    called: list[str] = []
    known.store.on_first(lambda: called.append("first"))
    known.fail()
    assert known.recall("abc", age=3600.0) is True
    known.wait(1000)
    assert (known.names, called, known.store.state, known.store.first) == ("abc", ["first"], "stale", True)
    assert known.store.age(known.now) == 4600
    assert [event for event in known.events if not isinstance(event, Lost)] == [Recalled("user", 3, 3600.0)]


def test_a_set_from_disk_is_never_fresh() -> None:
    """Without any error it is stale as well: nobody has said it in this life."""
    known = Known()
    known.recall("a")
    assert known.store.state == "stale"


def test_disk_does_not_override_the_registry() -> None:
    """A read that came first wins, were it empty; and no set on disk is none."""
    known = Known()
    assert known.recall("") is False
    known.store.snapshot(())
    assert known.recall("abc") is False
    assert (known.names, known.store.state) == ("", "fresh")


def test_an_empty_first_read_does_not_take_away_what_is_from_disk() -> None:
    """Registry and service start together after a power cut: it has all of the 30 seconds to hear of its instances."""
    known = Known()
    known.recall("ab")
    assert known.read("") is False
    assert known.read("") is False
    assert (known.names, known.store.state) == ("ab", "held")
    known.wait(HOLD)
    assert known.names == ""


def test_a_first_read_that_knows_anybody_replaces_what_is_from_disk() -> None:
    """Nobody on disk was ever seen alive by this process: addresses of a week ago are not tried beside those of today."""
    known = Known()
    known.recall("abc")
    assert known.read("xy") is False
    assert (known.names, known.store.state) == ("xy", "fresh")


def test_one_from_disk_that_answered_is_kept_like_any_other_in_doubt() -> None:
    """It was seen alive by now, and the registry may still fill up."""
    known = Known()
    known.recall("abc")
    known.answering.add("b")
    known.read("x")
    assert (known.names, known.store.state) == ("bx", "held")


# -- what it shows


def test_the_report_is_for_everybody() -> None:
    """State, age and numbers; of an error that is not ours only the kind, for its text may hold anything."""
    known = Known("abc", answering="a")
    known.fail()
    known.now += 2.00049
    report = {"state": "stale", "age_s": 2.0, "instances": 3, "held": 0}
    assert known.store.report() == report | {"error": "refused"}
    known.store.error(OSError("https://user:password@consul/"))
    assert known.store.report() == report | {"error": "OSError"}


def test_reads_errors_and_holds_are_counted() -> None:
    """A hold counts once, however many reads find the same ones missing."""
    known = Known("abc")
    known.fail()
    known.fail()
    for names in ("", "", "a", "abc", ""):
        known.read(names)
    assert (known.store.reads, known.store.errors, known.store.holds) == (6, 2, 2)
    known.read("abcdef")
    known.fail()
    for names in ("ef", ""):
        known.read(names)
    assert (known.names, known.store.holds) == ("abcdef", 3)
