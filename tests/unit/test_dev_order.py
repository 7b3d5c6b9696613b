"""The decisions of `mizzen dev`: order, restarts, what a change touches, what is shown."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from mizzen.rules.config import System, parse
from mizzen.tools.dev.banner import banner, examples
from mizzen.tools.dev.environ import child_environ
from mizzen.tools.dev.imports import Imports, affected
from mizzen.tools.dev.lines import render_line
from mizzen.tools.dev.order import required_peers, start_order
from mizzen.tools.dev.probe import health_detail
from mizzen.tools.dev.screen import Screen
from mizzen.tools.dev.supervisor import _callers, _check_ports
from mizzen.tools.dev.watch import is_source
from mizzen.words.errors import StartError

SHOP = """\
[services.user]
build = "shop.user.service:build"
port = 8101
[services.order]
build = "shop.order.service:build"
port = 8102
"""


def shop(more: str = "", **environ: str) -> System:
    return parse(SHOP + more, Path("/shop/mizzen.toml"), environ)


def test_required_peers_start_first() -> None:
    """Each service comes after those it requires, and otherwise where the file has it."""
    assert start_order({"a": ["c"], "b": [], "c": ["d"], "d": []}) == ["d", "c", "a", "b"]


def test_a_peer_of_another_system() -> None:
    """A required peer that this system does not have is not waited for."""
    assert start_order({"a": ["elsewhere"]}) == ["a"]


def test_a_cycle_is_named() -> None:
    """Services that require each other in a circle are an error that names the circle and nothing else."""
    with pytest.raises(StartError) as caught:
        start_order({"front": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]})
    assert caught.value.what == "no service of a → b → c → a can start first"
    assert caught.value.where == ("a requires b", "b requires c", "c requires a")


def test_a_service_that_requires_itself() -> None:
    """A service that requires itself is an error as well."""
    with pytest.raises(StartError, match="a requires itself"):
        start_order({"a": ["a"]})


@pytest.mark.parametrize(
    ("declared", "configured", "required"),
    [
        (True, "", ["user"]),
        (False, "", []),
        (True, "clients.user.required = false", []),
        (False, "clients.user.required = true", ["user"]),
        (True, 'clients.user.url = "http://elsewhere"', []),
        (True, 'clients.user.timeout = "1s"', ["user"]),
    ],
)
def test_what_is_required(declared: bool, configured: str, required: list[str]) -> None:
    """The file overrides what the code says of a peer, and a peer with a URL of its own is not waited for."""
    config = shop(configured).services["order"]
    assert required_peers(config, {"user": {"required": declared}}) == required


def test_who_ends_first() -> None:
    """Whoever calls a service ends before it, required or not; of two that call each other, the one started later."""
    assert _callers({"a": ["b"], "b": ["a"], "c": ["a", "elsewhere"]}) == {"a": ["b", "c"], "b": [], "c": []}


def test_what_children_are_given() -> None:
    """Children get the embedded registry, loopback, one process, JSON and short stops, above file and short names."""
    system = shop('advertise = "10.0.0.1"\nworkers = 4\n[discovery]\nresolve = "consul://prod"\n[registry]\nport = 9\n')
    environ = child_environ(system, "order", {"ORDER__HOST": "0.0.0.0", "ORDER__PORT": "1", "PATH": "/bin"})
    given = parse(SHOP, Path("/shop/mizzen.toml"), environ)
    order = given.services["order"]
    assert (given.dev, given.discovery.url, given.discovery.resolve) == (True, "consul://127.0.0.1:9", "consul://127.0.0.1:9")
    assert (order.host, order.port, order.advertise, order.log.format) == ("127.0.0.1", 1, "127.0.0.1", "json")
    assert (order.stop.linger, order.stop.drain, order.workers) == (0.0, 5.0, 1)
    assert environ["PATH"] == "/bin"


def test_a_registry_on_ipv6() -> None:
    """An IPv6 address of the registry stands in brackets."""
    assert child_environ(shop('[registry]\nhost = "::1"\n'), "order", {})["MIZZEN__DISCOVERY__URL"] == "consul://[::1]:8599"


@pytest.mark.parametrize(
    ("more", "who"),
    [
        ("[registry]\nport = 0\n", "the registry has port 0"),
        ("[registry]\nport = 8101\n", "user and the registry both listen on port 8101"),
        ("admin.port = 8101\n", "order and user both listen on port 8101"),
    ],
)
def test_ports_that_cannot_be(more: str, who: str) -> None:
    """Two listeners on one port, and ports that nobody could name, are found before anything starts."""
    with pytest.raises(StartError, match=who):
        _check_ports(shop(more))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop/user").mkdir(parents=True)
    (tmp_path / "shop/order").mkdir()
    for package in ("shop", "shop/user", "shop/order"):
        (tmp_path / package / "__init__.py").write_text("")
    write(
        tmp_path,
        shop__database="import sqlite3",
        shop__user__service="from . import store\nfrom shop.user.model import User",
        shop__user__store="from ..database import connect",
        shop__user__model="",
        shop__order__service="import shop.order.store as s",
        shop__order__store="def f():\n    from shop import database",
        loose="",
    )
    return tmp_path


def names(files: set[Path], folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in files}


def test_the_files_of_a_service(folder: Path) -> None:
    """A service is made of what its entry imports, relatively or not, inside functions too, with every package around it."""
    assert names(Imports(folder).files("shop.order.service"), folder) == {
        "shop/__init__.py",
        "shop/database.py",
        "shop/order/__init__.py",
        "shop/order/service.py",
        "shop/order/store.py",
    }
    assert "shop/database.py" in names(Imports(folder).files("shop.user.service"), folder)


def test_what_a_change_touches(folder: Path) -> None:
    """A change restarts those who are made of the file, and all when nobody is known to be."""
    imports = Imports(folder)
    parts = {name: imports.files(f"shop.{name}.service") for name in ("user", "order")}
    assert affected([folder / "shop/user/model.py"], parts) == {"user"}
    assert affected([folder / "shop/database.py"], parts) == {"user", "order"}
    assert affected([folder / "loose.py"], parts) == {"user", "order"}
    assert affected([folder / "mizzen.toml"], parts) == {"user", "order"}


def test_a_file_that_is_wrong_just_now(folder: Path) -> None:
    """A file that cannot be parsed keeps what it imported; a new import counts once it is read."""
    imports = Imports(folder)
    imports.files("shop.order.service")
    service = folder / "shop/order/service.py"
    service.write_text("import shop.order.store as (")
    imports.changed([service])
    assert folder / "shop/order/store.py" in imports.files("shop.order.service")
    service.write_text("import loose")
    imports.changed([service])
    assert folder / "loose.py" in imports.files("shop.order.service")


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("shop/user/model.py", True),
        ("mizzen.toml", True),
        ("shop/data.db", False),
        (".venv/lib/x.py", False),
        ("shop/__pycache__/x.py", False),
        ("tests/user/helper.py", False),
        ("shop/test_user.py", False),
        ("conftest.py", False),
    ],
)
def test_what_is_watched(path: str, counts: bool) -> None:
    """Code and TOML count, tests and what is installed or made do not."""
    assert is_source(Path("/shop") / path, Path("/shop")) is counts


def test_files_elsewhere_do_not_count() -> None:
    """A file outside of the folder changes nothing."""
    assert not is_source(Path("/other/a.py"), Path("/shop"))


def test_what_a_start_waits_for() -> None:
    """The checks of a health report that have not passed are named, required ones first."""
    report = (
        b'{"status":"unavailable","checks":{"user":{"ok":false,"required":false,"detail":"no instance"},'
        b'"fine":{"ok":true,"required":true},"database":{"ok":false,"required":true,"detail":"refused"}}}'
    )
    assert health_detail(report) == "database: refused; user: no instance"
    assert health_detail(b"<html>") == ""
    assert health_detail(b"[1]") == ""


def test_the_screen_of_a_pipe() -> None:
    """In a pipe every line has its service before it, without colour; what is no line of ours stays as it is."""
    stream = io.StringIO()
    screen = Screen(stream, ["user", "order"])
    screen.log("user", b"Traceback \xff")
    screen.log("user", b"{not json")
    screen.log("user", odd := b'{"message":"done","status":null,"duration_ms":1}')
    screen.say("one\ntwo", wrong=True)
    assert stream.getvalue().splitlines() == [
        "user | Traceback \N{REPLACEMENT CHARACTER}",
        "user | {not json",
        f"user | {odd.decode()}",
        "mizzen | one",
        "mizzen | two",
    ]


def test_a_screen_that_nobody_sees_any_more() -> None:
    """When the terminal or the pipe's reader is gone that is told, and whatever is said afterwards does no harm."""
    reader, writer = os.pipe()
    lost: list[str] = []
    with os.fdopen(writer, "w") as stream:
        screen = Screen(stream, ["user"])
        screen.on_lost = lambda: lost.append("lost")
        screen.say("somebody reads")
        assert os.read(reader, 100) == b"mizzen | somebody reads\n"
        os.close(reader)
        for _ in range(3):
            screen.log("user", b"nobody does")
    assert lost == ["lost"]


def test_the_screen_of_a_terminal() -> None:
    """On a terminal names are coloured, each its own, and padded to one width."""
    stream = io.StringIO()
    screen = Screen(stream, ["user", "order"], colour=True)
    screen.log("user", b"a")
    screen.log("order", b"b")
    first, second = stream.getvalue().splitlines()
    assert first == "\x1b[36muser  \x1b[0m | a"
    assert second == "\x1b[33morder \x1b[0m | b"


HEAD = b'{"time":"2026-11-23T14:02:41.000000Z","level":"warning","logger":"mizzen.x","service":"order","trace_id":"ab",'


def test_log_lines_for_people() -> None:
    """A log line shows time of day, level, message and its own fields; an event's sentence says them already."""
    assert render_line(HEAD + b'"message":"disk full","free":3}', colour=False) == "14:02:41 WARN  disk full  free=3"
    assert render_line(HEAD + b'"message":"a","event":"E","free":3}', colour=False) == "14:02:41 WARN  a"
    access = HEAD + b'"message":"m","method":"GET","path":"/a","status":200,"duration_ms":1.25}'
    assert render_line(access, colour=False) == "14:02:41 WARN  GET /a 200 1.2ms"
    foreign = HEAD.replace(b"mizzen.x", b"sqlalchemy") + b'"message":"m"}'
    assert render_line(foreign, colour=False) == "14:02:41 WARN  sqlalchemy: m"


def test_tracebacks_stand_below() -> None:
    """A traceback follows its line, each line of it under the service's name and indented."""
    stream = io.StringIO()
    Screen(stream, ["order"]).log("order", HEAD + b'"message":"m","exception":"Traceback\\n  File"}')
    assert stream.getvalue() == "order | 14:02:41 WARN  m\norder |       Traceback\norder |         File\n"


def test_probes_are_not_shown() -> None:
    """Access lines of health probes are left out, since there is one every few seconds."""
    stream = io.StringIO()
    screen = Screen(stream, ["order"])
    for path in ("/ready", "/health", "/live"):
        screen.log("order", b'{"logger":"mizzen.access","message":"m","path":"%s"}' % path.encode())
    assert stream.getvalue() == ""


def test_log_lines_cannot_steer_the_terminal() -> None:
    """Control characters in what a caller sent are shown and not obeyed."""
    assert "\x1b" not in render_line(HEAD + b'"message":"\\u001b[2J","x":"\\u009b1m"}', colour=False)


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"{no"])
def test_what_is_no_log_line(line: bytes) -> None:
    """Anything else is refused, so that it is shown as it came."""
    with pytest.raises(ValueError, match=r"no log line|malformed"):
        render_line(line, colour=False)


ROUTES: list[dict[str, Any]] = [
    {"method": "GET", "template": "/orders/{id}"},
    {"method": "POST", "template": "/orders"},
    {"method": "GET", "template": "/orders"},
    {"method": "GET", "template": "/files/{rest:path}"},
    {"method": "GET", "template": "/more"},
]


def test_examples_of_routes() -> None:
    """At most three GET routes are shown, with something in place of their parameters."""
    assert examples(ROUTES) == ["/orders/1", "/orders", "/files/1"]


def test_the_banner() -> None:
    """The banner has every address and commands that work as they stand."""
    described = {"user": {"routes": [], "clients": {}}, "order": {"routes": ROUTES, "clients": {"user": {}}}}
    urls = {"user": "http://127.0.0.1:8101", "order": "http://127.0.0.1:8102"}
    assert banner("shop", urls, described, "http://127.0.0.1:8599") == (
        "shop is up\n"
        "\n"
        "  user      http://127.0.0.1:8101\n"
        "  order     http://127.0.0.1:8102\n"
        "  registry  http://127.0.0.1:8599/v1/catalog/services\n"
        "\n"
        "  curl http://127.0.0.1:8101/health\n"
        "  curl http://127.0.0.1:8102/orders/1\n"
        "  curl http://127.0.0.1:8102/orders\n"
        "  curl http://127.0.0.1:8102/files/1\n"
        "  curl http://127.0.0.1:8102/health\n"
        "  mizzen call order GET /orders/1 --explain\n"
        "\n"
        "Ctrl-C stops everything"
    )
