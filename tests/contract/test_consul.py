"""Consul itself, failing as it does: without a leader, without rights, restarted, frozen, in maintenance, set back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from servers import consul

from mizzen.assembly.announce import WITHDRAW_LIMIT, Announcer
from mizzen.assembly.drivers import Backend, Drivers
from mizzen.assembly.network import SocketNetwork
from mizzen.edges.resolvers import ConsulCatalogRegistrar
from mizzen.edges.resolvers.consul.catalog import node_of
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import DuplicateId, EndpointStore, Instance, Outdated
from mizzen.rules.events import Event, Registered, RegistryBack, RegistryLost, RegistryRefused, Withdrawn
from mizzen.words.clock import monotonic
from mizzen.words.errors import PeerError

pytestmark = pytest.mark.servers

PATIENCE = 60.0
"""Seconds until a change that does not come is a failure; never waited for when all is well."""
BEAT = 0.5
"""Seconds: ten times faster than in production, so that nobody waits for beats."""
HOME = Instance("user-10.0.0.7-8101", "user", "10.0.0.7", 8101, version="1.4.2", zone="eu-1a", weight=7,
                meta={"boot": "b1", "team": "blue"}, tags=("blue", "canary"))  # fmt: skip
AFTER = msgspec.structs.replace(HOME, meta={"boot": "b2", "team": "blue"})


class Feed:
    """What a resolver said."""

    def __init__(self) -> None:
        self.sets: list[list[Instance]] = []
        self.regressed: list[bool] = []
        self.errors: list[str] = []

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.sets.append(list(instances))
        self.regressed.append(regressed)
        return False

    def error(self, error: Exception) -> None:
        self.errors.append(str(error))

    @property
    def ids(self) -> list[str] | None:
        return [each.id for each in self.sets[-1]] if self.sets else None


class Site:
    """The driver of one agent as a service has it, with everything it tells."""

    def __init__(self, url: str, config: DiscoveryConfig) -> None:
        self.drivers = Drivers(
            config, url=url, network=SocketNetwork(), clock=monotonic, random=random.random, sleep=asyncio.sleep
        )
        self.backend: Backend = self.drivers.open(url)
        self.events: list[Event] = []
        self.verdict = ("passing", "ok")
        self._announcers: list[Announcer] = []
        self._watches: list[asyncio.Task[None]] = []

    @property
    def registrar(self) -> Any:
        return self.backend.registrar

    def announce(self, instance: Instance) -> Announcer:
        """Announce it from now on."""
        announcer = Announcer(
            self.registrar,
            instance,
            registry=self.backend.url,
            verdict=lambda: self.verdict,
            failed_calls=lambda: 0,
            serving=dict,
            emit=self.events.append,
            clock=monotonic,
            sleep=asyncio.sleep,
            random=random.random,
            beat=BEAT,
        )
        announcer.start()
        self._announcers.append(announcer)
        return announcer

    def watch(self, service: str = "user", url: str | None = None, *, feed: EndpointStore | None = None) -> Feed:
        """Resolve it from now on, into ``feed`` where there is one."""
        found = Feed()
        backend = self.backend if url is None else self.drivers.at(service, url)
        self._watches.append(asyncio.ensure_future(backend.resolver.watch(service, feed or found)))
        return found

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def close(self) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*(each.withdraw() for each in self._announcers), *self._watches, return_exceptions=True)
        self.drivers.close()


@contextlib.asynccontextmanager
async def site(agent: consul.Consul, *, query: str = "", **config: Any) -> AsyncIterator[Site]:
    """A service at that agent."""
    made = Site(f"{agent.url}{query}", DiscoveryConfig(**{"http_check": False, **config}))
    try:
        yield made
    finally:
        await made.close()


async def until(true: Callable[[], Any], what: Callable[[], object] = lambda: "") -> None:
    """Return once it is."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.02)


def play(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def aside(blocking: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """What blocks, beside the loop."""
    return await asyncio.to_thread(lambda: blocking(*args, **more))


def boots(agent: consul.Consul, id: str = HOME.id) -> list[str]:
    """The lives of that id in the catalog."""
    rows = agent.get("/v1/catalog/service/user")
    return [row["ServiceMeta"].get("boot", "") for row in rows if row["ServiceID"] == id]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[consul.Consul]:
    """An agent that no test breaks."""
    with consul.development(tmp_path_factory.mktemp("dev")) as agent:
        yield agent


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[consul.Consul]:
    """An agent that wants a token, and that no test breaks."""
    with consul.server(tmp_path_factory.mktemp("guarded"), acl=True) as agent:
        yield agent


class TestWithoutALeader:
    """Two of three servers are gone."""

    def test_what_is_registered_is_read_on_and_what_is_new_appears_when_they_are_back(self, tmp_path: Path) -> None:
        """Stale reads need no leader, for old watches and new ones; registrations wait in the agent; and servers that start
        answer from an empty memory for a moment, which takes nothing from those who call."""

        async def test() -> None:
            async with site(client) as home:
                home.announce(HOME)
                sets: list[list[str]] = []
                store = EndpointStore("user", clock=monotonic, on_change=lambda found: sets.append([i.id for i in found]))
                home.watch(feed=store)
                await until(lambda: sets and sets[-1] == [HOME.id])
                known = len(sets) - 1
                await aside(servers.lose_quorum)
                late = home.watch()
                await until(lambda: late.ids == [HOME.id], lambda: late.errors)
                other = msgspec.structs.replace(HOME, id="user-10.0.0.8-8101", host="10.0.0.8")
                announcer = home.announce(other)
                # the agent may take seconds to answer while it tries to reach servers, which hold its state meanwhile
                await until(lambda: announcer.registered, lambda: home.events)
                await aside(servers.start)
                await until(lambda: sorted(sets[-1]) == [HOME.id, other.id], lambda: (sets, store))
                assert all(HOME.id in each for each in sets[known:]), sets

        with consul.cluster(tmp_path) as (servers, client):
            play(test)


class TestRestarts:
    """The agent goes and comes back."""

    def test_one_that_kept_its_state_needs_no_registration(self, tmp_path: Path) -> None:
        """Beats go on where they were; one line says that it was away, one that nothing was forgotten."""

        async def test() -> None:
            async with site(agent) as home:
                home.announce(HOME)
                feed = home.watch()
                await until(lambda: feed.ids == [HOME.id] and home.told(Registered))
                await aside(agent.kill)
                await until(lambda: home.told(RegistryLost))
                await aside(agent.start)
                await until(lambda: home.told(RegistryBack))
                assert [back.instance for back in home.told(RegistryBack)] == [""], home.events
                await until(lambda: len(feed.sets) > 1 and feed.ids == [HOME.id], lambda: (feed.ids, feed.errors))

        with consul.server(tmp_path) as agent:
            play(test)

    def test_one_that_forgot_everything_is_told_again_under_the_same_id(self, tmp_path: Path) -> None:
        """The first beat that it answers tells that we are unknown, and is followed by a registration at once."""

        async def test() -> None:
            async with site(agent) as home:
                home.announce(HOME)
                await until(lambda: home.told(Registered))
                await aside(agent.restart)
                await until(lambda: home.told(RegistryBack), lambda: home.events)
                assert home.told(RegistryBack)[-1].instance == HOME.id
                feed = home.watch()
                await until(lambda: feed.sets and feed.sets[-1] == [HOME], lambda: (feed.sets, feed.errors))

        with consul.development(tmp_path) as agent:
            play(test)

    def test_an_index_that_went_back_is_told(self, tmp_path: Path) -> None:
        """A server that lost its data counts from the beginning: the store is told, and holds what it has."""

        async def test() -> None:
            async with site(agent) as home:
                for number in range(30):
                    await aside(agent.put, "/v1/agent/service/register", {"ID": f"filler-{number}", "Name": "user", "Port": 1})
                feed = home.watch()
                await until(lambda: len(feed.ids or []) == 30)
                await aside(agent.restart, forget=True)
                await until(lambda: any(feed.regressed), lambda: (feed.regressed, feed.errors))
                assert feed.sets[feed.regressed.index(True)] == []

        with consul.server(tmp_path) as agent:
            play(test)

    def test_one_that_is_away_at_the_start_is_tried_for_ever(self, tmp_path: Path) -> None:
        """Nothing crashes; the registration follows whenever it comes."""

        async def test() -> None:
            async with site(agent) as home:
                home.announce(HOME)
                await until(lambda: home.told(RegistryLost))
                await aside(agent.start)
                await until(lambda: boots(agent) == ["b1"], lambda: home.events)

        with consul.development(tmp_path) as agent:
            agent.kill()
            play(test)


class TestTokens:
    """ACLs that deny whoever shows no token."""

    def test_a_token_that_is_rotated_in_its_file_is_used_and_the_agent_is_given_it(
        self, guarded: consul.Consul, tmp_path: Path
    ) -> None:
        """The agent writes to the catalog with the token of the registration: with the old one revoked it would be stuck."""
        file = tmp_path / "token"
        rules = 'service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }'
        first, second = guarded.token(rules), guarded.token(rules)
        file.write_text(f"{first}\n")

        def status() -> list[str]:
            return [each["Status"] for each in guarded.get("/v1/health/checks/user")]

        async def test() -> None:
            async with site(guarded, token_file=str(file)) as home:
                announcer = home.announce(HOME)
                await until(lambda: status() == ["passing"])
                file.write_text(f"{second}\n")
                await until(lambda: home.told(RegistryBack), lambda: home.events)
                assert home.told(RegistryBack)[0].why == "had us by a token that was replaced"
                await aside(guarded.revoke, first)
                home.verdict = ("critical", "database is away")
                announcer.verdict_changed()
                await until(lambda: status() == ["critical"], lambda: (status(), home.events))
                assert home.told(RegistryRefused) == []

        play(test)

    def test_a_token_that_is_revoked_is_told_once_and_tried_until_there_is_a_good_one(
        self, guarded: consul.Consul, tmp_path: Path
    ) -> None:
        """A refusal never leads to a registration on top of it, and costs one line."""
        file = tmp_path / "token"
        rules = 'service_prefix "" { policy = "write" }'
        token = guarded.token(rules)
        file.write_text(token)

        async def test() -> None:
            async with site(guarded, token_file=str(file)) as home:
                home.announce(HOME)
                await until(lambda: home.told(Registered))
                await aside(guarded.revoke, token)
                await until(lambda: home.told(RegistryRefused), lambda: home.events)
                await asyncio.sleep(4 * BEAT)  # several more refusals
                assert len(home.told(RegistryRefused)) == 1
                assert home.told(RegistryRefused)[0].level == "error"
                assert "answered 403" in home.told(RegistryRefused)[0].error
                file.write_text(await aside(guarded.token, rules))
                await until(lambda: home.told(RegistryBack), lambda: home.events)

        play(test)

    def test_a_token_file_that_is_emptied_takes_nobody_away(self, guarded: consul.Consul, tmp_path: Path) -> None:
        """Whoever shows no token is told that nobody is there, without the header that tells of filtering."""
        file = tmp_path / "token"
        file.write_text(guarded.token('service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'))

        async def test() -> None:
            async with site(guarded, token=guarded.management) as writer, site(guarded, token_file=str(file)) as reader:
                writer.announce(HOME)
                feed = reader.watch()
                await until(lambda: feed.ids == [HOME.id])
                file.write_text("")
                # a question is at the agent's, with the good token: what answers it makes the next one the first without
                writer.announce(msgspec.structs.replace(HOME, id="user-10.0.0.8-8101", host="10.0.0.8"))
                await until(lambda: feed.errors or feed.ids == [], lambda: feed.sets)
                assert f"the token file {file} is empty" in feed.errors[0]
                assert HOME.id in (feed.ids or [])

        play(test)

    @pytest.mark.parametrize("rules", ['service_prefix "" { policy = "read" }', 'node_prefix "" { policy = "read" }', "none"])
    def test_what_a_token_may_not_see_is_an_error_and_no_empty_set(self, guarded: consul.Consul, rules: str) -> None:
        """Consul leaves it out without a word but a header; nobody may take that for a service without instances."""

        async def test() -> None:
            async with site(guarded, token=guarded.management) as writer, site(guarded, token=token) as reader:
                writer.announce(HOME)
                await until(lambda: boots(guarded) == ["b1"])
                feed = reader.watch()
                await until(lambda: feed.errors or feed.sets)
                assert feed.sets == []
                assert "left out what this token may not read of user" in feed.errors[0] or "403" in feed.errors[0]

        token = "5c3a1f0e-0000-4000-8000-000000000000" if rules == "none" else guarded.token(rules)
        play(test)


class TestMaintenance:
    """What an operator takes out stays out."""

    def test_it_drains_an_instance_and_survives_registrations_and_restarts(self, dev: consul.Consul) -> None:
        """Callers drop it at once while it serves on; neither its beats nor its next life end what the operator began."""

        async def test() -> None:
            async with site(dev) as home:
                feed = home.watch()
                announcer = home.announce(HOME)
                await until(lambda: feed.ids == [HOME.id])
                await aside(dev.maintenance, HOME.id, True, "upgrade")
                await until(lambda: feed.ids == [])
                await home.registrar.register(HOME, "passing", "ok")
                reason = await home.registrar.mismatch(HOME)
                assert reason is not None
                assert "maintenance mode (upgrade)" in reason
                await announcer.withdraw()
                home.announce(AFTER)
                await until(lambda: boots(dev) == ["b2"], lambda: home.events)
                beaten = len(feed.sets)
                await until(lambda: len(feed.sets) > beaten or len(home.told(Registered)) == 2)
                assert feed.ids == []
                await aside(dev.maintenance, HOME.id, False)
                await until(lambda: feed.sets[-1] == [AFTER], lambda: feed.sets)

        play(test)


class TestIdentity:
    """One id, two lives."""

    def test_a_duplicate_id_is_told_with_both_and_the_later_one_stays(self, dev: consul.Consul) -> None:
        """The earlier one stands aside instead of taking turns with it."""

        async def test() -> None:
            async with site(dev) as first, site(dev) as second:
                await first.registrar.register(HOME, "passing", "ok")
                await second.registrar.register(AFTER, "passing", "ok")
                with pytest.raises(DuplicateId, match=r"is now boot b2 at .*, while we are boot b1"):
                    await first.registrar.register(HOME, "passing", "ok")
                await first.registrar.withdraw(HOME)
                assert boots(dev) == ["b2"]
                await second.registrar.withdraw(AFTER)

        play(test)


class TestStopping:
    """The registry is out of order when we stop."""

    def test_an_agent_that_hangs_holds_up_the_stop_for_a_moment_and_is_left_no_ghost(self, tmp_path: Path) -> None:
        """Frozen before we registered and thawed when we are gone, it knows nothing of us."""

        async def test() -> None:
            async with site(agent) as home:
                await aside(agent.freeze)
                announcer = home.announce(HOME)
                await asyncio.sleep(2 * BEAT)
                began = time.monotonic()
                await announcer.withdraw()
                assert time.monotonic() - began < WITHDRAW_LIMIT + 2
                assert home.told(Withdrawn)[0].error
            await aside(agent.thaw)
            await aside(agent.until_ready)
            # what was in its buffers is done by now: this request came later
            assert agent.get("/v1/agent/services") == {}

        with consul.development(tmp_path) as agent:
            try:
                play(test)
            finally:
                agent.thaw()

    def test_an_agent_that_is_gone_costs_the_stop_nothing(self, tmp_path: Path) -> None:
        """What the withdrawal met is told, and the stop goes on."""

        async def test() -> None:
            async with site(agent) as home:
                announcer = home.announce(HOME)
                await until(lambda: home.told(Registered))
                await aside(agent.kill)
                began = time.monotonic()
                await announcer.withdraw()
                assert time.monotonic() - began < WITHDRAW_LIMIT + 1
                assert "it stays listed until its heartbeat is missed" in home.told(Withdrawn)[0].text()

        with consul.development(tmp_path) as agent:
            play(test)


class TestCatalog:
    """Registered straight into the catalog, without an agent of one's own."""

    def test_an_instance_is_resolved_whole_and_its_verdict_is_carried(self, dev: consul.Consul) -> None:
        """What a resolver reads is no other than what an agent registers; critical takes it out, passing brings it back."""

        async def test() -> None:
            async with site(dev, query="?catalog=true") as home:
                assert isinstance(home.registrar, ConsulCatalogRegistrar)
                feed = home.watch()
                announcer = home.announce(HOME)
                await until(lambda: feed.sets and feed.sets[-1] == [HOME], lambda: (feed.sets, feed.errors))
                for verdict, ids in (("critical", []), ("passing", [HOME.id])):
                    home.verdict = (verdict, "said so")
                    announcer.verdict_changed()
                    await until(lambda ids=ids: feed.ids == ids, lambda: (feed.ids, home.events))
                await announcer.withdraw()
                await until(lambda: feed.ids == [])
                assert node_of(HOME) not in [each["Node"] for each in dev.get("/v1/catalog/nodes")]

        play(test)

    def test_what_is_lost_or_edited_is_put_back(self, dev: consul.Consul) -> None:
        """A beat looks now and then: at an entry that is gone, one that says something else, and one without its check."""

        async def test() -> None:
            async with site(dev, query="?catalog=true") as home:
                registrar, node = home.registrar, node_of(HOME)
                registrar._look = 0.0
                await registrar.register(HOME, "passing", "ok")
                entry = {"ID": HOME.id, "Service": "user", "Address": "10.9.9.9", "Port": 1, "Meta": HOME.meta}
                for path, body, found in (
                    ("deregister", {"Node": node}, None),
                    ("deregister", {"Node": node, "ServiceID": HOME.id}, None),
                    ("deregister", {"Node": node, "CheckID": f"service:{HOME.id}:ttl"}, "had our verdict edited or removed"),
                    ("register", {"Node": node, "Address": "10.0.0.7", "Service": entry}, "had our entry edited"),
                ):
                    assert await registrar.beat(HOME, "passing", "ok") is True
                    await aside(dev.put, f"/v1/catalog/{path}", body)
                    if found is None:
                        assert await registrar.beat(HOME, "passing", "ok") is False, body
                    else:
                        with pytest.raises(Outdated, match=found):
                            await registrar.beat(HOME, "passing", "ok")
                    await registrar.register(HOME, "passing", "ok")
                await registrar.withdraw(HOME)

        play(test)

    def test_most_beats_write_and_read_nothing(self, dev: consul.Consul) -> None:
        """Every write of the catalog goes through the consensus of all servers."""

        async def test() -> None:
            async with site(dev, query="?catalog=true") as home:
                await home.registrar.register(HOME, "passing", "ok")
                index = dev.get(f"/v1/catalog/node-services/{node_of(HOME)}")["Services"][0]["ModifyIndex"]
                for _ in range(5):
                    assert await home.registrar.beat(HOME, "passing", "ok")
                again = dev.get(f"/v1/catalog/node-services/{node_of(HOME)}")["Services"][0]["ModifyIndex"]
                assert again == index
                await home.registrar.withdraw(HOME)

        play(test)

    def test_a_late_withdrawal_never_removes_the_life_that_has_the_place(self, dev: consul.Consul) -> None:
        """Read, replaced, then removed: the removal compares, and finds that it came too late."""

        async def test() -> None:
            async with site(dev, query="?catalog=true") as old, site(dev, query="?catalog=true") as new:
                await old.registrar.register(HOME, "passing", "ok")
                put = old.registrar._agent.put

                async def late(path: str, *args: Any, **more: Any) -> Any:
                    if path == "/v1/txn":
                        await new.registrar.register(AFTER, "passing", "ok")
                    return await put(path, *args, **more)

                old.registrar._agent.put = late
                await old.registrar.withdraw(HOME)
                assert boots(dev) == ["b2"]
                assert await new.registrar.beat(AFTER, "passing", "ok")
                with pytest.raises(DuplicateId, match="is now boot b2"):
                    await old.registrar.register(HOME, "passing", "ok")
                await new.registrar.withdraw(AFTER)
                assert boots(dev) == []

        play(test)

    def test_the_anti_entropy_of_agents_leaves_it_alone(self, tmp_path: Path) -> None:
        """Its node is no agent's: one that starts, and compares everything, removes nothing of it."""

        async def test() -> None:
            async with site(client, query="?catalog=true") as home:
                home.announce(HOME)
                feed = home.watch()
                await until(lambda: feed.sets and feed.sets[-1] == [HOME])
                await aside(client.put, "/v1/agent/service/register", {"Name": "own"})
                await aside(client.restart, forget=True)
                # the agent compares when it joins: what it knew before and does not know now is removed by that
                await until(lambda: client.get("/v1/catalog/service/own") == [])
                assert boots(client) == ["b1"]

        with consul.cluster(tmp_path) as (_, client):
            play(test)

    def test_it_says_to_consul_esm_what_to_look_at(self, dev: consul.Consul) -> None:
        """Nobody else expires a dead one: the node is marked as external, and the probe is described."""

        async def test() -> None:
            async with site(dev, query="?catalog=true", http_check=True) as home:
                await home.registrar.register(HOME, "passing", "ok")
                node = dev.get(f"/v1/catalog/node-services/{node_of(HOME)}")["Node"]
                assert node["Meta"] == {"external-node": "true", "external-probe": "true"}
                checks = {each["CheckID"]: each for each in dev.get(f"/v1/health/node/{node_of(HOME)}")}
                probe = checks[f"service:{HOME.id}:http"]["Definition"]
                assert (probe["HTTP"], probe["Interval"], probe["Timeout"]) == ("http://10.0.0.7:8101/health", "10s", "2s")
                assert checks[f"service:{HOME.id}:ttl"]["Definition"] == {}
                body = {"Node": node_of(HOME), "Address": "10.0.0.7", "SkipNodeUpdate": True}
                down = {**checks[f"service:{HOME.id}:http"], "Status": "critical", "Output": "refused"}
                await aside(dev.put, "/v1/catalog/register", {**body, "Check": down})
                reason = await home.registrar.mismatch(HOME)
                assert reason is not None
                assert "is critical (refused) while we pass" in reason
                await home.registrar.withdraw(HOME)

        play(test)

    def test_a_token_that_may_not_see_the_node_is_told(self, guarded: consul.Consul) -> None:
        """What is left out is not taken for what is not there: that would be registered again for ever."""

        async def test() -> None:
            async with site(guarded, query="?catalog=true", token=token) as home:
                with pytest.raises(PeerError, match=r"answered 403|it needs node:read"):
                    await home.registrar.register(HOME, "passing", "ok")

        token = guarded.token('service_prefix "" { policy = "write" }')
        play(test)


class TestSeveral:
    """More than one registry in one process."""

    def test_a_service_registers_in_one_and_finds_each_peer_where_that_is(self, dev: consul.Consul, tmp_path: Path) -> None:
        """The token of the one is not shown to the other, and two views of one agent do not mix."""

        async def test() -> None:
            async with site(dev, token="of-home") as home, site(legacy) as there:
                stock = Instance("stock-10.1.0.1-80", "stock", "10.1.0.1", 80, meta={"boot": "s1"})
                await there.registrar.register(stock, "passing", "ok")
                await home.registrar.register(HOME, "passing", "ok")
                users, stocks = home.watch("user"), home.watch("stock", f"{legacy.url}?dc=legacy")
                nowhere, tagged = home.watch("user", f"{dev.url}?dc=nowhere"), home.watch("user", f"{dev.url}?tag=green")
                fixed = home.watch("billing", "https://billing.example:8443")
                await until(lambda: users.ids == [HOME.id] and stocks.ids == [stock.id], lambda: (users.errors, stocks.errors))
                await until(lambda: tagged.ids == [] and nowhere.errors and fixed.sets)
                assert nowhere.sets == []
                assert [each.origin for each in fixed.sets[-1]] == ["https://billing.example:8443"]
                assert there.registrar is not home.registrar
                assert legacy.get("/v1/catalog/service/user") == dev.get("/v1/catalog/service/stock") == []
                await home.registrar.withdraw(HOME)

        with consul.server(tmp_path, datacenter="legacy") as legacy:
            play(test)
