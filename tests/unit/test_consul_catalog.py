"""The registrar that writes Consul's catalog, against the embedded registry; the real one is in the contract suite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from mizzen.edges.registry import Registry
from mizzen.edges.resolvers import ConsulCatalogRegistrar
from mizzen.edges.resolvers.consul.catalog import LOOK, node_of
from mizzen.rules.discovery import DuplicateId, Instance, Outdated
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallTimeout, ConnectFailed, PeerError
from mizzen.words.message import Request, Response

OLD = Instance("user-10.0.0.7-8101", "user", "10.0.0.7", 8101, meta={"boot": "b1"}, tags=("blue",), weight=3)
NEW = msgspec.structs.replace(OLD, meta={"boot": "b2"})
NODE = "mizzen-user-10-0-0-7-8101"
LOOKS = [f"GET /v1/catalog/node-services/{NODE}", f"GET /v1/health/node/{NODE}"]
PUT = "PUT /v1/catalog/register"


def now() -> float:
    return asyncio.get_running_loop().time()


class Catalog:
    """The embedded registry behind a wire on which the test may hold or answer each request."""

    def __init__(self) -> None:
        async def probe(request: Request) -> Response:
            return Response(200)

        self.registry = Registry(clock=now, wall=lambda: 1_700_000_000.0, sleep=asyncio.sleep, probe=probe)
        self.asked: list[str] = []
        self.sent: list[Any] = []
        self.before: Callable[[str], Awaitable[Response | None]] | None = None

    async def call(self, request: Request) -> Response:
        what = f"{request.method} {request.path}" + (f"?{request.query}" if request.query else "")
        self.asked.append(what)
        self.sent.append(json.loads(await request.read() or b"null"))
        if self.before is not None and (answer := await self.before(what)) is not None:
            return answer
        return await self.registry.handler(request)

    async def said(self, method: str, path: str, *, query: str = "", body: Any = None) -> Any:
        text = b"" if body is None else json.dumps(body).encode()
        response = await self.registry.handler(Request(method, path, query=query, body=text))
        assert response.status == 200, response.body
        return response.json() if response.body else None

    async def boots(self) -> list[str]:
        """Of the lives that are registered."""
        return [each["ServiceMeta"]["boot"] for each in await self.said("GET", "/v1/catalog/service/user")]

    async def passing(self) -> int:
        return len(await self.said("GET", "/v1/health/service/user", query="passing"))

    def registrar(self, **options: Any) -> ConsulCatalogRegistrar:
        return ConsulCatalogRegistrar(self.call, token=lambda: None, clock=now, **options)


def scene(play: Callable[[Catalog], Awaitable[None]]) -> None:
    async def main() -> None:
        await play(Catalog())

    run(main())


@pytest.mark.parametrize(
    ("id", "node"),
    [
        ("user-10.0.0.7-8101", NODE),
        ("user-fd00::7-80", "mizzen-user-fd00-7-80"),
        ("user-/run/u.sock", "mizzen-user-run-u-sock"),
    ],
)
def test_the_node_is_no_agents(id: str, node: str) -> None:
    """Its name tells what made it, and has only what Consul takes in names."""
    assert node_of(msgspec.structs.replace(OLD, id=id)) == node


def test_a_registration_carries_the_verdict_and_describes_the_probe() -> None:
    """The check with our verdict has no definition, so that nobody else makes it; the probe is for consul-esm."""

    async def play(catalog: Catalog) -> None:
        await catalog.registrar(dc="north").register(OLD, "critical", "database is away")
        assert catalog.asked == [f"{LOOKS[0]}?dc=north", PUT]
        common = {"Node": NODE, "ServiceID": OLD.id, "Status": "critical"}
        probe = {"HTTP": "http://10.0.0.7:8101/health", "Method": "GET", "Interval": "10000ms", "Timeout": "2000ms"}
        assert catalog.sent[1] == {
            "Node": NODE,
            "Address": "10.0.0.7",
            "NodeMeta": {"external-node": "true", "external-probe": "true"},
            "Datacenter": "north",
            "Service": {
                "ID": OLD.id,
                "Service": "user",
                "Address": "10.0.0.7",
                "Port": 8101,
                "Tags": ["blue"],
                "Meta": {"boot": "b1", "scheme": "http"},
                "Weights": {"Passing": 3, "Warning": 1},
                "EnableTagOverride": False,
            },
            "Checks": [
                {**common, "CheckID": f"service:{OLD.id}:ttl", "Name": "verdict", "Output": "database is away"},
                {**common, "CheckID": f"service:{OLD.id}:http", "Name": "health", "Definition": probe},
            ],
        }

    async def answering(catalog: Catalog) -> None:
        async def fine(what: str) -> Response | None:
            return Response.json_of({"Services": []}) if what.startswith("GET") else Response.json_of(True)

        catalog.before = fine
        await play(catalog)

    scene(answering)


def test_a_beat_says_nothing_while_nothing_changed_and_looks_now_and_then() -> None:
    """A write goes through the consensus of all servers; a look is two reads, every fifteen seconds."""

    async def play(catalog: Catalog) -> None:
        registrar = catalog.registrar()
        await registrar.register(OLD, "passing", "ok")
        catalog.asked.clear()
        for _ in range(12):
            await asyncio.sleep(5)
            assert await registrar.beat(OLD, "passing", "ok")
        assert catalog.asked == LOOKS * round(60 / LOOK)

    scene(play)


def test_a_verdict_that_changed_is_written_at_once() -> None:
    """Alone, without the service and its node."""

    async def play(catalog: Catalog) -> None:
        registrar = catalog.registrar(http_check=False)
        await registrar.register(OLD, "passing", "ok")
        assert await catalog.passing() == 1
        catalog.asked.clear()
        assert await registrar.beat(OLD, "critical", "database is away")
        assert catalog.asked == [*LOOKS, PUT]
        assert await catalog.passing() == 0
        assert await registrar.beat(OLD, "passing", "ok")
        assert await catalog.passing() == 1

    scene(play)


def test_a_beat_for_what_was_never_registered_says_so() -> None:
    """False means: register."""

    async def play(catalog: Catalog) -> None:
        assert await catalog.registrar().beat(OLD, "passing", "ok") is False
        assert catalog.asked == []

    scene(play)


def test_an_entry_that_is_gone_is_found_out_by_the_next_look() -> None:
    """Whoever removed it: an operator, or a cluster that came back from a backup."""

    async def play(catalog: Catalog) -> None:
        registrar = catalog.registrar()
        await registrar.register(OLD, "passing", "ok")
        await catalog.said("PUT", "/v1/catalog/deregister", body={"Node": NODE})
        await asyncio.sleep(LOOK)
        assert await registrar.beat(OLD, "passing", "ok") is False
        await registrar.register(OLD, "passing", "ok")
        assert await catalog.boots() == ["b1"]

    scene(play)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"Service": {"ID": OLD.id, "Service": "user", "Address": "10.9.9.9", "Meta": OLD.meta}}, "had our entry edited"),
        ({"Check": {"CheckID": f"service:{OLD.id}:ttl", "ServiceID": OLD.id, "Status": "critical"}},
         "had our verdict edited or removed"),
    ],
    ids=["entry", "verdict"],
)  # fmt: skip
def test_what_was_edited_is_told_by_the_next_look_and_mended(edit: dict[str, Any], said: str) -> None:
    """Nobody else writes there on purpose: the driver puts back what it wrote, and says what it found."""

    async def play(catalog: Catalog) -> None:
        registrar = catalog.registrar()
        await registrar.register(OLD, "passing", "ok")
        await catalog.said("PUT", "/v1/catalog/register", body={"Node": NODE, "Address": "10.0.0.7", **edit})
        await asyncio.sleep(LOOK)
        with pytest.raises(Outdated, match=said):
            await registrar.beat(OLD, "passing", "ok")
        await registrar.register(OLD, "passing", "ok")
        await asyncio.sleep(LOOK)
        assert await registrar.beat(OLD, "passing", "ok")
        assert await catalog.passing() == 1

    scene(play)


def test_a_look_that_failed_is_made_again_by_the_next_beat() -> None:
    """While Consul cannot be asked no beat may say that all is well."""

    async def play(catalog: Catalog) -> None:
        async def cut(what: str) -> Response | None:
            raise ConnectFailed("refused")

        registrar = catalog.registrar()
        await registrar.register(OLD, "passing", "ok")
        await asyncio.sleep(LOOK)
        catalog.before = cut
        for _ in range(3):
            with pytest.raises(ConnectFailed):
                await registrar.beat(OLD, "passing", "ok")
            await asyncio.sleep(1)
        catalog.before = None
        catalog.asked.clear()
        assert await registrar.beat(OLD, "passing", "ok")
        assert catalog.asked == LOOKS

    scene(play)


def test_another_life_under_the_id_is_an_error_that_names_both() -> None:
    """The earlier one neither writes its verdict over the other's nor registers over it."""

    async def play(catalog: Catalog) -> None:
        first, second = catalog.registrar(), catalog.registrar()
        await first.register(OLD, "passing", "ok")
        await second.register(NEW, "passing", "ok")
        for say in (first.beat, first.register):
            with pytest.raises(DuplicateId, match=r"is now boot b2 at .*, while we are boot b1"):
                await say(OLD, "critical", "going")
        await first.withdraw(OLD)
        assert (await catalog.boots(), await catalog.passing()) == (["b2"], 1)

    scene(play)


def test_a_withdrawal_removes_the_node_too_and_may_be_repeated() -> None:
    """Nothing is left of an instance that went in order."""

    async def play(catalog: Catalog) -> None:
        registrar = catalog.registrar()
        await registrar.register(OLD, "passing", "ok")
        for _ in range(2):
            await registrar.withdraw(OLD)
            assert NODE not in [each["Node"] for each in await catalog.said("GET", "/v1/catalog/nodes")]

    scene(play)


def test_a_withdrawal_that_is_overtaken_removes_nothing() -> None:
    """Between its read and its removal a life took the place: the index is another, and the removal is refused."""

    async def play(catalog: Catalog) -> None:
        await catalog.registrar().register(OLD, "passing", "ok")

        async def overtake(what: str) -> Response | None:
            if what == "PUT /v1/txn":
                catalog.before = None
                await catalog.registrar().register(NEW, "passing", "ok")
            return None

        catalog.before = overtake
        await catalog.registrar().withdraw(OLD)
        assert await catalog.boots() == ["b2"]

    scene(play)


def test_a_server_that_hangs_is_sent_no_registration() -> None:
    """It is asked something harmless first: a registration in its buffers would land when we are long gone."""

    async def play(catalog: Catalog) -> None:
        async def hang(what: str) -> Response | None:
            raise CallTimeout("no answer")

        catalog.before = hang
        with pytest.raises(CallTimeout):
            await catalog.registrar().register(OLD, "passing", "ok")
        assert catalog.asked == [LOOKS[0]]

    scene(play)


def test_what_may_not_be_seen_is_an_error() -> None:
    """It may be there: to register it again and again would be wrong, and to leave it unsaid too."""

    async def play(catalog: Catalog) -> None:
        async def filtered(what: str) -> Response | None:
            return Response(200, b'{"Services":null}', headers={"x-consul-results-filtered-by-acls": "true"})

        catalog.before = filtered
        with pytest.raises(PeerError, match="it needs node:read"):
            await catalog.registrar().register(OLD, "passing", "ok")

    scene(play)
