"""The embedded registry against a model of a few lines: whatever is done to it, in whatever order, they say the same.

The model keeps what each instance was told and works everything out anew each time; the registry keeps indexes, a
timetable and who waits, and must never be found out by it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.edges.registry import Registry
from mizzen.words.message import Request, Response

TTLS, FORGET = (10.0, 500.0), 60.0
TTL = TTLS[0]
NAMES, IDS, TAGS = ("user", "order"), ("a", "b", "c"), ("", "v1", "v2")
STATUSES = ("passing", "warning", "critical")


class Time:
    """Time that passes when it is told to, exactly."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        await settle()
        while due := [each for each in self._sleepers if each[0] <= end]:
            first = min(due, key=lambda each: each[0])
            self._sleepers.remove(first)
            self.now = max(self.now, first[0])
            first[1].set()
            await settle()
        self.now = end


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


class Instance:
    """What one instance was told, and when."""

    def __init__(self, name: str, tag: str) -> None:
        self.name = name
        self.tag = tag
        self.status = ""
        self.since = 0.0
        self.ttl = 0.0
        self.expires: float | None = 0.0
        self.forget = False
        self.maintenance = False


class Model:
    """What a registry is meant to know."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.node_maintenance = False
        self.external: dict[str, tuple[str, str]] = {}

    def register(self, now: float, id: str, name: str, tag: str, status: str, ttl: float, forget: bool) -> None:
        known = self.instances.get(id)
        fresh = Instance(name, tag)
        fresh.status, fresh.since = (known.status, known.since) if known else (status, now)
        fresh.maintenance = known.maintenance if known else False
        fresh.ttl, fresh.expires, fresh.forget = ttl, now + ttl, forget
        self.instances[id] = fresh

    def beat(self, now: float, id: str, status: str) -> bool:
        known = self.instances.get(id)
        if known is None:
            return False
        if known.status != status:
            known.status, known.since = status, now
        known.expires = now + known.ttl
        return True

    def pass_by(self, until: float) -> None:
        """Expire and forget in the order of time."""
        while True:
            times = [(each.expires, id) for id, each in self.instances.items() if each.expires is not None]
            times += [
                (each.since + FORGET, id) for id, each in self.instances.items() if each.forget and each.status == "critical"
            ]
            if not times or min(times)[0] > until:
                return
            at, id = min(times)
            each = self.instances[id]
            if each.forget and each.status == "critical" and each.since + FORGET <= at:
                del self.instances[id]
                continue
            each.expires = None
            if each.status != "critical":
                each.status, each.since = "critical", at

    def passing(self, name: str) -> set[str]:
        own = {
            id
            for id, each in self.instances.items()
            if each.name == name and each.status == "passing" and not each.maintenance and not self.node_maintenance
        }
        return own | {id for id, (of, status) in self.external.items() if of == name and status == "passing"}

    def all(self, name: str) -> set[str]:
        mine = {id for id, each in self.instances.items() if each.name == name}
        return mine | {id for id, (of, _) in self.external.items() if of == name}

    def tags(self) -> dict[str, list[str]]:
        names: dict[str, set[str]] = {"consul": set()}
        for each in self.instances.values():
            names.setdefault(each.name, set()).update({each.tag} - {""})
        for name, _ in self.external.values():
            names.setdefault(name, set())
        return {name: sorted(tags) for name, tags in sorted(names.items())}


class World:
    """The registry and its model, done to alike."""

    def __init__(self) -> None:
        self.time = Time()
        self.registry = Registry(
            clock=lambda: self.time.now, wall=lambda: 1_700_000_000.0, sleep=self.time.sleep, probe=self._probe
        )
        self.model = Model()

    async def _probe(self, request: Request) -> Response:
        raise AssertionError("nothing is probed here")

    async def ask(self, method: str, target: str, body: Any = None) -> Response:
        path, _, query = target.partition("?")
        content = b"" if body is None else json.dumps(body).encode()
        return await self.registry.handler(Request(method, path, query=query, body=content))

    async def put(self, target: str, body: Any = None) -> int:
        return (await self.ask("PUT", f"/v1/{target}", body)).status

    async def get(self, target: str) -> Any:
        answer = await self.ask("GET", f"/v1/{target}")
        assert answer.status == 200, answer.body
        return answer.json()

    # -- what is done to both

    async def register(self, id: str, name: str, tag: str, status: str, ttl: float, forget: bool) -> None:
        check = {"CheckID": f"c{id}", "TTL": f"{ttl}s", "Status": status}
        check |= {"DeregisterCriticalServiceAfter": f"{FORGET}s"} if forget else {}
        body = {"ID": id, "Name": name, "Port": 80, "Tags": [tag] if tag else [], "Check": check}
        assert await self.put("agent/service/register", body) == 200
        self.model.register(self.time.now, id, name, tag, status, ttl, forget)

    async def deregister(self, id: str) -> None:
        known = self.model.instances.pop(id, None)
        assert await self.put(f"agent/service/deregister/{id}") == (404 if known is None else 200)

    async def beat(self, id: str, status: str) -> None:
        verb = {"passing": "pass", "warning": "warn", "critical": "fail"}[status]
        known = self.model.beat(self.time.now, id, status)
        assert await self.put(f"agent/check/{verb}/c{id}") == (200 if known else 404)

    async def maintain(self, id: str, on: bool) -> None:
        known = self.model.instances.get(id)
        if known is not None:
            known.maintenance = on
        assert await self.put(f"agent/service/maintenance/{id}?enable={str(on).lower()}") == (404 if known is None else 200)

    async def maintain_node(self, on: bool) -> None:
        self.model.node_maintenance = on
        assert await self.put(f"agent/maintenance?enable={str(on).lower()}") == 200

    async def enter(self, id: str, name: str, status: str) -> None:
        body = {
            "Node": f"n-{id}",
            "Address": "10.0.0.9",
            "Service": {"ID": f"x{id}", "Service": name},
            "Check": {"CheckID": "c", "ServiceID": f"x{id}", "Status": status},
        }
        assert await self.put("catalog/register", body) == 200
        self.model.external[f"x{id}"] = (name, status)

    async def remove(self, id: str) -> None:
        assert await self.put("catalog/deregister", {"Node": f"n-{id}"}) == 200
        self.model.external.pop(f"x{id}", None)

    async def wait(self, seconds: float) -> None:
        await self.time.pass_by(seconds)
        self.model.pass_by(self.time.now)

    # -- what both say

    async def agree(self) -> None:
        for name in NAMES:
            for query, expected in (("?passing", self.model.passing(name)), ("", self.model.all(name))):
                found = [entry["Service"]["ID"] for entry in await self.get(f"health/service/{name}{query}")]
                assert (len(found), set(found)) == (len(expected), expected)
            assert {row["ServiceID"] for row in await self.get(f"catalog/service/{name}")} == self.model.all(name)
        assert await self.get("catalog/services") == self.model.tags()
        statuses = {check["CheckID"]: check["Status"] for check in (await self.get("agent/checks")).values()}
        expected = {f"c{id}": each.status for id, each in self.model.instances.items()}
        expected |= {f"_service_maintenance:{id}": "critical" for id, each in self.model.instances.items() if each.maintenance}
        expected |= {"_node_maintenance": "critical"} if self.model.node_maintenance else {}
        assert statuses == expected
        assert len(await self.get("health/state/any")) == len(expected) + len(self.model.external) + 1
        assert {node["Node"] for node in await self.get("catalog/nodes")} == {
            "mizzen",
            *(f"n-{id[1:]}" for id in self.model.external),
        }


READS = ("health/service/user", "health/service/user?passing", "health/checks/user", "health/state/any", "catalog/services",
         "catalog/service/user", "catalog/nodes", "catalog/node/mizzen", "health/node/mizzen")  # fmt: skip

Step = Callable[[World], Awaitable[None]]


def steps(most: int = 30) -> st.SearchStrategy[list[Step]]:
    ids, names, tags, statuses = (st.sampled_from(each) for each in (IDS, NAMES, TAGS, STATUSES))
    ttls = st.sampled_from(TTLS)
    # times that meet the ends of TTLs and of forgetting exactly, and by a hair
    seconds = st.sampled_from([0.0, 0.001, 1.0, TTL - 0.001, TTL, TTL + 0.001, FORGET - TTL, FORGET - 0.001, FORGET])
    one = st.one_of(
        st.builds(lambda *given: lambda world: world.register(*given), ids, names, tags, statuses, ttls, st.booleans()),
        st.builds(lambda *given: lambda world: world.deregister(*given), ids),
        st.builds(lambda *given: lambda world: world.beat(*given), ids, statuses),
        st.builds(lambda *given: lambda world: world.maintain(*given), ids, st.booleans()),
        st.builds(lambda on: lambda world: world.maintain_node(on), st.booleans()),
        st.builds(lambda *given: lambda world: world.enter(*given), ids, names, statuses),
        st.builds(lambda *given: lambda world: world.remove(*given), ids),
        st.builds(lambda each: lambda world: world.wait(each), seconds),
    )
    return st.lists(one, max_size=most)


@given(steps())
@settings(max_examples=200, deadline=None)
def test_whatever_is_done_the_answers_are_those_of_a_simple_model(done: list[Step]) -> None:
    """Register, deregister, beat, expire, forget, maintenance, catalog: in any order, at any time."""

    async def run() -> None:
        world = World()
        work = asyncio.create_task(world.registry.run())
        try:
            for step in done:
                await step(world)
                await world.agree()
            assert not work.done()
        finally:
            work.cancel()
            await asyncio.wait({work})

    asyncio.run(run())


@given(steps(most=15))
@settings(max_examples=150, deadline=None)
def test_a_read_whose_answer_changed_has_a_higher_index_and_wakes_who_waits(done: list[Step]) -> None:
    """And the other way round: the index of a read never goes back, and whoever waits wakes for nothing that is not his."""

    async def run() -> None:
        world = World()
        work = asyncio.create_task(world.registry.run())
        try:
            for step in done:
                before = {path: await world.ask("GET", f"/v1/{path}") for path in READS}
                waiting = {}
                for path, answer in before.items():
                    mark = "&" if "?" in path else "?"
                    target = f"/v1/{path}{mark}index={answer.headers['x-consul-index']}&wait=600s"
                    waiting[path] = asyncio.create_task(world.ask("GET", target))
                await settle()
                await step(world)
                await settle()
                for path, query in waiting.items():
                    now = await world.ask("GET", f"/v1/{path}")
                    old, new = (int(answer.headers["x-consul-index"]) for answer in (before[path], now))
                    assert new >= old, path
                    if query.done():
                        assert new > old, f"{path} woke for nothing"
                    else:  # what is not there is as new as the latest end of anything, and need not wake for it
                        assert plain(before[path]) == plain(now), f"{path} slept through a change"
                    query.cancel()
                await asyncio.wait(waiting.values())
        finally:
            work.cancel()
            await asyncio.wait({work})

    asyncio.run(run())


def plain(answer: Response) -> Any:
    """Without the outputs of checks, which do not move the index, as in Consul."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(each) for name, each in value.items() if name != "Output"}
        return [without(each) for each in value] if isinstance(value, list) else value

    return without(answer.json())
