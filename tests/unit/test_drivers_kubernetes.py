"""What ``kubernetes:`` means: which of the three ways, in which pod, and with which of its options."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from fake_kubernetes import FakeKubernetes

from mizzen.assembly.drivers import Backend, Drivers
from mizzen.assembly.drivers.backend import Means
from mizzen.assembly.drivers.kubernetes import FOLDER, kubernetes
from mizzen.assembly.process import at_home, registrar_of
from mizzen.edges.http import Limits, Server
from mizzen.edges.resolvers.dns.resolver import DnsResolver
from mizzen.edges.resolvers.kubernetes.names import ClusterIpResolver
from mizzen.edges.resolvers.kubernetes.resolver import KubernetesResolver
from mizzen.rules.config import DiscoveryConfig, ServiceConfig, System
from mizzen.rules.discovery import Instance
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import StartError
from mizzen.words.message import Response

SERVER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
SEARCH = "nameserver 10.96.0.10\nsearch shop.svc.prod.example svc.prod.example prod.example\noptions ndots:5\n"


class Found:
    def __init__(self) -> None:
        self.sets: list[list[Instance]] = []
        self.errors: list[Exception] = []

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.sets.append(list(instances))
        return False

    def error(self, error: Exception) -> None:
        self.errors.append(error)


async def watching(backend: Backend, feed: Found, service: str = "user") -> None:
    task = asyncio.ensure_future(backend.resolver.watch(service, feed))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])


class Pod:
    """A container's file system and environment."""

    def __init__(
        self, root: Path, *, account: bool = True, resolv_conf: str = "", environ: dict[str, str] | None = None
    ) -> None:
        self.root = root
        self.network = MemoryNetwork()
        self.environ = SERVER if environ is None else environ
        self.folder = root / FOLDER
        if account:
            self.folder.mkdir(parents=True)
            (self.folder / "namespace").write_text("shop")
            (self.folder / "token").write_text("the-token\n")
            Path(Authority(root / "pki").ca).rename(self.folder / "ca.crt")
        (root / "etc").mkdir(parents=True)
        (root / "etc" / "resolv.conf").write_text(resolv_conf)

    def open(self, url: str, *, zone: str = "") -> Backend:
        means = Means(
            zone=zone,
            config=DiscoveryConfig(),
            network=self.network,
            clock=lambda: asyncio.get_running_loop().time(),
            random=lambda: 0.5,
            sleep=asyncio.sleep,
            environ=self.environ,
        )
        return kubernetes(url, means, root=self.root)

    def found(self, url: str, service: str = "user") -> Instance:
        """The one instance that a name is."""
        feed = Found()
        backend = self.open(url)
        assert isinstance(backend.resolver, ClusterIpResolver)
        run(watching(backend, feed, service))
        assert feed.errors == []
        [[instance]] = feed.sets
        return instance


# -- by name


def test_a_service_is_its_name_in_the_clusters_dns(tmp_path: Path) -> None:
    """One instance behind a virtual address, called at its full name, whose dot spares five look-ups; no API is asked."""
    pod = Pod(tmp_path)
    name = "user.shop.svc.cluster.local"
    assert pod.found("kubernetes:") == Instance(f"user-{name}-80", "user", f"{name}.", 80)
    backend = pod.open("kubernetes:")
    assert (backend.url, backend.registrar, backend.address) == ("kubernetes:?namespace=shop", None, ("10.96.0.1", 6443))
    assert repr(backend.resolver) == "<ClusterIpResolver *.shop.svc.cluster.local.>"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("kubernetes:?port=8101", "http://user.shop.svc.cluster.local.:8101"),
        ("kubernetes:?tls=true", "https://user.shop.svc.cluster.local.:443"),
        ("kubernetes:?tls=true&port=8443", "https://user.shop.svc.cluster.local.:8443"),
        ("kubernetes:?namespace=billing", "http://user.billing.svc.cluster.local.:80"),
        ("kubernetes:?domain=prod.example.", "http://user.shop.svc.prod.example.:80"),
        ("kubernetes:?service=people", "http://people.shop.svc.cluster.local.:80"),
        ("kubernetes:?service={service}-api", "http://user-api.shop.svc.cluster.local.:80"),
        ("kubernetes://", "http://user.shop.svc.cluster.local.:80"),
    ],
)
def test_the_parts_of_a_name_can_be_said(tmp_path: Path, url: str, origin: str) -> None:
    """Namespace, domain, port, scheme and name, each by an option."""
    assert Pod(tmp_path).found(url).origin == origin


def test_a_pod_without_a_service_account_knows_its_names(tmp_path: Path) -> None:
    """Where the account is switched off, which names need not have, the search list tells namespace and domain."""
    pod = Pod(tmp_path, account=False, resolv_conf=SEARCH)
    assert pod.found("kubernetes:").host == "user.shop.svc.prod.example."


def test_a_clusters_own_domain_is_found(tmp_path: Path) -> None:
    """Few clusters are called cluster.local by choice; pods are told the name, and the account has the last word on the
    namespace.
    """
    assert Pod(tmp_path, resolv_conf=SEARCH.replace("shop", "other")).found("kubernetes:").host == "user.shop.svc.prod.example."


def test_the_search_list_of_another_machine_says_nothing(tmp_path: Path) -> None:
    """Outside of pods nothing is guessed."""
    with pytest.raises(StartError, match="does not say which namespace"):
        Pod(tmp_path, account=False, resolv_conf=SEARCH, environ={}).open("kubernetes:")


# -- headless


@pytest.mark.parametrize(
    ("options", "mode", "name"),
    [
        ("", "srv", "_http._tcp.user.shop.svc.cluster.local."),
        ("?tls=true", "srv", "_https._tcp.user.shop.svc.cluster.local."),
        ("?port=admin&namespace=billing", "srv", "_admin._tcp.user.billing.svc.cluster.local."),
        ("?port=8101&service={service}-pods", "a", "user-pods.shop.svc.cluster.local."),
    ],
)
def test_headless_services_are_read_from_dns(tmp_path: Path, options: str, mode: str, name: str) -> None:
    """A named port has SRV records; with a number the addresses of the pods are enough."""
    resolver = Pod(tmp_path).open(f"kubernetes:headless{options}").resolver
    assert isinstance(resolver, DnsResolver)
    assert (resolver._mode, resolver._name("user")) == (mode, name)
    assert (resolver._port, resolver._scheme) == (8101 if mode == "a" else 0, "https" if "tls" in options else "http")


# -- endpointslices


def api(network: MemoryNetwork, host: str, port: int) -> tuple[FakeKubernetes, Any]:
    cluster = FakeKubernetes()
    cluster.write(
        {
            "metadata": {"name": "user-1", "labels": {"kubernetes.io/service-name": "user"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.7"], "targetRef": {"kind": "Pod", "name": "user-0", "uid": "u"}}],
            "ports": [{"name": "http", "port": 8101}],
        }
    )
    server = Server(
        cluster.call,
        limits=Limits(),
        clock=asyncio.get_running_loop().time,
        refuse=lambda status, detail, request: Response(status),
    )
    return cluster, network.listen(host, port, server.protocol)


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00:96::1"])
def test_the_api_server_of_a_pod_is_asked(tmp_path: Path, host: str) -> None:
    """Its address is in the environment, its token and authority in the folder of the service account."""
    pod = Pod(tmp_path, environ={**SERVER, "KUBERNETES_SERVICE_HOST": host})

    async def main() -> None:
        cluster, listening = api(pod.network, host, 6443)
        await listening
        feed = Found()
        backend = pod.open("kubernetes:endpointslices")
        await watching(backend, feed)
        assert feed.errors == []
        assert [each.id for each in feed.sets[-1]] == ["user-0"]
        assert {each.headers["authorization"] for each in cluster.requests} == {"Bearer the-token"}
        assert cluster.requests[0].headers["host"] == (f"[{host}]:6443" if ":" in host else f"{host}:6443")
        assert backend.url == "kubernetes:endpointslices?namespace=shop"
        assert (backend.address, backend.loopback, backend.registrar) == ((host, 6443), False, None)
        backend.close()
        await asyncio.sleep(0.1)
        assert pod.network.describe()["connections"] == 0

    run(main())


def test_the_port_of_the_api_server_has_a_default(tmp_path: Path) -> None:
    """443, as everywhere."""
    assert Pod(tmp_path, environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1"}).open("kubernetes:").address == ("10.96.0.1", 443)


def test_a_server_that_is_said_needs_nothing_of_a_pod(tmp_path: Path) -> None:
    """Behind `kubectl proxy` there is neither a token nor TLS."""
    pod = Pod(tmp_path, account=False, environ={})

    async def main() -> None:
        cluster, listening = api(pod.network, "127.0.0.1", 8001)
        await listening
        feed = Found()
        await watching(pod.open("kubernetes:endpointslices?server=http://127.0.0.1:8001&namespace=shop"), feed)
        assert [each.id for each in feed.sets[-1]] == ["user-0"]
        assert {each.headers.get("authorization") for each in cluster.requests} == {None}

    run(main())


def test_files_can_be_said(tmp_path: Path) -> None:
    """A token and an authority of one's own go with a server of one's own."""
    pod = Pod(tmp_path, account=False, environ={})
    (tmp_path / "token").write_text("mine")
    ca = Authority(tmp_path / "pki").ca
    url = f"kubernetes:endpointslices?server=https://[::1]:6443&namespace=shop&token_file={tmp_path / 'token'}&ca={ca}"

    async def main() -> None:
        cluster, listening = api(pod.network, "::1", 6443)
        await listening
        backend = pod.open(url)
        await watching(backend, Found())
        assert cluster.requests[0].headers["authorization"] == "Bearer mine"
        assert backend.loopback

    run(main())


def test_options_reach_the_choice_of_addresses(tmp_path: Path) -> None:
    """Port, TLS and zone say which of its addresses a Service is called at."""
    resolver = Pod(tmp_path).open("kubernetes:endpointslices?port=admin&tls=true&zone=eu-1a&service=people").resolver
    assert isinstance(resolver, KubernetesResolver)
    assert (resolver.choice.port, resolver.choice.tls, resolver.choice.zone) == ("admin", True, "eu-1a")
    assert resolver._name("user") == "people"


def test_our_own_zone_is_the_one_that_hints_are_about(tmp_path: Path) -> None:
    """Where a service runs is said once, in its settings; the URL may say otherwise."""
    pod = Pod(tmp_path)
    zones = [pod.open(f"kubernetes:endpointslices{more}", zone="eu-1b").resolver for more in ("", "?zone=eu-1a")]
    assert [each.choice.zone for each in zones if isinstance(each, KubernetesResolver)] == ["eu-1b", "eu-1a"]


# -- what is wrong


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kubernetes:endpoints", "'kubernetes:endpoints' is no way to find services in Kubernetes"),
        ("kubernetes:?server=https://10.0.0.1", "kubernetes:?server=https://10.0.0.1 has no option server"),
        ("kubernetes:?namespace=Shop", "kubernetes:?namespace=Shop has namespace=Shop"),
        ("kubernetes:?namespace=shop.svc", "kubernetes:?namespace=shop.svc has namespace=shop.svc"),
        ("kubernetes:?service={name}", "kubernetes:?service={name} has service={name}"),
        ("kubernetes:?port=http", "kubernetes:?port=http has port=http"),
        ("kubernetes:?port=70000", "kubernetes:?port=70000 has port=70000"),
        ("kubernetes:?tls=1", "kubernetes:?tls=1 has tls=1"),
        ("kubernetes:?domain=a..b", "kubernetes:?domain=a..b has domain=a..b"),
        (
            "kubernetes:endpointslices?server=10.0.0.1",
            "kubernetes:endpointslices?server=10.0.0.1: '10.0.0.1' is not the address",
        ),
        (
            "kubernetes:endpointslices?server=https://10.0.0.1/api",
            "kubernetes:endpointslices?server=https://10.0.0.1/api: 'https://10.0.0.1/api' is not the address of an API server",
        ),
        (
            "kubernetes:endpointslices?token_file=/nowhere/token",
            "kubernetes:endpointslices?token_file=/nowhere/token needs the token of a service account, and there is none at /",
        ),
        (
            "kubernetes:endpointslices?ca=/nowhere/ca",
            "ca= of kubernetes:endpointslices: /nowhere/ca cannot be read (No such file",
        ),
    ],
)
def test_what_is_wrong_with_a_url_is_said_at_start(tmp_path: Path, url: str, said: str) -> None:
    """The message names the option and what it takes."""
    with pytest.raises(StartError) as raised:
        Pod(tmp_path).open(url)
    assert str(raised.value).startswith(said)
    assert raised.value.fix


def test_outside_of_pods_the_server_has_to_be_said(tmp_path: Path) -> None:
    """Nothing in the environment says where it is."""
    with pytest.raises(StartError, match="is for pods, and KUBERNETES_SERVICE_HOST is not set"):
        Pod(tmp_path, environ={}).open("kubernetes:endpointslices?namespace=shop")


def test_a_token_does_not_travel_in_clear(tmp_path: Path) -> None:
    """Without TLS a token is for this machine's own proxy at most."""
    pod = Pod(tmp_path)
    token = f"&token_file={pod.folder / 'token'}"
    with pytest.raises(StartError, match=r"would send a token in clear to 10\.0\.0\.1"):
        pod.open(f"kubernetes:endpointslices?server=http://10.0.0.1:8080{token}")
    assert pod.open(f"kubernetes:endpointslices?server=http://127.0.0.1:8001{token}").loopback


def test_a_pod_without_its_token_is_told_why(tmp_path: Path) -> None:
    """Many pods have no service account on purpose; the API server is not for these."""
    with pytest.raises(StartError, match="automountServiceAccountToken"):
        Pod(tmp_path, account=False).open("kubernetes:endpointslices?namespace=shop")


# -- in a process


def test_nobody_is_warned_that_nothing_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    """In Kubernetes the cluster announces: that we do not is no news, and a service bound to loopback harms nobody."""
    system = System(
        name="shop",
        place="/shop/mizzen.toml",
        services={"order": ServiceConfig()},
        discovery=DiscoveryConfig(url="kubernetes:?namespace=shop"),
    )
    for environ, host, address in (
        ({**SERVER, "POD_IP": "10.0.3.7"}, "0.0.0.0", "10.0.3.7"),
        (SERVER, "127.0.0.1", "127.0.0.1"),
    ):
        with caplog.at_level(logging.INFO):
            drivers, instance = at_home(
                system, "order", environ=environ, version="1", host=host, port=8102, network=MemoryNetwork()
            )
            assert registrar_of(drivers, system, instance, host) is None
        assert instance.id == f"order-{address}-8102"
    assert caplog.records == []


def test_the_scheme_is_one_of_those_that_urls_have() -> None:
    """It may resolve while another registry is told, or nobody is."""
    made = Drivers(
        DiscoveryConfig(resolve="kubernetes:?namespace=shop&domain=cluster.local"),
        url="none:",
        network=MemoryNetwork(),
        clock=lambda: 0.0,
        random=lambda: 0.5,
        environ=SERVER,
    )
    assert isinstance(made.resolving().resolver, ClusterIpResolver)
