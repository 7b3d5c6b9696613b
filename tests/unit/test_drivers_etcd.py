"""``etcd://``: which cluster a URL means, as whom we ask it, and over which connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from etcd_double import EtcdDouble

from mizzen.assembly.drivers import Backend, Drivers
from mizzen.edges.http import Limits, Server
from mizzen.edges.resolvers import EtcdRegistrar, EtcdResolver
from mizzen.rules.config import DiscoveryConfig, Secret
from mizzen.rules.discovery import Instance
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import ConfigError, StartError
from mizzen.words.message import Request, Response

ME = Instance("order-10.0.0.1-8102", "order", "10.0.0.1", 8102, meta={"boot": "b1"})


def drivers(url: str, config: DiscoveryConfig | None = None, network: MemoryNetwork | None = None) -> Drivers:
    def clock() -> float:
        return asyncio.get_running_loop().time()

    return Drivers(
        config or DiscoveryConfig(), url=url, network=network or MemoryNetwork(), clock=clock, random=lambda: 0.5, environ={}
    )


def backend_of(url: str, config: DiscoveryConfig | None = None) -> Backend:
    return drivers(url, config).resolving()


def members_of(backend: Backend) -> list[str]:
    assert isinstance(backend.resolver, EtcdResolver)
    said = backend.resolver.describe()["members"]
    assert isinstance(said, list)
    return said


@pytest.mark.parametrize(
    ("url", "members", "prefix"),
    [
        ("etcd:", ["127.0.0.1:2379"], "/mizzen"),
        ("etcd://10.0.3.2", ["10.0.3.2:2379"], "/mizzen"),
        ("etcd://10.0.3.2/", ["10.0.3.2:2379"], "/mizzen"),
        ("etcd://a:1,b,[fd00::7]:3/shop/prod/", ["a:1", "b:2379", "[fd00::7]:3"], "/shop/prod"),
        ("etcd://root:p%40ss,word@a:1,b:2", ["a:1", "b:2"], "/mizzen"),
    ],
)
def test_a_url_names_members_and_a_prefix(url: str, members: list[str], prefix: str) -> None:
    """One member or several, each with a port of its own or etcd's; keys are below the path."""
    backend = backend_of(url)
    assert members_of(backend) == members
    assert isinstance(backend.registrar, EtcdRegistrar)
    assert {backend.registrar.describe()["prefix"], backend.registrar._prefix} == {prefix}
    assert backend.url == f"etcd://{','.join(members)}"


@pytest.mark.parametrize(
    ("url", "address", "loopback"),
    [
        ("etcd://127.0.0.1:2379,localhost:22379", ("127.0.0.1", 2379), True),
        ("etcd://127.0.0.1:2379,10.0.3.2", ("10.0.3.2", 2379), False),
    ],
)
def test_a_cluster_is_local_when_all_of_it_is(url: str, address: tuple[str, int], loopback: bool) -> None:
    """What is announced there is seen from wherever one of the members is."""
    backend = backend_of(url)
    assert (backend.address, backend.loopback) == (address, loopback)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("etcd://a:http", "'etcd://a:http' is not the address of an etcd cluster: Port could not be cast"),
        ("etcd://a,,b", "'etcd://a,,b' is not the address of an etcd cluster: it has a member without a host, ''"),
        ("etcd://a:2379?timeout=1", "etcd://a:2379 has no option timeout"),
        ("etcd://a?tls=yes", "etcd://a:2379 has tls=yes"),
        ("etcd://a?tls=false&ca=ca.pem", "etcd://a:2379 has ca and tls=false"),
        ("etcd://services@a", "etcd://a:2379 has a user and no password"),
    ],
)
def test_a_url_that_means_no_cluster_is_refused_with_the_fix(url: str, said: str) -> None:
    """The message says what is wrong with it and what there is instead."""
    with pytest.raises(StartError) as raised:
        backend_of(url)
    assert str(raised.value).startswith(said)
    assert raised.value.fix


def test_a_certificate_that_is_missing_is_found_at_start(tmp_path: Path) -> None:
    """A file that cannot be read is named with the option that names it; good ones are taken, and mean TLS."""
    with pytest.raises(ConfigError, match=r"etcd://a:2379\?ca: .*nowhere\.pem cannot be read"):
        backend_of(f"etcd://a?ca={tmp_path}/nowhere.pem")
    authority = Authority(tmp_path)
    pair = authority.issue("client")
    assert members_of(backend_of(f"etcd://a?ca={authority.ca}&cert={pair.cert}&key={pair.key}")) == ["a:2379"]


def test_passwords_stay_out_of_what_is_shown() -> None:
    """Neither errors nor descriptions have the password in them."""
    for url in ("etcd://root:hunter2@10.0.3.2:x", "etcd://root:hunter2@10.0.3.2?x=1", "etcd://root:hunter2@a,,b"):
        with pytest.raises(StartError) as raised:
            backend_of(url)
        assert "hunter2" not in str(raised.value)
    backend = backend_of("etcd://root:hunter2@10.0.3.2")
    assert isinstance(backend.resolver, EtcdResolver)
    assert "hunter2" not in f"{backend!r} {backend.resolver.describe()}"


class Site:
    """Members of one cluster in memory, which the test plays."""

    def __init__(self, *hosts: str) -> None:
        self.network = MemoryNetwork()
        self.etcd = EtcdDouble()
        self.hosts = hosts

    async def start(self) -> None:
        for host in self.hosts:
            server = Server(
                self._handle,
                limits=Limits(),
                clock=asyncio.get_running_loop().time,
                refuse=lambda status, detail, request: Response(status),
            )
            await self.network.listen(host, 2379, server.protocol)

    async def _handle(self, request: Request) -> Response:
        await request.read()
        return await self.etcd(request)


class Feed:
    def __init__(self) -> None:
        self.ids: list[list[str]] = []
        self.errors: list[Exception] = []

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        self.ids.append([instance.id for instance in instances])
        return False

    def error(self, error: Exception) -> None:
        self.errors.append(error)


def at(site: Site, url: str, test: Callable[[Backend, Feed], Coroutine[Any, Any, None]], config: DiscoveryConfig) -> None:
    """Run a test beside a watch of ``order``."""

    async def main() -> None:
        await site.start()
        made = drivers(url, config, site.network)
        backend, feed = made.resolving(), Feed()
        watch = asyncio.create_task(backend.resolver.watch("order", feed))
        await asyncio.sleep(1)
        await test(backend, feed)
        watch.cancel()
        await asyncio.wait({watch})
        made.close()
        await asyncio.sleep(0.1)
        assert site.network.describe()["connections"] == 0

    run(main())


def test_both_sides_work_over_connections_of_their_own() -> None:
    """A watch holds one connection; beats go over another and never wait for it, and closing ends them all."""
    site = Site("10.0.3.2", "10.0.3.3")

    async def test(backend: Backend, feed: Feed) -> None:
        assert backend.registrar is not None
        await backend.registrar.register(ME, "passing", "ok")
        await asyncio.sleep(1)
        assert await backend.registrar.beat(ME, "passing", "ok")
        assert (feed.ids, feed.errors) == ([[], [ME.id]], [])
        await backend.registrar.withdraw(ME)
        await asyncio.sleep(1)
        assert feed.ids[-1] == []

    at(site, "etcd://10.0.3.2,10.0.3.3", test, DiscoveryConfig())


def test_a_member_that_accepts_and_hangs_is_left() -> None:
    """The time limit of a request is a member's: the other one is asked after two seconds."""
    site = Site("10.0.3.2", "10.0.3.3")

    async def test(backend: Backend, feed: Feed) -> None:
        assert isinstance(backend.registrar, EtcdRegistrar)
        host = str(backend.registrar.describe()["in_use"]).partition(":")[0]
        site.network.hang(host, 2379)
        began = asyncio.get_running_loop().time()
        await backend.registrar.register(ME, "passing", "ok")
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0, abs=0.1)
        for _ in range(4):
            await asyncio.sleep(5)
            assert await backend.registrar.beat(ME, "passing", "ok")
        assert feed.ids[-1] == [ME.id]
        assert backend.registrar.describe()["in_use"] != f"{host}:2379"
        site.network.heal(host, 2379)

    at(site, "etcd://10.0.3.2,10.0.3.3", test, DiscoveryConfig())


@pytest.mark.parametrize(
    ("config", "url"),
    [
        (DiscoveryConfig(token=Secret("word")), "etcd://services@10.0.3.2"),
        (DiscoveryConfig(token=Secret("other")), "etcd://services:word@10.0.3.2"),
    ],
)
def test_the_password_is_the_urls_or_else_the_configured_one(config: DiscoveryConfig, url: str) -> None:
    """Both sides log in once, with it."""
    site = Site("10.0.3.2")
    site.etcd.users = {"services": "word"}

    async def test(backend: Backend, feed: Feed) -> None:
        assert backend.registrar is not None
        await backend.registrar.register(ME, "passing", "ok")
        await asyncio.sleep(1)
        assert (feed.ids[-1], feed.errors, len(site.etcd.tokens)) == ([ME.id], [], 1)

    at(site, url, test, config)


def test_a_password_file_is_read_at_every_login(tmp_path: Path) -> None:
    """A password that is rotated is used when the old token ends."""
    file = tmp_path / "password"
    file.write_text("first\n")
    site = Site("10.0.3.2")
    site.etcd.users = {"services": "first"}

    async def test(backend: Backend, feed: Feed) -> None:
        assert backend.registrar is not None
        await backend.registrar.register(ME, "passing", "ok")
        site.etcd.users, site.etcd.tokens = {"services": "second"}, {}
        file.write_text("second\n")
        assert await backend.registrar.beat(ME, "passing", "ok")

    at(site, "etcd://services@10.0.3.2", test, DiscoveryConfig(token_file=str(file)))
