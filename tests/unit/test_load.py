"""Load: from a name in mizzen.toml to a service, or to an error that names the place."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest

from mizzen.assembly.load import load_service, settings_type
from mizzen.assembly.service import Service
from mizzen.rules.config import parse
from mizzen.words.errors import ConfigError, StartError

if TYPE_CHECKING:
    from decimal import Decimal as Unseen


class Shop:
    """A system in a folder of its own, with one module of code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, code: str, name: str = "orderly.py") -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)

    def load(self, toml: str = 'build = "orderly:build"', **environ: str) -> Service:
        file = self.folder / "mizzen.toml"
        text = f'[system]\nname = "shop"\n\n[services.order]\nport = 8102\n{toml}\n'
        return load_service(parse(text, file, environ), "order")

    def error(self, toml: str = 'build = "orderly:build"', **environ: str) -> StartError:
        with pytest.raises(StartError) as raised:
            self.load(toml, **environ)
        return raised.value


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A folder that is the working directory and on the path, and no module of it known afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield Shop(tmp_path)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


PLAIN = """
from mizzen import Service

def build():
    return Service("order")
"""

TYPED = """
import msgspec
from mizzen import Service

class Settings(msgspec.Struct):
    pages: int = 3

seen = []

def build(settings: Settings) -> Service:
    seen.append(settings)
    return Service("order")
"""


def test_a_build_that_takes_nothing_is_called(shop: Shop) -> None:
    """The service is what the named function returns."""
    shop.write(PLAIN)
    assert shop.load().name == "order"


def test_a_build_is_given_its_settings(shop: Shop) -> None:
    """The one parameter is the service's own settings, from file and environment."""
    shop.write(TYPED)
    shop.load('build = "orderly:build"\n[services.order.settings]\npages = 4')
    shop.load(ORDER__SETTINGS__PAGES="5")
    assert [settings.pages for settings in sys.modules["orderly"].seen] == [4, 5]


def test_a_build_may_stand_in_a_package(shop: Shop) -> None:
    """The module is named with dots."""
    shop.write("", "shop_of_load/__init__.py")
    shop.write(PLAIN, "shop_of_load/service.py")
    assert shop.load('build = "shop_of_load.service:build"').name == "order"


def test_wrong_settings_are_told_before_anything_is_built(shop: Shop) -> None:
    """A setting of the wrong type is an error of the configuration, with its place."""
    shop.write(TYPED)
    error = shop.error('build = "orderly:build"\n[services.order.settings]\npages = "many"')
    assert isinstance(error, ConfigError)
    assert "settings.pages" in str(error)
    assert sys.modules["orderly"].seen == []


@pytest.mark.parametrize(
    ("toml", "what", "fix"),
    [
        (
            'app = "orderly:app"',
            "order cannot start: orderly has no 'app'",
            "name the app as orderly does",
        ),
        ('build = "orderly:make"', "order cannot start: orderly has no function 'make'", "def make() in it"),
        ('build = "orderly:seen"', "order cannot start: orderly has no function 'seen'", "def seen() in it"),
    ],
)
def test_a_build_that_is_not_there_is_refused(shop: Shop, toml: str, what: str, fix: str) -> None:
    """The error says what the file names and what it could name instead."""
    shop.write(TYPED)
    error = shop.error(toml)
    assert error.what == what
    assert error.fix.startswith(fix)


def test_a_service_that_the_file_does_not_have_is_refused(shop: Shop) -> None:
    """The nearest right name is in the error."""
    with pytest.raises(ConfigError, match="has no service 'oder'; did you mean order"):
        load_service(parse('[services.order]\nport = 1\nbuild = "a:b"\n', shop.folder / "mizzen.toml", {}), "oder")


def test_a_module_that_is_not_there_is_named(shop: Shop) -> None:
    """A misspelt module is an error that says which."""
    error = shop.error('build = "no_such_module_of_load.service:build"')
    assert error.what == (
        "order cannot start: importing no_such_module_of_load.service raised "
        "ModuleNotFoundError: No module named 'no_such_module_of_load'"
    )


def test_a_module_that_cannot_be_imported_names_its_line(shop: Shop) -> None:
    """What the module's own code raises is told with the line that did."""
    shop.write("import json\n\nlimit = int('many')\n")
    error = shop.error()
    assert error.what.startswith("order cannot start: importing orderly raised ValueError: invalid literal")
    assert error.where == ("orderly.py:3  limit = int('many')",)


def test_a_module_that_is_not_python_names_its_line(shop: Shop) -> None:
    """A syntax error says where it is."""
    shop.write("def build(:\n")
    assert "SyntaxError: invalid syntax (orderly.py, line 1)" in shop.error().what


def test_a_build_that_raises_names_the_lines_that_led_there(shop: Shop) -> None:
    """The last lines of the user's own code are shown, outermost first; ours are not."""
    shop.write("def build():\n    return make()\n\ndef make():\n    raise OSError('no such disk')\n")
    error = shop.error()
    assert error.what == "order cannot start: orderly:build raised OSError: no such disk"
    assert error.where == ("orderly.py:2  return make()", "orderly.py:5  raise OSError('no such disk')")


def test_a_wrong_declaration_names_its_line(shop: Shop) -> None:
    """What Service refuses is told with the line of the user's code, and stays the sentence that it was."""
    shop.write("from mizzen import Service\n\ndef build():\n    return Service('Order')\n")
    error = shop.error()
    assert error.what == "'Order' is not a service name"
    assert error.where == ("orderly.py:4  return Service('Order')",)
    assert error.fix.startswith("lower-case letters")


def test_a_wrong_declaration_of_a_module_names_its_line(shop: Shop) -> None:
    """The same holds for a service that is made while its module is imported."""
    shop.write("from mizzen import Service\n\nservice = Service('Order')\n")
    assert shop.error().where == ("orderly.py:3  service = Service('Order')",)


def test_a_mistake_that_has_its_place_keeps_it(shop: Shop) -> None:
    """An error that names a handler's line is not given another one."""
    shop.write(
        "from mizzen import Service\n\n"
        "async def get(id: str) -> str:\n    return id\n\n"
        "def register(router):\n    router.get('users', get)\n\n"
        "def build():\n    service = Service('order')\n    service.mount(register)\n    return service\n"
    )
    error = shop.error()
    assert error.what.startswith("order cannot start: 'users' is not a path template")
    assert error.where == ("orderly.py:3  GET users",)


def test_a_service_is_checked_whole_when_it_is_loaded(shop: Shop) -> None:
    """A handler that needs what nobody provides is found before the service runs."""
    shop.write(
        "from mizzen import Service\n\nclass Store: ...\n\n"
        "async def get(store: Store) -> str:\n    return ''\n\n"
        "def build():\n    service = Service('order')\n"
        "    service.mount(lambda router: router.get('/', get))\n    return service\n"
    )
    assert str(shop.error()) == (
        "order cannot start: get needs Store; nothing provides it\n"
        "  orderly.py:5  get(store: Store)\n"
        "  fix: service.provide(Store()) where the service is built"
    )


def test_a_build_that_returns_something_else_is_refused(shop: Shop) -> None:
    """A forgotten return is named with its function's place."""
    shop.write("def build():\n    pass\n")
    error = shop.error()
    assert (error.what, error.where, error.fix) == (
        "orderly:build returned NoneType, not a Service", ("orderly.py:1",), "return service",
    )  # fmt: skip


def test_a_service_of_another_name_is_refused(shop: Shop) -> None:
    """File and code must agree on the name: it is what peers look for."""
    shop.write("from mizzen import Service\n\ndef build():\n    return Service('orders')\n")
    error = shop.error()
    assert error.what == "orderly:build builds the service 'orders', but mizzen.toml calls it 'order'"
    assert error.where == ("orderly.py:3",)
    assert error.fix == 'Service("order"), or [services.orders]'


def test_settings_of_a_client_that_is_not_declared_are_refused(shop: Shop) -> None:
    """A misspelt peer in the file would be ignored in silence otherwise."""
    shop.write(
        "from mizzen import Service\n\n"
        "def build():\n    service = Service('order')\n    service.client('user')\n    return service\n"
    )
    error = shop.error('build = "orderly:build"\n[services.order.clients.users]\ntimeout = "1s"')
    assert "order declares no client 'users'; did you mean user" in str(error)


class Record(msgspec.Struct):
    pages: int = 3


@dataclass
class Data:
    pages: int = 3


class Model(pydantic.BaseModel):
    pages: int = 3


def test_the_settings_may_be_of_any_kind_of_record() -> None:
    """Struct, dataclass and pydantic model are found by the annotation."""

    def struct(settings: Record) -> Service: ...
    def data(settings: Data) -> Service: ...
    def model(options: Model) -> Service: ...
    def nothing() -> Service: ...

    assert [settings_type(build) for build in (struct, data, model, nothing)] == [Record, Data, Model, None]


def test_partials_and_decorated_builds_are_seen_through() -> None:
    """What stands around a build does not hide its settings."""

    def build(size: int, settings: Record) -> Service: ...

    @functools.wraps(build)
    def decorated(*args: Any) -> Any: ...

    assert settings_type(functools.partial(build, 1)) is Record
    with pytest.raises(StartError, match="takes 2 parameters"):
        settings_type(decorated)


def test_a_build_takes_its_settings_and_nothing_else() -> None:
    """More parameters, one without a type, and one whose type is not there at run time are refused with place and fix."""

    def two(settings: Record, more: int) -> Service: ...
    def untyped(settings) -> Service: ...  # type: ignore[no-untyped-def]
    def unseen(settings: Unseen) -> Service: ...

    expected = [
        (two, "two takes 2 parameters", "take nothing, or one"),
        (untyped, "untyped takes 'settings' without a type", "def untyped(settings: Settings) -> Service"),
        (
            unseen,
            "the annotations of unseen mean nothing at run time: name 'Unseen' is not defined",
            "import the settings' type",
        ),
    ]
    for build, what, fix in expected:
        with pytest.raises(StartError) as raised:
            settings_type(build)
        assert raised.value.what == what
        assert raised.value.fix.startswith(fix)
        assert raised.value.where[0].endswith(f"test_load.py:{build.__code__.co_firstlineno}")
