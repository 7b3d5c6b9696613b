"""The drivers: static addresses, none, and Consul against the embedded registry's own handler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest

from mizzen.edges.registry import Registry
from mizzen.edges.resolvers import ConsulRegistrar, ConsulResolver, NoneResolver, StaticResolver
from mizzen.edges.resolvers.consul.resolver import AT_ONCE, BACKOFF_CAP, BURST, REFILL
from mizzen.rules.discovery import Instance, Resolver
from mizzen.words.errors import CallTimeout, ConfigError, ConnectFailed, NoInstances, PeerError
from mizzen.words.message import Headers, Request, Response


class Time:
    """A clock that only moves when told, and the sleeps that hang on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def pass_by(self, seconds: float) -> None:
        """Let that time pass, waking whoever sleeps in order."""
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
    for _ in range(25):
        await asyncio.sleep(0)


class Feed:
    """Writes down what it is fed."""

    def __init__(self) -> None:
        self.snapshots: list[list[Instance]] = []
        self.regressed: list[bool] = []
        self.errors: list[Exception] = []
        self.again = False

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.snapshots.append(list(instances))
        self.regressed.append(regressed)
        return self.again

    def error(self, error: Exception) -> None:
        self.errors.append(error)

    @property
    def ids(self) -> list[list[str]]:
        return [[instance.id for instance in snapshot] for snapshot in self.snapshots]


class Agent:
    """An embedded registry behind a wire that keeps every request and can be cut."""

    def __init__(self, time: Time) -> None:
        async def probe(request: Request) -> Response:
            return Response(200)

        self.registry = Registry(clock=time.clock, wall=lambda: 1_700_000_000.0, sleep=time.sleep, probe=probe)
        self.requests: list[Request] = []
        self.cut: Exception | None = None
        self.answer: Response | None = None
        self.next: list[Response] = []
        """What the next requests that do not wait are answered."""

    async def call(self, request: Request) -> Response:
        self.requests.append(request)
        if self.cut is not None:
            raise self.cut
        if self.next and "index=" not in request.query:
            return self.next.pop(0)
        return self.answer or await self.registry.handler(request)

    async def register(self, *ids: str, **more: Any) -> None:
        for id in ids:
            body = {"ID": id, "Name": "user", "Address": "10.0.0.7", "Port": 8101, "Meta": {"boot": "1"}, **more}
            response = await self.registry.handler(Request("PUT", "/v1/agent/service/register", body=json.dumps(body).encode()))
            assert response.status == 200, response.body

    async def put(self, path: str, query: str = "") -> None:
        response = await self.registry.handler(Request("PUT", path, query=query))
        assert response.status == 200, response.body


class Watch:
    """A Consul resolver at work on one service, with all that is around it."""

    def __init__(self, **options: Any) -> None:
        self.time = Time()
        self.agent = Agent(self.time)
        self.feed = Feed()
        self.random = 0.5
        self.resolver = ConsulResolver(
            self.agent.call,
            **{
                "token": lambda: None,
                "sleep": self.time.sleep,
                "random": lambda: self.random,
                "clock": self.time.clock,
                **options,
            },
        )

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(watched(self.resolver, "user", self.feed, test))


async def watched(resolver: Resolver, service: str, feed: Feed, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.create_task(resolver.watch(service, feed))
    try:
        await settle()
        assert not task.done(), "a watch goes on until it is cancelled"
        await test()
        assert not task.done(), "a watch goes on until it is cancelled"
    finally:
        task.cancel()
        await asyncio.wait({task})


async def nothing() -> None:
    await settle()


# -- static and none


@pytest.mark.parametrize(
    "table",
    [
        "static:user=10.0.3.7:8101,10.0.3.8:8101;stock=https://stock.example",
        "static://user=http://10.0.3.7:8101, 10.0.3.8:8101 ; stock=https://stock.example:443",
        {"user": ["10.0.3.7:8101", "10.0.3.8:8101"], "stock": ["https://stock.example/"]},
    ],
)
def test_static_feeds_the_written_addresses_once(table: str | dict[str, list[str]]) -> None:
    """One snapshot with every address of the service, then silence."""
    resolver = StaticResolver(table)
    users, stocks = Feed(), Feed()
    asyncio.run(watched(resolver, "user", users, nothing))
    asyncio.run(watched(resolver, "stock", stocks, nothing))
    assert users.ids == [["user-10.0.3.7-8101", "user-10.0.3.8-8101"]]
    assert [each.origin for each in stocks.snapshots[0]] == ["https://stock.example:443"]


def test_static_takes_ipv6_addresses() -> None:
    """An address in brackets is one address."""
    assert StaticResolver("static:user=[fd00::7]:8101").services["user"][0].origin == "http://[fd00::7]:8101"


@pytest.mark.parametrize("address", ["http+unix:///run/user.sock", "http+unix://%2Frun%2Fuser.sock"])
def test_static_takes_unix_sockets(address: str) -> None:
    """A socket is named by its whole path, percent-encoded or not; it has no port."""
    [found] = StaticResolver(f"static:user={address}").services["user"]
    assert (found.id, found.host, found.port) == ("user-/run/user.sock", "/run/user.sock", 0)
    assert found.origin == "http+unix:///run/user.sock"


def test_static_says_which_services_it_names() -> None:
    """A service that is not in the table is an error, for ever, and no empty set."""
    feed = Feed()
    asyncio.run(watched(StaticResolver("static:user=10.0.3.7:8101"), "usr", feed, nothing))
    assert (feed.snapshots, [type(error) for error in feed.errors]) == ([], [NoInstances])
    assert str(feed.errors[0]) == "the static addresses do not name usr; they name user"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("static:", "''"),
        ("static:user", "'user'"),
        ("static:=1.2.3.4:80", "'=1.2.3.4:80'"),
        ("static:user=10.0.3.7:port", "'10.0.3.7:port'"),
        (f"static:user={'x' * 64}.example:80", f"'{'x' * 64}.example:80'"),
        ("static:user=ftp://10.0.3.7:21", "'ftp://10.0.3.7:21'"),
        ("static:user=http://10.0.3.7/base", "'http://10.0.3.7/base'"),
        ("static:user=http://me@10.0.3.7", "'http://me@10.0.3.7'"),
        ("static:user=http://me:hunter2@10.0.3.7", "'http://me:***@10.0.3.7'"),
        ("static:user=me:hunter2@10.0.3.7", "'me:***@10.0.3.7'"),
        ("static:http://me:hunter2@10.0.3.7", "'http://me:***@10.0.3.7'"),
        ("static:user=10.0.3.7:8101,", "''"),
        ("static:user=10.0.3.7:99999", "'10.0.3.7:99999'"),
        ("static:user=http+unix://run/user.sock", "'http+unix://run/user.sock'"),
        ("static:user=http+unix:///", "'http+unix:///'"),
    ],
)
def test_a_wrong_static_address_is_an_error_that_quotes_it(table: str, says: str) -> None:
    """Found when the driver is made, with the culprit and the form that is expected."""
    with pytest.raises(ConfigError) as caught:
        StaticResolver(table)
    assert says in str(caught.value)
    assert "fix: " in str(caught.value)


def test_none_says_why_nothing_resolves() -> None:
    """One error that names the fix, and never a snapshot."""
    feed = Feed()
    asyncio.run(watched(NoneResolver(), "user", feed, nothing))
    assert (feed.snapshots, len(feed.errors)) == ([], 1)
    assert "set discovery.url" in str(feed.errors[0])


# -- Consul: reading


def test_consul_feeds_what_is_there_at_once() -> None:
    """The first read does not wait, and asks for passing instances from any server."""
    watch = Watch()

    async def test() -> None:
        assert watch.feed.ids[0] == []
        assert watch.agent.requests[0].query == "passing=1&stale=1"
        assert watch.agent.requests[0].path == "/v1/health/service/user"

    watch.run(test)


def test_consul_feeds_a_change_when_it_happens() -> None:
    """Nobody polls: the agent holds the query until there is news."""
    watch = Watch()

    async def test() -> None:
        await watch.agent.register("a")
        await settle()
        await watch.agent.register("b")
        await settle()
        await watch.agent.put("/v1/agent/service/deregister/a")
        await settle()
        assert watch.feed.ids == [[], ["a"], ["a", "b"], ["b"]]
        assert watch.feed.regressed == [False] * 4

    watch.run(test)


def test_consul_waits_with_the_last_index_and_longer_than_the_agent() -> None:
    """The agent adds a sixteenth to the wait: the request says a timeout beyond that, and is idempotent."""
    watch = Watch(wait=60.0)

    async def test() -> None:
        first, second = watch.agent.requests
        index = (await watch.agent.registry.handler(Request("GET", "/v1/health/service/user"))).headers["x-consul-index"]
        assert second.query == f"passing=1&stale=1&index={index}&wait=60000ms"
        assert first.call is not None
        assert second.call is not None
        assert (first.call.timeout, first.call.idempotent) == (2.0, True)
        assert (second.call.timeout, second.call.idempotent) == (60 * 17 / 16 + 5, True)
        assert second.call.deadline == second.call.started + second.call.timeout

    watch.run(test)


def test_consul_tells_that_nothing_changed() -> None:
    """A query that ends without news is a read all the same: the set's age begins anew."""
    watch = Watch(wait=60.0)

    async def test() -> None:
        await watch.time.pass_by(185)
        assert watch.feed.ids == [[], [], [], []]

    watch.run(test)


def test_consul_passes_datacenter_tag_and_token_on() -> None:
    """The token is asked for with each request, since tokens are replaced."""
    tokens = iter(["old", "new", "new"])
    watch = Watch(dc="dc1", tag="blue", token=lambda: next(tokens))

    async def test() -> None:
        assert watch.agent.requests[0].query == "passing=1&stale=1&dc=dc1&tag=blue"
        assert [request.headers["x-consul-token"] for request in watch.agent.requests] == ["old", "new"]

    watch.run(test)


def test_consul_quotes_the_service_in_the_path() -> None:
    """A name is one segment of the path, whatever is in it."""
    watch = Watch()
    asyncio.run(watched(watch.resolver, "a/b ü", watch.feed, nothing))
    assert watch.agent.requests[0].path == "/v1/health/service/a%2Fb%20%C3%BC"


def test_consul_reads_again_at_once_when_the_feed_asks_for_it() -> None:
    """A suspect set gets its second read without waiting for a change."""
    watch = Watch()

    async def test() -> None:
        watch.feed.again = True
        await watch.agent.register("a")
        await settle()
        assert watch.agent.requests[2].query == "passing=1&stale=1"

    watch.run(test)


def test_consul_that_is_asked_to_read_again_for_ever_does_not_spin() -> None:
    """A burst, then one read per half second: an index that never rests costs the agent little."""
    watch = Watch()
    watch.feed.again = True

    async def test() -> None:
        assert len(watch.agent.requests) == BURST
        await watch.time.pass_by(10)
        assert len(watch.agent.requests) == BURST + 10 / REFILL

    watch.run(test)


# -- Consul: what goes wrong


def test_consul_feeds_an_error_and_tries_for_ever() -> None:
    """An agent that is away is asked again with growing, jittered pauses, and the set comes back with it."""
    watch = Watch()
    watch.random = 0.999
    watch.agent.cut = ConnectFailed("refused", peer="consul")

    async def test() -> None:
        await watch.time.pass_by(300)
        pauses = [pause for pause in watch.time.slept if pause > REFILL / 2]
        assert [round(pause, 1) for pause in pauses[:6]] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]
        assert max(pauses) <= BACKOFF_CAP
        assert (watch.feed.snapshots, set(map(type, watch.feed.errors))) == ([], {ConnectFailed})
        watch.agent.cut = None
        await watch.agent.register("a")
        await watch.time.pass_by(BACKOFF_CAP)
        assert watch.feed.ids[-1] == ["a"]

    watch.run(test)


def test_consul_never_pauses_for_nothing_at_all() -> None:
    """The smallest draw of the jitter is still a pause."""
    watch = Watch()
    watch.random = 0.0
    watch.agent.cut = ConnectFailed("refused")

    async def test() -> None:
        await watch.time.pass_by(1)
        assert 0 < len(watch.agent.requests) <= 10

    watch.run(test)


def test_consul_reads_without_waiting_after_an_error() -> None:
    """So that a registry which is back is known to be back, even when nothing changed."""
    watch = Watch()

    async def test() -> None:
        watch.agent.cut = CallTimeout("no answer")
        await watch.agent.register("a")
        await settle()
        watch.agent.cut = None
        await watch.time.pass_by(1)
        assert len(watch.feed.errors) == 1
        assert watch.agent.requests[-2].query == "passing=1&stale=1"
        assert watch.feed.ids[-1] == ["a"]

    watch.run(test)


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_consul_takes_any_other_status_for_an_error(status: int) -> None:
    """Never for an empty set."""
    watch = Watch()
    watch.agent.registry.faults.status = status

    async def test() -> None:
        assert watch.feed.snapshots == []
        assert isinstance(watch.feed.errors[0], PeerError)
        assert watch.feed.errors[0].status == status
        assert f"consul answered {status}" in str(watch.feed.errors[0])

    watch.run(test)


def test_consul_asks_anew_who_is_missing_from_an_answer_that_it_waited_for() -> None:
    """Consul says only of answers that were not waited for what was left out: who is missing is not believed before."""
    watch = Watch()

    async def test() -> None:
        await watch.agent.register("user-1", "user-2", "user-3")
        await settle()
        assert "index=" in watch.agent.requests[-1].query
        await watch.agent.put("/v1/agent/service/deregister/user-2")
        filtered = Response(200, b"[]", headers={"x-consul-index": "7", "x-consul-results-filtered-by-acls": "true"})
        watch.agent.next = [filtered]
        await settle()
        assert watch.feed.ids[-1] == ["user-1", "user-2", "user-3"]
        assert "left out" in str(watch.feed.errors[-1])
        await watch.time.pass_by(15)
        assert watch.feed.ids[-1] == ["user-1", "user-3"]

    watch.run(test)


def test_a_thousand_watches_do_not_ask_all_at_once() -> None:
    """Reads that do not block wait for each other, or each would wait too long for its answer."""
    asking = most = 0

    async def call(request: Request) -> Response:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        asking -= 1
        if "index=" in request.query:
            await asyncio.get_running_loop().create_future()
        return Response(200, b"[]", headers={"x-consul-index": "7"})

    async def main() -> None:
        time = Time()
        resolver = ConsulResolver(call, token=lambda: None, sleep=time.sleep, random=lambda: 0.5, clock=time.clock)
        feeds = [Feed() for _ in range(1000)]
        watches = [asyncio.create_task(resolver.watch(f"s{number}", feed)) for number, feed in enumerate(feeds)]
        while not all(feed.snapshots for feed in feeds):
            await settle()
        for watch in watches:
            watch.cancel()
        await asyncio.wait(watches)

    asyncio.run(main())
    assert AT_ONCE <= most < 2 * AT_ONCE + 2


def test_consul_takes_a_filtered_answer_for_an_error() -> None:
    """What the token may not read is missing without a word: the set is not believed, and the rights are named."""
    watch = Watch()
    watch.agent.registry.faults.filtered = True

    async def test() -> None:
        assert watch.feed.snapshots == []
        assert "service:read and node:read" in str(watch.feed.errors[0])

    watch.run(test)


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, b"<html>", headers={"x-consul-index": "5"}),
        Response(200, b'{"no": "list"}', headers={"x-consul-index": "5"}),
        Response(200, b"[]"),
        Response(200, b"[]", headers={"x-consul-index": "many"}),
    ],
)
def test_consul_believes_no_answer_that_is_not_consuls(answer: Response) -> None:
    """A proxy's page or another server's empty list is an error."""
    watch = Watch()
    watch.agent.answer = answer

    async def test() -> None:
        assert watch.feed.snapshots == []
        assert "does not come from Consul" in str(watch.feed.errors[0])

    watch.run(test)


def test_consul_survives_what_nobody_foresaw() -> None:
    """An exception of another kind is an error of that read, and no end of the watch."""
    watch = Watch()
    watch.agent.cut = RuntimeError("token file is gone")

    async def test() -> None:
        assert [str(error) for error in watch.feed.errors] == ["token file is gone"]
        watch.agent.cut = None
        await watch.time.pass_by(1)
        assert watch.feed.ids == [[]]

    watch.run(test)


def test_consul_tells_that_the_index_went_back_and_reads_anew() -> None:
    """The lower index is reported with its set, and the next read does not wait on it."""
    watch = Watch()

    async def test() -> None:
        await watch.agent.register("a")
        await settle()
        watch.agent.registry.faults.index_back()
        await settle()
        assert watch.feed.regressed == [False, False, True, False]
        assert watch.agent.requests[3].query == "passing=1&stale=1"
        await watch.agent.register("b")
        await settle()
        assert watch.feed.ids[-1] == ["a", "b"]

    watch.run(test)


def test_consul_notices_a_regress_across_an_outage() -> None:
    """The last index is kept over errors, so that a registry which lost its memory meanwhile is found out."""
    watch = Watch()

    async def test() -> None:
        watch.agent.cut = ConnectFailed("refused")
        watch.agent.registry.faults.index_back()
        await settle()
        await watch.time.pass_by(1)
        watch.agent.cut = None
        await watch.time.pass_by(5)
        assert watch.feed.regressed[:2] == [False, True]

    watch.run(test)


def test_consul_with_index_zero_does_not_spin() -> None:
    """An answer without an index to wait for is waited on with 1."""
    watch = Watch()
    watch.agent.registry.faults.index = 0

    async def test() -> None:
        assert "index=1&" in watch.agent.requests[1].query

    watch.run(test)


# -- Consul: what an instance is


def entry(id: str, service: dict[str, Any], node: str = "n1") -> dict[str, Any]:
    return {"Node": {"Node": node, "Address": "10.9.9.9"}, "Service": {"ID": id, "Port": 80, **service}, "Checks": None}


def resolve(*entries: dict[str, Any]) -> list[Instance]:
    watch = Watch()
    watch.agent.answer = Response(200, json.dumps(entries).encode(), headers={"x-consul-index": "5"})
    found: list[Instance] = []

    async def test() -> None:
        found.extend(watch.feed.snapshots[0])

    watch.run(test)
    return found


def test_consul_reads_an_instance_of_ours_whole() -> None:
    """Scheme, version, zone and weight come out of metadata and weights; the rest stays metadata."""
    meta = {"boot": "b1", "scheme": "https", "version": "1.4.2", "zone": "eu-1a", "team": "blue"}
    found = resolve(entry("u1", {"Address": "10.0.0.7", "Port": 8101, "Meta": meta, "Weights": {"Passing": 10, "Warning": 1}}))
    assert found == [Instance("u1", "user", "10.0.0.7", 8101, "https", "1.4.2", "eu-1a", 10, {"boot": "b1", "team": "blue"})]


def test_consul_takes_the_nodes_address_where_the_service_has_none() -> None:
    """That is what an empty service address means."""
    assert resolve(entry("u1", {"Address": "", "Meta": None, "Weights": None, "Tags": None}))[0].host == "10.9.9.9"


def test_consul_takes_the_default_of_several_ports() -> None:
    """Newer agents list ports by name instead of one."""
    ports = [{"Name": "admin", "Port": 9000, "Default": False}, {"Name": "http", "Port": 8101, "Default": True}]
    assert resolve(entry("u1", {"Port": 0, "Ports": ports}))[0].port == 8101


def test_consul_leaves_out_what_cannot_be_called() -> None:
    """Proxies, gateways and entries without a port are no instances, nor is what stands at no host, such as a socket here."""
    assert resolve(entry("p", {"Kind": "connect-proxy"}), entry("q", {"Port": 0})) == []
    for port in (-1, 65536):
        assert resolve(entry("u1", {"Address": "10.0.0.7", "Port": port})) == [], port
    for host in ("/var/run/docker.sock", "unix:/run/x.sock", "a\0b", "x\r\ny: z", "\u00fc" * 80, "a b"):
        assert resolve(entry("u1", {"Address": host, "Port": 8101})) == [], host
    for host in ("10.0.0.7", "fd00::7", "fe80::1%eth0", "user_1.example"):
        assert resolve(entry("u1", {"Address": host, "Port": 8101}))[0].host == host


def test_consul_reads_https_however_it_is_written() -> None:
    """Whoever registers HTTPS in capitals is not called without it."""
    assert resolve(entry("u1", {"Address": "10.0.0.7", "Port": 8101, "Meta": {"scheme": "HTTPS"}}))[0].scheme == "https"


def test_consul_keeps_instances_apart_that_share_an_id_on_two_nodes() -> None:
    """Ids are unique per node only, and default to the service's name: others' registrations do not hide each other."""
    found = resolve(entry("user", {"Address": "10.0.0.1"}, "n1"), entry("user", {"Address": "10.0.0.2"}, "n2"))
    assert [(each.id, each.host) for each in found] == [("user@n1", "10.0.0.1"), ("user@n2", "10.0.0.2")]


def test_consul_takes_one_life_of_an_instance_of_ours() -> None:
    """An agent behind a load balancer leaves one id on two nodes: the newest registration counts."""
    old = entry("u1", {"Address": "10.0.0.1", "Meta": {"boot": "1"}, "ModifyIndex": 5}, "n1")
    new = entry("u1", {"Address": "10.0.0.1", "Meta": {"boot": "2"}, "ModifyIndex": 9}, "n2")
    assert [each.boot for each in resolve(new, old)] == ["2"]
    assert [each.boot for each in resolve(old, new)] == ["2"]


def test_consul_describes_its_watches() -> None:
    """Each watched service with what its last read came to."""
    watch = Watch()

    async def test() -> None:
        assert "user: 0 instances at index" in repr(watch.resolver)
        watch.agent.cut = ConnectFailed("refused")
        await watch.agent.register("a")
        await settle()
        assert watch.resolver.describe()["watched"] == {"user": "failed 1 times: refused"}

    watch.run(test)


# -- Consul: writing (the rest is in the contract suite)

USER = Instance("user-10.0.0.7-8101", "user", "10.0.0.7", 8101, version="1.4.2", zone="eu", weight=3, meta={"boot": "b1"})


def registration(instance: Instance = USER, **options: Any) -> dict[str, Any]:
    agent = Agent(Time())
    registrar = ConsulRegistrar(agent.call, token=lambda: "t", **options)
    asyncio.run(registrar.register(instance, "passing", "ok"))
    [sent] = [request for request in agent.requests if request.path == "/v1/agent/service/register"]
    body = sent.body
    assert isinstance(body, bytes)
    assert sent.headers == Headers(
        [("accept", "application/json"), ("content-type", "application/json"), ("x-consul-token", "t")]
    )
    found: dict[str, Any] = json.loads(body)
    return found


def test_a_registration_carries_the_verdict_in_both_checks() -> None:
    """Consul starts checks critical and takes the worse of the two, so both say what is true now."""
    assert registration() == {
        "ID": "user-10.0.0.7-8101",
        "Name": "user",
        "Address": "10.0.0.7",
        "Port": 8101,
        "Tags": [],
        "Meta": {"boot": "b1", "scheme": "http", "version": "1.4.2", "zone": "eu"},
        "Weights": {"Passing": 3, "Warning": 1},
        "EnableTagOverride": False,
        "Checks": [
            {
                "CheckID": "service:user-10.0.0.7-8101:ttl",
                "Name": "heartbeat",
                "TTL": "15000ms",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": "10m",
            },
            {
                "CheckID": "service:user-10.0.0.7-8101:http",
                "Name": "health",
                "HTTP": "http://10.0.0.7:8101/health",
                "Method": "GET",
                "Interval": "10000ms",
                "Timeout": "2000ms",
                "FailuresBeforeCritical": 2,
                "Status": "passing",
                "DeregisterCriticalServiceAfter": "10m",
            },
        ],
    }


def test_the_agents_own_probe_can_be_left_out() -> None:
    """Where the agent cannot reach the address only the heartbeat is registered."""
    assert [check["Name"] for check in registration(http_check=False)["Checks"]] == ["heartbeat"]


def test_the_agents_own_probe_goes_where_health_is() -> None:
    """The admin port, when ``/health`` is there."""
    assert registration(health_port=9101, health_path="/h")["Checks"][1]["HTTP"] == "http://10.0.0.7:9101/h"


def test_the_agents_own_probe_of_https() -> None:
    """The agent asks by address, which is on few certificates: it is told not to verify, unless health is on a plain port."""
    secure = msgspec.structs.replace(USER, scheme="https")
    found = registration(secure)
    assert found["Meta"]["scheme"] == "https"
    assert (found["Checks"][1]["HTTP"], found["Checks"][1]["TLSSkipVerify"]) == ("https://10.0.0.7:8101/health", True)
    plain = registration(secure, health_port=9101)["Checks"][1]
    assert plain["HTTP"] == "http://10.0.0.7:9101/health"
    assert "TLSSkipVerify" not in plain


def test_a_probe_that_is_not_wanted_any_more_is_removed() -> None:
    """An earlier life's probe would stay with the registration and go critical."""

    async def test() -> list[str]:
        agent = Agent(Time())
        await ConsulRegistrar(agent.call, token=lambda: None).register(USER, "passing", "ok")
        await ConsulRegistrar(agent.call, token=lambda: None, http_check=False).register(USER, "passing", "ok")
        checks = await agent.registry.handler(Request("GET", "/v1/agent/checks"))
        return list(checks.json())

    assert asyncio.run(test()) == ["service:user-10.0.0.7-8101:ttl"]


def test_registering_again_leaves_maintenance_mode_alone() -> None:
    """What an operator took out stays out, however often the instance announces itself."""

    async def test() -> list[str]:
        agent = Agent(Time())
        registrar = ConsulRegistrar(agent.call, token=lambda: None)
        await registrar.register(USER, "passing", "ok")
        await agent.put(f"/v1/agent/service/maintenance/{USER.id}", "enable=true&reason=upgrade")
        await registrar.register(USER, "passing", "ok")
        found = await agent.registry.handler(Request("GET", "/v1/health/service/user", query="passing"))
        checks = await agent.registry.handler(Request("GET", "/v1/health/state/critical"))
        assert found.json() == []
        return [check["Notes"] for check in checks.json()]

    assert asyncio.run(test()) == ["upgrade"]


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (Response(404, b'Unknown check ID "x"'), False),
        (Response(500, b'CheckID "x" does not have associated TTL'), False),
        (Response(200), True),
    ],
)
def test_a_beat_tells_whether_the_agent_knows_the_instance(answer: Response, known: bool) -> None:
    """Newer agents say so with a 404, older ones with a 500 of that text."""
    agent = Agent(Time())
    agent.answer = answer
    assert asyncio.run(ConsulRegistrar(agent.call, token=lambda: None).beat(USER, "passing", "ok")) is known


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_any_other_answer_to_a_beat_is_an_error_and_no_reason_to_register_again(status: int) -> None:
    """A registry that sheds load must not get a registration on top of each beat."""
    agent = Agent(Time())
    agent.answer = Response(status, b"rpc error")
    with pytest.raises(PeerError, match=f"consul answered {status} to the heartbeat of user-10.0.0.7-8101"):
        asyncio.run(ConsulRegistrar(agent.call, token=lambda: None).beat(USER, "passing", "ok"))


@pytest.mark.parametrize("method", ["withdraw", "mismatch"])
def test_a_page_that_is_not_consuls_is_an_error_of_the_registry(method: str) -> None:
    """Something in between that answers 200 to everything is told as such, and is no crash."""
    agent = Agent(Time())
    agent.answer = Response(200, b"<html>sign in</html>")
    with pytest.raises(PeerError, match="does not come from Consul"):
        asyncio.run(getattr(ConsulRegistrar(agent.call, token=lambda: None), method)(USER))


def test_a_lasting_mismatch_is_explained() -> None:
    """When the agent's own probe fails while we pass, the reason names the address and the setting."""
    beat = {f"service:{USER.id}:ttl": {"Status": "passing"}}
    probe = {f"service:{USER.id}:http": {"Status": "critical", "Output": "connection refused"}}
    assert mismatch(beat | {f"service:{USER.id}:http": {"Status": "passing"}}) is None
    assert mismatch({f"service:{USER.id}:ttl": {"Status": "critical"}} | probe) is None
    reason = mismatch(beat | probe)
    assert reason is not None
    assert "http://10.0.0.7:8101/health is critical (connection refused)" in reason
    assert "discovery.http_check = false" in reason


def test_maintenance_mode_is_explained() -> None:
    """An instance that an operator took out is told why it gets no calls, and what ends that."""
    reason = mismatch({f"service:{USER.id}:ttl": {"Status": "passing"}, f"_service_maintenance:{USER.id}": {"Notes": "disk"}})
    assert reason is not None
    assert "in maintenance mode (disk); consul maint -disable -service=user-10.0.0.7-8101 ends it" in reason


def mismatch(checks: dict[str, dict[str, str]]) -> str | None:
    """What a registrar makes of an agent's checks."""
    agent = Agent(Time())
    agent.answer = Response.json_of(checks)
    return asyncio.run(ConsulRegistrar(agent.call, token=lambda: None).mismatch(USER))


@pytest.mark.parametrize(
    ("headers", "doubtful", "said"),
    [
        ({"x-consul-knownleader": "false", "x-consul-lastcontact": "0"}, True,
         "0 instances at index 7, degraded: consul has no leader"),
        ({"x-consul-knownleader": "true", "x-consul-lastcontact": "45000"}, False,
         "0 instances at index 7, degraded: no contact with consul's leader for 45s"),
        ({"x-consul-knownleader": "true", "x-consul-lastcontact": "12"}, False, "0 instances at index 7"),
        ({}, False, "0 instances at index 7"),
        ({"x-consul-knownleader": "false", "x-consul-query-backend": "streaming"}, False, "0 instances at index 7"),
    ],
)  # fmt: skip
def test_consul_without_a_leader_is_told_and_what_it_misses_is_in_doubt(
    headers: dict[str, str], doubtful: bool, said: str
) -> None:
    """A server that has just started answers from an empty memory; answers by way of a stream do not know, and say no."""
    watch = Watch()
    watch.agent.answer = Response(200, b"[]", headers={"x-consul-index": "7", **headers})

    async def test() -> None:
        await watch.time.pass_by(0)
        assert watch.feed.regressed[0] is doubtful
        assert watch.resolver.describe()["watched"] == {"user": said}

    watch.run(test)
