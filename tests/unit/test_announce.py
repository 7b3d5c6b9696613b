"""Announce: an instance stays registered for as long as it serves, and no longer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mizzen.assembly.announce import BEAT, JITTER, LASTS, LOOK_EVERY, RETRY_FIRST, RETRY_MOST, WITHDRAW_LIMIT, Announcer
from mizzen.rules.discovery import DuplicateId, Instance, Outdated
from mizzen.rules.events import Event, IdTaken, Registered, RegistryBack, RegistryLost, RegistryRefused, Withdrawn
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import ConnectFailed, PeerError

INSTANCE = Instance("order-10.0.0.1-8102", "order", "10.0.0.1", 8102, meta={"boot": "b1"})
LOST = ConnectFailed("refused", peer="consul")


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeRegistrar:
    """A registry that the test plays: it remembers every call with its time, and can fail, forget, hang or take its time."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str, str]] = []
        self.listed = False
        self.error: Exception | None = None
        self.takes = 0.0
        self.gate: asyncio.Event | None = None
        """While set and not open, whatever is asked hangs."""
        self.outdated = ""
        """Why the next beat is answered with a wish for another registration."""
        self.disagrees: str | None = None
        self.look_error: Exception | None = None

    async def _answer(self, what: str, verdict: str = "") -> None:
        self.calls.append((now(), what, verdict))
        if self.takes:
            await asyncio.sleep(self.takes)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def register(self, instance: Instance, verdict: str, note: str) -> None:
        await self._answer("register", verdict)
        self.listed, self.outdated = True, ""

    async def beat(self, instance: Instance, verdict: str, note: str) -> bool:
        await self._answer("beat", verdict)
        if self.outdated:
            raise Outdated(self.outdated, peer="consul")
        return self.listed

    async def withdraw(self, instance: Instance) -> None:
        await self._answer("withdraw")
        self.listed = False

    async def mismatch(self, instance: Instance) -> str | None:
        self.calls.append((now(), "look", ""))
        if self.look_error is not None:
            raise self.look_error
        return self.disagrees

    def times(self, what: str) -> list[float]:
        return [round(at, 6) for at, name, _ in self.calls if name == what]

    def names(self) -> list[str]:
        return [name for _, name, _ in self.calls]


class Site:
    """An announcer, its registry, and what it told."""

    def __init__(self, *, chance: float = 0.5) -> None:
        self.registrar = FakeRegistrar()
        self.events: list[Event] = []
        self.verdict = "passing"
        self.failed = 0
        self.announcer = Announcer(
            self.registrar,
            INSTANCE,
            registry="consul://10.0.0.9:8500",
            verdict=lambda: (self.verdict, "note"),
            failed_calls=lambda: self.failed,
            serving=lambda: {"user": 3},
            emit=self.events.append,
            clock=now,
            sleep=asyncio.sleep,
            random=lambda: chance,
        )

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def scene(play: Callable[[Site], Awaitable[None]], *, chance: float = 0.5) -> Site:
    """Play it in virtual time; nothing may be left of the announcer afterwards."""

    async def main() -> Site:
        site = Site(chance=chance)
        await play(site)
        if site.announcer._task is not None:
            site.registrar.error, site.registrar.gate = None, None
            await site.announcer.withdraw()
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []
        return site

    return run(main())


def test_it_registers_at_once_and_then_beats() -> None:
    """The first word is a registration with the verdict, after that a beat every 5 seconds."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(3 * BEAT + 1)
        assert site.announcer.registered

    site = scene(play)
    assert site.registrar.calls[0] == (0.0, "register", "passing")
    assert site.registrar.times("beat") == [5.0, 10.0, 15.0]
    assert site.told(Registered) == [Registered("consul://10.0.0.9:8500", INSTANCE.id, "passing")]


@pytest.mark.parametrize(("chance", "between"), [(0.0, BEAT * (1 - JITTER)), (0.999, BEAT * (1 + JITTER * 0.998))])
def test_beats_drift_apart(chance: float, between: float) -> None:
    """A beat comes up to a tenth sooner or later, so that instances which started together do not beat together."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(BEAT * 1.5)

    assert scene(play, chance=chance).registrar.times("beat") == [pytest.approx(between)]


def test_a_verdict_that_changes_is_told_at_once() -> None:
    """The registry learns of a failing dependency without waiting for the next beat, and the next beat counts from then."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        site.verdict = "critical"
        site.announcer.verdict_changed()
        await asyncio.sleep(BEAT + 0.5)

    site = scene(play)
    assert site.registrar.calls[:3] == [(0.0, "register", "passing"), (1.0, "beat", "critical"), (6.0, "beat", "critical")]


def test_a_verdict_that_changes_while_a_beat_is_under_way_is_not_lost() -> None:
    """The beat that was on its way carried the old verdict: another one follows at once."""

    async def play(site: Site) -> None:
        site.registrar.takes = 1.0
        site.announcer.start()
        await asyncio.sleep(BEAT + 1.5)
        site.verdict = "critical"
        site.announcer.verdict_changed()
        await asyncio.sleep(2)

    site = scene(play)
    assert site.registrar.calls[1:3] == [(6.0, "beat", "passing"), (7.0, "beat", "critical")]


def test_it_registers_for_ever_with_backoff() -> None:
    """A registry that is away is asked again after growing waits of at most 5 seconds, without end."""

    async def play(site: Site) -> None:
        site.registrar.error = LOST
        site.announcer.start()
        await asyncio.sleep(3600)
        assert not site.announcer.registered
        site.registrar.error = None
        await asyncio.sleep(RETRY_MOST)
        assert site.announcer.registered

    site = scene(play)
    tries = site.registrar.times("register")
    waits = [round(later - sooner, 6) for sooner, later in itertools.pairwise(tries)]
    share = 0.75  # half of the wait is fixed, half is drawn
    assert waits[:6] == [pytest.approx(share * wait) for wait in (RETRY_FIRST, 0.5, 1.0, 2.0, 4.0, RETRY_MOST)]
    assert waits[6:] == pytest.approx([share * RETRY_MOST] * len(waits[6:]))
    assert len(tries) > 900


def test_a_registry_that_forgot_us_is_told_again() -> None:
    """A beat that the registry does not know leads to a registration in the same turn."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.listed = False
        await asyncio.sleep(BEAT)
        assert site.registrar.listed

    site = scene(play)
    assert site.registrar.names()[:3] == ["register", "beat", "register"]
    assert site.told(RegistryLost) == []
    [back] = site.told(RegistryBack)
    assert back.text() == f"consul://10.0.0.9:8500 had forgotten us: re-registered {INSTANCE.id} in 0ms; 0 calls failed"


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    """One line says what goes on being served, one says how long it was, what was done, and how many calls it cost."""

    async def play(site: Site) -> None:
        site.failed = 4
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.error = LOST
        await asyncio.sleep(300)
        site.failed = 6
        site.registrar.error = None
        site.registrar.takes = 0.4
        site.registrar.listed = False
        await asyncio.sleep(10)

    site = scene(play)
    [lost], [back] = site.told(RegistryLost), site.told(RegistryBack)
    assert lost.text() == (
        "consul://10.0.0.9:8500 lost (ConnectFailed: refused): serving the last snapshot (user 3); nothing dropped"
    )
    assert back.instance == INSTANCE.id
    assert back.took == pytest.approx(0.4)
    assert back.failed_calls == 2
    assert 296 <= back.seconds_lost <= 302


def test_a_registry_that_kept_us_needs_no_registration_after_an_outage() -> None:
    """Where nothing was forgotten the next beat is enough, and the line says so."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.error = LOST
        await asyncio.sleep(10)
        site.registrar.error = None
        await asyncio.sleep(10)

    site = scene(play)
    assert site.registrar.names().count("register") == 1
    [back] = site.told(RegistryBack)
    assert (back.instance, back.failed_calls) == ("", 0)
    assert "nothing was forgotten; 0 calls failed" in back.text()


def test_each_outage_is_told_anew_and_begins_with_short_waits() -> None:
    """A second outage has lines and a backoff of its own, and only its own failed calls."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        for failed in (1, 3):
            site.registrar.error = LOST
            began = len(site.registrar.calls)
            await asyncio.sleep(60)
            first, second = (at for at, _, _ in site.registrar.calls[began : began + 2])
            assert second - first == pytest.approx(0.75 * RETRY_FIRST)
            site.failed = failed
            site.registrar.error = None
            await asyncio.sleep(60)

    site = scene(play)
    assert len(site.told(RegistryLost)) == 2
    assert [back.failed_calls for back in site.told(RegistryBack)] == [1, 2]


def test_a_first_registration_after_an_outage_says_what_it_took() -> None:
    """A registry that was away when we started is told of like any that came back."""

    async def play(site: Site) -> None:
        site.registrar.error = LOST
        site.announcer.start()
        await asyncio.sleep(20)
        site.registrar.error = None
        await asyncio.sleep(10)

    site = scene(play)
    assert len(site.told(RegistryLost)) == 1
    assert [back.instance for back in site.told(RegistryBack)] == [INSTANCE.id]
    assert site.told(Registered) == []


def test_a_lasting_mismatch_is_logged_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """A registry that keeps us out although we pass is looked at now and then, and complained of when it lasts."""

    async def play(site: Site) -> None:
        site.registrar.disagrees = "consul keeps us out: its own probe fails"
        site.announcer.start()
        await asyncio.sleep(BEAT * LOOK_EVERY * LASTS - 1)
        assert caplog.messages == []
        await asyncio.sleep(BEAT * LOOK_EVERY * 4)

    site = scene(play)
    assert caplog.messages == ["consul keeps us out: its own probe fails"]
    assert len(site.registrar.times("look")) > LASTS + 1


def test_a_mismatch_that_passes_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One look that finds a mismatch may have come before the first probe: it is not worth a line."""

    async def play(site: Site) -> None:
        site.announcer.start()
        for disagrees in ("out", None) * 4:
            site.registrar.disagrees = disagrees
            await asyncio.sleep(BEAT * LOOK_EVERY)

    scene(play)
    assert caplog.messages == []


def test_a_look_that_is_refused_is_no_outage() -> None:
    """A token that may beat and not look costs nothing but the look."""

    async def play(site: Site) -> None:
        site.registrar.look_error = PeerError("consul answered 403", peer="consul", status=403)
        site.announcer.start()
        await asyncio.sleep(BEAT * LOOK_EVERY * 3)

    site = scene(play)
    assert len(site.registrar.times("look")) >= 2
    assert site.told(RegistryLost) == []


def test_withdraw_removes_us_and_ends_the_beat() -> None:
    """After a withdrawal nothing more is said to the registry."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(12)
        await site.announcer.withdraw()
        assert not site.registrar.listed
        assert not site.announcer.registered
        await asyncio.sleep(60)

    site = scene(play)
    assert site.registrar.names() == ["register", "beat", "beat", "withdraw"]
    assert site.told(Withdrawn) == [Withdrawn("consul://10.0.0.9:8500", INSTANCE.id, "")]


def test_withdraw_awaits_a_registration_in_flight() -> None:
    """A registration that is on its way lands first, so that the withdrawal finds it."""

    async def play(site: Site) -> None:
        site.registrar.takes = 1.0
        site.announcer.start()
        await asyncio.sleep(0.25)
        await site.announcer.withdraw()
        assert now() == pytest.approx(2.0)
        assert not site.registrar.listed
        await asyncio.sleep(60)

    site = scene(play)
    assert site.registrar.calls == [(0.0, "register", "passing"), (1.0, "withdraw", "")]
    assert not site.registrar.listed


def test_nothing_is_registered_after_a_withdrawal_whatever_changed_meanwhile() -> None:
    """A verdict that changes while the last beat is on its way does not lead to another one behind the withdrawal."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.takes = 1.0
        site.announcer.verdict_changed()
        await asyncio.sleep(0.5)
        site.announcer.verdict_changed()
        await site.announcer.withdraw()
        await asyncio.sleep(60)

    site = scene(play)
    assert site.registrar.names() == ["register", "beat", "withdraw"]
    assert not site.registrar.listed


@pytest.mark.parametrize("at", [step / 20 for step in range(45)])
def test_a_withdrawal_at_any_moment_leaves_no_ghost(at: float) -> None:
    """Whatever was under way when the stop came, the registry does not list us afterwards."""

    async def play(site: Site) -> None:
        site.registrar.takes = 0.35
        site.announcer.start()
        asyncio.get_running_loop().call_later(at / 2, site.announcer.verdict_changed)
        asyncio.get_running_loop().call_later(at, site.announcer.verdict_changed)
        await asyncio.sleep(at)
        await site.announcer.withdraw()
        asked = len(site.registrar.calls)
        assert not site.registrar.listed
        await asyncio.sleep(60)
        assert len(site.registrar.calls) == asked
        assert not site.registrar.listed

    site = scene(play)
    assert site.registrar.names()[-1] == "withdraw"


@pytest.mark.parametrize("moment", ["registering", "withdrawing"])
def test_a_hung_registry_holds_up_the_stop_for_three_seconds_only(moment: str) -> None:
    """The withdrawal is given up in time, the log says that we stay listed, and no task is left behind."""

    async def play(site: Site) -> None:
        if moment == "registering":
            site.registrar.gate = asyncio.Event()
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.gate = asyncio.Event()
        await site.announcer.withdraw()
        assert now() == pytest.approx(1 + WITHDRAW_LIMIT)
        await asyncio.sleep(60)

    site = scene(play)
    [withdrawn] = site.told(Withdrawn)
    assert withdrawn.error.startswith("TimeoutError")
    assert "it stays listed until its heartbeat is missed" in withdrawn.text()


def test_a_registry_that_is_away_does_not_hold_up_the_stop() -> None:
    """During a backoff the stop does not wait for the next try; what the withdrawal meets is told."""

    async def play(site: Site) -> None:
        site.registrar.error = LOST
        site.announcer.start()
        await asyncio.sleep(30.1)
        await site.announcer.withdraw()
        assert now() == pytest.approx(30.1)
        await asyncio.sleep(60)

    site = scene(play)
    assert site.registrar.names()[-1] == "withdraw"
    assert [event.error for event in site.told(Withdrawn)] == ["ConnectFailed: refused"]


def test_a_registration_that_fails_while_the_stop_waits_for_it_is_followed_by_the_withdrawal() -> None:
    """Nobody knows whether it landed: it is taken back all the same."""

    async def play(site: Site) -> None:
        site.registrar.gate = asyncio.Event()
        site.registrar.error = LOST
        site.announcer.start()
        await asyncio.sleep(1)
        gate = site.registrar.gate

        def end() -> None:
            gate.set()
            site.registrar.gate = None

        asyncio.get_running_loop().call_later(1, end)
        await site.announcer.withdraw()
        assert now() == pytest.approx(2)

    assert scene(play).registrar.names() == ["register", "withdraw"]


def test_withdrawing_what_was_not_announced_or_is_withdrawn_says_nothing() -> None:
    """A stop before the first announcement, or a second one, asks nothing of the registry."""

    async def play(site: Site) -> None:
        await site.announcer.withdraw()
        site.announcer.start()
        await asyncio.sleep(1)
        await site.announcer.withdraw()
        await site.announcer.withdraw()

    site = scene(play)
    assert site.registrar.names() == ["register", "withdraw"]
    assert len(site.told(Withdrawn)) == 1


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_a_cancelled_withdrawal_leaves_no_task(after: float) -> None:
    """A stop that is itself cut short, were it in its first turn, ends what it waited for."""

    async def play(site: Site) -> None:
        site.registrar.gate = asyncio.Event()
        site.announcer.start()
        await asyncio.sleep(1)
        stop = asyncio.ensure_future(site.announcer.withdraw())
        await asyncio.sleep(after)
        stop.cancel()
        await asyncio.wait([stop])
        assert stop.cancelled()
        assert now() == pytest.approx(1 + after)

    scene(play)


def test_a_refusal_is_told_once_as_an_error_and_tried_for_ever() -> None:
    """A token that will not do takes us out of the registry: that is no outage, and nothing that waiting mends."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.error = PeerError("consul answered 403", peer="consul", status=403)
        await asyncio.sleep(600)
        site.registrar.error = None
        await asyncio.sleep(RETRY_MOST)

    site = scene(play)
    [refused] = site.told(RegistryRefused)
    assert (refused.level, refused.instance) == ("error", INSTANCE.id)
    assert site.told(RegistryLost) == []
    assert site.registrar.names().count("register") == 1
    assert len(site.told(RegistryBack)) == 1


def test_what_a_registry_does_not_take_is_no_outage() -> None:
    """It is there, and will say the same for ever: the line names what it does not like."""

    async def play(site: Site) -> None:
        site.registrar.error = PeerError("consul answered 400: Invalid Service Meta", peer="consul", status=400)
        site.announcer.start()
        await asyncio.sleep(60)
        site.registrar.error = None

    site = scene(play)
    assert [event.error for event in site.told(RegistryRefused)] == ["consul answered 400: Invalid Service Meta"]
    assert site.told(RegistryLost) == []


@pytest.mark.parametrize("lost", [False, True])
def test_a_registry_that_has_us_otherwise_is_told_again_and_why(lost: bool) -> None:
    """What was edited there, or written with a token that was replaced, was not forgotten, and the line says what it was."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        if lost:
            site.registrar.error = LOST
            await asyncio.sleep(BEAT)
        site.registrar.error, site.registrar.outdated = None, "had our entry edited"
        await asyncio.sleep(BEAT)

    site = scene(play)
    [back] = site.told(RegistryBack)
    assert (back.instance, back.why) == (INSTANCE.id, "had our entry edited")
    said = "back after 1.3s" if lost else "had our entry edited"
    assert back.text() == f"consul://10.0.0.9:8500 {said}: re-registered {INSTANCE.id} in 0ms; 0 calls failed"
    assert site.registrar.times("register") == [0.0, site.registrar.times("beat")[-1]]


def test_an_id_that_another_process_has_is_told_once_and_looked_at_for_ever() -> None:
    """We stand aside, say who has it, and register again when the registry says that nobody does."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        site.registrar.error = DuplicateId("it is boot b2", peer="consul")
        await asyncio.sleep(600)
        site.registrar.error, site.registrar.listed = None, False
        await asyncio.sleep(RETRY_MOST)
        assert site.registrar.listed

    site = scene(play)
    [taken] = site.told(IdTaken)
    assert taken.text() == (
        f"consul://10.0.0.9:8500 has another {INSTANCE.id}: it is boot b2; this one gets no calls until the other is gone"
    )
    assert site.told(RegistryBack)[-1].instance == INSTANCE.id


def test_an_outage_that_turns_into_a_refusal_is_told_as_both() -> None:
    """A registry that comes back without our token is a new piece of news, within the same outage."""

    async def play(site: Site) -> None:
        site.announcer.start()
        await asyncio.sleep(1)
        for error in (LOST, PeerError("consul answered 401", peer="consul", status=401), LOST):
            site.registrar.error = error
            await asyncio.sleep(30)
        site.registrar.error = None
        await asyncio.sleep(RETRY_MOST)

    site = scene(play)
    kinds = [type(event) for event in site.events if not isinstance(event, Registered | Withdrawn)]
    assert kinds == [RegistryLost, RegistryRefused, RegistryBack]
