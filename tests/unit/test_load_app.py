"""Load an app: from ``app = …`` in mizzen.toml to a service that is nothing but that app, or to an error with the fix."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.assembly.load import load_service
from mizzen.assembly.service import Service
from mizzen.rules.config import parse
from mizzen.words.errors import ConfigError, StartError

CODE = """
from mizzen import Service

async def app(scope, receive, send): ...

class Holder:
    app = staticmethod(app)

made = 0

def create_app(debug=False):
    global made
    made += 1
    return app

def broken():
    raise KeyError("DATABASE_URL")

def nothing():
    return None

def wsgi(environ, start_response): ...

service = Service("billing")
"""


class System:
    """A folder with one module and a configuration."""

    def load(self, target: str, more: str = "") -> Service:
        text = f'[services.billing]\nport = 8102\napp = "{target}"\n{more}'
        return load_service(parse(text, Path("mizzen.toml"), {}), "billing")

    def error(self, target: str, more: str = "") -> StartError:
        with pytest.raises(StartError) as raised:
            self.load(target, more)
        return raised.value


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """The folder is the working directory and on the path; its module is not known afterwards."""
    (tmp_path / "billed.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield System()
    sys.modules.pop("billed", None)


@pytest.mark.parametrize("target", ["billed:app", "billed:Holder.app", "billed:create_app"])
def test_an_app_is_a_service(system: System, target: str) -> None:
    """An app, one inside of something else, and one that a factory makes are mounted at the root of a service."""
    service = system.load(target)
    assert service.name == "billing"
    (mounted,) = service.apps
    assert (mounted.prefix, mounted.app) == ("", sys.modules["billed"].app)
    assert service.describe()["routes"][-1]["template"] == "/{path:path}"


def test_a_factory_is_called_once(system: System) -> None:
    """Loading makes the app, and nothing makes it again."""
    system.load("billed:create_app").plans()
    assert sys.modules["billed"].made == 1


@pytest.mark.parametrize(
    ("target", "what", "fix"),
    [
        ("billed:none", "billing cannot start: billed has no 'none'", "name the app as billed does"),
        ("nowhere:app", "billing cannot start: importing nowhere raised ModuleNotFoundError", ""),
        ("billed:made", "billing cannot start: billed:made is no ASGI 3 app: it is an int", "name what takes scope"),
        ("billed:wsgi", "billing cannot start: billed:wsgi is no ASGI 3 app: it takes two arguments, as WSGI", "name what"),
        ("billed:nothing", "billing cannot start: billed:nothing() gave None, which is no ASGI 3 app", "return the app from"),
        ("billed:broken", "billing cannot start: billed:broken() raised KeyError", ""),
        ("billed:service", "billed:service is a Mizzen service, not an ASGI app", "in [services.billing]: build = "),
    ],
)
def test_what_is_no_app_is_refused(system: System, target: str, what: str, fix: str) -> None:
    """The error says what is there instead, and what to write."""
    error = system.error(target)
    assert error.what.startswith(what)
    assert error.fix.startswith(fix)


def test_what_raises_is_placed(system: System) -> None:
    """The line of the factory that failed is in the error."""
    assert any("billed.py" in line and "KeyError" in line for line in system.error("billed:broken").where)


def test_settings_of_an_app_are_refused(system: System) -> None:
    """Nobody would read them: the error says who could."""
    error = system.error("billed:app", "settings.debug = true")
    assert "has settings, but billed:app is an ASGI app" in error.what
    assert "service.mount_app" in error.fix


def test_clients_of_an_app_are_refused(system: System) -> None:
    """An app declares none, so that settings of one are a mistake."""
    with pytest.raises(ConfigError, match="declares no client 'user'"):
        system.load("billed:app", 'clients.user.timeout = "1s"')


def test_the_routes_that_an_app_shows_are_described(system: System) -> None:
    """``mizzen routes`` shows what the app shows, and last what takes the rest."""
    from fastapi import FastAPI

    service, app = Service("billing"), FastAPI(openapi_url=None)
    app.get("/users/{id}")(create_user)
    app.websocket("/ws")(create_user)
    service.mount_app("/legacy", app)
    shown = [(row["method"], row["template"], row["handler"].rpartition(".")[2]) for row in service.describe()["routes"]]
    assert shown == [
        ("GET", "/legacy/users/{id}", "create_user"),
        ("*", "/legacy/ws", "create_user"),
        ("*", "/legacy/{path:path}", "FastAPI"),
    ]


async def create_user() -> None: ...
