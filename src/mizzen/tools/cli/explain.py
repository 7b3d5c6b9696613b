"""Explain the arguments of a lean command: its help, and what is wrong with a command line, by argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .lean import Argument
from .say import Usage


class _Parser(argparse.ArgumentParser):
    """argparse, except that a mistake is told as all our errors are."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise Usage(f"{self.prog}: {message}", where=[usage], fix=f"{self.prog} --help")


def parser(name: str, about: str, arguments: Sequence[Argument]) -> argparse.ArgumentParser:
    """A parser for these arguments of the command ``name``."""
    made = _Parser(prog=f"mizzen {name}", description=about, allow_abbrev=False)
    for each in arguments:
        options: dict[str, Any] = {"help": argparse.SUPPRESS if each.about is None else each.about or None}
        if not each.metavar:
            options["action"] = "store_true"
        else:
            options |= {"metavar": each.metavar, "type": _told(each.read)}
            if not each.name.startswith("-") and not each.needed:
                options["nargs"] = "?"
        made.add_argument(each.name, **options)
    return made


def _told(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same reader, whose ``ValueError`` argparse shows as it is."""

    def told(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return told
