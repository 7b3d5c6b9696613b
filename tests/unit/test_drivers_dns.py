"""What a ``dns:`` URL means, and what it takes to ask."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mizzen.assembly.drivers import Backend, Drivers
from mizzen.assembly.drivers.dns import names
from mizzen.edges.resolvers.dns.dnspython import DnsPython
from mizzen.edges.resolvers.dns.resolver import DnsResolver
from mizzen.edges.resolvers.dns.system import SystemNames
from mizzen.rules.config import DiscoveryConfig
from mizzen.rules.discovery import Instance
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run
from mizzen.words.errors import CallError, ConnectFailed, StartError

ADAPTER = "mizzen.edges.resolvers.dns.dnspython"


def opened(url: str) -> Backend:
    return Drivers(DiscoveryConfig(), url=url, network=MemoryNetwork(), clock=lambda: 0.0, random=lambda: 0.5).resolving()


@pytest.fixture
def without_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed."""
    for name in [name for name in sys.modules if name == "dns" or name.startswith("dns.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, ADAPTER)
    monkeypatch.setitem(sys.modules, "dns", None)


def asks(backend: Backend, service: str = "user") -> tuple[str, str, int]:
    """Kind of records, name and port."""
    assert isinstance(backend.resolver, DnsResolver)
    return backend.resolver._mode, backend.resolver._name(service), backend.resolver._port


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("dns:", ("srv", "user", 0)),
        ("dns:{service}.shop.internal", ("srv", "user.shop.internal", 0)),
        ("dns:_http._tcp.{service}.shop.internal.?type=srv", ("srv", "_http._tcp.user.shop.internal.", 0)),
        ("dns:{service}.shop.internal?port=8101", ("a", "user.shop.internal", 8101)),
        ("dns:{service}.shop.internal?type=a&port=8101", ("a", "user.shop.internal", 8101)),
        ("dns:?port=80", ("a", "user", 80)),
        ("dns:all.shop.internal?port=80", ("a", "all.shop.internal", 80)),
    ],
)
def test_a_url_says_which_records(url: str, meant: tuple[str, str, int]) -> None:
    """The peer's name stands for {service}; a port means addresses, and no port means SRV."""
    backend = opened(url)
    assert asks(backend) == meant
    assert (backend.url, backend.registrar, backend.address) == (url, None, None)


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("10.0.0.10", ("10.0.0.10", 53)),
        ("127.0.0.1:1053", ("127.0.0.1", 1053)),
        ("[fd00::a]:1053", ("fd00::a", 1053)),
        ("[fd00::a]", ("fd00::a", 53)),
    ],
)
def test_a_server_of_its_own(server: str, address: tuple[str, int]) -> None:
    """The URL may say whom to ask instead of the system's name servers."""
    assert opened(f"dns:?server={server}").address == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("dns:{service}.shop.internal?type=a", "has no port, and addresses in DNS do not say one"),
        ("dns:?type=a&port=http", "has port=http"),
        ("dns:?type=a&port=65536", "has port=65536"),
        ("dns:?port=0", "has port=0"),
        ("dns:?type=srv&port=80", "has type=srv and a port, which SRV records say themselves"),
        ("dns:?type=txt", "has type=txt"),
        ("dns:?ttl=5", "has no option ttl"),
        ("dns:{name}.shop.internal", "is not a name in DNS"),
        ("dns://10.0.0.10/user", "is not a name in DNS"),
        ("dns:{service}..internal", "is not a name in DNS"),
        (f"dns:{'x' * 64}.internal", "is not a name in DNS"),
        (f"dns:{'x.' * 127}internal", "is not a name in DNS"),
        ("dns:?server=dns.internal", "has server=dns.internal"),
        ("dns:?server=dns.internal:53", "has server=dns.internal:53"),
        ("dns:?server=10.0.0.10:dns", "has server=10.0.0.10:dns"),
        ("dns:?server=10.0.0.10:0", "has server=10.0.0.10:0"),
        ("dns:?server=fd00::a:53", "has server=fd00::a:53"),
    ],
)
def test_a_url_that_means_nothing_is_refused_with_the_fix(url: str, said: str) -> None:
    """The message says what is wrong with it and what it takes."""
    with pytest.raises(StartError, match="dns:") as raised:
        opened(url)
    assert said in raised.value.what
    assert raised.value.fix


def test_the_system_is_asked_without_dnspython(without_dnspython: None) -> None:
    """Addresses are found without the extra; the error says how to get what SRV records and a server of one's own take."""
    resolver = opened("dns:?port=80").resolver
    assert isinstance(resolver, DnsResolver)
    assert isinstance(resolver._ask, SystemNames)
    for url, what in [("dns:", "reads SRV records"), ("dns:?port=80&server=10.0.0.10", "asks a server of its own")]:
        with pytest.raises(StartError, match=f"{what}, which takes dnspython") as raised:
            opened(url)
        assert raised.value.fix == "pip install 'mizzen[dns]'"


def test_others_read_names_too() -> None:
    """A driver whose names follow another rule makes them by a function."""
    made = Drivers(DiscoveryConfig(), url="none:", network=MemoryNetwork(), clock=lambda: 0.0, random=lambda: 0.5)
    resolver = names("kubernetes:headless", lambda service: f"_http._tcp.{service}.shop.svc.cluster.local.", made._means)
    assert isinstance(resolver._ask, DnsPython)
    assert (resolver._mode, resolver._name("user")) == ("srv", "_http._tcp.user.shop.svc.cluster.local.")


class Told:
    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def snapshot(self, instances: Sequence[Instance], *, regressed: bool = False) -> bool:
        raise AssertionError(instances)

    def error(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.mark.parametrize("content", [None, "", "# nobody\n", "nameserver not-an-address\n"])
def test_no_name_server_to_ask(tmp_path: Path, content: str | None) -> None:
    """A resolv.conf that is absent or names nobody is an error that names the file, and it is read again each time."""
    file = tmp_path / "resolv.conf"
    if content is not None:
        file.write_text(content)
    ask = DnsPython(resolv_conf=str(file))
    with pytest.raises(ConnectFailed, match=rf"no name server to ask: {file}"):
        run(ask("user.shop.internal", "A"))
    assert repr(ask) == f"<DnsPython asks nobody ({file})>"


def test_names_that_dns_cannot_have() -> None:
    """A service whose name makes a label that is too long is an error to the feed, not the end of its watch."""
    resolver = opened("dns:{service}.shop.internal?server=127.0.0.1").resolver
    told = Told()

    async def main() -> None:
        watch = asyncio.ensure_future(resolver.watch("x" * 64, told))
        await asyncio.sleep(0.5)
        watch.cancel()
        await asyncio.wait([watch])

    run(main())
    [error] = told.errors
    assert isinstance(error, CallError)
    assert "DNS label is > 63 octets" in str(error)
