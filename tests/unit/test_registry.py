"""The embedded registry: what it serves, what it refuses, and what its checks do. (What it shares with Consul is in
the contract suite.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from mizzen.edges.registry import Registry
from mizzen.edges.registry.index import Index
from mizzen.words.errors import ConnectFailed
from mizzen.words.message import Headers, Request, Response

BOOT = 1_700_000_000.0
PATIENCE = 20.0
"""Seconds until a query that is never answered is a failure; never waited for when all is well."""


class World:
    """A registry, its time, and the services that it probes."""

    def __init__(self, *, token: str | None = None, tcp: bool = True, instances: int = 100, random: float = 0.0) -> None:
        self.now = 1000.0
        self.probes: list[Request] = []
        self.connects: list[tuple[str, int]] = []
        self.health: Response | Exception = Response(200, b"fine")
        self.answers: asyncio.Event | None = None
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.registry = Registry(
            clock=lambda: self.now,
            wall=lambda: BOOT,
            sleep=self.sleep,
            probe=self.probe,
            connect=self.connect if tcp else None,
            token=token,
            random=lambda: random,
            instances=instances,
        )

    async def probe(self, request: Request) -> Response:
        self.probes.append(request)
        if self.answers is not None:
            await self.answers.wait()
        if isinstance(self.health, Exception):
            raise self.health
        return self.health

    async def connect(self, host: str, port: int) -> None:
        self.connects.append((host, port))
        if isinstance(self.health, Exception):
            raise self.health

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

    async def ask(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None, peer: str = ""
    ) -> Response:
        path, _, query = target.partition("?")
        text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return await self.registry.handler(
            Request(method, path, query=query, body=text, headers=Headers(headers or {}), peer=peer)
        )

    async def get(self, target: str) -> Any:
        response = await self.ask("GET", target)
        assert response.status == 200, response.body
        return response.json()

    async def put(self, target: str, body: Any = None) -> None:
        response = await self.ask("PUT", target, body)
        assert response.status == 200, response.body

    async def register(self, *checks: dict[str, Any], id: str = "u1", name: str = "user", **more: Any) -> None:
        body = {"ID": id, "Name": name, "Address": "10.0.0.7", "Port": 8101, "Checks": list(checks), **more}
        await self.put("/v1/agent/service/register", body)

    async def statuses(self) -> dict[str, str]:
        return {id: check["Status"] for id, check in (await self.get("/v1/agent/checks")).items()}

    async def index(self, name: str = "user") -> int:
        return int((await self.ask("GET", f"/v1/health/service/{name}")).headers["x-consul-index"])


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def play(test: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test with a registry whose checks are at work."""

    async def run() -> None:
        world = World(**options)
        work = asyncio.create_task(world.registry.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await test(world)
            assert not work.done(), "the checks go on for ever"
        finally:
            work.cancel()
            await asyncio.wait({work})

    asyncio.run(run())


TTL = {"CheckID": "beat", "TTL": "15s", "Status": "passing"}
HTTP = {
    "CheckID": "probe",
    "HTTP": "http://10.0.0.7:8101/health?deep=1",
    "Interval": "10s",
    "Timeout": "2s",
    "Status": "passing",
}
TCP = {"CheckID": "port", "TCP": "10.0.0.7:8101", "Interval": "10s", "Status": "passing"}


# -- who may ask


@pytest.mark.parametrize("peer", ["", "127.0.0.1", "127.0.0.1:40000", "[::1]:40000", "::1", "[::ffff:127.0.0.1]:40000"])
@pytest.mark.parametrize(
    "host", ["", "localhost", "localhost:8599", "127.0.0.1:8599", "[::1]:8599", "127.8.8.8", "dev.localhost"]
)
def test_this_machine_may_ask_under_a_name_of_its_own(peer: str, host: str) -> None:
    """Loopback in every spelling is served."""

    async def test(world: World) -> None:
        assert (await world.ask("GET", "/v1/status/leader", headers={"host": host} if host else {}, peer=peer)).status == 200

    play(test)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8599", "localhost.evil.example", "10.0.0.1:8599", "127.0.0.1.nip.io"]
)
def test_a_foreign_host_is_refused(host: str) -> None:
    """A page whose name was pointed at 127.0.0.1 still sends that name."""

    async def test(world: World) -> None:
        answer = await world.ask("GET", "/v1/status/leader", headers={"host": host}, peer="127.0.0.1:40000")
        assert (answer.status, host in str(answer.body)) == (403, True)

    play(test)


@pytest.mark.parametrize("options", [{}, {"token": "secret"}])
def test_an_origin_is_refused_whatever_else_is_shown(options: dict[str, str]) -> None:
    """Only web pages send one, and none has business here."""

    async def test(world: World) -> None:
        headers = {"origin": "http://localhost:8599", "x-consul-token": "secret"}
        assert (await world.ask("GET", "/v1/status/leader", headers=headers)).status == 403

    play(test, **options)


@pytest.mark.parametrize("peer", ["10.0.0.9:40000", "[fd00::9]:40000", "192.168.1.4", "[::ffff:10.0.0.9]:1"])
def test_other_machines_are_refused_without_a_token(peer: str) -> None:
    """Even when the listener was bound to more than loopback."""

    async def test(world: World) -> None:
        answer = await world.ask("GET", "/v1/status/leader", peer=peer)
        assert answer.status == 403
        assert b"start it with a token" in bytes(answer.body)  # type: ignore[arg-type]

    play(test)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-consul-token": "secret"}, 200),
        ({"authorization": "Bearer secret"}, 200),
        ({"x-consul-token": "guess"}, 403),
        ({"x-consul-token": "geheim ü"}, 403),
        ({}, 403),
    ],
)
def test_with_a_token_whoever_shows_it_may_ask(headers: dict[str, str], status: int) -> None:
    """From any machine and under any name; nobody else, this machine included."""

    async def test(world: World) -> None:
        headers["host"] = "registry.internal"
        assert (await world.ask("GET", "/v1/status/leader", headers=headers, peer="10.0.0.9:1")).status == status
        assert (await world.ask("GET", "/v1/status/leader", headers=headers, peer="127.0.0.1:1")).status == status

    play(test, token="secret")


def test_an_empty_token_is_none() -> None:
    """It would let everybody in who shows nothing."""

    async def test(world: World) -> None:
        assert (await world.ask("GET", "/v1/status/leader", peer="10.0.0.9:1")).status == 403
        assert (await world.ask("GET", "/v1/status/leader", headers={"host": "evil.example"})).status == 403
        assert (await world.ask("GET", "/v1/status/leader", headers={"host": "localhost"})).status == 200

    play(test, token="")


# -- what it refuses


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/kv/some/key"),
        ("PUT", "/v1/session/create"),
        ("PUT", "/v1/agent/force-leave/mizzen"),
        ("GET", "/v1/agent/connect/ca/roots"),
        ("GET", "/v1/agent/health/service/name/user"),
        ("GET", "/v1/catalog/connect/user"),
        ("GET", "/v1/health/ingress/user"),
        ("GET", "/v1/acl/tokens"),
    ],
)
def test_other_parts_of_consul_are_refused_by_name(method: str, target: str) -> None:
    """501, the request in question, and what to do instead."""

    async def test(world: World) -> None:
        answer = await world.ask(method, target)
        assert answer.status == 501
        text = bytes(answer.body).decode()  # type: ignore[arg-type]
        assert f"does not support {method} {target}" in text
        assert "run a Consul agent" in text

    play(test)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("/v1/health/service/user?filter=Service.Port==80", "filter"),
        ("/v1/health/service/user?near=_agent", "near"),
        ("/v1/health/service/user?ns=team", "ns"),
        ("/v1/agent/services?filter=x", "filter"),
        ("/v1/agent/services?hash=abc", "hash"),
        ("/v1/catalog/services?node-meta=a:b", "node-meta"),
        ("/v1/catalog/nodes?token=secret", "token"),
    ],
)
def test_a_parameter_without_meaning_here_is_refused_by_name(target: str, names: str) -> None:
    """Ignoring a filter in silence would answer another question."""

    async def test(world: World) -> None:
        await world.register()
        answer = await world.ask("GET", target)
        assert (answer.status, f"query parameter '{names}'" in str(answer.body)) == (400, True)

    play(test)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "decode"),
        (b"[]", "expected a service as an object"),
        ({"Name": ""}, "Missing service name"),
        ({"Name": "u", "Port": "80"}, "port: Expected"),
        ({"Name": "u", "Port": 70000}, "port: expected 0 to 65535"),
        ({"Name": "u", "Meta": {"a": 1}}, "meta: Expected"),
        ({"Name": "u", "TaggedAddresses": {"lan": {"Address": []}}}, "taggedaddresses: Expected"),
        ({"Name": "u", "Kind": "connect-proxy"}, "Kind in a service"),
        ({"Name": "u", "Connect": {"Native": True}}, "Connect in a service"),
        ({"Name": "u", "Token": "t"}, "Token in a service"),
        ({"Name": "u", "Weights": {"Failing": 3}}, "Failing"),
        ({"Name": "u", "Check": {"Args": ["rm"], "Interval": "1s"}}, "Args in a check"),
        ({"Name": "u", "Check": {"GRPC": "127.0.0.1:1", "Interval": "1s"}}, "GRPC in a check"),
        ({"Name": "u", "Check": {"TTL": "5s", "HTTP": "http://127.0.0.1:1/", "Interval": "1s"}}, "exactly one"),
        ({"Name": "u", "Check": {}}, None),
        ({"Name": "u", "Check": {"Name": "x"}}, "TTL must be > 0"),
        ({"Name": "u", "Check": {"TTL": "0s"}}, "TTL must be > 0"),
        ({"Name": "u", "Check": {"TTL": "soon"}}, "ttl: expected a duration"),
        ({"Name": "u", "Check": {"TTL": 15}}, "ttl: Expected"),
        ({"Name": "u", "Check": {"HTTP": "http://127.0.0.1:1/"}}, "Interval must be > 0"),
        ({"Name": "u", "Check": {"HTTP": "ftp://127.0.0.1:1/", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"HTTP": "http://127.0.0.1:port/", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"TCP": "127.0.0.1", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"HTTP": "http://example.com/", "Interval": "1s"}}, "the name 'example.com'"),
        ({"Name": "u", "Check": {"HTTP": "http://8.8.8.8/", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"HTTP": "http://169.254.169.254/", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"TCP": "0.0.0.0:80", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"TCP": "[::ffff:8.8.8.8]:80", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"TCP": "[fd00:ec2::254]:80", "Interval": "1s"}}, "fd00:ec2::254"),
        ({"Name": "u", "Check": {"TCP": "192.0.2.1:80", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"TCP": "[2001::1]:80", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"TCP": "255.255.255.255:80", "Interval": "1s"}}, "loopback and private"),
        ({"Name": "u", "Check": {"TCP": f"[::1%{'a' * 300}]:80", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"TCP": "127.0.0.1:0", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"TCP": "127.0.0.1:80/path", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"TCP": "me@127.0.0.1:80", "Interval": "1s"}}, "cannot be probed"),
        ({"Name": "u", "Check": {"HTTP": "http://me:secret@127.0.0.1:1/", "Interval": "1s"}}, "Header"),
        ({"Name": "u", "Check": {**HTTP, "Header": {"Host": ["x"]}}}, "Host header"),
        ({"Name": "u", "Check": {**HTTP, "Header": {"x y": ["1"]}}}, "'x y' is not a header name"),
        ({"Name": "u", "Check": {**HTTP, "Header": {"x": ["a\r\nb: c"]}}}, "line break"),
        ({"Name": "u", "Check": {**HTTP, "Header": {"\u65e5": []}}}, "Invalid check: "),
        ({"Name": "u", "Check": {**HTTP, "Method": "A B"}}, "'A B' is no method"),
        ({"Name": "u", "Check": {**HTTP, "HTTP": "http://127.0.0.1:1/a b"}}, "percent-encoded"),
        ({"Name": "u", "Check": {**HTTP, "HTTP": "http://127.0.0.1:1/\u00e9"}}, "percent-encoded"),
        ({"Name": "u", "Check": {**TTL, "Status": "fine"}}, "Invalid check status: 'fine'"),
        ({"Name": "u", "Check": {**TTL, "CheckID": "serfHealth"}}, "serfHealth is the registry's own"),
        ({"Name": "u", "Checks": [TTL] * 11}, "at most 10"),
        (b"[" * 30_000, "too deep"),
    ],
)
def test_a_registration_that_means_nothing_here_is_refused(body: Any, says: str | None) -> None:
    """400 with the part that is wrong; empty fields, which clients send of all sorts, are none."""

    async def test(world: World) -> None:
        answer = await world.ask("PUT", "/v1/agent/service/register", body)
        if says is None:
            assert answer.status == 200
        else:
            assert (answer.status, says in bytes(answer.body).decode()) == (400, True), answer.body  # type: ignore[arg-type]
            assert await world.get("/v1/agent/services") == {}

    play(test)


def test_empty_fields_of_other_clients_are_let_pass() -> None:
    """What Consul's own client sends beside what it means."""

    async def test(world: World) -> None:
        await world.register(Kind="", Proxy=None, Connect={}, Namespace="", Check=None, EnableTagOverride=False)
        await world.put("/v1/agent/service/register", {"name": "snake", "enable_tag_override": False, "tagged_addresses": {}})
        assert set(await world.get("/v1/agent/services")) == {"u1", "snake"}

    play(test)


def test_a_body_that_is_too_large_is_refused() -> None:
    """64 KiB is a hundred times a registration."""

    async def test(world: World) -> None:
        assert (await world.ask("PUT", "/v1/agent/service/register", b" " * 70_000)).status == 413

    play(test)


def test_a_registry_holds_a_bounded_number_of_instances() -> None:
    """One that is held may register again, another one may not come in."""

    async def test(world: World) -> None:
        for number in range(3):
            await world.register(id=str(number))
        await world.register(id="1")
        entry = {"Node": "pod", "Address": "10.0.0.9", "Service": {"Service": "user"}}
        for path, body in (("agent/service/register", {"ID": "more", "Name": "user"}), ("catalog/register", entry)):
            assert (await world.ask("PUT", f"/v1/{path}", body)).status == 429
        assert len(await world.get("/v1/health/service/user")) == 3

    play(test, instances=3)


def test_a_service_and_a_node_have_a_bounded_number_of_checks() -> None:
    """Whoever registers again with other checks each time is refused before they fill the memory; the known ones may come."""

    async def test(world: World) -> None:
        def checks(first: int, count: int) -> list[dict[str, Any]]:
            return [{"CheckID": str(number), "TTL": "15s"} for number in range(first, first + count)]

        await world.register(*checks(0, 10))
        await world.register(*checks(5, 5))
        refused = await world.ask("PUT", "/v1/agent/service/register", {"ID": "u1", "Name": "user", "Checks": checks(5, 6)})
        assert (refused.status, b"10 checks" in bytes(refused.body)) == (429, True)  # type: ignore[arg-type]
        await world.put(
            "/v1/agent/service/register?replace-existing-checks", {"ID": "u1", "Name": "user", "Checks": checks(20, 10)}
        )
        assert len(await world.get("/v1/agent/checks")) == 10

        def entry(first: int, **more: Any) -> dict[str, Any]:
            named = [{"CheckID": str(number), **more} for number in range(first, first + 10)]
            return {"Node": "pod", "Address": "10.0.0.9", "Service": {"Service": "stock"}, "Checks": named}

        for number in range(0, 100, 10):
            await world.put("/v1/catalog/register", entry(number))
        await world.put("/v1/catalog/register", entry(200, ServiceID="stock"))
        await world.put("/v1/catalog/register", entry(200, ServiceID="stock"))
        for body in (entry(100), entry(300, ServiceID="stock")):
            assert (await world.ask("PUT", "/v1/catalog/register", body)).status == 429
        assert len(await world.get("/v1/health/node/pod")) == 110

    play(test)


def test_tcp_checks_are_refused_where_nothing_opens_connections() -> None:
    """Rather than being critical for ever."""

    async def test(world: World) -> None:
        answer = await world.ask("PUT", "/v1/agent/service/register", {"Name": "user", "Check": TCP})
        assert (answer.status, "TCP checks" in str(answer.body)) == (501, True)

    play(test, tcp=False)


@pytest.mark.parametrize(
    ("target", "status"), [("/", 404), ("/ui/", 404), ("/v1/health/state/fine", 400), ("/v1/agent/check/pass/", 400)]
)
def test_what_is_nowhere_is_said_to_be_nowhere(target: str, status: int) -> None:
    """Paths outside the API, states and ids that are none."""

    async def test(world: World) -> None:
        assert (await world.ask("GET", target)).status == status

    play(test)


def test_another_method_is_refused_with_the_ones_there_are() -> None:
    """405 as Consul gives it."""

    async def test(world: World) -> None:
        answer = await world.ask("POST", "/v1/agent/service/register")
        assert (answer.status, answer.body) == (405, b"method POST not allowed (expected PUT)")

    play(test)


# -- services


def test_the_index_begins_above_the_boot_time_in_milliseconds() -> None:
    """So that it goes forwards when a registry is started again."""

    async def test(world: World) -> None:
        assert await world.index() > BOOT * 1000

    play(test)


def test_the_index_of_a_service_moves_with_its_own_changes_only() -> None:
    """A watch of one service is not woken by another, nor by a beat without news."""

    async def test(world: World) -> None:
        await world.register(TTL)
        before = await world.index()
        await world.register({"TTL": "15s"}, id="s1", name="stock")
        await world.put("/v1/agent/check/pass/beat")
        await world.put("/v1/agent/check/pass/beat?note=other")
        await world.register(TTL)
        assert await world.index() == before
        assert await world.index("stock") > before
        await world.put("/v1/agent/check/warn/beat")
        after = await world.index()
        assert after > before
        await world.put("/v1/agent/service/deregister/u1")
        assert await world.index() > after

    play(test)


def test_an_id_that_moves_to_another_name_moves_both() -> None:
    """Watches of the old name and of the new one both hear of it."""

    async def test(world: World) -> None:
        await world.register(name="user")
        before = await world.index("user"), await world.index("account")
        await world.register(name="account")
        assert await world.index("user") > before[0]
        assert await world.index("account") > before[1]
        assert await world.get("/v1/health/service/user") == []

    play(test)


def test_passing_and_tag_select() -> None:
    """Every check must pass; several tags must all be there."""

    async def test(world: World) -> None:
        await world.register({**TTL, "CheckID": "a"}, id="a", Tags=["blue", "v1"])
        await world.register({**TTL, "CheckID": "b"}, id="b", Tags=["blue"])
        await world.put("/v1/agent/check/warn/b")

        async def ids(query: str) -> list[str]:
            return [entry["Service"]["ID"] for entry in await world.get(f"/v1/health/service/user?{query}")]

        assert await ids("") == ["a", "b"]
        assert await ids("passing") == ["a"]
        assert await ids("passing=true") == ["a"]
        assert await ids("passing=false") == ["a", "b"]
        assert await ids("tag=blue") == ["a", "b"]
        assert await ids("tag=blue&tag=v1") == ["a"]
        assert [row["ServiceID"] for row in await world.get("/v1/catalog/service/user?tag=v1")] == ["a"]
        assert (await world.ask("GET", "/v1/health/service/user?passing=perhaps")).status == 400

    play(test)


def test_the_catalog_shows_services_nodes_and_checks_by_state() -> None:
    """What the command line's ``catalog`` and a dashboard read."""

    async def test(world: World) -> None:
        await world.register(TTL, id="a", Tags=["v1"])
        await world.register({"CheckID": "c", "TTL": "5s"}, id="b", Tags=["v2"])
        assert await world.get("/v1/catalog/services") == {"consul": [], "user": ["v1", "v2"]}
        assert [node["Node"] for node in await world.get("/v1/catalog/nodes")] == ["mizzen"]
        states = {
            state: [each["CheckID"] for each in await world.get(f"/v1/health/state/{state}")]
            for state in ("any", "passing", "critical", "warning")
        }
        assert states == {
            "any": ["beat", "c", "serfHealth"],
            "passing": ["beat", "serfHealth"],
            "critical": ["c"],
            "warning": [],
        }
        assert [check["CheckID"] for check in await world.get("/v1/health/checks/user")] == ["beat", "c"]
        assert (await world.get("/v1/agent/self"))["Meta"]["embedded"] == "mizzen"

    play(test)


def test_pretty_is_for_people() -> None:
    """The same answer over several lines."""

    async def test(world: World) -> None:
        await world.register()
        plain, pretty = await world.ask("GET", "/v1/agent/services"), await world.ask("GET", "/v1/agent/services?pretty")
        assert plain.json() == pretty.json()
        assert b'{\n    "u1": {' in bytes(pretty.body)  # type: ignore[arg-type]

    play(test)


def test_an_id_of_a_check_belongs_to_the_last_who_registered_it() -> None:
    """Ids of checks are unique on an agent."""

    async def test(world: World) -> None:
        await world.register(TTL, id="a")
        await world.register(TTL, id="b")
        checks = await world.get("/v1/agent/checks")
        assert {check["ServiceID"] for check in checks.values()} == {"b"}
        await world.put("/v1/agent/service/deregister/b")
        await world.put("/v1/agent/service/deregister/a")
        assert await world.get("/v1/agent/checks") == {}

    play(test)


@pytest.mark.parametrize("id", ["a/b", "a//b/", "100%", "\u65e5 \u672c", "..", "register", "a?b#c", "+", "\x00", "a%2Fb"])
def test_an_id_of_any_characters_is_found_again(id: str) -> None:
    """Escaped as clients should, and with its slashes as they are, which some clients leave."""

    async def test(world: World) -> None:
        for safe in ("", "/"):
            named = quote(id, safe=safe)
            await world.register({**TTL, "CheckID": id}, id=id, name=id)
            await world.put(f"/v1/agent/check/fail/{named}")
            (entry,) = await world.get(f"/v1/health/service/{named}")
            assert (entry["Service"]["ID"], entry["Checks"][1]["Status"]) == (id, "critical")
            await world.put(f"/v1/agent/service/deregister/{named}")
            assert await world.get("/v1/agent/services") == {}

    play(test)


# -- queries that wait


def test_a_query_waits_until_its_service_changes() -> None:
    """Another service's change does not end it, its own does."""

    async def test(world: World) -> None:
        index = await world.index()
        query = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={index}&wait=60s"))
        await settle()
        await world.register(id="s1", name="stock")
        await settle()
        assert not query.done()
        assert world.registry.describe()["waiting"] == 1
        await world.register()
        answer = await query
        assert len(answer.json()) == 1
        assert int(answer.headers["x-consul-index"]) > index
        assert world.registry.describe()["waiting"] == 0

    play(test)


@pytest.mark.parametrize(
    ("wait", "seconds"), [("", 300), ("&wait=2s", 2), ("&wait=250ms", 0.25), ("&wait=1h", 600), ("&wait=0s", 300)]
)
def test_a_query_ends_when_its_time_is_over(wait: str, seconds: float) -> None:
    """Five minutes unless it says so, ten at most, and the index is the same then."""

    async def test(world: World) -> None:
        index = await world.index()
        query = asyncio.create_task(world.ask("GET", f"/v1/catalog/service/user?index={index}{wait}"))
        await world.pass_by(seconds - 0.05)
        assert not query.done()
        await world.pass_by(0.1)
        assert int((await query).headers["x-consul-index"]) == index

    play(test)


@pytest.mark.parametrize(
    "query", ["", "?index=0&wait=60s", "?index=5", "?wait=60s", "?cached", "?stale", "?consistent", "?dc=dc1"]
)
def test_a_query_that_missed_something_or_asks_for_nothing_new_does_not_wait(query: str) -> None:
    """Without an index, or with an old one, the answer comes at once."""

    async def test(world: World) -> None:
        async with asyncio.timeout(5):
            assert (await world.ask("GET", f"/v1/health/service/user{query}")).status == 200

    play(test)


def test_a_query_that_is_given_up_leaves_nothing_behind() -> None:
    """Its client went away."""

    async def test(world: World) -> None:
        query = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={await world.index()}"))
        await settle()
        query.cancel()
        await asyncio.wait({query})
        assert world.registry.describe()["waiting"] == 0
        assert repr(world.registry._state.index).endswith(", 0 topics waited for>")

    play(test)


def test_closing_lets_every_query_answer() -> None:
    """A registry that stops does not hold its server up."""

    async def test(world: World) -> None:
        index = await world.index()
        query = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={index}"))
        await settle()
        world.registry.close()
        assert (await query).status == 200
        assert (await world.ask("GET", f"/v1/health/service/user?index={index}")).status == 200

    play(test)


def test_queries_that_began_together_end_apart() -> None:
    """Up to a sixteenth later than they asked for, as in Consul."""

    async def test(world: World) -> None:
        query = asyncio.create_task(world.ask("GET", f"/v1/catalog/services?index={await world.index()}0&wait=160s"))
        await world.pass_by(164.9)
        assert not query.done()
        await world.pass_by(0.2)
        assert query.done()

    play(test, random=0.5)


def test_an_agents_service_is_waited_for_by_its_hash() -> None:
    """It answers when the registration changes, not when a check does, with 404 when it is gone, and when its time is over."""

    async def test(world: World) -> None:
        await world.register(TTL)
        seen = await world.ask("GET", "/v1/agent/service/u1")
        hashed = seen.headers["x-consul-contenthash"]
        assert seen.json()["ContentHash"] == hashed

        def wait(hash: str, seconds: int = 60) -> asyncio.Task[Response]:
            return asyncio.create_task(world.ask("GET", f"/v1/agent/service/u1?hash={hash}&wait={seconds}s"))

        assert (await wait("another")).status == 200
        query, over = wait(hashed), wait(hashed, 5)
        await settle()
        await world.put("/v1/agent/check/fail/beat")
        await world.pass_by(6)
        assert (query.done(), over.done()) == (False, True)
        await world.register(TTL, Tags=["new"])
        changed = (await query).headers["x-consul-contenthash"]
        assert changed != hashed
        query = wait(changed)
        await settle()
        await world.put("/v1/agent/service/deregister/u1")
        assert (await query).status == 404

    play(test)


# -- heartbeats


def test_a_heartbeat_expires() -> None:
    """Critical once the TTL is over, with the last output; any beat renews it."""

    async def test(world: World) -> None:
        await world.register(TTL)
        await world.put("/v1/agent/check/pass/beat?note=all%20good")
        await world.pass_by(14)
        await world.put("/v1/agent/check/pass/beat?note=all%20good")
        await world.pass_by(14)
        assert await world.statuses() == {"beat": "passing"}
        await world.pass_by(1.5)
        assert await world.statuses() == {"beat": "critical"}
        output = (await world.get("/v1/agent/checks"))["beat"]["Output"]
        assert output == "TTL expired (last output before timeout follows): all good"
        await world.put("/v1/agent/check/pass/beat")
        assert await world.statuses() == {"beat": "passing"}

    play(test)


def test_a_heartbeat_that_never_came_expires_as_well() -> None:
    """A registration with a status is good for one TTL."""

    async def test(world: World) -> None:
        await world.register(TTL)
        await world.pass_by(15.5)
        assert (await world.get("/v1/agent/checks"))["beat"]["Output"] == "TTL expired"

    play(test)


def test_beats_say_pass_warn_fail_or_any_of_them() -> None:
    """Four ways, one status; long outputs are cut."""

    async def test(world: World) -> None:
        await world.register(TTL)
        for verb, status in (("fail", "critical"), ("warn", "warning"), ("pass", "passing")):
            await world.put(f"/v1/agent/check/{verb}/beat?note={verb}")
            check = (await world.get("/v1/agent/checks"))["beat"]
            assert (check["Status"], check["Output"]) == (status, verb)
        await world.put("/v1/agent/check/update/beat", {"Status": "warning", "Output": "x" * 5000})
        check = (await world.get("/v1/agent/checks"))["beat"]
        assert (check["Status"], len(check["Output"]) < 4200, "captured 4096 of 5000 characters" in check["Output"]) == (
            "warning",
            True,
            True,
        )

    play(test)


def test_a_probed_check_takes_no_beats() -> None:
    """With the 500 and the words by which clients know it."""

    async def test(world: World) -> None:
        await world.register(HTTP)
        answer = await world.ask("PUT", "/v1/agent/check/pass/probe")
        assert (answer.status, answer.body) == (500, b'CheckID "probe" does not have associated TTL')

    play(test)


# -- probes


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (Response(200, b"fine"), "passing", "HTTP GET http://10.0.0.7:8101/health?deep=1: 200 OK Output: fine"),
        (Response(204), "passing", "204 No Content"),
        (Response(429), "warning", "429"),
        (Response(503, b"database"), "critical", "503 Service Unavailable Output: database"),
        (Response(302), "critical", "302"),
        (Response(799), "critical", "799"),
        (ConnectFailed("connection refused"), "critical", "ConnectFailed: connection refused"),
        (OSError("no route"), "critical", "OSError: no route"),
    ],
)
def test_an_http_check_is_what_its_probe_comes_to(answer: Response | Exception, status: str, says: str) -> None:
    """2xx passes, 429 warns, anything else is critical; the output says what happened."""

    async def test(world: World) -> None:
        world.health = answer
        await world.register(HTTP)
        await world.pass_by(1)
        check = (await world.get("/v1/agent/checks"))["probe"]
        assert (check["Status"], check["Type"], says in check["Output"]) == (status, "http", True)

    play(test)


def test_a_probe_says_where_it_goes_and_how_long_it_may_take() -> None:
    """Origin, host, path and query, timeout, and the headers of the registration."""

    async def test(world: World) -> None:
        await world.register({**HTTP, "Method": "POST", "Body": "ping", "Header": {"X-Probe": ["yes"], "User-Agent": ["me"]}})
        await world.register({"HTTP": "http://[::1]/health", "Interval": "10s"}, id="v6")
        await world.pass_by(1)
        first, second = world.probes
        assert (first.method, first.peer, first.path, first.query) == ("POST", "http://10.0.0.7:8101", "/health", "deep=1")
        assert (first.headers["host"], first.headers["x-probe"], first.headers.all("user-agent")) == (
            "10.0.0.7:8101",
            "yes",
            ["me"],
        )
        assert first.body == b"ping"
        assert first.call is not None
        assert first.call.timeout == 2.0
        assert (second.peer, second.headers["host"], second.headers["user-agent"]) == (
            "http://[::1]:80",
            "[::1]:80",
            "Consul Health Check",
        )

    play(test)


def test_probes_keep_their_interval() -> None:
    """The first one soon, then one per interval; less than a second is raised to one."""

    async def test(world: World) -> None:
        await world.register(HTTP)
        await world.pass_by(1)
        assert len(world.probes) == 1
        await world.pass_by(30)
        assert len(world.probes) == 4
        await world.put("/v1/agent/service/deregister/u1")
        await world.pass_by(30)
        assert len(world.probes) == 4
        await world.register({**HTTP, "Interval": "10ms"})
        await world.pass_by(10)
        assert len(world.probes) - 4 <= 11

    play(test)


def test_a_probe_under_way_is_not_begun_again() -> None:
    """A service that hangs is asked once."""

    async def test(world: World) -> None:
        world.answers = asyncio.Event()
        await world.register({**HTTP, "Interval": "1s", "Timeout": "60s"})
        await world.pass_by(50)
        assert len(world.probes) == 1
        world.answers.set()
        await world.pass_by(2)
        assert len(world.probes) == 3

    play(test)


def test_a_probe_may_not_take_for_ever() -> None:
    """It would take one of the places that there are for probes."""

    async def test(world: World) -> None:
        await world.register({**HTTP, "Timeout": "100h"})
        await world.pass_by(1)
        assert world.probes[0].call is not None
        assert world.probes[0].call.timeout == 60.0
        assert (await world.get("/v1/agent/checks"))["probe"]["Timeout"] == "1m0s"

    play(test)


def test_a_result_for_a_check_that_is_gone_is_dropped() -> None:
    """Replaced or deregistered while its probe was under way."""

    async def test(world: World) -> None:
        world.answers = asyncio.Event()
        world.health = Response(500)
        await world.register({**HTTP, "Timeout": "300s"})
        await world.pass_by(1)
        await world.put("/v1/agent/service/deregister/u1")
        await world.register({**HTTP, "Timeout": "300s"})
        index = await world.index()
        world.answers.set()
        await settle()
        assert await world.statuses() == {"probe": "passing"}
        assert await world.index() == index

    play(test)


def test_failures_count_once_enough_came_in_a_row() -> None:
    """FailuresBeforeWarning and FailuresBeforeCritical, after a success."""

    async def test(world: World) -> None:
        await world.register({**HTTP, "Interval": "1s", "FailuresBeforeCritical": 3, "FailuresBeforeWarning": 2})
        await world.pass_by(1)
        world.health = Response(500)
        seen = []
        for _ in range(3):
            await world.pass_by(1)
            seen.append((await world.statuses())["probe"])
        assert (seen[-1], sorted(set(seen), key=seen.index)) == ("critical", ["passing", "warning", "critical"])

    play(test)


def test_a_first_failure_counts_at_once() -> None:
    """A wrong address is told with the first probe, whatever the thresholds."""

    async def test(world: World) -> None:
        world.health = Response(404)
        await world.register({**HTTP, "FailuresBeforeCritical": 3})
        await world.pass_by(1)
        assert await world.statuses() == {"probe": "critical"}

    play(test)


def test_successes_count_once_enough_came_in_a_row() -> None:
    """SuccessBeforePassing, after a failure."""

    async def test(world: World) -> None:
        world.health = Response(500)
        await world.register({**HTTP, "Interval": "1s", "SuccessBeforePassing": 2})
        await world.pass_by(0.5)
        world.health = Response(200)
        await world.pass_by(1)
        assert await world.statuses() == {"probe": "critical"}
        await world.pass_by(1.5)
        assert await world.statuses() == {"probe": "passing"}

    play(test)


def test_a_tcp_check_is_whether_a_connection_opens() -> None:
    """Host and port as registered; refused is critical."""

    async def test(world: World) -> None:
        await world.register(TCP)
        await world.pass_by(1)
        assert world.connects == [("10.0.0.7", 8101)]
        assert (await world.get("/v1/agent/checks"))["port"]["Output"] == "TCP connect 10.0.0.7:8101: Success"
        world.health = ConnectionRefusedError("refused")
        await world.pass_by(10)
        assert await world.statuses() == {"port": "critical"}

    play(test)


def test_a_defect_in_a_probe_is_not_hidden() -> None:
    """An exception that is no result ends the registry's work, where its owner sees it."""

    async def test() -> None:
        world = World()
        world.health = ValueError("a defect")
        work = asyncio.create_task(world.registry.run())
        await world.register(HTTP)
        await world.pass_by(1)
        with pytest.raises(ExceptionGroup) as caught:
            await work
        assert str(caught.value.exceptions[0]) == "a defect"

    asyncio.run(test())


# -- the reaper and maintenance mode


def test_what_stays_critical_is_deregistered() -> None:
    """After its time and not before; a minute is the least."""

    async def test(world: World) -> None:
        await world.register({**TTL, "DeregisterCriticalServiceAfter": "10m"})
        await world.register({**TTL, "CheckID": "short", "DeregisterCriticalServiceAfter": "1s"}, id="short")
        await world.register({**TTL, "CheckID": "never"}, id="never")
        await world.pass_by(15 + 59)
        assert set(await world.get("/v1/agent/services")) == {"u1", "short", "never"}
        await world.pass_by(2)
        assert set(await world.get("/v1/agent/services")) == {"u1", "never"}
        await world.pass_by(600)
        assert set(await world.get("/v1/agent/services")) == {"never"}

    play(test)


def test_what_recovers_in_between_is_kept() -> None:
    """The time counts from when it became critical last."""

    async def test(world: World) -> None:
        await world.register({"CheckID": "beat", "TTL": "15s", "DeregisterCriticalServiceAfter": "1m"})
        await world.pass_by(50)
        await world.put("/v1/agent/check/pass/beat")
        await world.put("/v1/agent/check/fail/beat")
        await world.pass_by(50)
        assert set(await world.get("/v1/agent/services")) == {"u1"}

    play(test)


def test_registering_again_does_not_stop_the_reapers_clock() -> None:
    """A known check keeps its status, and since when it has it."""

    async def test(world: World) -> None:
        check = {"CheckID": "beat", "TTL": "15s", "DeregisterCriticalServiceAfter": "1m"}
        await world.register(check)
        await world.pass_by(40)
        await world.register(check)
        await world.pass_by(21)
        assert await world.get("/v1/agent/services") == {}

    play(test)


def test_maintenance_mode_is_a_critical_check_with_the_reason() -> None:
    """It may be begun and ended any number of times, and never runs out."""

    async def test(world: World) -> None:
        await world.register({**TTL, "TTL": "2h"})
        for _ in range(2):
            await world.put("/v1/agent/service/maintenance/u1?enable=true&reason=new%20disk")
        await world.pass_by(120)
        check = (await world.get("/v1/agent/checks"))["_service_maintenance:u1"]
        assert (check["Status"], check["Notes"], check["Name"]) == ("critical", "new disk", "Service Maintenance Mode")
        assert await world.get("/v1/health/service/user?passing") == []
        for _ in range(2):
            await world.put("/v1/agent/service/maintenance/u1?enable=false")
        assert len(await world.get("/v1/health/service/user?passing")) == 1

    play(test)


# -- faults


def test_the_registry_can_be_slow() -> None:
    """Every answer, or those under one path, comes late."""

    async def test(world: World) -> None:
        world.registry.faults.delay, world.registry.faults.path = 3.0, "/v1/health"
        slow, fast = (asyncio.create_task(world.ask("GET", path)) for path in ("/v1/health/service/user", "/v1/status/leader"))
        await settle()
        assert (slow.done(), fast.done()) == (False, True)
        await world.pass_by(3)
        assert (await slow).status == 200

    play(test)


def test_the_registry_can_refuse_and_then_does_nothing() -> None:
    """Any status, everywhere or under one path."""

    async def test(world: World) -> None:
        world.registry.faults.status, world.registry.faults.path = 429, "/v1/agent/service/register"
        assert (await world.ask("PUT", "/v1/agent/service/register", {"Name": "user"})).status == 429
        assert await world.get("/v1/agent/services") == {}
        world.registry.faults.clear()
        await world.register()
        assert repr(world.registry.faults) == "<Faults off>"

    play(test)


def test_the_registry_can_lose_its_memory() -> None:
    """Everything is gone, queries answer, the index goes on."""

    async def test(world: World) -> None:
        await world.register(TTL)
        index = await world.index()
        query = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={index}"))
        await settle()
        world.registry.faults.drop_state()
        answer = await query
        assert (answer.json(), int(answer.headers["x-consul-index"]) > index) == ([], True)
        assert (await world.ask("PUT", "/v1/agent/check/pass/beat")).status == 404

    play(test)


def test_the_index_can_go_back() -> None:
    """Queries that wait hear of it, and it goes forwards from there."""

    async def test(world: World) -> None:
        await world.register()
        index = await world.index()
        query = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={index}"))
        await settle()
        world.registry.faults.index_back(100)
        assert int((await query).headers["x-consul-index"]) == index - 100
        await world.register(id="u2")
        assert await world.index() == index - 99

    play(test)


def test_answers_can_be_filtered() -> None:
    """A token without rights sees nothing, and a header says so."""

    async def test(world: World) -> None:
        await world.register()
        world.registry.faults.filtered = True
        answer = await world.ask("GET", "/v1/health/service/user")
        assert (answer.json(), answer.headers["x-consul-results-filtered-by-acls"]) == ([], "true")

    play(test)


def test_the_registry_can_hang() -> None:
    """Nobody is answered, neither who asks now nor who waits already, until it goes on; one path can hang alone."""

    async def test(world: World) -> None:
        index = await world.index()
        waits = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={index}"))
        await settle()
        world.registry.faults.hang = True
        beat = asyncio.create_task(world.ask("GET", "/v1/status/leader"))
        await world.pass_by(400)
        assert (beat.done(), waits.done()) == (False, False)
        world.registry.faults.path = "/v1/health"
        assert (await world.ask("GET", "/v1/status/leader")).status == 200
        world.registry.faults.clear()
        assert [(await each).status for each in (beat, waits)] == [200, 200]

    play(test)


def test_a_registry_that_hangs_can_be_closed() -> None:
    """Its server would wait for it otherwise."""

    async def test(world: World) -> None:
        world.registry.faults.hang = True
        asked = asyncio.create_task(world.ask("GET", "/v1/status/leader"))
        await settle()
        world.registry.close()
        assert (await asked).status == 200

    play(test)


def test_a_registry_without_a_leader_answers_stale_reads_and_its_agents_writes() -> None:
    """As a cluster that has lost its quorum: nothing that must be current can be read."""

    async def test(world: World) -> None:
        world.registry.faults.leaderless = True
        await world.register(TTL)
        refused = await world.ask("GET", "/v1/health/service/user")
        assert (refused.status, refused.body) == (500, b"No cluster leader")
        stale = await world.ask("GET", "/v1/health/service/user?stale")
        assert (len(stale.json()), stale.headers["x-consul-knownleader"]) == (1, "false")

    play(test)


def test_the_registry_can_be_falsely_empty_and_wake_for_nothing() -> None:
    """An empty set that nothing marks, and an answer that is no change."""

    async def test(world: World) -> None:
        await world.register(TTL)
        index = await world.index()
        query = asyncio.create_task(world.ask("GET", f"/v1/health/service/user?index={index}"))
        await settle()
        world.registry.faults.wake()
        answer = await query
        assert (len(answer.json()), int(answer.headers["x-consul-index"])) == (1, index)
        world.registry.faults.empty = True
        answer = await world.ask("GET", "/v1/health/service/user")
        assert (answer.json(), "x-consul-results-filtered-by-acls" in answer.headers) == ([], False)

    play(test)


def test_the_token_can_change() -> None:
    """The one that clients have has expired then."""

    async def test(world: World) -> None:
        old, new = {"x-consul-token": "old"}, {"x-consul-token": "new"}
        assert (await world.ask("GET", "/v1/status/leader", headers=old)).status == 200
        world.registry.faults.change_token("new")
        assert (await world.ask("GET", "/v1/status/leader", headers=old)).status == 403
        assert (await world.ask("GET", "/v1/status/leader", headers=new)).status == 200

    play(test, token="old")


# -- the catalog, written


def test_the_registrys_own_node_is_left_to_its_agent() -> None:
    """Consul takes such an entry and removes it within a minute: better a refusal that says what to ask instead."""

    async def test(world: World) -> None:
        await world.register(TTL)
        step = {"Service": {"Verb": "delete", "Node": "mizzen", "Service": {"ID": "u1"}}}
        for path, body in (
            ("catalog/register", {"Node": "mizzen", "Address": "127.0.0.1"}),
            ("catalog/deregister", {"Node": "mizzen", "ServiceID": "u1"}),
            ("txn", [step]),
        ):
            answer = await world.ask("PUT", f"/v1/{path}", body)
            assert (answer.status, b"ask /v1/agent/service/" in bytes(answer.body)) == (400, True)  # type: ignore[arg-type]
        assert len(await world.get("/v1/health/service/user")) == 1

    play(test)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("catalog/register", {"Node": "n", "Address": "a", "Service": {"Service": "s", "Kind": "x"}}, 400, "Kind in a service"),
        ("catalog/register", {"Node": "n", "Address": "a", "Check": {"Name": "c", "Status": "odd"}}, 400, "'odd'"),
        ("catalog/register", {"Node": "n", "Address": "a", "Check": {"Name": "c", "Node": "m"}}, 500, "does not match"),
        ("catalog/register", {"Node": "n", "Address": "a", "Checks": [{"Name": "c"}] * 11}, 400, "at most 10"),
        (
            "catalog/register",
            {"Node": "n", "Address": "a", "Check": {"Name": "c", "Definition": {"OSService": "x"}}},
            400,
            "OSServ",
        ),
        ("txn", {"KV": {}}, 400, "a list"),
        (
            "txn",
            [{"Service": {"Verb": "delete", "Node": "n"}, "Node": {"Verb": "delete", "Node": {"Node": "n"}}}],
            400,
            "exactly one",
        ),
        ("txn", [{"KV": {"Verb": "set"}}], 400, "KV in an operation"),
        ("txn", [{"Service": {"Verb": "set", "Node": "n", "Service": {"ID": "x"}}}], 501, "the verb 'set'"),
        ("txn", [{"Node": {"Verb": "delete", "Node": {"Node": "n"}}}] * 129, 413, "129 > 128"),
    ],
)
def test_what_the_catalog_does_not_take_is_refused(path: str, body: Any, status: int, says: str) -> None:
    """With the part that is wrong, and nothing is entered."""

    async def test(world: World) -> None:
        answer = await world.ask("PUT", f"/v1/{path}", body)
        assert (answer.status, says in bytes(answer.body).decode()) == (status, True), answer.body  # type: ignore[arg-type]
        assert len(await world.get("/v1/catalog/nodes")) == 1

    play(test)


def test_a_transaction_is_done_whole_or_not_at_all() -> None:
    """One stale step, and the others are not done either."""

    async def test(world: World) -> None:
        for name in ("one", "two"):
            body = {"Node": name, "Address": "10.0.0.9", "Service": {"ID": f"s-{name}", "Service": "stock"}}
            assert (await world.ask("PUT", "/v1/catalog/register", body)).json() is True
        services = (await world.get("/v1/catalog/node-services/one"))["Services"]
        good = {"Service": {"Verb": "delete-cas", "Node": "one", "Service": services[0]}}
        stale = {"Node": {"Verb": "delete-cas", "Node": {"Node": "two", "ModifyIndex": 1}}}
        answer = await world.ask("PUT", "/v1/txn", [good, stale])
        assert (answer.status, [each["OpIndex"] for each in answer.json()["Errors"]]) == (409, [1])
        assert len(await world.get("/v1/catalog/service/stock")) == 2
        assert (await world.ask("PUT", "/v1/txn", [good])).status == 200
        assert [row["Node"] for row in await world.get("/v1/catalog/service/stock")] == ["two"]

    play(test)


# -- many


def test_a_change_wakes_those_whom_it_concerns_and_nobody_else() -> None:
    """With a hundred services watched, one of them answers: what is not asked anew costs nothing."""

    async def test(world: World) -> None:
        names = [f"service-{number}" for number in range(99)]
        for name in names:
            await world.register({"CheckID": name, "TTL": "90s", "Status": "passing"}, id=name, name=name)
        woken: list[str] = []

        async def watch(name: str) -> None:
            await world.get(f"/v1/health/service/{name}?index={await world.index(name)}&wait=600s")
            woken.append(name)

        watches = [asyncio.create_task(watch(name)) for name in names]
        await settle()
        for name in names:
            await world.put(f"/v1/agent/check/pass/{name}?note=again")
        await settle()
        assert woken == []
        await world.put("/v1/agent/check/fail/service-7")
        await settle()
        assert woken == ["service-7"]
        for each in watches:
            each.cancel()
        await asyncio.wait(watches)

    play(test, instances=99)


def test_nobody_is_even_looked_at_whose_topic_did_not_change() -> None:
    """What one change costs is what its own topics have waiting."""
    index = Index(1)
    called: list[str] = []
    for topic in ("service:user", "service:order", "checks"):
        index.watch(topic, partial(called.append, topic))
    stop = index.watch("service:user", partial(called.append, "no more"))
    stop()
    index.touch("service:user", "nodes")
    assert (called, index.of("service:user"), index.of("service:order")) == (["service:user"], 2, 1)
    index.abandon()
    assert sorted(called[1:]) == ["checks", "service:order", "service:user"]


def test_a_change_of_the_node_concerns_every_service_on_it() -> None:
    """Maintenance of the node takes all of them out, and whoever watches one of them is told."""

    async def test(world: World) -> None:
        await world.register()
        body = {"Node": "pod", "Address": "10.0.0.9", "Service": {"Service": "stock"}}
        await world.put("/v1/catalog/register", body)
        index = {name: await world.index(name) for name in ("user", "stock")}
        user, stock = (
            asyncio.create_task(world.ask("GET", f"/v1/health/service/{name}?passing&index={at}")) for name, at in index.items()
        )
        await settle()
        await world.put("/v1/agent/maintenance?enable=true")
        assert (await user).json() == []
        assert not stock.done()
        await world.put("/v1/catalog/register", {**body, "Address": "10.0.0.10"})
        assert (await stock).json()[0]["Node"]["Address"] == "10.0.0.10"

    play(test)


def test_what_fails_long_before_its_heartbeat_is_due_is_forgotten_in_its_time() -> None:
    """The timetable looks at it sooner than was planned."""

    async def test(world: World) -> None:
        await world.register({"CheckID": "beat", "TTL": "2h", "Status": "passing", "DeregisterCriticalServiceAfter": "1m"})
        await world.put("/v1/agent/check/fail/beat")
        await world.pass_by(59.9)
        assert set(await world.get("/v1/agent/services")) == {"u1"}
        await world.pass_by(0.2)
        assert await world.get("/v1/agent/services") == {}

    play(test)


def test_beats_and_removals_leave_nothing_in_the_timetable() -> None:
    """Ten thousand beats of one check, and a thousand instances that came and went: a handful of entries."""

    async def test(world: World) -> None:
        await world.register(TTL)
        for _ in range(10_000):
            await world.put("/v1/agent/check/pass/beat")
        for number in range(1000):
            await world.register({"CheckID": "x", "TTL": "1000h"}, id=f"n{number}", name=f"s{number}")
            await world.put(f"/v1/agent/service/deregister/n{number}")
        assert len(world.registry._state.timetable) < 200
        assert len(world.registry._state.index._topics) < 10

    play(test)


def test_a_heartbeat_expires_at_its_time_to_the_millisecond() -> None:
    """Not at the next tick of some clock."""

    async def test(world: World) -> None:
        await world.pass_by(0.1)
        await world.register({**TTL, "TTL": "1337ms"})
        await world.pass_by(1.336)
        assert await world.statuses() == {"beat": "passing"}
        await world.pass_by(0.0015)
        assert await world.statuses() == {"beat": "critical"}

    play(test)


def test_probes_at_once_are_bounded() -> None:
    """A thousand checks of what does not answer hold two hundred connections, and each comes to its turn."""

    async def test(world: World) -> None:
        world.answers = asyncio.Event()
        for number in range(50):
            checks = [{**HTTP, "CheckID": f"{number}-{each}"} for each in range(5)]
            await world.register(*checks, id=str(number))
        await world.pass_by(1)
        assert len(world.probes) == 200
        world.answers.set()
        await world.pass_by(3)
        assert len(world.probes) == 250

    play(test)


# -- what it shows


def test_a_registry_describes_itself() -> None:
    """Services, instances and checks, ready for JSON, and a status line."""

    async def test(world: World) -> None:
        await world.register(TTL, id="a")
        await world.register({"CheckID": "c", "TTL": "5s", "Name": "heartbeat"}, id="b")
        said = msgspec.to_builtins(world.registry.describe())
        assert said["services"]["user"][1] == {
            "id": "b",
            "at": "10.0.0.7:8101",
            "passing": False,
            "checks": {"heartbeat": "critical"},
        }
        assert said["checks"] == {"passing": 1, "critical": 1}
        assert repr(world.registry) == "<Registry user 2, 0 waiting>"
        world.registry.faults.status = 500
        assert repr(world.registry.faults) == "<Faults status=500>"

    play(test)
