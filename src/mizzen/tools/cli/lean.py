"""The commands that production needs, on the standard library alone: run, health, registry, version.

Their arguments are data. A command line without mistakes is read by a few lines here; whatever wants explaining
(``--help``, a mistake) goes to argparse, whose import costs a tenth of a start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from . import heap
from .commands import COMMANDS

if TYPE_CHECKING:
    import argparse


class Argument(Struct, frozen=True):
    """One argument of a command: ``--port N``, a flag such as ``--stop-with-parent``, or a word in its place."""

    name: str
    metavar: str = ""
    """What stands for its value; a flag has none."""
    about: str | None = ""
    """Its line in the help; None keeps it out of there."""
    read: Callable[[str], Any] = str
    """Makes the value of the text; ``ValueError`` says what is wrong with it."""
    needed: bool = False
    """Whether a word must be there."""

    @property
    def key(self) -> str:
        """Its name among the options that were read."""
        return self.name.lstrip("-").replace("-", "_")


def run_lean(name: str, arguments: Sequence[str]) -> int:
    """Parse and run one of these commands; returns its exit code."""
    values = read_plain(ARGUMENTS[name], arguments)
    if values is None:
        try:
            values = vars(parser_of(name).parse_args(arguments))
        except SystemExit as end:  # argparse ends the process after --help
            return int(end.code or 0)
    return _RUN[name](SimpleNamespace(**values))


def read_plain(known: Sequence[Argument], arguments: Sequence[str]) -> dict[str, Any] | None:
    """The values of a command line in which nothing is wrong or unusual, as argparse would read them; else None."""
    values: dict[str, Any] = {each.key: None if each.metavar else False for each in known}
    named = {each.name: each for each in known}
    words = [each for each in known if not each.name.startswith("-")]
    given = iter(arguments)
    for text in given:
        if text.startswith("-"):
            name, mark, value = text.partition("=")
            argument = named.get(name)
            if argument is None or (mark and not argument.metavar):
                return None
            if not argument.metavar:
                values[argument.key] = True
                continue
            if not mark:
                value = next(given, "-")
        elif words:
            argument, value = words.pop(0), text
        else:
            return None
        if value.startswith("-"):
            return None
        try:
            values[argument.key] = argument.read(value)
        except ValueError:
            return None
    return None if any(word.needed for word in words) else values


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one of these commands, which explains."""
    from .explain import parser

    about = next(command.about for command in COMMANDS if command.name == name)
    return parser(name, about, ARGUMENTS[name])


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise ValueError(f"{text} is no port: a number from 1 to 65535, or 0 for any free one")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 10_000:
        return int(text)
    raise ValueError(f"{text} is no number of processes: a whole number from 1")


def _run(options: Any) -> int:
    heap.hold()
    from .run import run

    return run(
        options.service,
        folder=options.dir,
        host=options.host,
        port=options.port,
        workers=options.workers,
        as_worker=options.as_worker,
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


_DIR = Argument("--dir", "DIR", "the folder of the system's mizzen.toml")
ARGUMENTS: dict[str, Sequence[Argument]] = {
    "run": (
        Argument("service", "SERVICE", needed=True),
        Argument("--port", "N", "listen there, whatever mizzen.toml says", _port),
        Argument("--host", "H", "listen on that address"),
        Argument("--workers", "N", "share the port among that many processes", _count),
        _DIR,
        Argument("--as-worker", "FD", about=None, read=int),
        Argument("--stop-with-parent", about=None),
    ),
    "health": (
        Argument("url", "URL", "such as http://127.0.0.1:8102; by default that of the service"),
        Argument("--service", "SERVICE", "which one of mizzen.toml, when it has several"),
        _DIR,
    ),
    "registry": (
        Argument("--host", "H", "by default the one of mizzen.toml, else 127.0.0.1"),
        Argument("--port", "N", "by default the one of mizzen.toml, else 8599", _port),
        Argument("--token-file", "FILE", "ask every client for the token in it"),
        _DIR,
    ),
    "version": (Argument("service", "SERVICE"), _DIR),
}
_RUN: dict[str, Callable[[Any], int]] = {"run": _run, "health": _health, "registry": _registry, "version": _version}
