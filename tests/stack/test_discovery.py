"""A change in the registry's answer, as the calls of a client meet it: the whole stack, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from stage import PORT, Stage, now, settle, stage

from mizzen.assembly.client import Client
from mizzen.assembly.peers import Peer
from mizzen.edges.http import PoolLimits
from mizzen.rules.config import ClientConfig
from mizzen.rules.discovery import HOLD, Feed
from mizzen.rules.events import RegistryBack, RegistryLost, SnapshotHeld
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import ConnectFailed, NoInstances, Unavailable
from mizzen.words.message import Request, Response
from mizzen.words.outcome import classify

LOST = ConnectFailed("refused", peer="consul")


class FakeRegistry:
    """A resolver whose answers the test gives; it remembers hints to look again."""

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.hints = 0

    async def watch(self, service: str, feed: Feed) -> None:
        self.feed = feed
        await asyncio.get_running_loop().create_future()

    def refresh(self, service: str) -> None:
        self.hints += 1


@asynccontextmanager
async def watched(*scripts: list[int]) -> AsyncIterator[Stage]:
    """A stage whose peer is started, so that its holds run out, with a registry that says nothing by itself."""
    async with stage(*scripts) as site:
        site.peer._resolver = FakeRegistry()
        site.peer.start()
        await settle()
        yield site


async def calls(site: Stage, seconds: int) -> Counter[str]:
    """Five calls a second that must all succeed; who answered them."""
    before = [len(played.requests) for played in site.played]
    for _ in range(5 * seconds):
        await site.client.get("/")
        await asyncio.sleep(0.2)
    return Counter({played.id: len(played.requests) - count for played, count in zip(site.played, before, strict=True)})


def test_one_withdrawn_of_three_gets_no_call_once_that_is_known() -> None:
    """Its idle connections are closed at once, the request that it answers just then is answered, and no other comes."""

    async def main() -> None:
        gate = asyncio.Event()
        gate.set()

        async def first_answers(_: Request) -> Response:
            await gate.wait()
            return Response(200, b"{}", content_type="application/json")

        async with stage(first_answers, [200], [200]) as site:
            first, *others = site.played
            for _ in range(10):  # several at once, so that each has more than one connection
                await asyncio.gather(*(site.client.get("/") for _ in range(9)))
            gate.clear()
            under_way = [asyncio.ensure_future(site.client.get("/")) for _ in range(3)]
            await settle()
            asked, before = len(first.requests), site.network.describe()["connections"]
            site.peer.store.snapshot([played.instance for played in others])
            await settle()
            assert site.network.describe()["connections"] < before
            for _ in range(50):
                await site.client.get("/")
            assert len(first.requests) == asked
            assert any(not call.done() for call in under_way)
            gate.set()
            assert len(await asyncio.gather(*under_way)) == 3
            assert len(first.requests) == asked

    run(main())


def test_a_call_that_waits_for_a_connection_to_one_withdrawn_goes_elsewhere() -> None:
    """At once, whatever its method, and free of charge: nothing of it was sent. What was sent before is answered."""

    async def main() -> None:
        gate = asyncio.Event()

        async def first_answers(_: Request) -> Response:
            await gate.wait()
            return Response(200, b"{}", content_type="application/json")

        async with stage(first_answers, [200]) as site:
            first, second = site.played
            for _ in range(2):
                site.peer.store.snapshot([first.instance])
            room = PoolLimits().connections
            calls = [asyncio.ensure_future(site.client.post("/", body={})) for _ in range(room + 10)]
            await settle()
            began, balance = now(), site.peer.budget.balance(now())
            for _ in range(2):
                site.peer.store.snapshot([second.instance])
            assert len(await asyncio.gather(*calls[room:])) == 10
            assert (now(), site.peer.budget.balance(now())) == (began, balance)
            gate.set()
            await asyncio.gather(*calls)
            assert (len(first.requests), len(second.requests)) == (room, 10)

    run(main())


def test_a_registry_without_its_memory_takes_no_traffic_from_those_that_answer() -> None:
    """For minutes after it came back empty every call is answered, and one that died meanwhile goes when its time is over."""

    async def main() -> None:
        async with watched([200], [200], [200]) as site:
            await calls(site, 2)
            site.peer.store.error(LOST)
            site.network.refuse(site.played[0].host, PORT)
            await site.played[0].server.drain(0)
            site.peer.store.snapshot(())
            await calls(site, round(HOLD) - 3)
            assert len(site.peer.store.instances) == 3
            share = await calls(site, 300)
            assert [each.id for each in site.peer.store.instances] == [played.id for played in site.played[1:]]
            assert all(share[played.id] > 500 for played in site.played[1:])
            assert site.peer.failed_calls == 0
            site.peer.store.snapshot([played.instance for played in site.played])
            assert site.peer.report()["state"] == "fresh"
            assert len(site.told(SnapshotHeld)) == 1

    run(main())


def test_a_service_that_nobody_calls_is_let_go_after_a_registry_without_memory() -> None:
    """Nothing speaks for an instance that neither the registry has nor anybody has had an answer from."""

    async def main() -> None:
        async with watched([200], [200]) as site:
            site.peer.store.error(LOST)
            site.peer.store.snapshot(())
            await asyncio.sleep(HOLD - 1.5)
            assert len(site.peer.balancer.endpoints) == 2
            await asyncio.sleep(3)
            assert site.peer.balancer.endpoints == ()

    run(main())


def test_peers_on_one_registry_lose_it_together() -> None:
    """One line for the registry however many peers it has, with what each is served from, and one when all have it back."""

    async def main() -> None:
        async with stage([200], [200]) as site:
            stock = Peer(
                Client("stock", required=False, timeout=None, retries=None, classify=classify),
                ClientConfig(),
                FakeRegistry(),
                backend=site.peer.backend,
                network=site.network,
                telemetry=site.telemetry,
                clock=now,
                random=lambda: 0.5,
            )
            for peer in (site.peer, stock):
                peer.store.error(LOST)
            await asyncio.sleep(40)
            stock.store.snapshot(())
            assert [type(event) for event in site.told(RegistryBack)] == []
            site.peer.store.snapshot([played.instance for played in site.played])
            assert [event.serving for event in site.told(RegistryLost)] == [{"user": 2, "stock": 0}]
            assert [event.seconds_lost for event in site.told(RegistryBack)] == [40]

    run(main())


def test_a_heartbeat_that_is_lost_makes_a_peer_doubt_what_the_registry_says_next() -> None:
    """A registry that hung strikes off one after the other who works; a hold after the heartbeat is back all is as before."""

    async def main() -> None:
        async with watched([200], [200], [200]) as site:
            tell, heard = site.telemetry.outages.announcer(site.peer.backend, clock=now)
            known = [played.instance for played in site.played]
            site.peer.store.snapshot(known)
            await calls(site, 2)
            tell(RegistryLost(site.peer.backend, 0.0, {}, "CallTimeout: no answer"))
            assert site.peer.report()["state"] == "fresh"
            for left in (2, 1, 0):
                site.peer.store.snapshot(known[:left])
                share = await calls(site, 2)
                assert all(share.values()), f"the registry has {left}"
            assert site.peer.report()["state"] == "held"
            heard()
            site.peer.store.snapshot(known)
            assert site.peer.report()["state"] == "fresh"
            assert len(site.told(RegistryLost)) == len(site.told(RegistryBack)) == 1
            await calls(site, round(HOLD) + 1)
            site.peer.store.snapshot(known[1:])
            share = await calls(site, 2)
            assert share[site.played[0].id] == 0
            assert site.peer.failed_calls == 0

    run(main())


def test_health_says_which_registry_knows_a_peer_and_what_is_known() -> None:
    """State, age and numbers of each peer, without the addresses of anybody."""

    async def main() -> None:
        async def nothing() -> dict[str, str]:
            return {}

        async with stage([200], [200]) as site, site.in_front(nothing) as pool:
            site.peer.store.error(LOST)
            await asyncio.sleep(1.5)
            answer = await pool.send(Request("GET", "/health"))
            body = answer.json()
            assert body["discovery"] == {
                "user": {
                    "registry": "static", "state": "stale", "age_s": 1.5, "instances": 2, "held": 0, "error": "refused",
                },
            }  # fmt: skip
            assert site.peer.describe()["store"]["instances"][0]["at"] == f"http://10.0.0.1:{PORT}"

    run(main())


def test_a_caller_is_not_told_what_may_hold_a_secret() -> None:
    """Why a registry cannot be read goes to whoever calls us and to /health: of an error that is not ours only its kind."""

    async def main() -> None:
        async with stage([200]) as site:
            peer = Peer(
                site.client,
                ClientConfig(),
                FakeRegistry(),
                backend="consul://10.0.3.2:8500",
                network=site.network,
                telemetry=site.telemetry,
                clock=now,
                random=lambda: 0.5,
            )
            site.client.line = peer
            said = "consul://10.0.3.2:8500 has not said where it is"
            for error, why in ((OSError("https://user:password@consul/"), "OSError"), (LOST, "refused")):
                peer.store.error(error)
                with pytest.raises(NoInstances) as met:
                    await site.client.get("/")
                assert met.value.detail == f"no instance of user: {said} ({why})"
                with pytest.raises(Unavailable) as failed:
                    peer.check()
                assert failed.value.detail == f"no instance: {said} ({why})"

    run(main())


def test_an_attempt_that_cannot_connect_makes_a_resolver_look_again() -> None:
    """The hint goes to a resolver that takes hints, for what may mean that an instance is gone, and for nothing else."""

    async def main() -> None:
        async with stage([200], [500]) as site:
            registry = FakeRegistry()
            peer = Peer(
                site.client,
                ClientConfig(),
                registry,
                backend="dns",
                network=site.network,
                telemetry=site.telemetry,
                clock=now,
                random=lambda: 0.5,
            )
            site.client.line = peer
            for played, hints in zip(site.played, (0, 0), strict=True):
                peer.store.snapshot([played.instance])
                peer.store.snapshot([played.instance])
                await asyncio.gather(site.client.get("/"), return_exceptions=True)
                assert registry.hints == hints
            site.network.refuse(site.played[0].host, PORT)
            peer.store.snapshot([site.played[0].instance])
            peer.store.snapshot([site.played[0].instance])
            await asyncio.gather(site.client.get("/"), return_exceptions=True)
            assert registry.hints == 3  # one for each attempt
            await peer.stop()

    run(main())
