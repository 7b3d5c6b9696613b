"""Find the system that a command is about: its mizzen.toml, and the folder that it makes the working directory.

Paths are text here: every start comes this way, and pathlib with what it imports costs 3 ms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from mizzen.rules.config import System, parse
from mizzen.words.errors import ConfigError

from .say import Usage

FILE = "mizzen.toml"


def environment() -> dict[str, str]:
    """The process's environment: read here and nowhere else, handed on to whatever wants it."""
    return dict(os.environ)


def find(folder: str | None, start: str) -> str | None:
    """The mizzen.toml of ``folder`` when given, else of ``start`` or the nearest folder above it."""
    if folder is not None:
        file = os.path.join(start, folder, FILE)
        return file if os.path.isfile(file) else None
    place = start
    while not os.path.isfile(file := os.path.join(place, FILE)):
        above = os.path.dirname(place)
        if above == place:
            return None
        place = above
    return file


def read_system(folder: str | None, environ: Mapping[str, str]) -> System:
    """The system of ``folder``, else of the working directory; raises ``ConfigError`` when there is none or it is wrong."""
    start = os.getcwd()
    file = find(folder, start)
    if file is None:
        raise _missing(folder, start)
    return _parse(file, environ)


def read_if_any(folder: str | None, environ: Mapping[str, str]) -> System | None:
    """The same for commands that can do without a system; a given folder must have one."""
    if folder is None and find(None, os.getcwd()) is None:
        return None
    return read_system(folder, environ)


def open_system(folder: str | None, environ: Mapping[str, str]) -> System:
    """Read the system and enter it: its folder becomes the working directory and goes first on ``sys.path``."""
    system = read_system(folder, environ)
    here = os.path.dirname(system.place)
    os.chdir(here)
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    return system


def only_service(system: System) -> str:
    """The name of the one service that a system has; ``Usage`` when there are several to choose from."""
    if len(system.services) == 1:
        return next(iter(system.services))
    has = f"it has {', '.join(system.services) or 'none'}"
    raise Usage(f"{system.file.name} does not have exactly one service", where=[has], fix="name the one that is meant")


def _parse(file: str, environ: Mapping[str, str]) -> System:
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", fix="make it readable, in UTF-8") from None
    return parse(text, os.path.realpath(file), environ)


def _missing(folder: str | None, start: str) -> ConfigError:
    if folder is not None:
        place = os.path.join(start, folder)
        what = f"{place} has no {FILE}" if os.path.isdir(place) else f"{place} is no folder"
        return ConfigError(what, fix=f"give the folder that has the {FILE}")
    return ConfigError(
        f"there is no {FILE} in {start} or any folder above it",
        fix="change into a system's folder, or name it: --dir DIR",
    )
