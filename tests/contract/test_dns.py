"""The DNS driver on a real CoreDNS, on every event loop: what its records say, and that no failure takes them away."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.flags
import pytest
from loops import LOOPS
from servers.coredns import CoreDns, running

from mizzen.assembly.drivers import Drivers
from mizzen.assembly.network import SocketNetwork
from mizzen.edges.resolvers.dns.dnspython import DnsPython
from mizzen.edges.resolvers.dns.records import Absent, Said, Srv
from mizzen.edges.resolvers.dns.resolver import DnsResolver
from mizzen.edges.resolvers.dns.system import routed
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import EndpointStore, Instance
from mizzen.words.errors import CallTimeout, PeerError

pytestmark = pytest.mark.servers

PATIENCE = 20.0
"""Seconds until something that does not come is a failure; never waited for when all is well."""
SHORT = 0.5
"""Seconds for a question, instead of 4.5, where a test waits for the end of it."""
HOLD = 1.0
"""Seconds of the store, instead of 30."""
TWO = ("user 1 IN A 10.0.0.1", "user 1 IN A 10.0.0.2")
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreDns]:
    with running(tmp_path_factory.mktemp("coredns")) as server:
        yield server


@pytest.fixture
def server(started: CoreDns) -> CoreDns:
    """A server whose zone is empty, and which is not to be broken."""
    started.serve()
    return started


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[CoreDns]:
    """A server that a test breaks."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops; no socket may be left open at its end."""

    def start(main: Coroutine[Any, Any, None]) -> None:
        async def limited() -> None:
            before = open_sockets()
            async with asyncio.timeout(3 * PATIENCE):
                await main
                await until(lambda: open_sockets() <= before, "every socket is closed")

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(limited())

    return start


def open_sockets() -> int:
    found = 0
    for entry in Path("/dev/fd").iterdir():
        try:
            found += stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode)
        except OSError:  # the listing's own
            continue
    return found


async def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"not within {PATIENCE:g}s: {what}"
        await asyncio.sleep(0.01)


async def blocking(work: Callable[..., None], *given: Any) -> None:
    """What a test does to the server, while the driver goes on."""
    await asyncio.to_thread(work, *given)


@dataclasses.dataclass
class Watched:
    """A watch with the product's own store behind it."""

    store: EndpointStore
    sets: list[list[str]]
    errors: list[Exception]

    @property
    def places(self) -> list[str]:
        return sorted(f"{each.host} {each.port}" for each in self.store.instances)

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.sets.append([each.id for each in instances])
        return self.store.snapshot(instances, regressed=regressed)

    def error(self, error: Exception) -> None:
        self.errors.append(error)
        self.store.error(error)


@contextlib.asynccontextmanager
async def watching(url: str, *, lifetime: float | None = None, ask: DnsPython | None = None) -> AsyncIterator[Watched]:
    """Watch ``user`` by the driver that the URL means, as the product makes it; ``ask`` takes the place of this machine's
    own ``resolv.conf``."""
    drivers = Drivers(DiscoveryConfig(url=url), url=url, network=SocketNetwork(), clock=time.monotonic, random=lambda: 0.5)
    resolver = drivers.resolving().resolver
    assert isinstance(resolver, DnsResolver)
    if lifetime is not None:
        assert isinstance(resolver._ask, DnsPython)
        resolver._ask.lifetime = lifetime
    if ask is not None:
        resolver._ask = ask
    watched = Watched(EndpointStore("user", clock=time.monotonic, on_change=lambda _: None, hold=HOLD), [], [])
    watch = asyncio.ensure_future(resolver.watch("user", watched))
    try:
        yield watched
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        assert watch.cancelled()
        drivers.close()


def addresses(server: CoreDns) -> str:
    return f"dns:{{service}}.shop.internal?port=8101&server={server.server}"


def services(server: CoreDns) -> str:
    return f"dns:_http._tcp.{{service}}.shop.internal?type=srv&server={server.server}"


# -- one question


def test_addresses(server: CoreDns, run: Run) -> None:
    """A and AAAA records come with their time to live, and it is known that the answer is no copy."""
    server.serve("user 7 IN A 10.0.0.1", "user 7 IN A 10.0.0.2", "user 9 IN AAAA fd00::1", "alias 3 IN CNAME user")
    ask = DnsPython(server=(server.host, server.port))

    async def main() -> None:
        said = await ask("user.shop.internal", "A")
        assert (said.ttl, sorted(said.addresses), said.kept) == (7.0, ["10.0.0.1", "10.0.0.2"], False)
        assert await ask("user.shop.internal.", "AAAA") == Said(9.0, ("fd00::1",), kept=False)
        assert (await ask("alias.shop.internal", "A")).ttl == 3.0  # the least on the way

    run(main())


def test_services(server: CoreDns, run: Run) -> None:
    """SRV records come with the addresses that the server adds, in names with a dot at their end."""
    server.serve("_http._tcp.user 5 IN SRV 10 20 8101 A.host", "a.host 3 IN A 10.0.0.1", "a.host 4 IN AAAA fd00::1")
    ask = DnsPython(server=(server.host, server.port))

    async def main() -> None:
        said = await ask("_http._tcp.user.shop.internal", "SRV")
        assert said.services == (Srv(10, 20, 8101, "a.host.shop.internal."),)
        assert {name: sorted(each) for name, each in said.extra.items()} == {"a.host.shop.internal.": ["10.0.0.1", "fd00::1"]}
        assert said.ttl == 3.0

    run(main())


def test_what_is_not_there(server: CoreDns, run: Run) -> None:
    """A name that is not there, and one without such records, are absences that name the server."""
    server.serve(*TWO)
    ask = DnsPython(server=(server.host, server.port))

    async def main() -> None:
        with pytest.raises(Absent, match=rf"there is no name stock\.shop\.internal \(NXDOMAIN from {server.server}\)"):
            await ask("stock.shop.internal", "A")
        with pytest.raises(Absent, match=rf"user\.shop\.internal has no AAAA record, says {server.server}"):
            await ask("user.shop.internal", "AAAA")
        with pytest.raises(PeerError, match=r"cannot say where user\.example is \(REFUSED\)"):
            await ask("user.example", "A")

    run(main())


def test_a_server_that_fails(fragile: CoreDns, run: Run) -> None:
    """SERVFAIL, silence and nobody at all are failures, each in bounded time, and no absences."""
    ask = DnsPython(server=(fragile.host, fragile.port), lifetime=SHORT)

    async def main() -> None:
        await blocking(fragile.fail)
        with pytest.raises(PeerError, match=r"cannot say where user\.shop\.internal is \(SERVFAIL\)"):
            await ask("user.shop.internal", "A")
        await blocking(fragile.freeze)
        began = time.monotonic()
        with pytest.raises(CallTimeout, match=rf"no answer about user\.shop\.internal from {fragile.server} in 0\.5s"):
            await ask("user.shop.internal", "A")
        assert time.monotonic() - began < PATIENCE / 2
        await blocking(fragile.kill)
        with pytest.raises((CallTimeout, PeerError)):
            await ask("user.shop.internal", "A")

    run(main())


def test_an_answer_that_does_not_fit(server: CoreDns, run: Run) -> None:
    """Many records, which a datagram has no room for, come whole over TCP: addresses, and SRV with a hundred targets."""
    hosts = [f"host{number:03}" for number in range(100)]
    server.serve(
        *(f"user 1 IN A 10.0.1.{number}" for number in range(200)),
        *(f"_http._tcp.user 1 IN SRV 0 0 8101 {host}" for host in hosts),
        *(f"{host} 1 IN A 10.0.2.{number}" for number, host in enumerate(hosts)),
    )
    for name, kind in (("user.shop.internal.", "A"), ("_http._tcp.user.shop.internal.", "SRV")):
        assert server.ask(name, kind).flags & dns.flags.TC

    async def main() -> None:
        async with watching(addresses(server)) as one, watching(services(server)) as other:
            await until(lambda: len(one.places) == 200, "200 addresses")
            await until(lambda: len(other.places) == 100, "100 services")

    run(main())


def test_a_search_list(server: CoreDns, run: Run, tmp_path: Path) -> None:
    """A single label goes through the search list of resolv.conf; a name with a dot is complete as it is."""
    server.serve("user 1 IN A 10.0.0.1", "user.eu 1 IN A 10.0.0.2")
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {server.host}\nsearch eu.shop.internal shop.internal\noptions ndots:5\n")
    ask = DnsPython(resolv_conf=str(file), port=server.port)

    async def main() -> None:
        assert (await ask("user", "A")).addresses == ("10.0.0.2",)
        with pytest.raises(PeerError, match=r"user\.eu is \(REFUSED\)"):  # no zone of this server's
            await ask("user.eu", "A")

    run(main())


def test_a_resolv_conf_that_changes(server: CoreDns, run: Run, tmp_path: Path) -> None:
    """The system's name servers and search list are those of the moment, also after a time without any."""
    server.serve("user 1 IN A 10.0.0.1", "user.eu 1 IN A 10.0.0.2")
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {server.host}\nsearch shop.internal\n")
    ask = DnsPython(resolv_conf=str(file), port=server.port)

    async def main() -> None:
        assert (await ask("user", "A")).addresses == ("10.0.0.1",)
        fresh = tmp_path / "fresh"  # as systemd and the kubelet do: a new file in the place of the old one
        fresh.write_text(f"nameserver {server.host}\nsearch eu.shop.internal\n")
        fresh.replace(file)
        assert (await ask("user", "A")).addresses == ("10.0.0.2",)
        file.write_text(f"nameserver {server.host}\nsearch shop.internal\n# in its place\n")
        assert (await ask("user", "A")).addresses == ("10.0.0.1",)
        assert repr(ask) == f"<DnsPython asks {server.host} ({file})>"

    run(main())


# -- the driver


def test_changes_are_seen(server: CoreDns, run: Run) -> None:
    """What is added and removed in the zone is known a time to live later."""
    server.serve(*TWO)

    async def main() -> None:
        async with watching(addresses(server)) as watched:
            await until(lambda: watched.places == ["10.0.0.1 8101", "10.0.0.2 8101"], "two")
            await blocking(server.serve, *TWO, "user 1 IN A 10.0.0.3")
            await until(lambda: len(watched.places) == 3, "the third")
            await blocking(server.serve, "user 1 IN A 10.0.0.3", TWO[0])
            await until(lambda: watched.places == ["10.0.0.1 8101", "10.0.0.3 8101"], "one less")
            assert watched.errors == []

    run(main())


def test_services_are_seen(server: CoreDns, run: Run) -> None:
    """SRV records say address, port and weight; the lowest priority counts; a target of . is that nobody is there."""
    hosts = ("a 1 IN A 10.0.0.1", "b 1 IN A 10.0.0.2")
    name = "_http._tcp.user 1 IN SRV"
    server.serve(*hosts, f"{name} 0 10 8101 a", f"{name} 0 30 8201 b", f"{name} 1 0 8301 a")

    async def main() -> None:
        async with watching(services(server)) as watched:
            await until(lambda: watched.places == ["10.0.0.1 8101", "10.0.0.2 8201"], "two")
            assert sorted(each.weight for each in watched.store.instances) == [1, 3]
            await blocking(server.serve, *hosts, f"{name} 1 0 8301 a")
            await until(lambda: watched.places == ["10.0.0.1 8301"], "the next priority")
            await blocking(server.serve, f"{name} 0 0 0 .")
            await until(lambda: watched.places == [], "nobody")
            assert watched.errors == []

    run(main())


def test_targets_in_another_zone(server: CoreDns, run: Run) -> None:
    """Targets whose addresses the answer does not bring along are looked up; one that cannot be is an error."""
    server.serve("_http._tcp.user 1 IN SRV 0 0 8101 a.elsewhere.example.")

    async def main() -> None:
        async with watching(services(server)) as watched:
            await until(lambda: watched.errors, "an error")
            assert str(watched.errors[0]) == f"{server.server} cannot say where a.elsewhere.example. is (REFUSED)"
            assert watched.sets == []

    run(main())


# -- the names of a cluster


CLUSTER = "cluster.local"
HEADLESS = "user.shop.svc"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[CoreDns]:
    """The DNS of a cluster, with what its plugin for Kubernetes would say written by hand."""
    with running(tmp_path, zone=CLUSTER) as server:
        yield server


def pods(*numbers: int, port: str = "http") -> list[str]:
    """The records of a headless Service: an address for each pod that is ready, and SRV records for a port with a name."""
    lines = []
    for each in numbers:
        name = f"10-0-0-{each}.{HEADLESS}"
        lines += [
            f"{name} 1 IN A 10.0.0.{each}",
            f"{HEADLESS} 1 IN A 10.0.0.{each}",
            f"_{port}._tcp.{HEADLESS} 1 IN SRV 0 {100 // len(numbers)} 8101 {name}",
        ]
    return lines


@pytest.mark.parametrize(
    ("options", "port", "found"),
    [("", "http", "8101 http"), ("&port=admin&tls=true", "admin", "8101 https"), ("&port=9000", "http", "9000 http")],
)
def test_the_pods_of_a_headless_service(
    cluster: CoreDns, run: Run, tmp_path: Path, options: str, port: str, found: str
) -> None:
    """`kubernetes:headless` finds every pod by the cluster's DNS, as they come and go; a DNS that knows nobody of the
    Service any more takes nobody away."""
    cluster.serve(*pods(1, 2, port=port))
    file = tmp_path / "resolv.conf"  # a pod's own, whose five dots must not send a whole name through the search list
    file.write_text(f"nameserver {cluster.host}\nsearch shop.svc.{CLUSTER} svc.{CLUSTER} {CLUSTER}\noptions ndots:5\n")
    ask = DnsPython(resolv_conf=str(file), port=cluster.port, lifetime=SHORT)

    async def main() -> None:
        async with watching(f"kubernetes:headless?namespace=shop&domain={CLUSTER}{options}", ask=ask) as watched:
            for numbers in ((1, 2), (1, 2, 3), (2, 3)):
                await blocking(cluster.serve, *pods(*numbers, port=port))
                expected = [f"10.0.0.{each} {found}" for each in numbers]
                await until(
                    lambda: sorted(f"{each.host} {each.port} {each.scheme}" for each in watched.store.instances) == expected,  # noqa: B023
                    f"{expected}",
                )
            assert {each.weight for each in watched.store.instances} == {1}
            assert watched.errors == []
            await blocking(cluster.serve, *(line.replace("user", "stock") for line in pods(9)))
            await until(lambda: watched.errors, "an error")
            assert HEADLESS in str(watched.errors[0])
            assert len(watched.places) == 2

    run(main())


def _nothing(server: CoreDns) -> None:
    server.serve()


def _no_records(server: CoreDns) -> None:
    server.serve("user 1 IN TXT gone", "_http._tcp.user 1 IN TXT gone")


def _servfail(server: CoreDns) -> None:
    server.fail()


FAULTS = {
    "NXDOMAIN": _nothing,
    "NODATA": _no_records,
    "SERVFAIL": _servfail,
    "killed": CoreDns.kill,
    "frozen": CoreDns.freeze,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_failure_empties_the_set(fragile: CoreDns, run: Run, fault: str) -> None:
    """Whatever the server does for longer than the store holds anything, the set stays; afterwards changes are seen."""
    hosts = ("_http._tcp.user 1 IN SRV 0 0 8101 a", "a 1 IN A 10.0.0.1", "user 1 IN A 10.0.0.1")
    fragile.serve(*hosts)

    async def main() -> None:
        async with (
            watching(addresses(fragile), lifetime=SHORT) as one,
            watching(services(fragile), lifetime=SHORT) as other,
        ):
            both = one, other
            await until(lambda: all(each.places == ["10.0.0.1 8101"] for each in both), "the first")
            await blocking(FAULTS[fault], fragile)
            began = time.monotonic()
            await until(lambda: all(len(each.errors) > 1 for each in both), "errors")
            await until(lambda: time.monotonic() - began > HOLD, "as long as the store holds")
            for each in both:
                assert each.places == ["10.0.0.1 8101"]
                assert [] not in each.sets
            await blocking(fragile.heal)
            await blocking(fragile.serve, *hosts, "a 1 IN A 10.0.0.2", "user 1 IN A 10.0.0.2")
            await until(lambda: all(each.places == ["10.0.0.1 8101", "10.0.0.2 8101"] for each in both), "the second")
            assert {each.store.state for each in both} == {"fresh"}

    run(main())


def test_a_start_without_dns(fragile: CoreDns, run: Run) -> None:
    """A server that comes later than its clients is found by itself."""
    fragile.serve(*TWO)
    fragile.kill()

    async def main() -> None:
        async with watching(addresses(fragile), lifetime=SHORT) as watched:
            await until(lambda: watched.errors, "an error")
            assert watched.store.state == "never"
            await blocking(fragile.start)
            await until(lambda: len(watched.places) == 2, "two")

    run(main())


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 20])
def test_cancelled_at_any_turn(server: CoreDns, run: Run, turns: int) -> None:
    """A question that is cancelled, over UDP or TCP, leaves no socket open."""
    server.serve(*(f"user 1 IN A 10.0.1.{number}" for number in range(200)))
    ask = DnsPython(server=(server.host, server.port))

    async def main() -> None:
        for _ in range(10):
            task = asyncio.ensure_future(ask("user.shop.internal", "A"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    run(main())


def test_routes() -> None:
    """This machine has a way to itself, and none to an address that is no address."""
    assert routed("127.0.0.1")
    assert not routed("300.0.0.1")
