"""The commands that production needs, on the standard library alone: run, health, registry, version."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from .commands import COMMANDS
from .say import Usage


class _Parser(argparse.ArgumentParser):
    """argparse, except that a mistake is told as all our errors are."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise Usage(f"{self.prog}: {message}", where=[usage], fix=f"{self.prog} --help")


def run_lean(name: str, arguments: list[str]) -> int:
    """Parse and run one of these commands; returns its exit code."""
    parser = parser_of(name)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as end:  # argparse ends the process after --help
        return int(end.code or 0)
    return _RUN[name](options)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one of these commands."""
    about = next(command.about for command in COMMANDS if command.name == name)
    parser = _Parser(prog=f"mizzen {name}", description=about, allow_abbrev=False)
    _OPTIONS[name](parser)
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port: a number from 1 to 65535, or 0 for any free one")


def _add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", metavar="DIR", help="the folder of the system's mizzen.toml")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("--port", type=_port, metavar="N", help="listen there, whatever mizzen.toml says")
    parser.add_argument("--host", metavar="H", help="listen on that address")
    _add_dir(parser)
    parser.add_argument("--stop-with-parent", action="store_true", help=argparse.SUPPRESS)


def _health_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", nargs="?", help="such as http://127.0.0.1:8102; by default that of the service")
    parser.add_argument("--service", metavar="SERVICE", help="which one of mizzen.toml, when it has several")
    _add_dir(parser)


def _registry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", help="by default the one of mizzen.toml, else 127.0.0.1")
    parser.add_argument("--port", type=_port, metavar="N", help="by default the one of mizzen.toml, else 8599")
    parser.add_argument("--token-file", metavar="FILE", help="ask every client for the token in it")
    _add_dir(parser)


def _version_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", nargs="?")
    _add_dir(parser)


def _run(options: Any) -> int:
    from .run import run

    return run(
        options.service,
        folder=options.dir,
        host=options.host,
        port=options.port,
        stop_with_parent=options.stop_with_parent,
    )


def _health(options: Any) -> int:
    from .health import health

    return health(options.url, service=options.service, folder=options.dir)


def _registry(options: Any) -> int:
    from .registry import registry

    return registry(host=options.host, port=options.port, token_file=options.token_file, folder=options.dir)


def _version(options: Any) -> int:
    from .version import version

    return version(options.service, folder=options.dir)


_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "run": _run_options,
    "health": _health_options,
    "registry": _registry_options,
    "version": _version_options,
}
_RUN: dict[str, Callable[[Any], int]] = {"run": _run, "health": _health, "registry": _registry, "version": _version}
