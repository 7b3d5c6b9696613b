"""The DNS driver in virtual time, against answers that the test gives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from mizzen.edges.resolvers.dns.reading import AT_ONCE
from mizzen.edges.resolvers.dns.records import Absent, Kind, Said, Srv, preferred, weights
from mizzen.edges.resolvers.dns.resolver import MOST, READ, RETRY_MOST, DnsResolver
from mizzen.edges.resolvers.dns.system import LOOK_UP, REFRESH, SystemNames
from mizzen.rules.discovery import EndpointStore, Instance
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallError, CallTimeout, NoInstances, PeerError

NAME = "user.shop.internal."
SERVFAIL = PeerError("SERVFAIL")
SILENCE = CallTimeout("no answer", limit="call")
NOBODY = Absent("NXDOMAIN")


def now() -> float:
    return asyncio.get_running_loop().time()


def a(*addresses: str, ttl: float = 5.0, kept: bool = True) -> Said:
    return Said(ttl, addresses, kept=kept)


def srv(*records: tuple[int, int, int, str], ttl: float = 5.0, **extra: tuple[str, ...]) -> Said:
    named = {f"{host}.shop.internal.": addresses for host, addresses in extra.items()}
    services = tuple(Srv(priority, weight, port, target) for priority, weight, port, target in records)
    return Said(ttl, services=services, extra=named)


class Zone:
    """The DNS that the test plays; what it does not know is absent."""

    def __init__(self, **records: Said | Exception) -> None:
        self.records: dict[tuple[str, str], Said | Exception] = {}
        self.asked: list[tuple[float, str, str]] = []
        self.seconds = 0.0
        self.busy = self.most = 0
        for kind, said in records.items():
            self[NAME, kind] = said

    def __setitem__(self, question: tuple[str, str], said: Said | Exception) -> None:
        self.records[question] = said

    async def __call__(self, name: str, kind: Kind) -> Said:
        self.asked.append((now(), name, kind))
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.busy -= 1
        said = self.records.get((name, kind), NOBODY)
        if isinstance(said, Exception):
            raise said
        return said

    def times(self, kind: str = "A") -> list[float]:
        """When the service's name was asked for."""
        return [at for at, name, asked in self.asked if (name, asked) == (NAME, kind)]


class Told:
    """A feed that keeps what it is told."""

    def __init__(self, again: Sequence[bool] = ()) -> None:
        self.sets: list[list[Instance]] = []
        self.errors: list[Exception] = []
        self._again = list(again)

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.sets.append(list(instances))
        return self._again.pop(0) if self._again else False

    def error(self, error: Exception) -> None:
        self.errors.append(error)

    @property
    def places(self) -> list[str]:
        """Of the last set."""
        return [f"{instance.host} {instance.port}" for instance in self.sets[-1]]


def resolver(zone: Zone, mode: Any = "a", **more: Any) -> DnsResolver:
    made = {"name": lambda service: f"{service}.shop.internal.", "port": 8101 if mode == "a" else 0, "random": lambda: 0.0}
    return DnsResolver(zone, mode=mode, **(made | more))


def watched(
    zone: Zone,
    seconds: float = 0.5,
    *,
    mode: Any = "a",
    again: Sequence[bool] = (),
    meanwhile: Callable[[DnsResolver], Coroutine[Any, Any, None]] | None = None,
    **more: Any,
) -> Told:
    """What a feed is told in so many seconds."""
    told = Told(again)

    async def main() -> None:
        made = resolver(zone, mode, **more)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(made.watch("user", told))
            if meanwhile is not None:
                tasks.create_task(meanwhile(made))
            await asyncio.sleep(seconds)
            watch.cancel()

    run(main())
    return told


# -- what the records say


def test_addresses_of_both_families_are_instances() -> None:
    """Each A and AAAA record is an instance at the configured port, named after where it is."""
    told = watched(Zone(A=a("10.0.0.1", "10.0.0.2"), AAAA=a("fd00::1")))
    assert told.sets == [
        [
            Instance("user-10.0.0.1-8101", "user", "10.0.0.1", 8101),
            Instance("user-10.0.0.2-8101", "user", "10.0.0.2", 8101),
            Instance("user-fd00::1-8101", "user", "fd00::1", 8101),
        ]
    ]
    assert told.sets[0][2].origin == "http://[fd00::1]:8101"


def test_srv_records_say_the_port() -> None:
    """The addresses that come with an SRV answer are used as they are, with each record's own port."""
    zone = Zone(SRV=srv((0, 0, 8101, "a.shop.internal."), (0, 0, 8201, "b.shop.internal."), a=("10.0.0.1",), b=("fd00::2",)))
    told = watched(zone, mode="srv")
    assert told.places == ["10.0.0.1 8101", "fd00::2 8201"]
    assert [kind for _, _, kind in zone.asked] == ["SRV"]


def test_targets_without_addresses_are_looked_up() -> None:
    """What the SRV answer did not bring along is asked for, in both families; the shortest time to live counts."""
    zone = Zone(SRV=srv((0, 0, 8101, "a.shop.internal."), (0, 0, 8101, "b.shop.internal."), ttl=20.0, a=("10.0.0.1",)))
    zone["b.shop.internal.", "A"] = a("10.0.0.2", ttl=3.0)
    zone["b.shop.internal.", "AAAA"] = a("fd00::2", ttl=9.0)
    told = watched(zone, 3.5, mode="srv")
    assert told.places == ["10.0.0.1 8101", "10.0.0.2 8101", "fd00::2 8101"]
    assert zone.times("SRV") == [0.0, 3.0]


def test_one_host_may_run_several_instances() -> None:
    """Records with one target and different ports are different instances; a record that is repeated is one."""
    records = [(0, 0, 8101, "a.shop.internal."), (0, 0, 8102, "a.shop.internal.")]
    told = watched(Zone(SRV=srv(*records, a=("10.0.0.1",))), mode="srv")
    assert [each.id for each in told.sets[0]] == ["user-10.0.0.1-8101", "user-10.0.0.1-8102"]


def test_the_lowest_priority_is_taken() -> None:
    """Records of a higher number stand by and are not called."""
    zone = Zone(SRV=srv((20, 0, 8101, "a.shop.internal."), (10, 0, 8101, "b.shop.internal."), a=("10.0.0.1",), b=("10.0.0.2",)))
    assert watched(zone, mode="srv").places == ["10.0.0.2 8101"]
    assert [record.target for record in preferred([Srv(1, 0, 1, "."), Srv(2, 0, 0, "x."), Srv(3, 0, 1, "y.")])] == ["y."]


@pytest.mark.parametrize(
    ("said", "meant"),
    [((0, 0), [1, 1]), ((33, 33, 33), [1, 1, 1]), ((10, 30), [1, 3]), ((0, 5), [1, 50]), ((0, 2, 4), [1, 20, 40]), ((), [])],
)
def test_weights(said: tuple[int, ...], meant: list[int]) -> None:
    """Weights keep their ratio, 0 is small but not nothing, and equal ones are 1 however many records share them."""
    assert weights([Srv(0, weight, 1, "x.") for weight in said]) == meant


def test_a_weight_reaches_the_instance() -> None:
    """What an SRV record weighs is known of its instances."""
    zone = Zone(SRV=srv((0, 10, 8101, "a.shop.internal."), (0, 30, 8101, "b.shop.internal."), a=("10.0.0.1",), b=("10.0.0.2",)))
    assert [each.weight for each in watched(zone, mode="srv").sets[0]] == [1, 3]


def test_a_service_that_is_said_not_to_be_there() -> None:
    """A target of . is an empty set, not an error."""
    told = watched(Zone(SRV=srv((0, 0, 0, "."))), mode="srv")
    assert (told.sets, told.errors) == ([[]], [])


def test_a_target_that_went_between_two_answers() -> None:
    """A target without any address is left out; when none has one, that is an error."""
    zone = Zone(SRV=srv((0, 0, 8101, "a.shop.internal."), (0, 0, 8101, "b.shop.internal.")))
    zone["b.shop.internal.", "A"] = a("10.0.0.2")
    assert watched(zone, mode="srv").places == ["10.0.0.2 8101"]
    zone["b.shop.internal.", "A"] = NOBODY
    told = watched(zone, mode="srv")
    assert told.sets == []
    assert str(told.errors[0]) == f"no target of {NAME} has an address, such as a.shop.internal."


def test_a_target_that_cannot_be_asked_for() -> None:
    """A set of which a part could not be read is an error: it would look like a loss."""
    zone = Zone(SRV=srv((0, 0, 8101, "a.shop.internal."), (0, 0, 8101, "b.shop.internal.")))
    zone["a.shop.internal.", "A"] = a("10.0.0.1")
    zone["b.shop.internal.", "A"] = zone["b.shop.internal.", "AAAA"] = SERVFAIL
    told = watched(zone, mode="srv")
    assert (told.sets, told.errors) == ([], [SERVFAIL])


# -- failures


@pytest.mark.parametrize("error", [NOBODY, SERVFAIL, SILENCE, OSError("no route"), ValueError("garbled")], ids=repr)
def test_a_failure_never_empties_the_set(error: Exception) -> None:
    """Whatever DNS fails with, for an hour: callers keep what they had, and what comes back is taken at once."""
    zone = Zone(A=a("10.0.0.1", "10.0.0.2"))

    async def main() -> None:
        sets: list[tuple[Instance, ...]] = []
        store = EndpointStore("user", clock=now, on_change=sets.append)
        watch = asyncio.ensure_future(resolver(zone).watch("user", store))
        await asyncio.sleep(1)
        zone.records = {(NAME, kind): error for kind in ("A", "AAAA")}
        await asyncio.sleep(3600)
        assert store.state == "stale"
        assert store.last_error is error
        assert len(store.instances) == 2
        zone[NAME, "A"] = a("10.0.0.1", "10.0.0.2", "10.0.0.3")
        await asyncio.sleep(RETRY_MOST)
        assert store.state == "fresh"
        assert [len(each) for each in sets] == [2, 3]
        watch.cancel()
        await asyncio.wait([watch])

    run(main())


def test_a_family_that_is_never_answered() -> None:
    """A server that fails whenever it is asked for AAAA does not hide the A records; one that has some and then fails does."""
    zone = Zone(A=a("10.0.0.1"), AAAA=SILENCE)
    told = watched(zone)
    assert (told.places, told.errors) == (["10.0.0.1 8101"], [])

    async def lose_it(_: DnsResolver) -> None:
        zone[NAME, "AAAA"] = a("fd00::1")
        await asyncio.sleep(7)
        zone[NAME, "AAAA"] = SILENCE

    told = watched(zone, 11, meanwhile=lose_it)
    assert [len(each) for each in told.sets] == [2, 2]
    assert told.errors == [SILENCE]


def test_a_family_that_is_gone() -> None:
    """Addresses of a family that DNS says are no more are no more."""
    zone = Zone(A=a("10.0.0.1"), AAAA=a("fd00::1"))

    async def drop(_: DnsResolver) -> None:
        await asyncio.sleep(1)
        zone[NAME, "AAAA"] = NOBODY

    told = watched(zone, 6, meanwhile=drop)
    assert [len(each) for each in told.sets] == [2, 1]


def test_the_error_that_says_most_is_told() -> None:
    """When neither family has an address, a failure is told before an absence."""
    assert watched(Zone(A=NOBODY, AAAA=SERVFAIL)).errors == [SERVFAIL]
    assert watched(Zone(A=SERVFAIL, AAAA=NOBODY)).errors == [SERVFAIL]
    assert watched(Zone(A=NOBODY, AAAA=NOBODY)).errors == [NOBODY]


def test_a_name_that_cannot_be_made() -> None:
    """A defect in making the name is told to the feed too: the watch never ends by itself."""

    def broken(service: str) -> str:
        raise KeyError(service)

    told = watched(Zone(), 5, name=broken)
    assert len(told.errors) > 2


# -- time


@pytest.mark.parametrize(("ttl", "seconds"), [(0.0, 1.0), (0.4, 1.0), (5.0, 5.0), (30.0, 30.0), (86400.0, MOST)])
def test_the_time_to_live_is_honoured_within_bounds(ttl: float, seconds: float) -> None:
    """The next read comes when the answer is out of date, but not before a second and not after thirty."""
    zone = Zone(A=a("10.0.0.1", ttl=ttl))
    watched(zone, 3 * seconds + 0.5)
    assert zone.times() == pytest.approx([0.0, seconds, 2 * seconds, 3 * seconds])


def test_clients_of_one_name_spread_out() -> None:
    """Up to a tenth is added at random, so that nobody asks before a cache's copy has ended."""
    zone = Zone(A=a("10.0.0.1", ttl=20.0))
    watched(zone, 23, random=lambda: 0.999)
    assert zone.times() == pytest.approx([0.0, 21.998])


def test_retries_slow_down() -> None:
    """After failures it is asked again after 1 s, then up to 2, 4 ... 30 s, at random, and as before once it answers."""
    zone = Zone(A=SERVFAIL)

    async def heal(_: DnsResolver) -> None:
        await asyncio.sleep(150)
        zone[NAME, "A"] = a("10.0.0.1")

    told = watched(zone, 180, random=lambda: 1.0, meanwhile=heal)
    gaps = [after - before for before, after in zip(zone.times(), zone.times()[1:], strict=False)]
    assert gaps[:8] == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])
    assert gaps[9] == pytest.approx(5.5)
    assert len(told.errors) == 9
    zone = Zone(A=SERVFAIL)
    watched(zone, 10)
    assert len(zone.times()) == 10  # the least is a second, whatever chance says


def test_a_second_opinion_is_not_the_caches_first_one() -> None:
    """A set that is suspect is read again: after a second from the server that owns the name, else when the copy ends."""
    zone = Zone(A=a("10.0.0.1", ttl=20.0, kept=False))
    watched(zone, 5, again=[True])
    assert zone.times() == [0.0, 1.0]
    zone = Zone(A=a("10.0.0.1", ttl=20.0))
    watched(zone, 25, again=[True])
    assert zone.times() == [0.0, 20.0]


def test_a_read_has_an_end() -> None:
    """However many targets have to be looked up, a read ends in time, and few are asked for at once."""
    zone = Zone(SRV=srv(*((0, 0, 8101, f"t{number}.shop.internal.") for number in range(200))))
    zone.seconds = 1.0
    told = watched(zone, READ + 0.5, mode="srv")
    assert [str(error) for error in told.errors] == [f"DNS did not tell all about {NAME} in 10s"]
    assert isinstance(told.errors[0], CallTimeout)
    assert zone.most == 2 * AT_ONCE
    assert zone.busy == 0


def test_cancelled_it_leaves_nothing() -> None:
    """A watch that is cancelled in the middle of its questions has ended them when it ends."""
    zone = Zone(SRV=srv(*((0, 0, 8101, f"t{number}.shop.internal.") for number in range(200))))

    async def main() -> None:
        watch = asyncio.ensure_future(resolver(zone, "srv").watch("user", Told()))
        await asyncio.sleep(0)
        zone.seconds = 3600.0
        await asyncio.sleep(0.1)
        assert zone.busy
        watch.cancel()
        await asyncio.wait([watch])
        assert watch.cancelled()
        assert (zone.busy, asyncio.all_tasks()) == (0, {asyncio.current_task()})

    run(main())


# -- hints


def test_a_hint_brings_the_next_read_forward() -> None:
    """When an address does not answer the name is read at once, but never twice within a second."""
    zone = Zone(A=a("10.0.0.1", ttl=20.0))

    async def hint(made: DnsResolver) -> None:
        made.refresh("user")  # the first read is under way
        await asyncio.sleep(0.2)
        for _ in range(10):
            made.refresh("user")
        await asyncio.sleep(9.8)
        made.refresh("user")
        made.refresh("stock")  # nobody watches it

    watched(zone, 29, meanwhile=hint)
    assert zone.times() == [0.0, 1.0, 10.0]


def test_a_hint_does_not_hurry_retries() -> None:
    """A DNS that fails is not asked more often because calls fail as well."""
    zone = Zone(A=SERVFAIL)

    async def hint(made: DnsResolver) -> None:
        for _ in range(70):
            await asyncio.sleep(0.1)
            made.refresh("user")

    watched(zone, 7.5, random=lambda: 1.0, meanwhile=hint)
    assert zone.times() == pytest.approx([0.0, 1.0, 3.0, 7.0])


# -- this machine


def test_a_family_without_a_route_is_left_out() -> None:
    """Where a name has both families, addresses that this machine has no way to are not offered to callers."""
    both = Zone(A=a("10.0.0.1"), AAAA=a("fd00::1"))
    assert watched(both, routed=lambda address: ":" not in address).places == ["10.0.0.1 8101"]
    assert watched(both, routed=lambda address: ":" in address).places == ["fd00::1 8101"]
    assert len(watched(both, routed=lambda address: False).places) == 2
    alone = Zone(AAAA=a("fd00::1"))
    assert watched(alone, routed=lambda address: False).places == ["fd00::1 8101"]


def test_the_order_of_records_says_nothing() -> None:
    """Servers rotate records: the same ones in another order are no change."""
    zone = Zone(A=a("10.0.0.1", "10.0.0.2"))

    async def main() -> None:
        sets: list[tuple[Instance, ...]] = []
        watch = asyncio.ensure_future(resolver(zone).watch("user", EndpointStore("user", clock=now, on_change=sets.append)))
        await asyncio.sleep(1)
        zone[NAME, "A"] = a("10.0.0.2", "10.0.0.1")
        await asyncio.sleep(10)
        assert len(sets) == 1
        watch.cancel()
        await asyncio.wait([watch])

    run(main())


def test_it_says_what_it_knows() -> None:
    """State is printable: idle, what each watch came to last, and its errors."""
    zone, told = Zone(A=a("10.0.0.1")), Told()

    async def main() -> None:
        made = resolver(zone)
        assert repr(made) == "<DnsResolver idle>"
        watch = asyncio.ensure_future(made.watch("user", told))
        await asyncio.sleep(1)
        assert repr(made) == "<DnsResolver user: 1 instances for 5s>"
        zone[NAME, "A"] = SERVFAIL
        await asyncio.sleep(4.5)
        assert made.describe() == {"backend": "dns", "records": "a", "watched": {"user": "failed 1 times: SERVFAIL"}}
        watch.cancel()
        await asyncio.wait([watch])

    run(main())


# -- the system's own look-up


def system(answer: Callable[[], list[tuple[Any, ...]]], seconds: float = 0.0) -> SystemNames:
    async def look_up(name: str, port: int) -> list[tuple[Any, ...]]:
        assert (name, port) == (NAME, 0)
        await asyncio.sleep(seconds)
        return answer()

    return SystemNames(look_up)


def entry(address: str) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (address, 0)


def test_the_system_knows_addresses() -> None:
    """Without dnspython the system is asked: each family apart, each address once, kept for a fixed time."""
    names = system(lambda: [entry("10.0.0.1"), entry("10.0.0.1"), entry("fd00::1")])
    assert run(names(NAME, "A")) == Said(REFRESH, ("10.0.0.1",))
    assert run(names(NAME, "AAAA")) == Said(REFRESH, ("fd00::1",))


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Absent, "the system knows no address of"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), PeerError, "the system cannot say where"),
    ],
)
def test_what_the_system_fails_with(error: Exception, kind: type[CallError], said: str) -> None:
    """That there is no such name is told apart from a failure to find out."""

    def fail() -> list[tuple[Any, ...]]:
        raise error

    with pytest.raises(kind, match=said) as raised:
        run(system(fail)(NAME, "A"))
    assert isinstance(raised.value, Absent) == (kind is Absent)


def test_the_system_has_its_time() -> None:
    """A look-up that does not end is given up, and one without that family is an absence."""
    with pytest.raises(CallTimeout, match=f"no answer about {NAME} from the system in {LOOK_UP:g}s"):
        run(system(list, 60.0)(NAME, "A"))
    with pytest.raises(Absent, match="knows no AAAA record"):
        run(system(lambda: [entry("10.0.0.1")])(NAME, "AAAA"))
    with pytest.raises(NoInstances, match="pip install 'mizzen\\[dns\\]'"):
        run(system(list)(NAME, "SRV"))
