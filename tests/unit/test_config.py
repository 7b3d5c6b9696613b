"""mizzen.toml and the environment become a System, or everything wrong with them is said."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mizzen.rules.config import (
    AdminConfig,
    BreakerConfig,
    ClientConfig,
    DiscoveryConfig,
    LimitsConfig,
    LogConfig,
    RegistryConfig,
    Secret,
    ServiceConfig,
    StopConfig,
    System,
    parse,
    parse_size,
    short_variable,
    variable,
)
from mizzen.words.errors import ConfigError

SHOP = """\
[system]
name = "shop"

[services.user]
build = "shop.user.service:build"
port = 8101

[services.stock-keeper]
build = "shop.stock.service:build"
port = 8103

[services.order]
build = "shop.order.service:build"
port = 8102

[services.order.clients.user]
timeout = "800ms"
"""


def read(text: str = SHOP, **environ: str) -> System:
    return parse(text, Path("/shop/mizzen.toml"), environ)


def error(text: str = SHOP, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return caught.value


def test_defaults_are_pinned() -> None:
    """Every record has exactly these keys and defaults."""
    assert msgspec.structs.asdict(LimitsConfig()) == {
        "body": 1048576,
        "in_flight": 1000,
        "connections": 10000,
        "header_read": 10.0,
        "keep_alive": 75.0,
        "handler": 10.0,
        "progress": 60.0,
        "headers": 32768,
        "url": 8192,
    }
    assert msgspec.structs.asdict(StopConfig()) == {"linger": 5.0, "drain": 20.0}
    assert msgspec.structs.asdict(BreakerConfig()) == {"failures": 5, "cooldown": 30.0}
    assert msgspec.structs.asdict(LogConfig()) == {"level": "info", "format": "json"}
    assert msgspec.structs.asdict(RegistryConfig()) == {"host": "127.0.0.1", "port": 8599}
    assert msgspec.structs.asdict(AdminConfig()) == {"port": None}
    assert msgspec.structs.asdict(DiscoveryConfig()) == {
        "url": "auto",
        "register": None,
        "resolve": None,
        "token": None,
        "token_file": None,
        "http_check": True,
        "snapshots": None,
    }
    assert msgspec.structs.asdict(ClientConfig()) == {
        "url": None,
        "tls": None,
        "timeout": 2.0,
        "retries": 2,
        "max_answer": 16 * 1024 * 1024,
        "required": None,
        "breaker": BreakerConfig(),
    }
    assert [field.name for field in msgspec.structs.fields(ServiceConfig)] == [
        "build",
        "app",
        "host",
        "port",
        "socket_mode",
        "tls",
        "admin",
        "workers",
        "settings",
        "clients",
        "limits",
        "stop",
        "instance_id",
        "advertise",
        "zone",
        "weight",
        "tags",
        "meta",
        "log",
    ]


def test_defaults_agree_with_the_rules() -> None:
    """A default that a rule has as well is the same number there."""
    from mizzen.rules import breaker, limit, retry, timeouts

    assert BreakerConfig() == BreakerConfig(failures=breaker.FAILURES, cooldown=breaker.COOLDOWN)
    assert ClientConfig() == ClientConfig(timeout=timeouts.CALL_TIMEOUT, retries=retry.RETRIES)
    assert LimitsConfig().in_flight == limit.IN_FLIGHT


def test_defaults_agree_with_the_pool() -> None:
    """The limit that a client's pool has as well is the same number there."""
    from mizzen.edges.http import PoolLimits

    assert ClientConfig().max_answer == PoolLimits().body


def test_defaults_agree_with_the_server() -> None:
    """The limits that the server has as well are the same numbers there."""
    from mizzen.edges.http import Limits

    ours, its = msgspec.structs.asdict(LimitsConfig()), msgspec.structs.asdict(Limits())
    both = ours.keys() & its.keys()
    assert both == its.keys() - {"discard"}
    assert {name: ours[name] for name in both} == {name: its[name] for name in both}


def test_a_system() -> None:
    """A file gives the system its name, its folder and its services in their order."""
    system = read()
    assert (system.name, system.folder, system.dev) == ("shop", Path("/shop"), False)
    assert list(system.services) == ["user", "stock-keeper", "order"]
    assert system.services["order"].clients["user"].timeout == 0.8


def test_a_nameless_system() -> None:
    """Without a name the system is called as its folder."""
    assert read("").name == "shop"


def test_durations_and_sizes() -> None:
    """Durations and sizes are read from text with units, or as bare numbers."""
    limits = '[services.order.limits]\nbody = "2MiB"\nheaders = 4096\nhandler = "1m30s"\nprogress = 5\n'
    system = read(SHOP + limits, ORDER__LIMITS__KEEP_ALIVE="7.5", ORDER__LIMITS__URL="1000")
    found = system.services["order"].limits
    assert (found.body, found.headers, found.handler, found.progress) == (2 * 1024 * 1024, 4096, 90.0, 5.0)
    assert (found.keep_alive, found.url) == (7.5, 1000)


@pytest.mark.parametrize("name", ["MIZZEN__SERVICES__ORDER__PORT", "ORDER__PORT"])
def test_variables_override_the_file(name: str) -> None:
    """The long and the short name of a variable set the same key, above the file."""
    assert read(**{name: "9000"}).services["order"].port == 9000


def test_dashes_in_variables() -> None:
    """A dash of a service's name is an underscore in its variables."""
    assert read(STOCK_KEEPER__HOST="::1").services["stock-keeper"].host == "::1"
    assert read(ORDER__CLIENTS__STOCK_KEEPER__RETRIES="0").services["order"].clients["stock-keeper"].retries == 0


def test_variables_of_the_system() -> None:
    """Variables reach every table, flags in any of their spellings."""
    system = read(MIZZEN__DEV="1", MIZZEN__DISCOVERY__HTTP_CHECK="off", MIZZEN__REGISTRY__PORT="1", USERNAME="x", ORDER="y")
    assert (system.dev, system.discovery.http_check, system.registry.port) == (True, False, 1)


def test_the_names_of_variables() -> None:
    """Each path has one long name and, for services, one short one."""
    assert variable("services", "stock-keeper", "port") == "MIZZEN__SERVICES__STOCK_KEEPER__PORT"
    assert short_variable("services", "stock-keeper", "port") == "STOCK_KEEPER__PORT"
    assert short_variable("discovery", "url") is None
    assert short_variable("services", "mizzen", "port") is None


def test_an_unknown_key() -> None:
    """An unknown key names its line, what is allowed and the nearest right spelling."""
    assert str(error(SHOP.replace("timeout", "timout"))) == (
        "a setting is wrong\n"
        "  mizzen.toml:17  services.order.clients.user.timout is not a setting; did you mean timeout? "
        "allowed: breaker, max_answer, required, retries, timeout, tls, url\n"
        "  fix: write timeout"
    )


def test_an_unknown_variable() -> None:
    """An unknown variable is an error that names it and the right one."""
    found = error(ORDER__PROT="1")
    assert found.where[0].startswith("ORDER__PROT  services.order.prot is not a setting; did you mean port? allowed: admin, ")
    assert found.fix == "write ORDER__PORT"


def test_an_unknown_service_in_a_variable() -> None:
    """A variable of a service that the file does not have names the nearest that it has."""
    found = error(MIZZEN__SERVICES__ORDR__PORT="1")
    assert "MIZZEN__SERVICES__ORDR__PORT" in found.where[0]
    assert found.fix == "write MIZZEN__SERVICES__ORDER__PORT"


def test_everything_at_once() -> None:
    """All mistakes are told in one error, each with its own place."""
    text = SHOP.replace("port = 8101", 'port = "8101"').replace("800ms", "no") + "[logs]\n"
    found = error(text, ORDER__CLIENTS__USER__RETRIES="-1", USER__LOG__LEVEL="loud", ORDER__LIMITS="3", USER__PORT__X="1")
    assert found.what == "7 settings are wrong"
    assert list(found.where) == [
        "ORDER__CLIENTS__USER__RETRIES  services.order.clients.user.retries: expected a whole number of at least 0, got '-1'",
        "ORDER__LIMITS  services.order.limits: is a table; a variable names one of its keys",
        "USER__LOG__LEVEL  services.user.log.level: expected one of debug, info, warning, error, got 'loud'",
        "USER__PORT__X  services.user.port: is a value, so USER__PORT__X names nothing; use MIZZEN__SERVICES__USER__PORT",
        "mizzen.toml:6  services.user.port: expected a whole number from 0 to 65535, got '8101'",
        'mizzen.toml:17  services.order.clients.user.timeout: expected a duration such as "250ms", "2s" or "1m30s", got \'no\'',
        "mizzen.toml:18  logs is not a setting; allowed: dev, discovery, registry, services, system",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[services.a]\nport = 1", "says neither build nor app"),
        ('[services.a]\nbuild = "a:b"', "services.a.port: missing; expected a port"),
        ('[services.a]\nbuild = "a:b"\napp = "a:c"\nport = 1', "services.a.app: build is set as well"),
        ('[services.a]\nbuild = "a.b"\nport = 1', 'expected "module:name"'),
        ('[services.A_b]\nbuild = "a:b"\nport = 1', "is not a service name"),
        ('[services.a]\nbuild = "a:b"\nport = 65536', "got 65536"),
        ('[services.a]\nbuild = "a:b"\nport = true', "expected a whole number from 0 to 65535, got true"),
        ('[services.a]\nbuild = "a:b"\nport = 1\nadmin.port = 1', "is the service's own port"),
        ('[services.a]\nbuild = "a:b"\nport = 1\nadmin.port = 0', "expected a whole number from 1 to 65535, got 0"),
        ("services = 3", "services: expected a table, got 3"),
        ("[discovery]\nurl = ''", "expected a text, got an empty one"),
        ("[discovery]\nhttp_check = 'yes'", "expected true or false, got 'yes'"),
        ("[discovery]\ntoken = 'a'\ntoken_file = 'b'", "discovery.token_file: token is set as well"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """Each of these is an error that says why."""
    assert said in str(error(text))


def test_a_timeout_of_nothing() -> None:
    """A timeout of zero would fail every call, so it is refused, while lingering for zero seconds is fine."""
    assert "more than zero" in str(error(SHOP.replace("800ms", "0ms")))
    assert read(ORDER__STOP__LINGER="0s").services["order"].stop.linger == 0.0


def test_two_names_that_differ() -> None:
    """Both names of one key with different values are an error, and no error when they agree."""
    environ = {"ORDER__PORT": "1", "MIZZEN__SERVICES__ORDER__PORT": "2"}
    assert "name the same setting and differ" in str(error(**environ))
    assert read(**{**environ, "ORDER__PORT": "2"}).services["order"].port == 2


def test_broken_toml() -> None:
    """A file that is not TOML names the line, without the value that stands there."""
    found = error("[discovery]\ntoken = hunter2\n")
    assert found.where[0].startswith("mizzen.toml:2, column 9  token")
    assert "hunter2" not in str(found)


def test_a_service_that_is_not_there() -> None:
    """Asking for a service that the file does not have names the nearest."""
    with pytest.raises(ConfigError, match="did you mean order"):
        read().service("ordr")


def test_code_file_and_environment() -> None:
    """A client's timeout is the variable's, else the file's, else the code's, else the default."""
    assert read().client("order", "user", timeout=5.0, retries=1).timeout == 0.8
    assert read().client("order", "user", timeout=5.0, retries=1).retries == 1
    assert read().client("order", "stock", timeout=5.0).timeout == 5.0
    assert read().client("order", "stock").timeout == 2.0
    assert read(ORDER__CLIENTS__USER__TIMEOUT="3s").client("order", "user", timeout=5.0).timeout == 3.0


def test_secrets_stay_out_of_reprs_and_errors() -> None:
    """No repr and no error shows a token, a password in a URL, or a service's own settings."""
    text = (
        SHOP
        + '[services.order.settings]\npassword = "hunter2"\n[discovery]\nurl = "consul://:hunter2@c:8500"\ntoken = "hunter2"'
    )
    system = read(text)
    assert system.discovery.token == "hunter2"
    assert isinstance(system.discovery.token, Secret)
    assert "hunter2" not in repr(system) + repr(system.services) + repr(system.discovery) + repr(system.source)
    assert "hunter2" not in repr(system.discovery.token)
    assert "12345" not in str(error(SHOP + "[discovery]\ntoken = 12345"))


@pytest.mark.parametrize(("text", "size"), [("1MiB", 1048576), ("64kB", 64000), ("1.5KiB", 1536), ("10 B", 10), (7, 7)])
def test_sizes(text: str | int, size: int) -> None:
    """Sizes have binary and decimal units."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1 potato", "-1B", "9" * 400, -1, True])
def test_what_is_no_size(text: str | int) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ValueError, match="expected a size such as"):
        parse_size(text)


def test_what_a_registry_is_told_of_an_instance() -> None:
    """Tags are a list, or text with commas in a variable; metadata has keys of one's own; weights are whole numbers."""
    text = SHOP + '[services.billing]\nbuild = "shop.billing.service:build"\nport = 8104\n'
    text += 'tags = ["blue", "canary"]\nzone = "eu-1a"\nweight = 7\nmeta = { Team_1 = "pay" }\n'
    billing = read(text).service("billing")
    assert (billing.tags, billing.zone, billing.weight, billing.meta) == (("blue", "canary"), "eu-1a", 7, {"Team_1": "pay"})
    user = read(USER__TAGS="blue, canary", USER__META__TEAM="pay").service("user")
    assert (user.tags, user.meta) == (("blue", "canary"), {"team": "pay"})
    assert (read().service("user").tags, read().service("user").meta) == ((), {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tags = "blue"', "expected a list of texts, got 'blue'"),
        ('tags = ["blue", 1]', "expected a text, got 1"),
        ('meta = { "te am" = "pay" }', "'te am' is not a key of metadata: letters, digits, dashes and underscores"),
        ("meta = { team = 1 }", "expected a text, got 1"),
        ("weight = 0", "expected a whole number from 1 to 65535, got 0"),
    ],
)
def test_what_no_registry_takes_of_an_instance(line: str, said: str) -> None:
    """It is refused at start, not by the registry for ever after."""
    assert said in str(error(SHOP.replace("port = 8101", f"port = 8101\n{line}")))
