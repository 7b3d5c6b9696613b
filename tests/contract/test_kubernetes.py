"""Kubernetes: one suite for a real API server and for the one that unit tests play; then what only the real one has.

Rights, tokens and certificates are the real server's: a service account, what kubelets put into a pod, and `kubectl`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from certificates import Authority
from fake_kubernetes import FakeKubernetes
from servers.kubernetes import SLICES, Kubernetes, Pod, endpoint, running, slice_of

from mizzen.assembly.drivers.backend import Backend, Means
from mizzen.assembly.drivers.kubernetes import kubernetes
from mizzen.assembly.network import SocketNetwork
from mizzen.edges.resolvers.kubernetes.resolver import KubernetesResolver
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance
from mizzen.words.errors import CallError, PeerError
from mizzen.words.message import Call, Request, Response

PATIENCE = 30.0
"""Seconds until what does not come is a failure; never waited for when all is well."""
LIFE = (1.0, 2.0)
"""Seconds of a watch, instead of five to ten minutes."""


class Feed:
    """What the resolver said; waits for what a test expects."""

    def __init__(self) -> None:
        self.last: list[Instance] | None = None
        self.errors: list[Exception] = []
        self.sets: list[list[str]] = []

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.last = list(instances)
        if not self.sets or self.sets[-1] != self.ids:
            self.sets.append(self.ids)
        return False

    def error(self, error: Exception) -> None:
        assert isinstance(error, CallError), error
        self.errors.append(error)

    @property
    def ids(self) -> list[str]:
        assert self.last is not None
        return [instance.id for instance in self.last]

    async def until(self, *ids: str) -> None:
        """Return once the last set is that one."""
        await until(lambda: self.last is not None and self.ids == list(ids), lambda: f"{ids}, last {self.last} {self.errors}")


async def until(true: Callable[[], object], what: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.01)


class Server(ABC):
    """An API server that the suite talks to, as its administrator; what it is asked by the resolver is counted."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.asked: list[Request] = []
        self.gate = asyncio.Event()
        """Closed, no watch begins."""
        self.waiting = 0

    @abstractmethod
    async def call(self, request: Request) -> Response:
        """The handler to it."""

    async def counted(self, request: Request) -> Response:
        self.asked.append(request)
        if "watch=1" in request.query:
            self.waiting += 1
            await self.gate.wait()
            self.waiting -= 1
        return await self.call(request)

    async def get(self, path: str = "", **query: str) -> Any:
        """Status and body of a request; events of a watch come as a list, once it has ended."""
        now = time.monotonic()
        call = Call(idempotent=True, timeout=PATIENCE, started=now, deadline=now + PATIENCE)
        request = Request("GET", path or SLICES.format(self.namespace), query=urlencode(query), call=call)
        request.stream = "watch" in query
        response = await self.call(request)
        body = await response.read()
        if "watch" in query:
            return response.status, [json.loads(line) for line in body.splitlines()]
        return response.status, body

    @abstractmethod
    async def write(self, slice: dict[str, Any]) -> None: ...

    @abstractmethod
    async def remove(self, name: str) -> None: ...

    @abstractmethod
    async def outdate(self) -> None:
        """Make it forget every version but the present one, for watches too."""

    def watches(self) -> int:
        return sum("watch=1" in request.query for request in self.asked)


class Played(Server):
    def __init__(self) -> None:
        super().__init__("shop")
        self._fake = FakeKubernetes(self.namespace)

    async def call(self, request: Request) -> Response:
        return await self._fake.call(request)

    async def write(self, slice: dict[str, Any]) -> None:
        self._fake.write(slice)

    async def remove(self, name: str) -> None:
        self._fake.remove(name)

    async def outdate(self) -> None:
        self._fake.compact()


class Real(Server):
    def __init__(self, cluster: Kubernetes) -> None:
        super().__init__(cluster.namespace(f"shop-{uuid.uuid4().hex[:8]}"))
        self._cluster = cluster
        from mizzen.edges.http import Certificates, TlsFiles

        tls = Certificates(TlsFiles(ca=cluster.authority.ca), server=False)
        self._call, self._pool = means().connection(cluster.host, cluster.port, "kubernetes", tls)

    async def call(self, request: Request) -> Response:
        request.headers.set("authorization", f"Bearer {self._cluster.token}")
        return await self._call(request)

    async def write(self, slice: dict[str, Any]) -> None:
        await asyncio.to_thread(self._cluster.write, self.namespace, slice)

    async def remove(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.remove, self.namespace, name)

    async def outdate(self) -> None:
        # A server's memory of versions begins with its own life.
        await self.write(slice_of("other", [], name="other"))
        await asyncio.to_thread(self._cluster.compact)
        await asyncio.to_thread(self._cluster.restart)

    def close(self) -> None:
        self._pool.close()


def means(environ: dict[str, str] | None = None) -> Means:
    return Means(
        config=DiscoveryConfig(),
        network=SocketNetwork(),
        clock=time.monotonic,
        random=random.random,
        sleep=asyncio.sleep,
        environ=environ or {},
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A real API server; every test has a namespace of its own in it."""
    with running(tmp_path_factory.mktemp("kubernetes")) as cluster:
        yield cluster


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Kubernetes]:
    """A real API server that a test may restart."""
    with running(tmp_path) as cluster:
        yield cluster


BOTH = ["played", pytest.param("real", marks=pytest.mark.servers)]


@pytest.fixture(params=BOTH, scope="module")
def made(request: pytest.FixtureRequest) -> Callable[[], Server]:
    """Makes the server of the suite, in turn."""
    if request.param == "played":
        return Played
    cluster = request.getfixturevalue("cluster")
    return lambda: Real(cluster)


@pytest.fixture(params=BOTH)
def made_own(request: pytest.FixtureRequest) -> Callable[[], Server]:
    """The same for tests that make a server forget."""
    if request.param == "played":
        return Played
    cluster = request.getfixturevalue("own_cluster")
    return lambda: Real(cluster)


def on(made: Callable[[], Server], test: Callable[[Server, Feed], Awaitable[None]], **options: Any) -> None:
    """Run a test with a resolver that watches the service ``user``."""

    async def main() -> None:
        server, feed = made(), Feed()
        server.gate.set()
        resolver = KubernetesResolver(
            server.counted,
            **{
                "namespace": server.namespace, "token": None, "sleep": asyncio.sleep, "random": random.random, "life": LIFE,
                **options,
            },
        )  # fmt: skip
        watch = asyncio.ensure_future(resolver.watch("user", feed))
        try:
            await test(server, feed)
            assert not watch.done()
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            if isinstance(server, Real):
                server.close()

    asyncio.run(main())


def test_slices_are_followed(made: Callable[[], Server]) -> None:
    """What is written, changed, moved to another slice and removed is told, and nothing of other services is."""

    async def test(server: Server, feed: Feed) -> None:
        await feed.until()
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a", zone="eu-1a"), endpoint("10.0.0.2", "b")]))
        await server.write(slice_of("stock", [endpoint("10.0.0.9", "z")]))
        await feed.until("a", "b")
        assert feed.last is not None
        assert (feed.last[0].zone, feed.last[0].boot, feed.last[0].origin) == ("eu-1a", "uid-of-a", "http://10.0.0.1:8101")
        await server.write(slice_of("user", [endpoint("10.0.0.2", "b"), endpoint("10.0.0.3", "c")], name="user-2"))
        await feed.until("a", "b", "c")
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a")]))
        await server.remove("user-2")
        await feed.until("a")
        await server.write(slice_of("user", [endpoint("fd00::1", "a"), endpoint("fd00::4", "d")], name="six", kind="IPv6"))
        await feed.until("a", "d")
        await server.remove("user-1")
        await server.remove("six")
        await feed.until()
        assert feed.errors == []

    on(made, test)


def test_the_way_out_of_a_pod(made: Callable[[], Server]) -> None:
    """A pod that goes is left alone while another is ready, and called still when it is the last that serves."""

    async def test(server: Server, feed: Feed) -> None:
        going = {"ready": False, "serving": True, "terminating": True}
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")]))
        await feed.until("a", "b")
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b", **going)]))
        await feed.until("a")
        await server.write(slice_of("user", [endpoint("10.0.0.2", "b", **going)]))
        await feed.until("b")
        await server.write(slice_of("user", [endpoint("10.0.0.2", "b", **{**going, "serving": False})]))
        await feed.until()

    on(made, test)


def test_a_watch_that_ends_is_resumed_without_a_gap(made: Callable[[], Server]) -> None:
    """Over many ends of watches every change arrives, in order and once, and one list is all it takes."""

    async def test(server: Server, feed: Feed) -> None:
        await feed.until()
        number = 0
        end = time.monotonic() + PATIENCE
        while server.watches() < 4 or number < 20:
            assert time.monotonic() < end
            number += 1
            await server.write(slice_of("user", [endpoint("10.0.0.1", f"p{number:03}")]))
            await asyncio.sleep(0.05)
        await feed.until(f"p{number:03}")
        assert feed.sets == [[], *([f"p{each:03}"] for each in range(1, number + 1))]
        assert (len(server.asked) - server.watches(), feed.errors) == (1, [])

    on(made, test)


def test_what_happens_between_two_watches_is_told_by_the_second(made: Callable[[], Server]) -> None:
    """Removed, added and changed while nobody watched: the watch goes on from the version before."""

    async def test(server: Server, feed: Feed) -> None:
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a")]))
        await server.write(slice_of("user", [endpoint("10.0.0.2", "b")], name="user-2"))
        await feed.until("a", "b")
        server.gate.clear()
        await until(lambda: server.waiting, lambda: "the watch ends")
        await server.remove("user-2")
        await server.write(slice_of("user", [endpoint("10.0.0.3", "c")], name="user-3"))
        assert feed.ids == ["a", "b"]
        server.gate.set()
        await feed.until("a", "c")
        assert (len(server.asked) - server.watches(), feed.errors) == (1, [])

    on(made, test)


def test_a_past_that_is_compacted_away_is_listed_anew(made_own: Callable[[], Server]) -> None:
    """A watch that begins before what the server remembers gets a 410; the list says what it came to, and nobody is alarmed."""

    async def test(server: Server, feed: Feed) -> None:
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")]))
        await feed.until("a", "b")
        server.gate.clear()
        await until(lambda: server.waiting, lambda: "the watch ends")
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a"), endpoint("10.0.0.3", "c")]))
        await server.outdate()
        lists = len(server.asked) - server.watches()
        server.gate.set()
        await feed.until("a", "c")
        assert len(server.asked) - server.watches() == lists + 1
        assert feed.errors == []

    on(made_own, test)


def test_a_silent_watch_is_begun_anew(made: Callable[[], Server]) -> None:
    """Silence beyond the limit ends a watch; that it said nothing at all makes for a list."""

    async def test(server: Server, feed: Feed) -> None:
        await feed.until()
        await until(lambda: len(server.asked) - server.watches() >= 3, lambda: "two more lists")
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a")]))
        await feed.until("a")
        assert feed.errors == []

    on(made, test, life=(300.0, 600.0), silence=0.5)


# -- what the resolver relies on


def test_a_list_has_versions_and_pages(made: Callable[[], Server]) -> None:
    """A page has the token of the next one, and all have the version from which a watch goes on."""

    async def test(server: Server, feed: Feed) -> None:
        for number in range(3):
            await server.write(slice_of("paged", [], name=f"paged-{number}"))
        selection = {"labelSelector": "kubernetes.io/service-name=paged", "limit": "2"}
        status, body = await server.get(**selection)
        first = json.loads(body)
        status, body = await server.get(**selection, **{"continue": first["metadata"]["continue"]})
        second = json.loads(body)
        names = [each["metadata"]["name"] for page in (first, second) for each in page["items"]]
        assert (status, names) == (200, ["paged-0", "paged-1", "paged-2"])
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
        assert "continue" not in second["metadata"]
        status, body = await server.get(**selection, resourceVersion="0")  # what is at hand comes without pages
        assert (status, len(json.loads(body)["items"])) == (200, 3)

    on(made, test)


def test_a_version_that_is_ahead_is_found_by_lists_only(made: Callable[[], Server]) -> None:
    """The trap behind listing anew after silence: a watch from a version of another life hears nothing, and no error."""

    async def test(server: Server, feed: Feed) -> None:
        _, body = await server.get(limit="500")
        ahead = str(int(json.loads(body)["metadata"]["resourceVersion"]) + 10_000)
        watch = asyncio.ensure_future(server.get(watch="1", resourceVersion=ahead, timeoutSeconds="2"))
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a")]))
        assert await watch == (200, [])
        status, body = await server.get(limit="500", resourceVersion=ahead, resourceVersionMatch="NotOlderThan")
        said = json.loads(body)
        assert (status, said["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")

    on(made, test)


def test_a_past_that_is_gone_is_an_event(made_own: Callable[[], Server]) -> None:
    """410 comes within an answer of 200, as a Status."""

    async def test(server: Server, feed: Feed) -> None:
        _, body = await server.get(limit="500")
        version = json.loads(body)["metadata"]["resourceVersion"]
        await server.write(slice_of("user", [endpoint("10.0.0.1", "a")]))
        await server.outdate()
        status, [event] = await server.get(watch="1", resourceVersion=version, timeoutSeconds="2")
        assert (status, event["type"], event["object"]["code"], event["object"]["reason"]) == (200, "ERROR", 410, "Expired")

    on(made_own, test)


def test_what_is_not_there_has_the_same_answers(made: Callable[[], Server]) -> None:
    """A path of nothing is 404."""

    async def test(server: Server, feed: Feed) -> None:
        status, body = await server.get("/apis/nothing.example/v1/things")
        assert (status, body) == (404, b"404 page not found\n")

    on(made, test)


# -- in a pod


class InPod:
    """The product's own driver, as in a pod of that cluster."""

    def __init__(self, cluster: Kubernetes, folder: Path, url: str = "kubernetes:endpointslices") -> None:
        self.cluster = cluster
        self.namespace = cluster.namespace(f"shop-{uuid.uuid4().hex[:8]}")
        cluster.account(self.namespace, "order")
        self.pod = Pod(folder / "pod", cluster, self.namespace)
        self.feed = Feed()
        self.asked = 0
        self._url = url

    @contextlib.asynccontextmanager
    async def watching(self) -> Any:
        backend: Backend = kubernetes(self._url, means(self.pod.environ), root=self.pod.root)
        assert isinstance(backend.resolver, KubernetesResolver)
        backend.resolver._life = LIFE
        call = backend.resolver._api._call

        async def counted(request: Request) -> Response:
            self.asked += 1
            return await call(request)

        backend.resolver._api._call = counted
        watch = asyncio.ensure_future(backend.resolver.watch("user", self.feed))
        try:
            yield backend
            assert not watch.done()
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            backend.close()

    async def do(self, what: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(what, *arguments)

    async def write(self, *endpoints: dict[str, Any]) -> None:
        await self.do(self.cluster.write, self.namespace, slice_of("user", endpoints))

    async def fails(self, status: int) -> str:
        """Wait for an error with that status; what it says."""

        def found() -> list[PeerError]:
            return [each for each in self.feed.errors if isinstance(each, PeerError) and each.status == status]

        await until(found, lambda: f"{status} among {self.feed.errors}")
        return str(found()[0])


@pytest.mark.servers
def test_a_missing_role_is_named_and_what_it_says_to_apply_mends_it(cluster: Kubernetes, tmp_path: Path) -> None:
    """A 403 names who lacks what where; `kubectl apply` of the very text in the message is all it takes."""
    scene = InPod(cluster, tmp_path)

    async def main() -> None:
        async with scene.watching():
            said = await scene.fails(403)
            account = f"system:serviceaccount:{scene.namespace}:order"
            assert f"kubernetes does not let {account} read EndpointSlices in namespace {scene.namespace} (403)" in said
            assert "apiGroup discovery.k8s.io, resource endpointslices, verbs get, list, watch" in said
            assert scene.feed.last is None
            await scene.write(endpoint("10.0.0.1", "a"))
            found = re.search(r"fix: echo '(.*)' \| kubectl apply -f -$", said)
            assert found
            printed = await scene.do(lambda: cluster.kubectl("apply", "-f", "-", said=found[1]))
            assert "role.rbac.authorization.k8s.io/mizzen-discovery created" in printed
            assert "rolebinding.rbac.authorization.k8s.io/mizzen-discovery-order created" in printed
            await scene.feed.until("a")
            await scene.write(endpoint("10.0.0.2", "b"))
            await scene.feed.until("b")

    asyncio.run(main())


@pytest.mark.servers
def test_rights_that_are_taken_back_take_no_instance_away(cluster: Kubernetes, tmp_path: Path) -> None:
    """What was known stays, and the error says what is missing again."""
    scene = InPod(cluster, tmp_path)
    cluster.allow(scene.namespace, "order")

    async def main() -> None:
        await scene.write(endpoint("10.0.0.1", "a"))
        async with scene.watching():
            await scene.feed.until("a")
            binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{scene.namespace}/rolebindings/reads"
            await scene.do(cluster.does, "DELETE", binding)
            assert "cannot" not in await scene.fails(403)
            assert scene.feed.sets == [["a"]]

    asyncio.run(main())


@pytest.mark.servers
def test_a_rotated_token_is_picked_up(cluster: Kubernetes, tmp_path: Path) -> None:
    """A token that ends while its successor lies in the folder is never missed; one that ends before is, until there is one."""
    scene = InPod(cluster, tmp_path)
    cluster.allow(scene.namespace, "order")

    async def main() -> None:
        async with scene.watching():
            await scene.write(endpoint("10.0.0.1", "a"))
            await scene.feed.until("a")
            old, token = scene.pod.secret, scene.pod.token()
            await scene.do(scene.pod.rotate)
            await scene.do(cluster.revoke, scene.namespace, old)
            await scene.do(cluster.until_refused, scene.namespace, token)
            asked = scene.asked
            await until(lambda: scene.asked >= asked + 3, lambda: "another watch begins, and another")
            assert scene.feed.errors == []
            await scene.write(endpoint("10.0.0.2", "b"))
            await scene.feed.until("b")
            await scene.do(cluster.revoke, scene.namespace, scene.pod.secret)
            await scene.fails(401)
            await scene.write(endpoint("10.0.0.3", "c"))
            assert scene.feed.ids == ["b"]
            await scene.do(scene.pod.rotate)
            await scene.feed.until("c")

    asyncio.run(main())


@pytest.mark.servers
def test_a_rotated_authority_is_picked_up(own_cluster: Kubernetes, tmp_path: Path) -> None:
    """A server that comes back with a certificate of another authority is believed once the pod's folder has that one."""
    scene = InPod(own_cluster, tmp_path)
    own_cluster.allow(scene.namespace, "order")

    async def main() -> None:
        async with scene.watching():
            await scene.write(endpoint("10.0.0.1", "a"))
            await scene.feed.until("a")
            await scene.do(own_cluster.certify, Authority(tmp_path / "second"))
            await until(lambda: "signed by nobody we trust" in str(scene.feed.errors[-1:]), lambda: f"{scene.feed.errors}")
            assert scene.feed.ids == ["a"]
            await scene.do(scene.pod.rotate)
            await scene.write(endpoint("10.0.0.2", "b"))
            await scene.feed.until("b")

    asyncio.run(main())


@pytest.mark.servers
def test_kubectl_writes_what_is_found(cluster: Kubernetes, tmp_path: Path) -> None:
    """A manifest that a person applies, patches and deletes is followed."""
    scene = InPod(cluster, tmp_path)
    cluster.allow(scene.namespace, "order")

    def kubectl(*arguments: str, said: str = "") -> Callable[[], str]:
        return lambda: cluster.kubectl(f"--namespace={scene.namespace}", *arguments, said=said)

    async def main() -> None:
        async with scene.watching():
            await scene.feed.until()
            manifest = json.dumps(slice_of("user", [endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")]))
            await scene.do(kubectl("apply", "-f", "-", said=manifest))
            await scene.feed.until("a", "b")
            patch = '[{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": false}]'
            await scene.do(kubectl("patch", "endpointslice", "user-1", "--type=json", "-p", patch))
            await scene.feed.until("b")
            await scene.do(kubectl("delete", "endpointslices", "-l", "kubernetes.io/service-name=user"))
            await scene.feed.until()
            assert scene.feed.errors == []

    asyncio.run(main())
