"""One suite for every registry: what a registrar writes, a resolver reads, whatever stands between them.

It runs against the embedded registry, a real Consul agent in development mode, and the client agent of three real
servers. A backend is no more than a `Handler` to an agent and a way to let time pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from servers import consul

from mizzen.edges.registry import Registry
from mizzen.edges.resolvers import ConsulRegistrar, ConsulResolver
from mizzen.rules.discovery import Instance, instance_id
from mizzen.words.errors import ConnectFailed
from mizzen.words.message import Headers, Request, Response

PATIENCE = 10.0
"""Seconds until a change that does not come is a failure; never waited for when all is well."""


class Backend(ABC):
    """An agent that the suite talks to."""

    address: tuple[str, int]
    """Where it answers HTTP checks itself: 200 under ``/v1/status/leader``, 404 under ``/nothing``."""
    wait: float
    """Seconds that a blocking query may take."""

    @abstractmethod
    async def call(self, request: Request) -> Response:
        """The handler for both drivers."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Sleep as the resolver does."""

    @abstractmethod
    async def pass_by(self, seconds: float) -> None:
        """Let that time pass for the agent."""

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Around each test."""
        yield

    async def put(self, path: str, query: str = "", body: Any = None) -> Response:
        """Write past the drivers, as an operator does."""
        response = await self.call(Request("PUT", path, query=query, body=b"" if body is None else json.dumps(body).encode()))
        await response.read()
        return response

    async def get(self, path: str, query: str = "") -> Response:
        response = await self.call(Request("GET", path, query=query))
        await response.read()
        return response


class Embedded(Backend):
    """The embedded registry, in memory, in a time of its own."""

    address = ("127.0.0.1", 8599)
    wait = 60.0

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self._registry = Registry(
            clock=lambda: self.now, wall=lambda: 1_700_000_000.0, sleep=self.sleep, probe=self._probe, connect=None
        )

    async def call(self, request: Request) -> Response:
        return await self._registry.handler(request)

    async def _probe(self, request: Request) -> Response:
        assert request.headers["host"] == "127.0.0.1:8599"
        return await self._registry.handler(Request(request.method, request.path, query=request.query))

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        await _settle()
        while due := [each for each in self._sleepers if each[0] <= end]:
            first = min(due, key=lambda each: each[0])
            self._sleepers.remove(first)
            self.now = max(self.now, first[0])
            first[1].set()
            await _settle()
        self.now = end

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        work = asyncio.create_task(self._registry.run())
        try:
            yield
        finally:
            work.cancel()
            await asyncio.wait({work})


class Agent(Backend):
    """A real Consul agent over a real socket; HTTP/1.0 keeps the client down to a few lines."""

    wait = 1.0

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)

    async def call(self, request: Request) -> Response:
        try:
            reader, writer = await asyncio.open_connection(*self.address)
        except OSError as error:
            raise ConnectFailed(str(error)) from None
        try:
            body = await request.read()
            fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
            query = f"?{request.query}" if request.query else ""
            head = f"{request.method} {request.path}{query} HTTP/1.0\r\ncontent-length: {len(body)}\r\n{fields}\r\n"
            writer.write(head.encode() + body)
            answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        head_bytes, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head_bytes.decode().split("\r\n")
        headers = Headers((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        return Response(int(status.split()[1]), body, headers=headers)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def pass_by(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture(
    scope="module",
    params=["embedded", *(pytest.param(name, marks=pytest.mark.servers) for name in ("consul", "cluster"))],
)
def agent_port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int | None]:
    """The port of a real agent of our own, or a skip that says how to get one; None for the embedded registry."""
    if request.param == "embedded":
        yield None
    elif request.param == "consul":
        with consul.development(tmp_path_factory.mktemp("consul")) as agent:
            yield agent.port
    else:
        with consul.cluster(tmp_path_factory.mktemp("cluster")) as (_, client):
            yield client.port


@pytest.fixture
def backend(agent_port: int | None) -> Backend:
    """Every backend in turn."""
    return Embedded() if agent_port is None else Agent(agent_port)


class Feed:
    """What the resolver said; waits for what a test expects."""

    def __init__(self) -> None:
        self.last: list[Instance] | None = None
        self.reads = 0
        self.errors: list[Exception] = []
        self._news = asyncio.Event()

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.last = sorted(instances, key=lambda instance: instance.id)
        self.reads += 1
        self._news.set()
        return False

    def error(self, error: Exception) -> None:
        self.errors.append(error)
        self._news.set()

    async def until(self, expected: list[Instance]) -> None:
        """Return once the last snapshot is that one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self.last != expected:
                    self._news.clear()
                    await self._news.wait()
        assert (self.last, self.errors) == (expected, [])


async def _settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


class Scene:
    """One service that is registered and watched on one backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.service = f"user-{uuid.uuid4().hex[:8]}"
        self.registrar = self.made_registrar()
        self.feed = Feed()

    def made_registrar(self, *, ttl: float = 15.0, http_check: bool = False, **more: Any) -> ConsulRegistrar:
        return ConsulRegistrar(self.backend.call, token=lambda: None, ttl=ttl, http_check=http_check, **more)

    def instance(self, host: str = "10.0.0.7", *, boot: str = "b1", port: int = 8101, **more: Any) -> Instance:
        id = instance_id(self.service, host, port)
        return Instance(id, self.service, host, port, meta={"boot": boot}, **more)


def on(backend: Backend, test: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a resolver that watches the scene's service."""

    async def run() -> None:
        scene = Scene(backend)
        resolver = ConsulResolver(
            backend.call, token=lambda: None, wait=backend.wait, sleep=backend.sleep, random=random.random
        )
        async with backend.at_work():
            watch = asyncio.create_task(resolver.watch(scene.service, scene.feed))
            try:
                await test(scene)
            finally:
                watch.cancel()
                await asyncio.wait({watch})

    asyncio.run(run())


class TestRegistrarAndResolver:
    """What every registrar and resolver owe each other."""

    def test_a_service_that_nobody_registered_has_no_instances(self, backend: Backend) -> None:
        """An empty set is an answer, and no error."""

        async def test(scene: Scene) -> None:
            await scene.feed.until([])

        on(backend, test)

    def test_what_is_registered_is_resolved_whole(self, backend: Backend) -> None:
        """Every field of an instance comes back as it went in, and the watch sees it without being asked."""

        async def test(scene: Scene) -> None:
            await scene.feed.until([])
            instance = scene.instance(scheme="https", version="1.4.2", zone="eu-1a", weight=7, tags=("blue", "canary"))
            instance = msgspec.structs.replace(instance, meta={"boot": "b1", "team": "blue"})
            await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])

        on(backend, test)

    def test_an_instance_with_an_ipv6_address_is_like_any_other(self, backend: Backend) -> None:
        """Colons in an id survive the way through paths."""

        async def test(scene: Scene) -> None:
            instance = scene.instance("fd00::7")
            await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])
            assert await scene.registrar.beat(instance, "passing", "ok")
            await scene.registrar.withdraw(instance)
            await scene.feed.until([])

        on(backend, test)

    def test_an_instance_registered_as_critical_is_not_resolved_until_it_passes(self, backend: Backend) -> None:
        """A registration carries the verdict; the heartbeat changes it."""

        async def test(scene: Scene) -> None:
            healthy, sick = scene.instance("10.0.0.1"), scene.instance("10.0.0.2")
            await scene.registrar.register(sick, "critical", "database is away")
            await scene.registrar.register(healthy, "passing", "ok")
            await scene.feed.until([healthy])
            assert await scene.registrar.beat(sick, "passing", "ok")
            await scene.feed.until([healthy, sick])

        on(backend, test)

    def test_the_heartbeat_carries_the_verdict(self, backend: Backend) -> None:
        """Critical takes an instance out, passing brings it back; both in one beat."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])
            assert await scene.registrar.beat(instance, "critical", "database is away")
            await scene.feed.until([])
            assert await scene.registrar.beat(instance, "passing", "ok")
            await scene.feed.until([instance])

        on(backend, test)

    def test_a_beat_for_an_instance_that_the_registry_does_not_know_says_so(self, backend: Backend) -> None:
        """False means: register again."""

        async def test(scene: Scene) -> None:
            assert await scene.registrar.beat(scene.instance(), "passing", "ok") is False

        on(backend, test)

    def test_a_lost_registration_is_noticed_by_the_next_beat_and_mended(self, backend: Backend) -> None:
        """A registry that forgot us is told anew, with the verdict of now."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])
            await backend.put(f"/v1/agent/service/deregister/{instance.id}")
            await scene.feed.until([])
            assert await scene.registrar.beat(instance, "passing", "ok") is False
            await scene.registrar.register(instance, "passing", "ok")
            assert await scene.registrar.beat(instance, "passing", "ok") is True
            await scene.feed.until([instance])

        on(backend, test)

    def test_registering_twice_is_registering_once(self, backend: Backend) -> None:
        """Repeating a registration changes nothing."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            for _ in range(3):
                await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])

        on(backend, test)

    def test_a_registration_over_a_critical_entry_is_passing_at_once(self, backend: Backend) -> None:
        """Registries keep the status of a check they know; a restarted instance does not wait for its first beat."""

        async def test(scene: Scene) -> None:
            crashed, restarted = scene.instance(boot="b1"), scene.instance(boot="b2")
            await scene.registrar.register(crashed, "passing", "ok")
            await scene.registrar.beat(crashed, "critical", "dying")
            await scene.feed.until([])
            await scene.registrar.register(restarted, "passing", "ok")
            await scene.feed.until([restarted])

        on(backend, test)

    def test_a_restarted_instance_takes_its_own_place(self, backend: Backend) -> None:
        """The same id under another boot id: no ghost, no second instance."""

        async def test(scene: Scene) -> None:
            before, after = scene.instance(boot="b1"), scene.instance(boot="b2")
            await scene.registrar.register(before, "passing", "ok")
            await scene.feed.until([before])
            await scene.registrar.register(after, "passing", "ok")
            await scene.feed.until([after])

        on(backend, test)

    def test_withdrawing_removes_the_instance_and_no_other(self, backend: Backend) -> None:
        """What is left is resolved on."""

        async def test(scene: Scene) -> None:
            leaves, stays = scene.instance("10.0.0.1"), scene.instance("10.0.0.2")
            for instance in (leaves, stays):
                await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([leaves, stays])
            await scene.registrar.withdraw(leaves)
            await scene.feed.until([stays])
            assert await scene.registrar.beat(leaves, "passing", "ok") is False

        on(backend, test)

    def test_withdrawing_what_is_not_there_succeeds(self, backend: Backend) -> None:
        """Gone is gone, whoever removed it."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            await scene.registrar.withdraw(instance)
            await scene.registrar.register(instance, "passing", "ok")
            await scene.registrar.withdraw(instance)
            await scene.registrar.withdraw(instance)
            await scene.feed.until([])

        on(backend, test)

    def test_withdrawing_removes_only_its_own_life(self, backend: Backend) -> None:
        """A process that stops late leaves the one that took its place alone."""

        async def test(scene: Scene) -> None:
            old, new = scene.instance(boot="b1"), scene.instance(boot="b2")
            await scene.registrar.register(old, "passing", "ok")
            await scene.registrar.register(new, "passing", "ok")
            await scene.registrar.withdraw(old)
            assert await scene.registrar.beat(new, "passing", "ok")
            await scene.feed.until([new])

        on(backend, test)

    def test_an_instance_that_stops_beating_goes_out_and_comes_back_with_a_beat(self, backend: Backend) -> None:
        """The TTL is what tells a dead process from a quiet one."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            registrar = scene.made_registrar(ttl=1.0)
            await registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])
            await backend.pass_by(1.5)
            await scene.feed.until([])
            assert await registrar.beat(instance, "passing", "ok")
            await scene.feed.until([instance])

        on(backend, test)

    def test_beats_keep_an_instance_in(self, backend: Backend) -> None:
        """Beating faster than the TTL is all it takes."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            registrar = scene.made_registrar(ttl=1.0)
            await registrar.register(instance, "passing", "ok")
            for _ in range(4):
                await backend.pass_by(0.5)
                assert await registrar.beat(instance, "passing", "ok")
            await scene.feed.until([instance])
            assert (await backend.get("/v1/agent/checks")).json()[f"service:{instance.id}:ttl"]["Status"] == "passing"

        on(backend, test)

    def test_the_registrys_own_probe_takes_out_what_it_cannot_reach_in_health(self, backend: Backend) -> None:
        """The worse of heartbeat and probe counts, and the mismatch has a reason."""

        async def test(scene: Scene) -> None:
            host, port = backend.address
            instance = scene.instance(host, port=port)
            registrar = scene.made_registrar(http_check=True, http_interval=1.0, health_path="/nothing")
            await registrar.register(instance, "passing", "ok")
            await backend.pass_by(2.5)
            await scene.feed.until([])
            reason = await registrar.mismatch(instance)
            assert reason is not None
            assert "/nothing is critical" in reason
            await registrar.withdraw(instance)

        on(backend, test)

    def test_the_registrys_own_probe_agrees_with_a_healthy_instance(self, backend: Backend) -> None:
        """A probe that answers 200 keeps the instance in."""

        async def test(scene: Scene) -> None:
            host, port = backend.address
            instance = scene.instance(host, port=port)
            registrar = scene.made_registrar(http_check=True, http_interval=1.0, health_path="/v1/status/leader")
            await registrar.register(instance, "passing", "ok")
            await backend.pass_by(2.5)
            await scene.feed.until([instance])
            assert await registrar.mismatch(instance) is None
            checks = (await backend.get("/v1/agent/checks")).json()
            assert "200 OK" in checks[f"service:{instance.id}:http"]["Output"]
            await registrar.withdraw(instance)

        on(backend, test)

    def test_a_probe_of_a_former_life_is_dropped_when_probes_are_off(self, backend: Backend) -> None:
        """Otherwise it would keep the instance out for ever."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            await scene.made_registrar(http_check=True).register(instance, "passing", "ok")
            await scene.registrar.register(instance, "passing", "ok")
            checks = (await backend.get("/v1/agent/checks")).json()
            assert f"service:{instance.id}:ttl" in checks
            assert f"service:{instance.id}:http" not in checks

        on(backend, test)

    def test_maintenance_mode_survives_every_registration(self, backend: Backend) -> None:
        """What an operator took out stays out until the operator ends it."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])
            await backend.put(f"/v1/agent/service/maintenance/{instance.id}", "enable=true&reason=upgrade")
            await scene.feed.until([])
            await scene.registrar.register(instance, "passing", "ok")
            assert await scene.registrar.beat(instance, "passing", "ok")
            checks = (await backend.get("/v1/agent/checks")).json()
            assert checks[f"_service_maintenance:{instance.id}"]["Notes"] == "upgrade"
            await backend.put(f"/v1/agent/service/maintenance/{instance.id}", "enable=false")
            await scene.feed.until([instance])

        on(backend, test)

    def test_a_quiet_watch_reads_again_and_again(self, backend: Backend) -> None:
        """A query that waited in vain is a read: the age of a set that does not change stays small."""

        async def test(scene: Scene) -> None:
            await scene.feed.until([])
            before = scene.feed.reads
            await backend.pass_by(backend.wait * 17 / 16 * 2 + 0.2)
            assert scene.feed.reads >= before + 1
            assert scene.feed.errors == []

        on(backend, test)


class TestAgentApi:
    """What the drivers rely on in the agent's own answers."""

    @pytest.mark.parametrize(
        ("method", "path", "query", "body", "status"),
        [
            ("GET", "/v1/agent/service/nobody", "", None, 404),
            ("PUT", "/v1/agent/service/deregister/nobody", "", None, 404),
            ("PUT", "/v1/agent/check/pass/nobody", "", None, 404),
            ("PUT", "/v1/agent/check/update/nobody", "", {"Status": "passing"}, 404),
            ("PUT", "/v1/agent/check/update/nobody", "", {"Status": "fine"}, 400),
            ("PUT", "/v1/agent/check/deregister/nobody", "", None, 404),
            ("PUT", "/v1/agent/service/maintenance/nobody", "", None, 400),
            ("PUT", "/v1/agent/service/maintenance/nobody", "enable=true", None, 404),
            ("PUT", "/v1/agent/service/register", "", {"Port": 80}, 400),
            ("PUT", "/v1/agent/service/register", "", {"Name": "x", "Check": {"Interval": "1s"}}, 400),
            ("PUT", "/v1/agent/service/register", "", {"Name": "x", "Check": {"TTL": "5s", "Status": "fine"}}, 400),
            ("GET", "/v1/health/service/", "", None, 400),
            ("GET", "/v1/health/service/nobody", "stale&consistent", None, 400),
            ("GET", "/v1/health/service/nobody", "index=many", None, 400),
            ("GET", "/v1/health/service/nobody", "index=1&wait=long", None, 400),
            ("GET", "/v1/health/service/nobody", "dc=nowhere", None, 500),
            ("GET", "/v1/agent/service/register", "", None, 405),
            ("GET", "/v1/status/leader", "", None, 200),
            ("GET", "/v1/agent/self", "", None, 200),
            ("GET", "/v1/catalog/datacenters", "", None, 200),
        ],
    )
    def test_a_request_gets_the_status_that_consul_gives_it(
        self, backend: Backend, method: str, path: str, query: str, body: Any, status: int
    ) -> None:
        """Mistakes are told by the same status everywhere."""

        async def test() -> Response:
            text = b"" if body is None else json.dumps(body).encode()
            return await backend.call(Request(method, path, query=query, body=text))

        answer = asyncio.run(test())
        assert (answer.status, answer.body) == (status, answer.body)

    def test_an_entry_has_the_fields_that_tools_read(self, backend: Backend) -> None:
        """Health, catalog and agent show a service under the names that Consul gives its fields."""

        async def test(scene: Scene) -> None:
            instance = scene.instance()
            await scene.registrar.register(instance, "passing", "ok")
            await scene.feed.until([instance])
            entry = (await backend.get(f"/v1/health/service/{scene.service}")).json()[0]
            assert set(entry) == {"Node", "Service", "Checks"}
            assert entry["Node"].keys() >= {"ID", "Node", "Address", "Datacenter", "TaggedAddresses", "Meta"}
            service = entry["Service"]
            assert service.keys() >= {"ID", "Service", "Tags", "Address", "Meta", "Port", "Weights", "ModifyIndex"}
            assert (service["ID"], service["Meta"]["boot"]) == (instance.id, "b1")
            assert service["ModifyIndex"] > 0
            assert [check["CheckID"] for check in entry["Checks"]] == ["serfHealth", f"service:{instance.id}:ttl"]
            row = (await backend.get(f"/v1/catalog/service/{scene.service}")).json()[0]
            assert (row["ServiceID"], row["ServiceAddress"], row["ServicePort"]) == (instance.id, "10.0.0.7", 8101)
            assert (await backend.get("/v1/catalog/services")).json()[scene.service] == []
            held = (await backend.get(f"/v1/agent/service/{instance.id}")).json()
            assert (held["Service"], held["Meta"]["boot"]) == (scene.service, "b1")
            check = (await backend.get(f"/v1/health/checks/{scene.service}")).json()[0]
            assert (check["ServiceID"], check["Status"], check["Type"]) == (instance.id, "passing", "ttl")

        on(backend, test)

    def test_registering_again_keeps_the_status_of_a_known_check(self, backend: Backend) -> None:
        """The trap behind the registrar's first beat."""

        async def test(scene: Scene) -> None:
            body = {"Name": scene.service, "Check": {"TTL": "60s", "Status": "critical"}}
            await backend.put("/v1/agent/service/register", body=body)
            body["Check"] = {"TTL": "60s", "Status": "passing"}
            await backend.put("/v1/agent/service/register", body=body)
            checks = (await backend.get("/v1/agent/checks")).json()
            assert checks[f"service:{scene.service}"]["Status"] == "critical"

        on(backend, test)

    def test_replacing_the_checks_ends_maintenance_mode(self, backend: Backend) -> None:
        """The trap behind never replacing them."""

        async def test(scene: Scene) -> None:
            body = {"Name": scene.service, "Check": {"TTL": "60s"}}
            await backend.put("/v1/agent/service/register", body=body)
            await backend.put(f"/v1/agent/service/maintenance/{scene.service}", "enable=true")
            assert f"_service_maintenance:{scene.service}" in (await backend.get("/v1/agent/checks")).json()
            await backend.put("/v1/agent/service/register", "replace-existing-checks=true", body)
            assert f"_service_maintenance:{scene.service}" not in (await backend.get("/v1/agent/checks")).json()

        on(backend, test)

    def test_a_check_without_a_status_starts_critical(self, backend: Backend) -> None:
        """The trap behind saying the verdict in every check."""

        async def test(scene: Scene) -> None:
            body = {"Name": scene.service, "Port": 80, "Checks": [{"TTL": "60s"}, {"TTL": "60s"}]}
            await backend.put("/v1/agent/service/register", body=body)
            checks = (await backend.get("/v1/agent/checks")).json()
            ids = [f"service:{scene.service}:{number}" for number in (1, 2)]
            assert [checks[id]["Status"] for id in ids] == ["critical", "critical"]

        on(backend, test)

    def test_a_read_with_an_index_waits_for_a_change_of_that_service(self, backend: Backend) -> None:
        """The index is above 1, is the same while nothing changes, and a change ends the wait."""

        async def test(scene: Scene) -> None:
            path = f"/v1/health/service/{scene.service}"
            await scene.registrar.register(scene.instance("10.0.0.1"), "passing", "ok")
            await scene.feed.until([scene.instance("10.0.0.1")])
            first = await backend.get(path)
            index = int(first.headers["x-consul-index"])
            assert index > 1
            waiting = asyncio.create_task(backend.get(path, f"index={index}&wait=5s"))
            await scene.registrar.register(scene.instance("10.0.0.2"), "passing", "ok")
            answer = await asyncio.wait_for(waiting, PATIENCE)
            assert int(answer.headers["x-consul-index"]) > index
            assert len(answer.json()) == 2

        on(backend, test)

    def test_a_read_with_an_index_of_another_life_waits_as_well(self, backend: Backend) -> None:
        """The trap behind reading without an index after every error: a number too high is no reason to answer."""

        async def test(scene: Scene) -> None:
            path = f"/v1/health/service/{scene.service}"
            await scene.feed.until([])
            index = int((await backend.get(path)).headers["x-consul-index"])
            waiting = asyncio.create_task(backend.get(path, f"index={index + 10**6}&wait=1s"))
            await backend.pass_by(0.4)
            assert not waiting.done()
            await backend.pass_by(1.5)
            answer = await asyncio.wait_for(waiting, PATIENCE)
            assert int(answer.headers["x-consul-index"]) < index + 10**6

        on(backend, test)
