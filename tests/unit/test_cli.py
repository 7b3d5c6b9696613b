"""The command line: its help, how it finds a system, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.tools.cli import main
from mizzen.tools.cli.commands import COMMANDS, overview
from mizzen.tools.cli.lean import ARGUMENTS, parser_of, read_plain
from mizzen.tools.cli.loop import run as run_loop
from mizzen.tools.cli.say import Usage
from mizzen.tools.cli.where import find, open_system
from mizzen.words.errors import ConfigError

SHOP = '[services.user]\nbuild = "shop.user:build"\nport = 8101\n[services.order]\nbuild = "shop.order:build"\nport = 8102\n'


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system's folder with one below it; working directory and path are put back."""
    (tmp_path / "shop" / "deep").mkdir(parents=True)
    (tmp_path / "shop" / "mizzen.toml").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return tmp_path / "shop"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """What a command says on stderr; nothing may be on stdout."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_the_overview_is_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    """`mizzen --help` lists every command with one line each."""
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == (
        "usage: mizzen COMMAND [ARGUMENTS]\n"
        "\n"
        "  dev [DIR]                 every service of a system and a registry, restarted on change\n"
        "  run SERVICE               one service, as in production\n"
        "  routes SERVICE            what it serves: method, path, handler and where that stands\n"
        "  stack SERVICE [PEER]      how it answers and how it calls, layer by layer, with the reasons\n"
        "  config SERVICE            every setting with its value and where that came from\n"
        "  call SERVICE METHOD PATH  one call through the whole client, explained with --explain\n"
        "  contract openapi SERVICE  its OpenAPI 3.1 document, from routes, signatures and raises=\n"
        "  health [URL]              ask a service for its health: exit 0 when it is well, 1 when not\n"
        "  registry                  the embedded registry on its own, for development\n"
        "  version [SERVICE]         the version of a service, and of Mizzen\n"
        "\n"
        "mizzen COMMAND --help says more. The system is the mizzen.toml in --dir DIR, else in the\n"
        "working directory or the nearest one above it.\n"
    )


def test_no_command_is_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    """`mizzen` alone says what there is."""
    assert main([]) == 0
    assert capsys.readouterr().out == overview() + "\n"


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("run", "usage: mizzen run [-h] [--port N] [--host H] [--workers N] [--dir DIR] SERVICE"),
        ("health", "usage: mizzen health [-h] [--service SERVICE] [--dir DIR] [URL]"),
        ("registry", "usage: mizzen registry [-h] [--host H] [--port N] [--token-file FILE] [--dir DIR]"),
        ("version", "usage: mizzen version [-h] [--dir DIR] [SERVICE]"),
    ],
)
def test_the_usage_of_lean_commands(name: str, usage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments and options of what production uses are pinned."""
    monkeypatch.setenv("COLUMNS", "200")
    assert parser_of(name).format_usage().strip() == usage


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dev", {"--help"}),
        ("routes", {"--help", "--dir"}),
        ("stack", {"--help", "--dir"}),
        ("config", {"--help", "--dir"}),
        ("call", {"--help", "--dir", "--data", "--header", "--explain", "--timeout", "--url"}),
        ("contract openapi", {"--help", "--dir", "--output"}),
    ],
)
def test_the_options_of_full_commands(
    name: str, options: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command for people has exactly these options, and its help begins with the overview's words."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*name.split(), "--help"]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", text.partition("Options")[2])) == options
    assert next(command.about for command in COMMANDS if command.name == name.split(maxsplit=1)[0]) in text


WRONG = {
    "rnu": """
error: mizzen has no command 'rnu'
  it has dev, run, routes, stack, config, call, contract, health, registry, version
  fix: mizzen run
""",
    "--loud": """
error: mizzen has no option --loud
  fix: options follow the command: mizzen COMMAND --help
""",
    "run": """
error: mizzen run: the following arguments are required: SERVICE
  mizzen run [-h] [--port N] [--host H] [--workers N] [--dir DIR] SERVICE
  fix: mizzen run --help
""",
    "routes": """
error: mizzen routes: missing argument 'SERVICE'
  fix: mizzen routes --help
""",
    "contract": """
error: mizzen contract: missing command
  fix: mizzen contract --help
""",
    "contract openapi": """
error: mizzen contract openapi: missing argument 'SERVICE'
  fix: mizzen contract openapi --help
""",
    "health ftp://x": """
error: mizzen health: 'ftp://x' is no URL of a service
  fix: such as http://127.0.0.1:8102
""",
    "call order GET orders": """
error: mizzen call: 'orders' is no path
  fix: mizzen call order GET /orders
""",
    "call order GET / --header x": """
error: mizzen call: 'x' is no header
  fix: --header "name: value"
""",
    "call order GET / --timeout soon": """
error: mizzen call: --timeout: expected a duration such as "250ms", "2s" or "1m30s", got 'soon'
  fix: --timeout 2s
""",
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake is told on stderr with its fix, and the exit code is 2."""
    assert said(capsys, *command.split()) == WRONG[command].removeprefix("\n")


def test_data_that_is_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--data has to be JSON unless its media type says otherwise."""
    assert "--data is not JSON" in said(capsys, "call", "order", "POST", "/", "--data", "{a")


def test_the_nearest_file_above(shop: Path) -> None:
    """Without a folder the nearest mizzen.toml from the working directory upwards is the system's."""
    assert find(None, str(shop / "deep")) == str(shop / "mizzen.toml")
    assert find(None, str(shop.parent)) is None


def test_a_given_folder(shop: Path) -> None:
    """A given folder has its own mizzen.toml, and nothing above it is looked at."""
    assert find("shop", str(shop.parent)) == str(shop.parent / "shop" / "mizzen.toml")
    assert find("deep", str(shop)) is None


def test_entering_a_system(shop: Path) -> None:
    """The system's folder becomes the working directory and stands first on the path, once."""
    assert open_system("shop", {}).folder == shop
    assert Path.cwd() == shop
    open_system(None, {})
    assert sys.path.count(str(shop)) == 1
    assert sys.path[0] == str(shop)


def test_no_system(shop: Path) -> None:
    """Where there is no mizzen.toml, the error says where it was looked for and what to do."""
    with pytest.raises(ConfigError, match=r"there is no mizzen.toml in .* or any folder above it"):
        open_system(None, {})
    with pytest.raises(ConfigError, match="is no folder"):
        open_system("nowhere", {})
    with pytest.raises(ConfigError, match=r"deep has no mizzen.toml"):
        open_system("shop/deep", {})


def test_a_file_that_cannot_be_read(shop: Path) -> None:
    """A file in another encoding is an error that names it."""
    (shop / "mizzen.toml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_system("shop", {})


def test_errors_of_the_configuration(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong setting is told on stderr with its line, and the exit code is 2."""
    (shop / "mizzen.toml").write_text(SHOP + "prot = 1\n")
    text = said(capsys, "run", "order", "--dir", "shop")
    assert text.startswith(
        "error: a setting is wrong\n  mizzen.toml:7  services.order.prot is not a setting; did you mean port?"
    )


def test_a_service_that_is_not_there(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt service is told with the right spelling."""
    text = said(capsys, "run", "ordr", "--dir", "shop")
    assert text == ("error: mizzen.toml has no service 'ordr'; did you mean order?\n  it has user, order\n  fix: use order\n")


@pytest.mark.parametrize("command", ["run order", "registry"])
@pytest.mark.parametrize("port", ["70000", "x", "9" * 5000])
def test_a_port_that_is_none(command: str, port: str, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no port is refused before anything starts."""
    assert f"--port: {port} is no port" in said(capsys, *command.split(), "--dir", "shop", "--port", port)


def test_health_of_several_services(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With several services the probe wants to know whose health is meant."""
    text = said(capsys, "health", "--dir", "shop")
    assert "mizzen.toml has user, order" in text
    assert "fix: mizzen health --service NAME, or mizzen health URL" in text


def test_the_extra_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Typer the commands for people name the extra to install, and production's do not need it."""
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    text = said(capsys, "routes", "order")
    assert text.startswith("error: mizzen routes needs ")
    assert text.endswith("\n  run, health, registry, version work without it\n  fix: pip install 'mizzen[cli]'\n")
    assert main(["version"]) == 0
    assert main(["run", "--help"]) == 0


def test_the_version(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The version of the system is shown with who says so, then Mizzen's and Python's."""
    (shop / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "0.3.1"\n')
    assert main(["version", "order", "--dir", "shop"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert re.match(r"order +0\.3\.1 +package shop: ", first)
    assert second.startswith("mizzen ")
    assert third.startswith("python ")


def test_the_loop() -> None:
    """A coroutine is run to its end on uvloop where that is installed."""

    async def name() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run_loop(name).startswith("uvloop" if "uvloop" in sys.modules else "asyncio")


WORDS = st.sampled_from(
    ["order", "user", "", "-", "--", "--port", "--port=1", "--port=", "--host", "--host=h", "--dir", "--dir=", "8101", "70000",
     "x", "--stop-with-parent", "--stop-with-parent=1", "--service", "--token-file", "-h", "--loud", "-1", "0.0.0.0",
     "--dir=a=b"]
)  # fmt: skip


@given(st.sampled_from(sorted(ARGUMENTS)), st.lists(WORDS, max_size=6))
def test_a_command_line_is_read_as_argparse_reads_it(name: str, words: list[str]) -> None:
    """What is read without argparse is what argparse reads; where it finds a mistake or a question, it is asked."""
    plain = read_plain(ARGUMENTS[name], words)
    try:
        explained = vars(parser_of(name).parse_args(words))
    except (Usage, SystemExit):
        explained = None
    optional = any(not each.name.startswith("-") and not each.needed for each in ARGUMENTS[name])
    if explained is None and optional:  # before Python 3.13 argparse does not find an optional word behind an option
        return
    assert plain is None or plain == explained


@pytest.mark.parametrize(
    ("name", "words", "values"),
    [
        ("run", "order", {"service": "order"}),
        ("run", "order --port 8101 --host 0.0.0.0", {"service": "order", "port": 8101, "host": "0.0.0.0"}),
        ("run", "--dir=shop --stop-with-parent order", {"service": "order", "dir": "shop", "stop_with_parent": True}),
        ("health", "", {}),
        ("health", "--service order http://a", {"service": "order", "url": "http://a"}),
        ("registry", "--token-file t", {"token_file": "t"}),
        ("version", "order", {"service": "order"}),
    ],
)
def test_the_usual_command_lines_need_no_argparse(name: str, words: str, values: dict[str, object]) -> None:
    """What production types is read at once, everything else of it at its default."""
    read = read_plain(ARGUMENTS[name], words.split())
    assert read is not None
    assert {key: value for key, value in read.items() if value not in (None, False)} == values
    assert set(read) == {each.key for each in ARGUMENTS[name]}
