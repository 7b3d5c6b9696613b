"""Drivers: which registry a URL means."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mizzen.assembly.drivers import BACKEND_TIMEOUT, Backend, Drivers, discover
from mizzen.assembly.process import at_home, registrar_of
from mizzen.edges.http import Limits, Server
from mizzen.edges.resolvers import ConsulCatalogRegistrar, ConsulRegistrar, ConsulResolver, NoneResolver, StaticResolver
from mizzen.rules.config import DiscoveryConfig, Secret, parse
from mizzen.rules.discovery import Instance
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallError, CallTimeout, ConfigError, StartError
from mizzen.words.message import Request, Response

AGENT = ("10.0.3.2", 8500)
ME = Instance("order-10.0.0.1-8102", "order", "10.0.0.1", 8102, meta={"boot": "b1"})


def drivers(
    config: DiscoveryConfig | None = None, *, url: str = "none:", network: MemoryNetwork | None = None, **more: Any
) -> Drivers:
    def clock() -> float:
        return asyncio.get_running_loop().time()

    return Drivers(
        config or DiscoveryConfig(), url=url, network=network or MemoryNetwork(), clock=clock, random=lambda: 0.5, **more
    )


class Found:
    """A feed that keeps what it is told."""

    def __init__(self) -> None:
        self.ids: list[list[str]] = []
        self.errors: list[Exception] = []

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.ids.append([instance.id for instance in instances])
        return False

    def error(self, error: Exception) -> None:
        self.errors.append(error)


class Agent:
    """A Consul agent that the test plays: it answers everything with 200 and remembers what it was asked."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Awaitable[Response]] = self._fine

    async def _fine(self, request: Request) -> Response:
        if request.path.startswith("/v1/health/service/"):
            if "index" in request.query:
                await asyncio.sleep(3600)
            return Response(200, b"[]", headers={"x-consul-index": "7"})
        return Response.json_of({})

    async def _handle(self, request: Request) -> Response:
        self.requests.append(request)
        return await self.answer(request)

    async def start(self) -> None:
        server = Server(
            self._handle,
            limits=Limits(),
            clock=asyncio.get_running_loop().time,
            refuse=lambda status, detail, request: Response(status),
        )
        self.protocol = server.protocol
        await self.network.listen(*AGENT, self.protocol)


async def watching(backend: Backend, feed: Found, seconds: float = 1.0) -> None:
    """Let a resolver run for so long."""
    task = asyncio.ensure_future(backend.resolver.watch("user", feed))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])


def test_none_resolves_and_registers_nothing() -> None:
    """Without a registry nobody is found and nothing is announced."""
    backend = drivers().resolving()
    assert isinstance(backend.resolver, NoneResolver)
    assert (backend.url, backend.registrar, backend.address, backend.loopback) == ("none:", None, None, True)


def test_static_addresses_are_found_and_not_registered() -> None:
    """What is written down is resolved from it; there is nowhere to register."""
    backend = drivers(url="static:user=10.0.0.1:8101").resolving()
    assert isinstance(backend.resolver, StaticResolver)
    assert backend.registrar is None
    feed = Found()
    run(watching(backend, feed))
    assert feed.ids == [["user-10.0.0.1-8101"]]


def test_consul_resolves_and_registers() -> None:
    """An agent does both; its address says whether only this machine reads it."""
    backend = drivers(url="consul://10.0.3.2:8501").registering()
    assert isinstance(backend.resolver, ConsulResolver)
    assert isinstance(backend.registrar, ConsulRegistrar)
    assert (backend.url, backend.address, backend.loopback) == ("consul://10.0.3.2:8501", ("10.0.3.2", 8501), False)


@pytest.mark.parametrize("url", ["consul:", "consul://", "consul://127.0.0.1", "consul://127.0.0.1:8500/"])
def test_a_local_agent_is_the_default(url: str) -> None:
    """Without an address it is the agent on this machine, at Consul's port."""
    backend = drivers(url=url).resolving()
    assert (backend.address, backend.loopback) == (("127.0.0.1", 8500), True)


def test_one_backend_per_url() -> None:
    """Clients that use the same registry share its connections and its watches."""
    made = drivers(url="consul://10.0.3.2:8500")
    assert made.resolving() is made.registering() is made.open("consul://10.0.3.2:8500")
    assert made.at("user", "consul://10.0.3.2:8500") is made.resolving()
    assert made.at("user", "consul://old-dc:8500") is not made.resolving()


def test_registering_and_resolving_may_use_different_registries() -> None:
    """The two sides are set apart by their own keys, each of which falls back to the common one."""
    apart = drivers(DiscoveryConfig(register="consul://10.0.3.2:8500", resolve="static:user=10.0.0.1:8101"))
    assert apart.registering().url == "consul://10.0.3.2:8500"
    assert apart.resolving().url == "static:user=10.0.0.1:8101"
    half = drivers(DiscoveryConfig(resolve="static:user=10.0.0.1:8101"), url="consul://10.0.3.2:8500")
    assert half.registering().url == "consul://10.0.3.2:8500"


@pytest.mark.parametrize("url", ["http://user.example:8101", "https://user.example"])
def test_a_client_may_name_its_peers_address(url: str) -> None:
    """A client's own url is the peer itself, whatever the registry says."""
    backend = drivers(url="consul://10.0.3.2:8500").at("user", url)
    feed = Found()
    run(watching(backend, feed))
    assert backend.url == url
    assert len(feed.ids[0]) == 1
    assert feed.ids[0][0].startswith("user-user.example-")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("zookeeper://10.0.3.2:2181", "no discovery driver for 'zookeeper://10.0.3.2:2181'"),
        ("zookeeper://10.0.3.2", "no discovery driver for 'zookeeper://10.0.3.2'\n"),
        ("user.example:8101", "no discovery driver for 'user.example:8101'\n"),
        ("embedded:", "the embedded registry is for development: it keeps nothing and listens on loopback"),
        ("consul://10.0.3.2:http", "'consul://10.0.3.2:http' is not the address of a Consul agent: Port could not be cast"),
        ("consul://10.0.3.2:8500?datacenter=x", "consul://10.0.3.2:8500 has no option datacenter"),
        ("consul://10.0.3.2:8500?tls=1", "consul://10.0.3.2:8500 has tls=1"),
        ("consul://10.0.3.2:8500?tls", "consul://10.0.3.2:8500 has tls without a value"),
        ("consul://10.0.3.2:8500?dc=&token=", "consul://10.0.3.2:8500 has dc, token without a value"),
        ("consul://:hunter2@10.0.3.2:8500", "'consul://***@10.0.3.2:8500' is not the address of a Consul agent: it has a user"),
        ("consul://hunter2@10.0.3.2:http", "'consul://***@10.0.3.2:http' is not the address of a Consul agent: it has a user"),
        ("consul:///run/consul.sock", "'consul:///run/consul.sock' is not the address of a Consul agent: it has a path"),
    ],
)
def test_a_url_that_means_no_registry_is_refused_with_the_fix(url: str, said: str) -> None:
    """The message says what is wrong with it and what there is instead."""
    with pytest.raises(StartError) as raised:
        drivers(url=url).resolving()
    assert str(raised.value).startswith(said)
    assert raised.value.fix


def test_an_address_that_is_none_is_refused() -> None:
    """A client's url with a path in it would lose the path: that is said before anything is called."""
    with pytest.raises(ConfigError, match="is not an address of user"):
        drivers().at("user", "http://user.example/v2")


def test_passwords_stay_out_of_errors() -> None:
    """A URL that is shown is shown without its secrets."""
    with pytest.raises(StartError) as raised:
        drivers(url="zookeeper://root:hunter2@10.0.3.2").resolving()
    assert "hunter2" not in str(raised.value)
    backend = drivers(url="consul://10.0.3.2:8500?token=hunter2").resolving()
    assert "hunter2" not in f"{backend.url} {backend.resolver!r} {backend.registrar!r}"


@pytest.mark.parametrize(
    ("config", "environ", "url"),
    [
        ("auto", {}, "none:"),
        ("auto", {"CONSUL_HTTP_ADDR": "10.0.3.2:8500"}, "consul://10.0.3.2:8500"),
        ("auto", {"CONSUL_HTTP_ADDR": "http://10.0.3.2:8500"}, "consul://10.0.3.2:8500"),
        ("auto", {"CONSUL_HTTP_ADDR": "https://10.0.3.2:8501"}, "consul://10.0.3.2:8501?tls=true"),
        ("auto", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes:"),
        ("auto", {"CONSUL_HTTP_ADDR": "10.0.3.2:8500", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "consul://10.0.3.2:8500"),
        ("static:user=10.0.0.1:8101", {"CONSUL_HTTP_ADDR": "10.0.3.2:8500"}, "static:user=10.0.0.1:8101"),
    ],
)
def test_auto_means_what_the_environment_offers(config: str, environ: Mapping[str, str], url: str) -> None:
    """An agent's address comes first, then Kubernetes, then nothing; what is configured is taken as it is."""
    assert discover(DiscoveryConfig(url=config), environ) == url


@pytest.mark.parametrize(
    ("config", "query", "token"),
    [
        (DiscoveryConfig(), "", None),
        (DiscoveryConfig(token=Secret("of-the-config")), "", "of-the-config"),
        (DiscoveryConfig(token=Secret("of-the-config")), "?token=of-the-url", "of-the-url"),
    ],
)
def test_the_token_goes_with_every_request(config: DiscoveryConfig, query: str, token: str | None) -> None:
    """The agent is shown the token of the URL, else the configured one, by both sides."""

    async def main() -> None:
        agent = Agent()
        await agent.start()
        made = drivers(config, url=f"consul://10.0.3.2:8500{query}", network=agent.network)
        backend = made.resolving()
        await watching(backend, Found())
        assert backend.registrar is not None
        await backend.registrar.register(ME, "passing", "ok")
        made.close()
        assert len(agent.requests) > 2
        assert {request.headers.get("x-consul-token") for request in agent.requests} == {token}

    run(main())


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """A token that is rotated is used from the next request on."""
    file = tmp_path / "token"
    file.write_text("first\n")

    async def main() -> None:
        agent = Agent()
        await agent.start()
        made = drivers(DiscoveryConfig(token_file=str(file)), url="consul://10.0.3.2", network=agent.network)
        registrar = made.registering().registrar
        assert registrar is not None
        await registrar.beat(ME, "passing", "ok")
        file.write_text("second\n")
        await registrar.beat(ME, "passing", "ok")
        made.close()
        assert [request.headers.get("x-consul-token") for request in agent.requests] == ["first", "second"]

    run(main())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the token file {file}: No such file or directory"),
        (b"", "the token file {file} is empty"),
        (b" \n", "the token file {file} is empty"),
        (b"\xff\xfe", "cannot read the token file {file}: it is not text"),
    ],
)
def test_nothing_is_asked_without_the_token_that_is_configured(content: bytes | None, said: str, tmp_path: Path) -> None:
    """A file that is being replaced may be empty for a moment, and whoever shows no token is told that nobody is there."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    async def main() -> None:
        agent, feed = Agent(), Found()
        await agent.start()
        made = drivers(DiscoveryConfig(token_file=str(file)), url="consul://10.0.3.2", network=agent.network)
        await watching(made.resolving(), feed)
        registrar = made.registering().registrar
        assert registrar is not None
        with pytest.raises(CallError, match=re.escape(said.format(file=file))):
            await registrar.register(ME, "passing", "ok")
        made.close()
        assert feed.ids == []
        assert str(feed.errors[0]).startswith(said.format(file=file))
        assert agent.requests == []

    run(main())


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("consul://10.0.3.2:8500?dc=legacy", "of-home"),
        ("consul://10.0.3.2:8500?tag=blue", "of-home"),
        ("consul://10.0.3.9:8500", None),
        ("consul://10.0.3.9:8500?token=of-the-url", "of-the-url"),
        ("consul://10.0.3.2:8500?token=of-the-url", "of-the-url"),
        ("consul://10.0.3.9:8500?token_file={file}", "of-the-file"),
    ],
)
@pytest.mark.parametrize("configured", ["token", "token_file"])
def test_the_token_of_home_is_shown_to_home_alone(url: str, token: str | None, configured: str, tmp_path: Path) -> None:
    """A registry that a client names gets the token of its own URL, or none: nobody hands a secret to somebody else."""
    (tmp_path / "other").write_text("of-the-file\n")
    (tmp_path / "home").write_text("of-home\n")
    secret = {"token": Secret("of-home")} if configured == "token" else {"token_file": str(tmp_path / "home")}
    url = url.format(file=tmp_path / "other")

    async def main() -> None:
        agent = Agent()
        await agent.start()
        await agent.network.listen("10.0.3.9", 8500, agent.protocol)
        made = drivers(DiscoveryConfig(**secret), url="consul://10.0.3.2:8500", network=agent.network)  # type: ignore[arg-type]
        await watching(made.at("user", url), Found())
        made.close()
        assert {request.headers.get("x-consul-token") for request in agent.requests} == {token}

    run(main())


def test_two_views_of_one_agent_share_no_connection() -> None:
    """Another datacenter, or a tag, behind the same agent is a registry of its own, and says so."""
    made = drivers(url="consul://10.0.3.2:8500")
    views = [
        made.resolving(),
        made.at("user", "consul://10.0.3.2:8500?dc=legacy"),
        made.at("user", "consul://10.0.3.2:8500?tag=x"),
    ]
    assert len({id(view.resolver) for view in views}) == len({id(view.registrar) for view in views}) == 3
    assert [view.url for view in views[:2]] == ["consul://10.0.3.2:8500", "consul://10.0.3.2:8500?dc=legacy"]


def test_an_agent_may_have_an_ipv6_address() -> None:
    """It is shown as URLs have it, and known for loopback."""
    backend = drivers(url="consul://[::1]:8500").resolving()
    assert (backend.url, backend.address, backend.loopback) == ("consul://[::1]:8500", ("::1", 8500), True)


def test_the_catalog_is_written_where_the_url_says_so() -> None:
    """Without an agent of its own an instance is registered as a node of the catalog; reading is the same."""
    backend = drivers(url="consul://10.0.3.2:8500?catalog=true").registering()
    assert isinstance(backend.registrar, ConsulCatalogRegistrar)
    assert isinstance(backend.resolver, ConsulResolver)


def test_datacenter_and_tag_are_asked_for() -> None:
    """What the URL says of the query reaches the agent."""

    async def main() -> None:
        agent = Agent()
        await agent.start()
        made = drivers(url="consul://10.0.3.2:8500?dc=north&tag=blue", network=agent.network)
        await watching(made.resolving(), Found())
        made.close()
        assert "dc=north" in agent.requests[0].query
        assert "tag=blue" in agent.requests[0].query

    run(main())


@pytest.mark.parametrize(
    ("config", "port", "checks"),
    [
        (DiscoveryConfig(), None, "http://10.0.0.1:8102/health"),
        (DiscoveryConfig(), 9000, "http://10.0.0.1:9000/health"),
        (DiscoveryConfig(http_check=False), None, None),
    ],
)
def test_the_agents_own_check_is_configured(config: DiscoveryConfig, port: int | None, checks: str | None) -> None:
    """The agent looks at /health where that is, or not at all where it cannot reach it."""

    async def main() -> None:
        agent = Agent()
        await agent.start()
        made = drivers(config, url="consul://10.0.3.2:8500", network=agent.network, health_port=port)
        registrar = made.registering().registrar
        assert registrar is not None
        await registrar.register(ME, "passing", "ok")
        made.close()
        [registration] = [request for request in agent.requests if request.path == "/v1/agent/service/register"]
        assert isinstance(registration.body, bytes)
        assert (checks is None) == (b'"HTTP":' not in registration.body)
        assert checks is None or checks.encode() in registration.body

    run(main())


@pytest.mark.parametrize(
    ("query", "path"), [("", "/v1/agent/service/register"), ("?catalog=true", "/v1/catalog/register")], ids=["agent", "catalog"]
)
def test_what_the_file_says_of_an_instance_reaches_the_registry(query: str, path: str) -> None:
    """Tags, weight, metadata and zone, from mizzen.toml and its variables to what Consul is told."""
    text = f"""
        [discovery]
        url = "consul://10.0.3.2:8500{query}"
        [services.order]
        build = "shop.order.service:build"
        port = 8102
        advertise = "10.0.0.1"
        zone = "eu-1a"
        weight = 7
        tags = ["blue", "canary"]
        meta = {{ team = "pay" }}
    """
    environ = {"ORDER__WEIGHT": "3"}

    async def main() -> None:
        agent = Agent()
        await agent.start()
        system = parse(text, "/shop/mizzen.toml", environ)
        made, instance = at_home(
            system, "order", environ=environ, version="1.4.2", host="0.0.0.0", port=8102, network=agent.network
        )
        registrar = registrar_of(made, system, instance, "0.0.0.0")
        assert registrar is not None
        await registrar.register(instance, "passing", "ok")
        made.close()
        [told] = [json.loads(await request.read()) for request in agent.requests if request.path == path]
        service = told.get("Service", told)
        meta = {"team": "pay", "zone": "eu-1a", "version": "1.4.2", "scheme": "http", "boot": instance.boot}
        assert (service["ID"], service["Address"], service["Port"]) == ("order-10.0.0.1-8102", "10.0.0.1", 8102)
        assert (service["Tags"], service["Meta"]) == (["blue", "canary"], meta)
        assert service["Weights"] == {"Passing": 3, "Warning": 1}

    run(main())


def test_a_registry_that_does_not_answer_is_given_up_in_time() -> None:
    """A hung agent costs a beat two seconds and no more, and the error names it."""

    async def main() -> None:
        agent = Agent()
        await agent.start()
        agent.network.hang(*AGENT)
        made = drivers(url="consul://10.0.3.2:8500", network=agent.network)
        registrar = made.registering().registrar
        assert registrar is not None
        with pytest.raises(CallTimeout, match=r"no answer from consul://10\.0\.3\.2:8500 in 2\.0s"):
            await registrar.beat(ME, "passing", "ok")
        assert asyncio.get_running_loop().time() == pytest.approx(BACKEND_TIMEOUT)
        made.close()

    run(main())


def test_heartbeats_do_not_wait_behind_watches() -> None:
    """A beat is answered at once while a watch is held by the agent, and closing ends the connections of both."""

    async def main() -> None:
        agent = Agent()
        await agent.start()
        made = drivers(url="consul://10.0.3.2:8500", network=agent.network)
        backend = made.resolving()
        assert backend.registrar is not None
        watch = asyncio.ensure_future(backend.resolver.watch("user", Found()))
        await asyncio.sleep(10)
        await backend.registrar.beat(ME, "passing", "ok")
        assert asyncio.get_running_loop().time() == pytest.approx(10)
        assert agent.network.describe()["connections"] == 2
        watch.cancel()
        await asyncio.wait([watch])
        made.close()
        await asyncio.sleep(0.1)
        assert agent.network.describe()["connections"] == 0

    run(main())


def test_closing_closes_idle_connections_of_both() -> None:
    """A registry's connections do not outlive the process's part that used them."""

    async def main() -> None:
        agent = Agent()

        async def at_once(request: Request) -> Response:
            return Response(200, b"[]", headers={"x-consul-index": "7"})

        agent.answer = at_once
        await agent.start()
        made = drivers(url="consul://10.0.3.2:8500", network=agent.network)
        backend = made.resolving()
        assert backend.registrar is not None
        await watching(backend, Found(), 10.1)  # by then it waits for its next turn, with its connection idle
        await backend.registrar.beat(ME, "passing", "ok")
        assert agent.network.describe()["connections"] == 2
        made.close()
        await asyncio.sleep(0.1)
        assert agent.network.describe()["connections"] == 0

    run(main())
