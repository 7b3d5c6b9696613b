"""A service's own settings, typed, and the origin of every setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pydantic
import pytest

from mizzen.rules.config import origins, parse, settings
from mizzen.rules.config.secrets import hide_password, is_secret
from mizzen.words.errors import ConfigError

HEAD = '[services.order]\nbuild = "shop.order:build"\nport = 8102\n'


class Pool(msgspec.Struct):
    size: int = 5
    hosts: list[str] = []


class Settings(msgspec.Struct):
    database_url: str = "sqlite:///order.db"
    pool: Pool = msgspec.field(default_factory=Pool)
    mode: Literal["fast", "safe"] = "safe"
    debug: bool = False
    ratio: float | None = None
    databaseName: str = ""  # noqa: N815  # a user's own spelling, which variables cannot have


@dataclass
class Plain:
    api_key: str
    tries: int = 3
    names: list[str] = field(default_factory=list)


class Model(pydantic.BaseModel):
    url: str = "x"
    size: int = pydantic.Field(default=1, ge=1)


def read(own: str, into: Any = Settings, **environ: str) -> Any:
    text = f"{HEAD}[services.order.settings]\n{own}"
    return settings(parse(text, Path("/shop/mizzen.toml"), environ), "order", into)


def error(own: str, into: Any = Settings, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(own, into, **environ)
    return caught.value


def test_code_then_file_then_environment() -> None:
    """The code's default gives way to the file, and that to a variable of either name."""
    assert read("").database_url == "sqlite:///order.db"
    assert read('database_url = "a"').database_url == "a"
    assert read('database_url = "a"', ORDER__SETTINGS__DATABASE_URL="b").database_url == "b"
    assert read('database_url = "a"', MIZZEN__SERVICES__ORDER__SETTINGS__DATABASE_URL="c").database_url == "c"


def test_text_of_variables_becomes_what_the_type_asks_for() -> None:
    """A variable's text stands for a number, a flag, a list in JSON or a nested key, and stays text where text is asked."""
    found = read(
        "",
        ORDER__SETTINGS__POOL__SIZE="7",
        ORDER__SETTINGS__POOL__HOSTS='["a", "b"]',
        ORDER__SETTINGS__DEBUG="yes",
        ORDER__SETTINGS__RATIO="0.5",
        ORDER__SETTINGS__DATABASE_URL="123",
        ORDER__SETTINGS__DATABASENAME="n",
    )
    assert found == Settings("123", Pool(7, ["a", "b"]), "safe", True, 0.5, "n")


def test_a_whole_table_in_one_variable() -> None:
    """A nested table may be given as JSON at once."""
    assert read("", ORDER__SETTINGS__POOL='{"size": 9}').pool == Pool(9)


def test_every_fault_with_its_place() -> None:
    """Wrong types, unknown keys and bad choices are all told, each with its line or variable."""
    found = error(
        'mode = "slow"\ndatabse_url = "x"\n[services.order.settings.pool]\nsize = "many"\nhosts = ["a", 1]',
        ORDER__SETTINGS__RATIO="half",
    )
    text = "\n".join(found.where)
    assert found.what == "5 settings are wrong"
    assert "ORDER__SETTINGS__RATIO  services.order.settings.ratio: expected" in text
    assert "mizzen.toml:5  services.order.settings.mode: expected one of" in text
    assert "mizzen.toml:6  services.order.settings.databse_url is not a setting; did you mean database_url?" in text
    assert "mizzen.toml:8  services.order.settings.pool.size: expected" in text
    assert "mizzen.toml:9  services.order.settings.pool.hosts[1]: expected" in text


def test_an_unknown_variable_names_itself() -> None:
    """A misspelt variable of a service's own settings is told by its name."""
    found = error("", ORDER__SETTINGS__POOL__SIZ="1")
    assert found.where[0].startswith("ORDER__SETTINGS__POOL__SIZ  services.order.settings.pool.siz is not a setting")
    assert found.fix == "write ORDER__SETTINGS__POOL__SIZE"


def test_what_is_missing() -> None:
    """A setting without a default that nobody gives says where to give it."""
    found = error("", Plain)
    assert "services.order.settings.api_key: missing" in found.where[0]
    assert found.fix == "set api_key under [services.order.settings] in mizzen.toml, or the variable ORDER__SETTINGS__API_KEY"


def test_dataclasses_and_pydantic_models() -> None:
    """Dataclasses and pydantic models are filled and checked like Structs."""
    assert read('api_key = "k"', Plain, ORDER__SETTINGS__TRIES="4") == Plain("k", 4)
    assert read("size = 2", Model, ORDER__SETTINGS__URL="y") == Model(url="y", size=2)
    found = error("size = 0\nurll = 'x'", Model)
    assert any("mizzen.toml:5  services.order.settings.size" in line for line in found.where)
    assert any("did you mean url?" in line for line in found.where)


def test_secrets_stay_out_of_errors() -> None:
    """No error about settings shows the value of a secret."""
    assert "424242" not in str(error("api_key = 424242", Plain))
    assert "424242" not in str(error("tries = 1", Plain, ORDER__SETTINGS__API_KEYS="424242"))


def test_origins() -> None:
    """Each setting is listed with its value as people write it and where it came from."""
    text = f'{HEAD}clients.user.timeout = "800ms"\n[services.order.settings]\ndatabase_url = "postgresql://u:pw@h/d"\n'
    system = parse(text, Path("/shop/mizzen.toml"), {"ORDER__SETTINGS__POOL__SIZE": "7", "ORDER__LIMITS__BODY": "2097152"})
    found = {row.key: (row.value, row.origin) for row in origins(system, "order", Settings)}
    assert found["services.order.port"] == ("8102", "mizzen.toml:3")
    assert found["services.order.clients.user.timeout"] == ("800ms", "mizzen.toml:4")
    assert found["services.order.limits.body"] == ("2MiB", "ORDER__LIMITS__BODY")
    assert found["services.order.stop.linger"] == ("5s", "default")
    assert found["services.order.settings.database_url"] == ("postgresql://u:***@h/d", "mizzen.toml:6")
    assert found["services.order.settings.pool.size"] == ("7", "ORDER__SETTINGS__POOL__SIZE")
    assert found["services.order.settings.mode"] == ("safe", "code")
    assert found["services.order.settings.ratio"] == ("not set", "code")


def test_origins_mask_secrets() -> None:
    """Values whose name says that they are secret are masked, wherever they stand."""
    text = f'{HEAD}[discovery]\ntoken = "hunter2"\n[services.order.settings]\napi_key = "hunter2"\n'
    rows = origins(parse(text, Path("/shop/mizzen.toml"), {}), "order", Plain)
    assert "hunter2" not in str(rows)
    raw = f'{HEAD}[services.order.settings]\nlists = [{{ password = "hunter2" }}]\nurl = "a://b:hunter2@c"\n'
    assert "hunter2" not in str(origins(parse(raw, Path("/shop/mizzen.toml"), {}), "order"))


def test_names_of_services_and_peers_are_no_secrets() -> None:
    """A service that is called `token` can be read in full; what is secret in it stays masked."""
    text = '[services.token]\nbuild = "a:b"\nport = 1\nclients.key.timeout = "1s"\nsettings.password = "hunter2"\n'
    shown = {row.key: row.value for row in origins(parse(text, Path("/shop/mizzen.toml"), {}), "token")}
    assert (shown["services.token.port"], shown["services.token.clients.key.timeout"]) == ("1", "1s")
    assert shown["services.token.settings.password"] == "***"


@pytest.mark.parametrize(
    ("name", "secret"),
    [("password", True), ("db_password", True), ("apiKey", True), ("API_TOKEN", True), ("secrets", True), ("signing-key", True),
     ("token_file", False), ("keep_alive", False), ("monkey", False), ("tokenizer", False), ("key_path", False)],
)  # fmt: skip
def test_names_of_secrets(name: str, secret: bool) -> None:
    """A name says that it is secret by one of its words, and not when it says where a secret is."""
    assert is_secret([name]) is secret


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("redis://:p@h", "redis://:***@h"),
        ("a://u:p@ss@h", "a://u:***@h"),
        ("consul://h:8500?token=abc&dc=x", "consul://h:8500?token=***&dc=x"),
        ("http://h:80/a:b@c", "http://h:80/a:b@c"),
        ("sqlite:///order.db", "sqlite:///order.db"),
    ],
)
def test_passwords_in_urls(url: str, shown: str) -> None:
    """Only the password of a URL is masked, in its authority and in its query."""
    assert hide_password(url) == shown
