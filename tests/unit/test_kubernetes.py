"""Kubernetes: what slices come to, one list and one watch in all their misfortunes, and what a pod's files mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_kubernetes import FakeKubernetes, status

from mizzen.edges.resolvers.kubernetes.api import TIMEOUT, TOKEN_AGE, TokenFile, role
from mizzen.edges.resolvers.kubernetes.resolver import BACKOFF_BASE, BACKOFF_CAP, SILENCE, KubernetesResolver
from mizzen.edges.resolvers.kubernetes.slices import Choice, Port, Slice, instances_of, port_of
from mizzen.rules.discovery import EndpointStore, Instance
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallError, CallTimeout, ConnectFailed, ConnectionLost, PeerError
from mizzen.words.message import Request, Response

# -- slices


def endpoint(address: str, pod: str = "", **more: Any) -> dict[str, Any]:
    reference = {"targetRef": {"kind": "Pod", "name": pod, "uid": f"uid-{pod}"}} if pod else {}
    return {"addresses": [address], **reference, **more}


def slice_of(*endpoints: dict[str, Any], name: str = "user-1", service: str = "user", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8101, "protocol": "TCP"}],
        **more,
    }


def instances(*slices: dict[str, Any], **choice: Any) -> list[Instance]:
    return instances_of("user", [msgspec.convert(each, Slice) for each in slices], Choice(**choice))


def ids(*slices: dict[str, Any], **choice: Any) -> list[str]:
    return [instance.id for instance in instances(*slices, **choice)]


GOING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}


def test_a_pod_is_an_instance() -> None:
    """Its id is the pod's name, which a person knows; the uid tells apart two pods that have it one after the other."""
    [found] = instances(slice_of(endpoint("10.0.0.7", "user-0", zone="eu-1a", nodeName="node-1", conditions={"ready": True})))
    assert found == Instance("user-0", "user", "10.0.0.7", 8101, zone="eu-1a", meta={"boot": "uid-user-0"})
    assert found.boot == "uid-user-0"


def test_an_endpoint_that_is_no_pod_is_known_by_its_address() -> None:
    """What somebody wrote by hand has no reference; the address is as unique."""
    assert ids(slice_of(endpoint("10.0.0.7"), endpoint("10.0.0.8", targetRef={"kind": "Node", "name": "n"}))) == [
        "user-10.0.0.7-8101",
        "user-10.0.0.8-8101",
    ]


def test_a_service_is_the_union_of_its_slices() -> None:
    """Every slice counts, and an endpoint that stands in two of them while it moves counts once."""
    first = slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b"))
    second = slice_of(endpoint("10.0.0.2", "b"), endpoint("10.0.0.3", "c"), name="user-2")
    assert ids(first, second) == ["a", "b", "c"]
    assert len(ids(first, slice_of(endpoint("10.0.0.1"), name="by-hand"))) == 2  # one address is one instance


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_endpoint_in_two_slices_the_ready_one_counts(order: int) -> None:
    """One of the two slices is behind; whichever says ready is the newer word."""
    names = ["user-1", "user-2"][::order]
    there = slice_of(endpoint("10.0.0.1", "a", conditions={"ready": True}), name=names[0])
    behind = slice_of(endpoint("10.0.0.1", "a", conditions={"ready": False}), name=names[1])
    assert ids(there, behind) == ["a"]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (None, True),
        ({}, True),
        ({"ready": None}, True),
        ({"ready": True}, True),
        ({"ready": True, "serving": None, "terminating": None}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": False}, False),
        ({"ready": False, "serving": True}, False),
        (GOING, True),
        ({"ready": False, "serving": None, "terminating": True}, True),
        (GONE, False),
    ],
)
def test_what_is_not_said_of_an_endpoint_is_good(conditions: Any, found: bool) -> None:
    """Unknown readiness is readiness; an endpoint that is not ready is out, unless it is the last to serve while it goes."""
    assert bool(ids(slice_of(endpoint("10.0.0.1", "a", conditions=conditions)))) is found


def test_those_that_go_serve_only_while_nobody_is_ready() -> None:
    """One ready endpoint is enough to leave the terminating ones alone; without one, those that still serve are called."""
    going = [endpoint("10.0.0.1", "a", conditions=GOING), endpoint("10.0.0.2", "b", conditions=GONE)]
    assert ids(slice_of(*going)) == ["a"]
    assert ids(slice_of(*going), slice_of(endpoint("10.0.0.3", "c"), name="user-2")) == ["c"]
    assert ids(slice_of(*going), slice_of(endpoint("10.0.0.3", "c", conditions={"ready": False}), name="user-2")) == ["a"]


def test_pods_on_the_network_of_their_node_share_its_address() -> None:
    """An address that two endpoints have is one instance, unless their ports differ."""
    one, other = endpoint("10.0.0.1", "a"), endpoint("10.0.0.1", "b")
    assert len(ids(slice_of(one, other))) == 1
    elsewhere = slice_of(other, name="user-2", ports=[{"name": "http", "port": 8102, "protocol": "TCP"}])
    assert ids(slice_of(one), elsewhere) == ["a", "b"]


def test_two_families_are_one_instance() -> None:
    """In a dual-stack cluster a pod has two addresses: the first family's is called, the other where there is no first."""
    four = slice_of(endpoint("10.0.0.1", "a"))
    six = slice_of(endpoint("fd00::1", "a"), endpoint("fd00::2", "b"), name="user-0", addressType="IPv6")
    assert [(each.id, each.host) for each in instances(six, four)] == [("a", "10.0.0.1"), ("b", "fd00::2")]
    assert instances(six)[0].origin == "http://[fd00::1]:8101"


@pytest.mark.parametrize("odd", [{"addressType": "FQDN", "endpoints": [endpoint("user.example.com")]}, {"endpoints": None}])
def test_names_and_nothing_are_no_endpoints(odd: dict[str, Any]) -> None:
    """Slices of names are deprecated, and one without endpoints is usual: both are passed over."""
    assert ids(slice_of(**odd), slice_of(endpoint("10.0.0.1", "a"), name="user-2")) == ["a"]


@pytest.mark.parametrize("address", ["/run/docker.sock", "user.example.com", "", "unix:/x"])
def test_what_is_no_address_is_not_called(address: str) -> None:
    """A path would lead to a socket of this machine, whoever wrote it there."""
    assert ids(slice_of(endpoint(address, "a"), {"addresses": None}, endpoint("10.0.0.1", "b"))) == ["b"]


@pytest.mark.parametrize(
    ("ports", "choice", "found"),
    [
        ([("web", 80)], {}, (80, "http")),
        ([(None, 80)], {}, (80, "http")),
        ([("metrics", 9090), ("http", 80)], {}, (80, "http")),
        ([("metrics", 9090), ("https", 443)], {}, (443, "https")),
        ([("http", 80), ("https", 443)], {}, (80, "http")),
        ([("http", 80), ("https", 443)], {"tls": True}, (443, "https")),
        ([("web", 80)], {"tls": True}, (80, "https")),
        ([("https", 8443)], {}, (8443, "https")),
        ([("https-api", 8443)], {}, (8443, "https")),
        ([("api", 8443, "https")], {}, (8443, "https")),
        ([("api", 8443, "HTTPS")], {}, (8443, "https")),
        ([("https", 8080, "http")], {}, (8080, "http")),
        ([("http", 80), ("admin", 81)], {"port": "admin"}, (81, "http")),
        ([("http", 80), ("admin", 81, "https")], {"port": "81"}, (81, "https")),
        ([], {"port": "8101"}, (8101, "http")),
        ([], {"port": "8101", "tls": True}, (8101, "https")),
    ],
)
def test_the_port_named_http_is_called_else_the_only_one(
    ports: list[tuple[Any, ...]], choice: dict[str, Any], found: tuple[int, str]
) -> None:
    """A port is found by its name, by being the only one, or by what the URL says; its name or protocol says HTTPS."""
    made = [Port(each[0], each[1], "TCP", each[2] if len(each) > 2 else None) for each in ports]
    assert port_of("user", made, Choice(**choice)) == found


@pytest.mark.parametrize(
    ("ports", "port", "said"),
    [
        ([("grpc", 90), ("metrics", 9090)], "", "It has grpc 90, metrics 9090, and not one named http"),
        ([("http", 80)], "admin", "It has http 80, and not one named admin"),
        ([], "", "It has no TCP port at all, and not one named http"),
    ],
)
def test_a_port_that_nobody_can_guess_is_an_error(ports: list[tuple[str, int]], port: str, said: str) -> None:
    """The message names the ports that there are, and where to say which."""
    made = [Port(*each, "TCP") for each in ports] + [Port("http", 53, "UDP")]
    with pytest.raises(PeerError, match=said) as raised:
        port_of("user", made, Choice(port=port))
    assert "kubernetes:endpointslices?port=8080" in str(raised.value)


def test_a_slice_without_the_port_is_passed_over() -> None:
    """Pods of another version may not have the port: as for kube-proxy they are none of it, and hide nobody who has it."""
    without = slice_of(endpoint("10.0.0.2", "b"), name="user-2", ports=[])
    assert ids(slice_of(endpoint("10.0.0.1", "a")), without) == ["a"]
    away = slice_of(endpoint("10.0.0.1", "a", conditions={"ready": False}))
    with pytest.raises(PeerError, match="which port of the Service user is meant"):
        ids(away, without)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_not_called(port: int) -> None:
    """It would lead to another port, by the rest that is left of it."""
    with pytest.raises(PeerError, match="no TCP port at all"):
        ids(slice_of(endpoint("10.0.0.1", "a"), ports=[{"name": "http", "port": port}]))


def test_slices_of_one_service_may_have_different_ports() -> None:
    """A named port of the pods may have moved between two of their versions."""
    new = slice_of(endpoint("10.0.0.2", "b"), name="user-2", ports=[{"name": "http", "port": 9000}])
    assert [each.port for each in instances(slice_of(endpoint("10.0.0.1", "a")), new)] == [8101, 9000]
    same_node = slice_of(endpoint("10.0.0.1", "c"), name="user-3", ports=[{"name": "http", "port": 9001}])
    assert ids(slice_of(endpoint("10.0.0.1", "a")), new, same_node) == ["a", "b", "c"]


def hinted(address: str, pod: str, *zones: str, **more: Any) -> dict[str, Any]:
    return endpoint(address, pod, hints={"forZones": [{"name": zone} for zone in zones]} if zones else None, **more)


def test_hints_count_once_every_ready_endpoint_has_one() -> None:
    """Topology aware routing is the cluster's to switch on: half a set of hints would overload those that have them."""
    near, far = hinted("10.0.0.1", "a", "eu-1a"), hinted("10.0.0.2", "b", "eu-1b")
    assert ids(slice_of(near, far), zone="eu-1a") == ["a"]
    assert ids(slice_of(near, far)) == ["a", "b"]
    assert ids(slice_of(near, far, endpoint("10.0.0.3", "c")), zone="eu-1a") == ["a", "b", "c"]
    assert ids(slice_of(near, far, endpoint("10.0.0.3", "c", conditions={"ready": False})), zone="eu-1a") == ["a"]
    assert ids(slice_of(near, far), zone="eu-1c") == ["a", "b"]


# -- list and watch


class Feed:
    """Writes down what it is fed, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[float, list[str]]] = []
        self.regressed: list[bool] = []
        self.errors: list[CallError] = []
        self.again = 0

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.told.append((asyncio.get_running_loop().time(), [instance.id for instance in instances]))
        self.regressed.append(regressed)
        self.again -= 1
        return self.again >= 0

    def error(self, error: Exception) -> None:
        assert isinstance(error, CallError), error
        self.errors.append(error)

    @property
    def last(self) -> list[str]:
        return self.told[-1][1]

    @property
    def sets(self) -> list[list[str]]:
        """Every set that differs from the one before."""
        said = [each for _, each in self.told]
        return [each for number, each in enumerate(said) if not number or each != said[number - 1]]


class Scene:
    """A resolver that watches the service ``user`` of a cluster that the test plays, with two pods in it."""

    def __init__(self, token: TokenFile | None = None, **options: Any) -> None:
        self.cluster = FakeKubernetes()
        self.feed = Feed()
        self.cluster.write(slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")))
        self.resolver = KubernetesResolver(
            self.cluster.call,
            **{
                "namespace": "shop",
                "token": token,
                "sleep": asyncio.sleep,
                "random": lambda: 0.5,
                "clock": lambda: asyncio.get_running_loop().time(),
                **options,
            },
        )

    def run(self, test: Callable[[], Awaitable[None]], feed: Any = None) -> None:
        async def main() -> None:
            watch = asyncio.ensure_future(self.resolver.watch("user", feed or self.feed))
            await asyncio.sleep(0.1)
            await test()
            assert not watch.done(), "a watch goes on until it is cancelled"
            watch.cancel()
            await asyncio.wait([watch])
            await asyncio.sleep(0)
            assert self.cluster.watches == 0

        run(main())


def test_what_is_written_is_told_at_once() -> None:
    """The list tells the set, the watch every change of it, in no time at all."""
    scene = Scene()

    async def test() -> None:
        assert scene.feed.last == ["a", "b"]
        scene.cluster.write(slice_of(endpoint("10.0.0.3", "c"), name="user-2"))
        scene.cluster.write(slice_of(endpoint("10.0.0.9", "z"), name="stock-1", service="stock"))
        await asyncio.sleep(0.001)
        assert scene.feed.last == ["a", "b", "c"]
        scene.cluster.write(slice_of(endpoint("10.0.0.2", "b")))
        await asyncio.sleep(0.001)
        assert scene.feed.last == ["b", "c"]
        scene.cluster.remove("user-2")
        await asyncio.sleep(0.001)
        assert scene.feed.last == ["b"]
        assert (scene.feed.errors, len(scene.cluster.requests)) == ([], 2)

    scene.run(test)


def test_the_questions_are_those_that_cost_a_server_least() -> None:
    """The first list takes what the server has at hand, the watch begins at its version, with bookmarks and an end."""
    scene = Scene()

    async def test() -> None:
        selector = "kubernetes.io/service-name=user"
        assert scene.cluster.asked("list") == [{"labelSelector": selector, "limit": "500", "resourceVersion": "0"}]
        [watch] = scene.cluster.asked("watch")
        assert watch == {
            "labelSelector": selector,
            "watch": "1",
            "resourceVersion": "101",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "450",
        }
        assert {request.headers["accept"] for request in scene.cluster.requests} == {"application/json"}

    scene.run(test)


def test_a_watch_lasts_five_to_ten_minutes() -> None:
    """At random, so that the watches of a cluster do not all begin at once."""
    for random, seconds in ((0.0, "300"), (0.999, "600")):
        scene = Scene(random=lambda random=random: random)

        async def test(scene: Scene = scene, seconds: str = seconds) -> None:
            assert scene.cluster.asked("watch")[0]["timeoutSeconds"] == seconds

        scene.run(test)


def test_a_list_comes_in_pages() -> None:
    """A large service is read page by page, and is told once, whole."""
    scene = Scene()
    for number in range(1200):
        scene.cluster.write(slice_of(endpoint(f"10.1.{number // 200}.{number % 200 + 1}", f"p{number}"), name=f"user-{number}"))

    async def test() -> None:
        scene.cluster.compact()  # the next list is one of now, which comes in pages
        scene.cluster.end()
        await asyncio.sleep(60)
        pages = scene.cluster.asked("list")[1:]
        assert [page.get("continue") for page in pages] == [None, "500", "1000"]
        assert not any("resourceVersion" in page for page in pages)
        assert {len(said) for _, said in scene.feed.told[1:]} == {1200}

    scene.run(test)


def test_the_end_of_a_watch_is_usual_and_nothing_is_missed() -> None:
    """The next one goes on from the last version, so that what happened between the two is told, and no list is needed."""
    scene = Scene()

    async def test() -> None:
        scene.cluster.write(slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.3", "c")))
        await asyncio.sleep(1)
        scene.cluster.end()
        scene.cluster.write(slice_of(endpoint("10.0.0.4", "d")))
        await asyncio.sleep(1)
        assert scene.feed.last == ["d"]
        assert [watch["resourceVersion"] for watch in scene.cluster.asked("watch")] == ["101", "102"]
        assert (len(scene.cluster.asked("list")), scene.feed.errors) == (1, [])

    scene.run(test)


def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    """After hours of silence a watch goes on from where the server is, not from a version that is long gone."""
    scene = Scene()

    async def test() -> None:
        for _ in range(30):
            await asyncio.sleep(60)
            scene.cluster.bookmark()
        scene.cluster.compacted = scene.cluster.version - 20
        scene.cluster.end()
        await asyncio.sleep(1)
        assert scene.cluster.asked("watch")[-1]["resourceVersion"] == str(scene.cluster.version)
        assert (len(scene.cluster.asked("list")), scene.feed.sets, scene.feed.errors) == (1, [["a", "b"]], [])

    scene.run(test)


def test_bookmarks_keep_the_answer_fresh() -> None:
    """A server that says nothing new says so: the age of the set is that of its last word."""
    scene = Scene()
    store = EndpointStore("user", clock=lambda: asyncio.get_running_loop().time(), on_change=lambda instances: None)

    async def test() -> None:
        for _ in range(10):
            await asyncio.sleep(60)
            scene.cluster.bookmark()
        await asyncio.sleep(1)
        assert store.age(asyncio.get_running_loop().time()) == pytest.approx(1)

    scene.run(test, store)


@pytest.mark.parametrize("how", ["event", "status"])
def test_a_version_that_is_gone_is_no_outage(how: str) -> None:
    """410, as an answer or within the watch, means a new list; what was missed is told, and nobody is alarmed."""
    scene = Scene()

    async def test() -> None:
        await asyncio.sleep(30)
        if how == "status":
            scene.cluster.answers = [status(410, "Gone", "too old resource version: 101 (150)")]
        scene.cluster.end()
        scene.cluster.write(slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.3", "c")))
        scene.cluster.compact()
        await asyncio.sleep(0.1)
        assert scene.feed.sets == [["a", "b"], ["a", "c"]]
        assert scene.feed.errors == []
        assert "resourceVersion" not in scene.cluster.asked("list")[1]
        scene.cluster.write(slice_of(endpoint("10.0.0.4", "d")))
        await asyncio.sleep(0.1)
        assert scene.feed.last == ["d"]

    scene.run(test)


def test_a_version_that_is_always_gone_is_no_storm() -> None:
    """A server that takes back every version it gives is asked less and less often."""
    scene = Scene()
    scene.cluster.compacted = 10**9

    async def test() -> None:
        await asyncio.sleep(300)
        assert len(scene.cluster.requests) < 60

    scene.run(test)


@pytest.mark.parametrize(("random", "tries"), [(0.0, 75), (0.999, 7)])
def test_an_outage_is_told_and_tried_for_ever_ever_more_slowly(random: float, tries: int) -> None:
    """From 0.8 to 30 seconds, at random in between; the set stays, and is mended by the first list that works."""
    scene = Scene(random=lambda: random)

    async def test() -> None:
        scene.cluster.answers = [ConnectFailed("cannot connect", peer="kubernetes") for _ in range(1000)]
        scene.cluster.cut()
        scene.cluster.write(slice_of(endpoint("10.0.0.4", "d")))
        await asyncio.sleep(60)
        assert 1000 - len(scene.cluster.answers) == pytest.approx(tries, abs=2)
        assert scene.feed.last == ["a", "b"]
        scene.cluster.answers = []
        await asyncio.sleep(BACKOFF_CAP)
        assert scene.feed.sets == [["a", "b"], ["d"]]
        again = scene.cluster.asked("list")[-1]
        assert (again["resourceVersion"], again["resourceVersionMatch"]) == ("101", "NotOlderThan")

    assert BACKOFF_BASE == 0.8
    scene.run(test)


def test_a_server_that_hangs_is_given_up() -> None:
    """A list that is not answered ends, is an error, and is tried again more and more slowly."""
    scene = Scene()

    async def test() -> None:
        scene.cluster.answers = [None] * 3
        scene.cluster.cut()
        await asyncio.sleep(3 * TIMEOUT + BACKOFF_CAP)
        assert [type(error) for error in scene.feed.errors] == [ConnectionLost, CallTimeout, CallTimeout, CallTimeout]
        assert (scene.feed.sets, scene.cluster.watches) == ([["a", "b"]], 1)

    scene.run(test)


def test_a_connection_that_died_silently_is_found_out() -> None:
    """Silence has a limit: the watch is begun anew, from the version it had, and tells what was missed."""
    scene = Scene()
    scene.cluster.timeouts = False

    async def test() -> None:
        scene.cluster.bookmark()
        await asyncio.sleep(1)
        scene.cluster._watchers.clear()  # it is told nothing any more
        scene.cluster.write(slice_of(endpoint("10.0.0.4", "d")))
        await asyncio.sleep(SILENCE - 2)
        assert scene.feed.last == ["a", "b"]
        await asyncio.sleep(3)
        assert scene.feed.last == ["d"]
        assert (len(scene.cluster.asked("list")), scene.feed.errors) == (1, [])

    scene.run(test)


def test_a_watch_that_never_said_anything_proves_nothing() -> None:
    """A server that lost its state accepts a version it has not come to, and is silent for ever: so a list is read.

    Its versions went back, which makes what it says suspect.
    """
    scene = Scene()

    async def test() -> None:
        scene.cluster.end()
        scene.cluster.forget()
        scene.cluster.write(slice_of(endpoint("10.0.0.1", "a")))
        await asyncio.sleep(0.1)
        assert scene.cluster.asked("watch")[-1]["resourceVersion"] == "101"
        assert scene.feed.last == ["a", "b"]
        await asyncio.sleep(SILENCE + 1)
        assert scene.feed.last == ["a"]
        assert scene.feed.regressed[-1] is True
        assert scene.feed.errors == []
        scene.cluster.write(slice_of(endpoint("10.0.0.5", "e")))
        await asyncio.sleep(0.1)
        assert scene.feed.last == ["e"]

    scene.run(test)


def test_a_server_that_comes_back_without_its_state_is_not_believed_at_once() -> None:
    """Its empty set is honest, and wrong: the store keeps what it knows for the time that it takes to write it anew."""
    scene = Scene()
    store = EndpointStore("user", clock=lambda: asyncio.get_running_loop().time(), on_change=lambda instances: None)

    async def test() -> None:
        scene.cluster.answers = [ConnectFailed("cannot connect", peer="kubernetes")] * 2
        scene.cluster.cut()
        await asyncio.sleep(0.1)
        scene.cluster.forget()
        await asyncio.sleep(20)
        assert (store.state, len(store.instances)) == ("held", 2)
        scene.cluster.write(slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")))
        await asyncio.sleep(0.1)
        assert (store.state, len(store.instances)) == ("fresh", 2)

    scene.run(test, store)


def test_the_last_instance_that_goes_is_looked_at_twice() -> None:
    """A set that is suspect is listed anew at once, from etcd and not from what the server has at hand."""
    scene = Scene()
    store = EndpointStore("user", clock=lambda: asyncio.get_running_loop().time(), on_change=lambda instances: None)

    async def test() -> None:
        scene.cluster.remove("user-1")
        await asyncio.sleep(0.1)
        assert (store.state, len(store.instances)) == ("fresh", 0)
        assert "resourceVersion" not in scene.cluster.asked("list")[-1]
        assert scene.cluster.watches == 1

    scene.run(test, store)


def test_a_feed_that_always_wants_a_second_look_is_no_storm() -> None:
    """Reads that follow each other at once become rarer."""
    scene = Scene()
    scene.feed.again = 10**6

    async def test() -> None:
        await asyncio.sleep(300)
        assert len(scene.cluster.requests) < 40

    scene.run(test)


@pytest.mark.parametrize(
    "answer",
    [
        status(429, "TooManyRequests", "too many requests", headers={"retry-after": "20"}),
        status(503, "ServiceUnavailable", "down", headers={"retry-after": "20"}),
        status(500, "ServerTimeout", "slow", details={"retryAfterSeconds": 20}),
    ],
)
def test_a_server_that_asks_for_time_gets_it(answer: Response) -> None:
    """Nothing is asked before Retry-After is over, by the header or as Kubernetes has it in its body."""
    scene = Scene()

    async def test() -> None:
        asked = len(scene.cluster.requests)
        scene.cluster.answers = [answer]
        scene.cluster.end()
        await asyncio.sleep(19.5)
        assert len(scene.cluster.requests) == asked + 1
        await asyncio.sleep(6)
        assert len(scene.cluster.requests) > asked + 1
        assert (len(scene.feed.errors), scene.feed.last) == (1, ["a", "b"])

    scene.run(test)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}},
        {"type": "ADDED", "object": {"metadata": "nonsense"}},
        {"kind": "nonsense"},
    ],
)
def test_what_makes_no_sense_within_a_watch_is_an_error(event: Any) -> None:
    """It is told, and a list mends it."""
    scene = Scene()

    async def test() -> None:
        scene.cluster.tell(event)
        await asyncio.sleep(5)
        assert (len(scene.feed.errors), len(scene.cluster.asked("list")), scene.cluster.watches) == (1, 2, 1)

    scene.run(test)


def test_a_refusal_that_never_ends_is_cut() -> None:
    """The answer to a watch comes as a stream, a refusal too: one that hangs, or goes on for ever, holds nobody."""
    scene = Scene()

    async def hangs() -> AsyncIterator[bytes]:
        yield b"away"
        await asyncio.get_running_loop().create_future()

    async def goes_on() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    async def test() -> None:
        scene.cluster.answers = [Response(503, hangs()), Response(200, b'{"metadata": {}}'), Response(503, goes_on())]
        scene.cluster.end()
        await asyncio.sleep(TIMEOUT + BACKOFF_CAP)
        said = [str(error) for error in scene.feed.errors]
        assert said[0] == "kubernetes answered 503: away"
        assert said[1].startswith("kubernetes answered 503: xxx")
        assert max(len(each) for each in said) < 2000
        assert scene.cluster.watches == 1

    scene.run(test)


def test_what_a_server_says_is_told_in_bounds() -> None:
    """However much a refusal says, an error holds the beginning of it."""
    scene = Scene()
    scene.cluster.answers = [status(500, "InternalError", "x" * 100_000)]

    async def test() -> None:
        assert str(scene.feed.errors[0]).startswith("kubernetes answered 500: xxx")
        assert len(str(scene.feed.errors[0])) < 2000

    scene.run(test)


def test_pages_that_never_end_are_an_error() -> None:
    """A list that always has another page is given up, and is no storm."""
    scene = Scene()
    page = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": []}

    async def test() -> None:
        scene.cluster.answers = [Response.json_of(page) for _ in range(5000)]
        scene.cluster.cut()
        await asyncio.sleep(20)
        assert "a list of EndpointSlices has more than" in str(scene.feed.errors[-1])
        assert len(scene.cluster.answers) > 0
        assert scene.feed.sets == [["a", "b"]]

    scene.run(test)


def test_a_list_that_is_gone_for_ever_is_an_outage() -> None:
    """A 410 means a new list; when the new list is refused that way too, somebody has to hear of it."""
    scene = Scene()

    async def test() -> None:
        scene.cluster.answers = [status(410, "Expired", "too old") for _ in range(1000)]
        scene.cluster.end()
        await asyncio.sleep(60)
        assert "kubernetes answered 410: too old" in str(scene.feed.errors[0])
        assert len(scene.cluster.requests) < 60

    scene.run(test)


@pytest.mark.parametrize("end", ["in order", "gone", "broken"])
def test_watches_that_say_something_and_end_at_once_are_no_storm(end: str) -> None:
    """A server that has one word for every watch and ends it then is asked ever more slowly as well."""
    scene = Scene()
    word = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "101"}}}).encode() + b"\n"
    if end != "in order":
        said = {"code": 410 if end == "gone" else 500, "reason": "Expired" if end == "gone" else "InternalError"}
        word += json.dumps({"type": "ERROR", "object": said}).encode() + b"\n"
    call = scene.cluster.call

    async def ends(request: Request) -> Response:
        scene.cluster.requests.append(request)
        assert len(scene.cluster.requests) < 1000, "a storm, which virtual time would never end"
        return Response(200, word) if "watch=1" in request.query else await call(request)

    scene.resolver._api._call = ends

    async def test() -> None:
        await asyncio.sleep(300)
        assert len(scene.cluster.asked("watch")) < 40

    scene.run(test)


def test_watches_that_end_at_once_are_no_storm() -> None:
    """A proxy that cuts every watch is asked ever more slowly, and is no outage: the set is as true as its last list."""
    scene = Scene()

    async def test() -> None:
        scene.cluster.answers = [Response(200, b"") for _ in range(1000)]
        scene.cluster.end()
        await asyncio.sleep(300)
        assert len(scene.cluster.requests) < 40
        assert scene.feed.errors == []

    scene.run(test)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Response(404, b"404 page not found\n"),
            "kubernetes answered 404: 404 page not found (this is no Kubernetes API server",
        ),
        (Response(200, b"<html>"), "what should be a list of EndpointSlices does not come from Kubernetes"),
        (status(401, "Unauthorized", "Unauthorized"), "kubernetes answered 401: Unauthorized (the token is no token of"),
        (status(500, "InternalError", "etcd is away"), "kubernetes answered 500: etcd is away"),
    ],
)
def test_a_refusal_says_what_is_wrong(answer: Response, said: str) -> None:
    """What the server says, and what it means."""
    scene = Scene()
    scene.cluster.answers = [answer]

    async def test() -> None:
        assert str(scene.feed.errors[0]).startswith(said)

    scene.run(test)


def test_a_port_that_nobody_can_guess_is_told_until_somebody_says() -> None:
    """The set is not empty then, it is an error; a slice that can be understood ends it."""
    scene = Scene()
    scene.cluster.write(slice_of(endpoint("10.0.0.1", "a"), ports=[{"name": "x", "port": 1}, {"name": "y", "port": 2}]))

    async def test() -> None:
        assert "which port of the Service user is meant?" in str(scene.feed.errors[0])
        assert scene.feed.told == []
        scene.cluster.write(slice_of(endpoint("10.0.0.1", "a")))
        await asyncio.sleep(BACKOFF_CAP)
        assert scene.feed.last == ["a"]

    scene.run(test)


def test_the_service_of_a_peer_may_have_another_name() -> None:
    """The instances are the peer's, whatever its Service is called."""
    scene = Scene(name=lambda service: f"{service}-api")
    scene.cluster.write(slice_of(endpoint("10.0.0.7", "u"), service="user-api", name="user-api-1"))

    async def test() -> None:
        assert scene.feed.last == ["u"]

    scene.run(test)


def test_a_resolver_can_be_looked_at() -> None:
    """It says where it reads, and what each watch came to."""
    scene = Scene()

    async def test() -> None:
        assert scene.resolver.describe() == {
            "backend": "kubernetes",
            "namespace": "shop",
            "watched": {"user": "2 instances at version 101"},
        }
        assert repr(scene.resolver) == "<KubernetesResolver of shop, user: 2 instances at version 101>"

    scene.run(test)


# -- rights


FORBIDDEN = (
    'endpointslices.discovery.k8s.io is forbidden: User "{}" cannot list resource "endpointslices" in API group '
    '"discovery.k8s.io" in the namespace "shop"'
)
ORDER = "system:serviceaccount:shop:order"


def test_missing_rights_are_told_with_the_role_that_gives_them() -> None:
    """The error names who needs what where, and has the Role to apply, in a form that a JSON log line does not change."""
    scene = Scene()
    scene.cluster.answers = [status(403, "Forbidden", FORBIDDEN.format(ORDER))]

    async def test() -> None:
        said = str(scene.feed.errors[0])
        assert said.startswith(
            f"kubernetes does not let {ORDER} read EndpointSlices in namespace shop (403): that takes a Role with "
            "apiGroup discovery.k8s.io, resource endpointslices, verbs get, list, watch; fix: echo '{apiVersion: v1,"
        )
        assert said.endswith("subjects: [{kind: ServiceAccount, name: order, namespace: shop}]}]}' | kubectl apply -f -")
        assert json.dumps(said) == f'"{said}"'
        await asyncio.sleep(5)
        assert scene.feed.last == ["a", "b"]

    scene.run(test)


def test_each_account_has_a_binding_of_its_own() -> None:
    """Applying the Role for a second service leaves the rights of the first alone."""
    assert "name: mizzen-discovery-order, namespace: shop" in role(ORDER, "shop")
    assert "name: mizzen-discovery-stock, namespace: shop" in role("system:serviceaccount:shop:stock", "shop")
    assert "name: mizzen-discovery-ops-order, namespace: shop" in role("system:serviceaccount:ops:order", "shop")
    assert "subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: jane@example.com}]" in role(
        "jane@example.com", "shop"
    )


def test_nobody_is_given_rights() -> None:
    """Whoever came without a token is told so, and not to let everybody in."""
    scene = Scene()
    scene.cluster.answers = [status(403, "Forbidden", FORBIDDEN.format("system:anonymous"))]

    async def test() -> None:
        assert "it took us for nobody" in str(scene.feed.errors[0])
        assert "kubectl" not in str(scene.feed.errors[0])

    scene.run(test)


def test_a_name_is_not_run_by_a_shell() -> None:
    """What the server says of us is put into a command only when it is a name."""
    scene = Scene()
    scene.cluster.answers = [status(403, "Forbidden", FORBIDDEN.format("x' | sh #"))]

    async def test() -> None:
        assert "sh #" not in str(scene.feed.errors[0])
        assert "name: NAME, namespace: NAMESPACE" in str(scene.feed.errors[0])

    scene.run(test)


def test_the_token_is_read_anew_every_minute(tmp_path: Path) -> None:
    """A file is not read for every request, and a new token is used a minute later at most."""
    file = tmp_path / "token"
    file.write_text("one\n")
    now = 100.0
    token = TokenFile(str(file), clock=lambda: now)
    assert token.read() == "one"
    file.write_text("two\n")
    now += TOKEN_AGE - 1
    assert token.read() == "one"
    now += 1
    assert token.read() == "two"


def test_a_token_file_that_is_empty_for_a_moment_is_not_believed(tmp_path: Path) -> None:
    """Whoever writes it may truncate it first; without a token we would be nobody, which is not even a refusal."""
    file = tmp_path / "token"
    now = 100.0
    token = TokenFile(str(file), clock=lambda: now)
    file.write_text("\n")
    with pytest.raises(PeerError, match=r"the token for Kubernetes cannot be read: .* is empty"):
        token.read()
    file.write_text("one")
    assert token.read() == "one"
    file.write_text("")
    now += TOKEN_AGE
    assert token.read() == "one"
    file.write_text("two")
    assert token.read() == "two"


def test_a_token_that_is_refused_is_read_anew_at_once(tmp_path: Path) -> None:
    """A token that was replaced since we looked costs one refusal, and nobody hears of it."""
    file = tmp_path / "token"
    file.write_text("one")
    scene = Scene(TokenFile(str(file), clock=lambda: asyncio.get_running_loop().time()))
    scene.cluster.tokens = {"one"}

    async def test() -> None:
        scene.cluster.tokens = {"two"}
        file.write_text("two")
        scene.cluster.end()
        await asyncio.sleep(0.1)
        assert [each.headers["authorization"] for each in scene.cluster.requests[-2:]] == ["Bearer one", "Bearer two"]
        assert (scene.feed.errors, scene.cluster.watches) == ([], 1)

    scene.run(test)


def test_a_token_that_stays_refused_is_an_error_until_it_is_replaced(tmp_path: Path) -> None:
    """The set stays as it is; the new token is found as soon as it is there."""
    file = tmp_path / "token"
    file.write_text("one")
    scene = Scene(TokenFile(str(file), clock=lambda: asyncio.get_running_loop().time()))
    scene.cluster.tokens = {"one"}

    async def test() -> None:
        scene.cluster.tokens = {"two"}
        scene.cluster.end()
        await asyncio.sleep(3)
        assert [each.status for each in scene.feed.errors if isinstance(each, PeerError)][:1] == [401]
        file.write_text("two")
        await asyncio.sleep(BACKOFF_CAP)
        assert (scene.feed.sets, scene.cluster.watches) == ([["a", "b"]], 1)

    scene.run(test)


def test_a_token_that_cannot_be_read_is_an_error_and_an_older_one_is_used(tmp_path: Path) -> None:
    """The first token has to be there; a file that is gone for a moment takes nothing away."""
    file = tmp_path / "token"
    token = TokenFile(str(file), clock=lambda: asyncio.get_running_loop().time())
    scene = Scene(token)

    async def test() -> None:
        assert "the token for Kubernetes cannot be read" in str(scene.feed.errors[0])
        file.write_text("one")
        await asyncio.sleep(3)
        file.unlink()
        token.refused()
        assert token.read() == "one"
        assert scene.feed.last == ["a", "b"]

    scene.run(test)
