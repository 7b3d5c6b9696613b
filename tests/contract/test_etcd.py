"""The etcd driver against etcd: 3.5 and 3.6, a cluster of three, and the double of the unit tests, which is held to the same.

What needs faults of a real server, or its users and certificates, runs against real ones alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from etcd_double import EtcdDouble
from servers import etcd
from servers.etcd import Cluster, Etcd

from mizzen.assembly.drivers import Drivers
from mizzen.assembly.network import SocketNetwork
from mizzen.edges.resolvers import EtcdRegistrar, EtcdResolver
from mizzen.edges.resolvers.etcd.gateway import Gateway, Member
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import DuplicateId, Instance, instance_id
from mizzen.words.errors import CallError

PATIENCE = 20.0
"""Seconds until a change that does not come is a failure; never waited for when all is well."""
SECONDS = 8.0
"""What "within seconds" means for the loss of a leader: the election's time, and all members asked."""

real = pytest.mark.servers
Connected = tuple[EtcdResolver, EtcdRegistrar]


class Feed:
    """What a resolver said."""

    def __init__(self) -> None:
        self.snapshots: list[list[Instance]] = []
        self.regressed: list[bool] = []
        self.errors: list[Exception] = []
        self.lost = False
        """Whether its last word was an error."""
        self.again = False
        self._news = asyncio.Event()

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.snapshots.append(sorted(instances, key=lambda instance: instance.id))
        self.regressed.append(regressed)
        self.lost = False
        self._news.set()
        return False

    def error(self, error: Exception) -> None:
        self.errors.append(error)
        self.lost = True
        self._news.set()

    async def until(self, true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait until what was said so far makes it true."""
        try:
            async with asyncio.timeout(patience):
                while not true():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {patience:g}s: {what}; {self.snapshots[-1:]} {self.errors[-1:]}") from None

    async def has(self, *instances: Instance) -> None:
        """Wait until the last snapshot is just these, and nothing is lost."""
        wanted = sorted(instances, key=lambda instance: instance.id)
        await self.until(lambda: self.snapshots[-1:] == [wanted] and not self.lost, f"{[i.id for i in wanted]}")


class Site:
    """Where a test finds etcd; with ``double`` for the one that is played."""

    def __init__(self, members: Sequence[Etcd] = (), *, double: EtcdDouble | None = None) -> None:
        self.members = list(members)
        self.double = double

    @property
    def url(self) -> str:
        return f"etcd://{','.join(f'{each.host}:{each.port}' for each in self.members)}"

    @asynccontextmanager
    async def connected(self, config: DiscoveryConfig | None = None, url: str = "") -> AsyncIterator[Connected]:
        """Both sides of a driver of one process."""
        if self.double is not None:
            gateway = Gateway([Member("double", self.double)], login=None, random=random.random, clock=time.monotonic)
            yield (
                EtcdResolver(gateway, sleep=asyncio.sleep, random=random.random),
                EtcdRegistrar(gateway),
            )
            return
        url = url or self.url
        drivers = Drivers(
            config or DiscoveryConfig(),
            url=url,
            network=SocketNetwork(),
            clock=time.monotonic,
            random=random.random,
            environ={},
        )
        backend = drivers.resolving()
        assert isinstance(backend.resolver, EtcdResolver)
        assert isinstance(backend.registrar, EtcdRegistrar)
        try:
            yield backend.resolver, backend.registrar
        finally:
            drivers.close()

    async def put(self, key: str, value: str) -> None:
        """As an operator."""
        if self.double is not None:
            self.double.put(key, value)
        else:
            await asyncio.to_thread(self.members[0].put, key, value)

    async def delete(self, key: str) -> None:
        if self.double is not None:
            self.double.delete(key)
        else:
            await asyncio.to_thread(self.members[0].delete, key)


@pytest.fixture(
    scope="module",
    params=["double", "double-v1", *(pytest.param(name, marks=real) for name in (*etcd.VERSIONS, "cluster"))],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Every etcd in turn, for tests that break nothing."""
    name: str = request.param
    if name.startswith("double"):
        yield Site(double=EtcdDouble(v1=name == "double-v1"))
        return
    folder = tmp_path_factory.mktemp("etcd")
    if name == "cluster":
        with etcd.cluster(folder) as cluster:
            yield Site(cluster.members)
    else:
        with etcd.single(folder, name) as member:
            yield Site([member])


class Scene:
    """One service with a name of its own, watched."""

    def __init__(self, site: Site, resolver: EtcdResolver, registrar: EtcdRegistrar) -> None:
        self.site = site
        self.service = f"user-{uuid.uuid4().hex[:8]}"
        self.resolver = resolver
        self.registrar = registrar
        self.feed = Feed()

    def instance(self, number: int = 1, *, boot: str = "b1", **more: Any) -> Instance:
        host = f"10.0.0.{number}"
        return Instance(instance_id(self.service, host, 8101), self.service, host, 8101, meta={"boot": boot}, **more)

    def key(self, id: str) -> str:
        return f"/mizzen/{self.service}/{id}"


def on(
    site: Site,
    test: Callable[[Scene], Coroutine[Any, Any, None]],
    config: DiscoveryConfig | None = None,
    url: str = "",
    service: str = "",
) -> None:
    """Run a test with a resolver that watches the scene's service."""

    async def run() -> None:
        async with site.connected(config, url) as (resolver, registrar):
            scene = Scene(site, resolver, registrar)
            scene.service = service or scene.service
            watch = asyncio.create_task(resolver.watch(scene.service, scene.feed))
            try:
                await test(scene)
                assert not watch.done(), "a watch goes on until it is cancelled"
            finally:
                watch.cancel()
                await asyncio.wait({watch})

    asyncio.run(run())


async def raises(call: Awaitable[Any]) -> CallError:
    """The error that it ends with."""
    try:
        await call
    except CallError as error:
        return error
    raise AssertionError("it went well")


async def beats(registrar: EtcdRegistrar, instance: Instance, patience: float = PATIENCE) -> bool:
    """What the first beat says that reaches etcd."""
    end = time.monotonic() + patience
    while True:
        try:
            return await registrar.beat(instance, "passing", "ok")
        except CallError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


# -- what holds everywhere


def test_what_is_registered_is_found_as_it_is(site: Site) -> None:
    """Every field of an instance arrives, and one that is withdrawn is gone."""

    async def test(scene: Scene) -> None:
        await scene.feed.has()
        plain = scene.instance(1)
        full = scene.instance(2, scheme="https", version="1.4.2", zone="eu-1a", weight=3, tags=("blue", "v1"))
        await scene.registrar.register(plain, "passing", "ok")
        await scene.feed.has(plain)
        await scene.registrar.register(full, "passing", "ok")
        await scene.feed.has(plain, full)
        await scene.registrar.withdraw(plain)
        await scene.feed.has(full)
        await scene.registrar.withdraw(full)
        await scene.feed.has()
        assert scene.feed.errors == []

    on(site, test)


def test_only_who_passes_is_in_the_set(site: Site) -> None:
    """A beat carries the verdict: critical is out, warning and passing are in; one that changes nothing writes nothing."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        await scene.registrar.register(me, "critical", "the database is down")
        assert await scene.registrar.beat(me, "passing", "ok")
        await scene.feed.has(me)
        assert await scene.registrar.beat(me, "critical", "the database is down")
        await scene.feed.has()
        assert await scene.registrar.beat(me, "warning", "slow")
        await scene.feed.has(me)
        told = len(scene.feed.snapshots)
        for _ in range(3):
            assert await scene.registrar.beat(me, "warning", "slow")
        other = scene.instance(2)
        await scene.registrar.register(other, "passing", "ok")
        await scene.feed.has(me, other)
        assert len(scene.feed.snapshots) == told + 1

    on(site, test)


def test_who_does_not_beat_is_dropped_and_comes_back(site: Site) -> None:
    """A lease that ends takes its key along; the next beat says so, and registering brings the instance back."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        scene.registrar._ttl = 2.0
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        await scene.feed.has()
        assert await scene.registrar.beat(me, "passing", "ok") is False
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)

    on(site, test)


def test_a_beat_of_what_is_unknown_says_so(site: Site) -> None:
    """Neither an instance that was never registered nor one that is withdrawn can be beaten into existence."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        assert await scene.registrar.beat(me, "passing", "ok") is False
        await scene.registrar.register(me, "passing", "ok")
        await scene.registrar.withdraw(me)
        assert await scene.registrar.beat(me, "passing", "ok") is False
        await scene.registrar.withdraw(me)
        await scene.feed.has()

    on(site, test)


def test_a_key_that_an_operator_deleted_is_registered_again(site: Site) -> None:
    """The lease lives on while its key is gone: the beat finds out."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.site.delete(scene.key(me.id))
        await scene.feed.has()
        assert await scene.registrar.beat(me, "passing", "ok") is False
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)

    on(site, test)


def test_a_restarted_instance_takes_its_own_place(site: Site) -> None:
    """A new life under the same id replaces the one before, whose late withdrawal and lease leave it alone."""

    async def test(scene: Scene) -> None:
        before, now = scene.instance(boot="b1"), scene.instance(boot="b2")
        async with scene.site.connected() as (_, earlier):
            earlier._ttl = 2.0
            await earlier.register(before, "passing", "ok")
            await scene.feed.has(before)
            await scene.registrar.register(now, "passing", "ok")
            await scene.feed.has(now)
            await earlier.withdraw(before)
        assert await scene.registrar.beat(now, "passing", "ok")
        async with scene.site.connected() as (_, stranger):  # who knows nothing of leases goes by the boot id
            await stranger.withdraw(before)
            assert await scene.registrar.beat(now, "passing", "ok")
            await stranger.withdraw(now)
        await scene.feed.has()

    on(site, test)


def test_two_lives_of_one_id_are_told_and_do_not_fight(site: Site) -> None:
    """Whose place was taken says so with both addresses, does not take it back, and has it again once the other is gone."""

    async def test(scene: Scene) -> None:
        mine = scene.instance(boot="b1")
        theirs = Instance(mine.id, mine.service, "10.0.9.9", 9999, meta={"boot": "b2"})
        await scene.registrar.register(mine, "passing", "ok")
        async with scene.site.connected() as (_, other):
            await other.register(theirs, "passing", "ok")
            await scene.feed.has(theirs)
            told = await raises(scene.registrar.beat(mine, "passing", "ok"))
            assert isinstance(told, DuplicateId)
            assert "10.0.9.9:9999" in str(told)
            assert isinstance(await raises(scene.registrar.register(mine, "passing", "ok")), DuplicateId)
            assert await other.beat(theirs, "passing", "ok")
            await scene.registrar.withdraw(mine)
            assert await other.beat(theirs, "passing", "ok")
            await scene.registrar.register(mine, "passing", "ok")  # after its withdrawal it is a new one
            await scene.feed.has(mine)
            await other.withdraw(theirs)
        assert await scene.registrar.beat(mine, "passing", "ok")

    on(site, test)


def test_what_is_no_instance_is_left_out(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A value that nobody of ours wrote hides nobody, and is told once, on a list and on a watch."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        for number, value in enumerate(["hello", '{"v":2,"host":7}', '{"v":1,"host":"/run/docker.sock","port":1}', ""]):
            await scene.site.put(scene.key(f"bad{number}"), value)
        other = scene.instance(2)
        await scene.site.put(
            scene.key(other.id), json.dumps({"v": 1, "host": other.host, "port": 8101, "meta": {"boot": "b1"}})
        )
        await scene.feed.has(me, other)
        again = Feed()
        watch = asyncio.create_task(scene.resolver.watch(scene.service, again))
        await again.has(me, other)
        watch.cancel()
        await asyncio.wait({watch})

    on(site, test)
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(told) == 8
    assert sum("schema 2" in each for each in told) == 2


def test_services_and_prefixes_do_not_mix(site: Site) -> None:
    """A service whose name begins like another's has a set of its own."""

    async def test(scene: Scene) -> None:
        other = Instance("x", f"{scene.service}-admin", "10.0.0.9", 8101)
        await scene.registrar.register(other, "passing", "ok")
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        assert all(instance.service == scene.service for each in scene.feed.snapshots for instance in each)

    on(site, test)


def test_a_silent_watch_is_asked_for(site: Site) -> None:
    """While nothing changes the member is asked whether there is news: the set stays fresh, and the watch the same."""

    async def test(scene: Scene) -> None:
        scene.resolver._silence = 0.2
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        count = len(scene.feed.snapshots)
        await scene.feed.until(lambda: len(scene.feed.snapshots) >= count + 3, "looks")
        assert {str(each) for each in scene.feed.snapshots[count:]} == {str([me])}
        assert (scene.feed.errors, "ended" in str(scene.resolver.describe())) == ([], False)

    on(site, test)


# -- real faults


@pytest.fixture(params=etcd.VERSIONS)
def lone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Etcd]:
    """A single member to break, of each version."""
    with etcd.single(tmp_path, request.param) as member:
        yield member


@pytest.fixture(params=etcd.VERSIONS)
def three(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of three to break, of each version."""
    with etcd.cluster(tmp_path, request.param) as made:
        yield made


@real
def test_compaction_loses_nothing(lone: Etcd) -> None:
    """A watch that would resume from a past which is compacted away reads everything anew."""

    async def test(scene: Scene) -> None:
        first, second = scene.instance(1), scene.instance(2)
        await scene.registrar.register(first, "passing", "ok")
        await scene.feed.has(first)
        slept = asyncio.Event()
        asked: list[str] = []
        gateway = scene.resolver._gateway
        plain = gateway.open

        async def late(path: str, body: Any, doing: str) -> Any:  # the gap between list and watch, made as long as it takes
            if not asked:
                asked.append(path)
                await scene.registrar.register(second, "passing", "ok")
                await scene.registrar.withdraw(first)
                await asyncio.to_thread(lone.compact)
                slept.set()
            return await plain(path, body, doing)

        gateway.open = late  # type: ignore[method-assign]
        again = Feed()
        watch = asyncio.create_task(scene.resolver.watch(scene.service, again))
        await slept.wait()
        await again.has(second)
        assert (again.errors, again.snapshots[0]) == ([], [first])
        watch.cancel()
        await asyncio.wait({watch})

    on(Site([lone]), test)


@real
def test_a_restart_with_state_keeps_everyone(lone: Etcd) -> None:
    """Nobody has to register again: the lease and its key were on disk."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        await asyncio.to_thread(lone.restart)
        assert await beats(scene.registrar, me)
        other = scene.instance(2)
        await scene.registrar.register(other, "passing", "ok")
        await scene.feed.has(me, other)
        assert not any(scene.feed.regressed)
        assert [] not in scene.feed.snapshots[1:]

    on(Site([lone]), test)


@real
def test_a_restart_without_state_is_a_regress(lone: Etcd) -> None:
    """An etcd that came back empty is known by its revision, and the beat says that one has to register again."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        for number in range(5):
            await scene.registrar.register(scene.instance(number), "passing", "ok")
        await scene.feed.has(*(scene.instance(number) for number in range(5)))
        await asyncio.to_thread(lone.restart, forget=True)
        assert await beats(scene.registrar, me) is False
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        assert True in scene.feed.regressed

    on(Site([lone]), test)


@real
def test_a_restored_backup_is_a_regress(lone: Etcd, tmp_path: Path) -> None:
    """A backup that is put back is older than what was read: the set is read anew and marked so."""

    async def test(scene: Scene) -> None:
        first, second = scene.instance(1), scene.instance(2)
        await scene.registrar.register(first, "passing", "ok")
        await asyncio.to_thread(lone.snapshot, tmp_path / "backup")
        await scene.registrar.register(second, "passing", "ok")
        for _ in range(3):
            await scene.site.put(scene.key("bad"), "to move the revision")
        await scene.feed.has(first, second)
        lone.kill()
        await asyncio.to_thread(lone.restore, tmp_path / "backup")
        await asyncio.to_thread(lone.start)
        await scene.feed.until(lambda: scene.feed.regressed[-1], "a regress")
        assert second not in scene.feed.snapshots[-1]

    on(Site([lone]), test)


@real
def test_another_cluster_at_the_same_address_is_a_regress(lone: Etcd) -> None:
    """A cluster that was replaced is known by its id, however far its revision is."""

    async def test(scene: Scene) -> None:
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        lone.kill()
        lone.forget()
        lone.process.command.append("--initial-cluster-token=other")
        await asyncio.to_thread(lone.start)
        await scene.feed.until(lambda: True in scene.feed.regressed, "a regress")
        for number in range(10):
            await scene.site.put(scene.key(f"bad{number}"), "to move the revision")
        assert await beats(scene.registrar, me) is False
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)

    on(Site([lone]), test)


@real
def test_a_member_that_hangs_is_told(lone: Etcd) -> None:
    """A stopped process keeps its connections open and says nothing: the watch and the beat find out in bounded time."""

    async def test(scene: Scene) -> None:
        scene.resolver._silence = 1.0
        me = scene.instance()
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        lone.freeze()
        try:
            await raises(scene.registrar.beat(me, "passing", "ok"))
            await scene.feed.until(lambda: scene.feed.lost, "an error", 10)
        finally:
            lone.thaw()
        assert await beats(scene.registrar, me)
        await scene.feed.has(me)
        assert all(each == [me] for each in scene.feed.snapshots[1:])

    on(Site([lone]), test)


@real
def test_a_member_that_dies_is_no_outage(three: Cluster) -> None:
    """With two of three left beats and changes go on at another member, and nothing is told as lost."""

    async def test(scene: Scene) -> None:
        me, other = scene.instance(1), scene.instance(2)
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        using = scene.resolver._gateway._current.name
        victim = next(each for each in three.members if using == f"{each.host}:{each.port}")
        victim.kill()
        assert await beats(scene.registrar, me)
        end = time.monotonic() + PATIENCE
        while True:  # if it led, the others take a second to elect one of them
            try:
                await scene.registrar.register(other, "passing", "ok")
                break
            except CallError:
                assert time.monotonic() < end
                await asyncio.sleep(0.1)
        await scene.feed.has(me, other)
        assert scene.resolver._gateway._current.name != using
        assert all(me in each for each in scene.feed.snapshots[1:])

    on(Site(three.members), test)


@real
def test_a_member_that_hangs_is_left(three: Cluster) -> None:
    """A stopped member of three costs a beat two seconds once, and the watch goes on elsewhere."""

    async def test(scene: Scene) -> None:
        scene.resolver._silence = 1.0
        me, other = scene.instance(1), scene.instance(2)
        await scene.registrar.register(me, "passing", "ok")
        await scene.feed.has(me)
        leader = await asyncio.to_thread(three.leader)
        using = scene.resolver._gateway._current.name
        victim = next(each for each in three.members if using == f"{each.host}:{each.port}")
        if victim is leader:  # a follower, so that no election is in the way
            victim = next(each for each in three.members if each is not leader)
            scene.resolver._gateway._current = next(
                each for each in scene.resolver._gateway._members if each.name == f"{victim.host}:{victim.port}"
            )
            using = f"{victim.host}:{victim.port}"
            again = Feed()
            watch = asyncio.create_task(scene.resolver.watch(scene.service, again))
            await again.has(me)
            scene.feed = again
        else:
            watch = None
        victim.freeze()
        try:
            assert await beats(scene.registrar, me)
            await scene.registrar.register(other, "passing", "ok")
            await scene.feed.has(me, other)
            assert scene.resolver._gateway._current.name != using
        finally:
            victim.thaw()
            if watch is not None:
                watch.cancel()
                await asyncio.wait({watch})

    on(Site(three.members), test)


@real
def test_the_loss_of_quorum_is_told_and_loses_nothing(three: Cluster) -> None:
    """Without a leader the watch ends with an error in seconds, nothing is taken away, a newcomer is told what one member
    remembers, and once the leader is back every lease has lived on."""

    async def test(scene: Scene) -> None:
        me, other = scene.instance(1), scene.instance(2)
        await scene.registrar.register(me, "passing", "ok")
        await scene.registrar.register(other, "passing", "ok")
        await scene.feed.has(me, other)
        count = len(scene.feed.snapshots)
        await asyncio.to_thread(three.lose_quorum)
        await scene.feed.until(lambda: scene.feed.lost, "an error", SECONDS)
        began = time.monotonic()
        await raises(scene.registrar.beat(me, "passing", "ok"))
        assert time.monotonic() - began < 6
        newcomer = Feed()
        watch = asyncio.create_task(scene.resolver.watch(scene.service, newcomer))
        await newcomer.until(lambda: newcomer.lost, "an error")
        assert newcomer.snapshots == [[me, other]]
        watch.cancel()
        await asyncio.wait({watch})
        await asyncio.to_thread(three.start)
        assert await beats(scene.registrar, me)
        assert await beats(scene.registrar, other)
        await scene.feed.has(me, other)
        assert all(each == [me, other] for each in scene.feed.snapshots[count:])

    on(Site(three.members), test)


# -- users and certificates


@real
@pytest.mark.parametrize("version", etcd.VERSIONS)
def test_tokens_are_renewed_and_passwords_rotated(version: str, tmp_path: Path) -> None:
    """A token that ends is got anew without a word; a new password in the file is used as soon as the old one is refused."""
    file = tmp_path / "password"
    file.write_text("first\n")
    with etcd.single(tmp_path, version, options=["--auth-token-ttl=1"]) as member:
        member.enable_auth("services", "first")

        async def test(scene: Scene) -> None:
            me, other = scene.instance(1), scene.instance(2)
            await scene.registrar.register(me, "passing", "ok")
            await scene.feed.has(me)
            assert scene.registrar._gateway._login is not None
            token = scene.registrar._gateway._login._token
            end = time.monotonic() + PATIENCE
            while scene.registrar._gateway._login._token == token:
                assert time.monotonic() < end
                await asyncio.sleep(2.5)  # etcd drops a token that nobody used for a second, and looks once a second
                assert await scene.registrar.beat(me, "passing", "ok")
            await asyncio.to_thread(member.new_password, "services", "second")
            await raises(scene.registrar.beat(me, "passing", "ok"))
            file.write_text("second\n")
            assert await scene.registrar.beat(me, "passing", "ok")
            await scene.registrar.register(other, "passing", "ok")
            await scene.feed.has(me, other)

        config = DiscoveryConfig(token_file=str(file))
        on(Site([member]), test, config, f"etcd://services@{member.host}:{member.port}")


@real
@pytest.mark.parametrize("version", etcd.VERSIONS)
def test_rights_that_are_taken_away_are_an_error(version: str, tmp_path: Path) -> None:
    """Who may not read is told so with the fix, on a watch that is open and on a new one, and nobody is taken away."""
    with etcd.single(tmp_path, version) as member:
        member.enable_auth("services", "word")

        async def test(scene: Scene) -> None:
            scene.resolver._silence = 0.5
            me = scene.instance()
            await scene.registrar.register(me, "passing", "ok")
            await scene.feed.has(me)
            await asyncio.to_thread(member.forbid)
            await scene.feed.until(lambda: scene.feed.lost, "an error")
            assert "etcdctl role grant-permission" in str(scene.feed.errors[-1])
            await asyncio.to_thread(member.permit)
            await scene.feed.has(me)
            assert all(each == [me] for each in scene.feed.snapshots[1:])

        on(Site([member]), test, None, f"etcd://services:word@{member.host}:{member.port}")


@real
@pytest.mark.parametrize("version", etcd.VERSIONS)
def test_users_that_etcd_does_not_ask_for_and_begins_to(version: str, tmp_path: Path) -> None:
    """A user is no harm where nobody is asked; where etcd asks and none is given, the error says what to write."""
    with etcd.single(tmp_path, version) as member:
        address = f"{member.host}:{member.port}"

        async def with_user(scene: Scene) -> None:
            me = scene.instance()
            await scene.registrar.register(me, "passing", "ok")
            await scene.feed.has(me)
            await asyncio.to_thread(member.enable_auth, "services", "word")
            assert await scene.registrar.beat(me, "passing", "ok")
            other = scene.instance(2)
            await scene.registrar.register(other, "passing", "ok")
            await scene.feed.has(me, other)

        async def without(scene: Scene) -> None:
            await scene.feed.until(lambda: scene.feed.lost, "an error")
            assert "etcd://user@" in str(scene.feed.errors[-1])

        async def wrong(scene: Scene) -> None:
            await scene.feed.until(lambda: scene.feed.lost, "an error")
            assert "the login of services" in str(scene.feed.errors[-1])
            assert "hunter2" not in f"{scene.feed.errors[-1]} {scene.resolver.describe()}"

        on(Site([member]), with_user, None, f"etcd://services:word@{address}")
        on(Site([member]), without, None, f"etcd://{address}")
        on(Site([member]), wrong, None, f"etcd://services:hunter2@{address}")


@real
@pytest.mark.parametrize("version", etcd.VERSIONS)
def test_tls_is_verified(version: str, tmp_path: Path) -> None:
    """With the authority's file everything works; without it the error says which option is missing."""
    authority = Authority(tmp_path / "pki")
    with etcd.single(tmp_path, version, authority=authority) as member:
        address = f"{member.host}:{member.port}"

        async def trusted(scene: Scene) -> None:
            me = scene.instance()
            await scene.registrar.register(me, "passing", "ok")
            await scene.feed.has(me)
            assert await scene.registrar.beat(me, "critical", "no")
            await scene.feed.has()

        async def strange(scene: Scene) -> None:
            await scene.feed.until(lambda: scene.feed.lost, "an error")
            assert f"etcd://{address}?ca" in str(scene.feed.errors[-1])

        on(Site([member]), trusted, None, f"etcd://{address}?ca={authority.ca}")
        on(Site([member]), strange, None, f"etcd://{address}?tls=true")
