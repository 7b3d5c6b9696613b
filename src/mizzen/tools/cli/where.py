"""Find the system that a command is about: its mizzen.toml, and the folder that it makes the working directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mizzen.rules.config import System, parse
from mizzen.words.errors import ConfigError

from .say import Usage

FILE = "mizzen.toml"


def environment() -> dict[str, str]:
    """The process's environment: read here and nowhere else, handed on to whatever wants it."""
    return dict(os.environ)


def find(folder: str | None, start: Path) -> Path | None:
    """The mizzen.toml of ``folder`` when given, else of ``start`` or the nearest folder above it."""
    if folder is not None:
        file = start / folder / FILE
        return file if file.is_file() else None
    for place in (start, *start.parents):
        if (place / FILE).is_file():
            return place / FILE
    return None


def read_system(folder: str | None, environ: Mapping[str, str]) -> System:
    """The system of ``folder``, else of the working directory; raises ``ConfigError`` when there is none or it is wrong."""
    start = Path.cwd()
    file = find(folder, start)
    if file is None:
        raise _missing(folder, start)
    return _parse(file, environ)


def read_if_any(folder: str | None, environ: Mapping[str, str]) -> System | None:
    """The same for commands that can do without a system; a given folder must have one."""
    if folder is None and find(None, Path.cwd()) is None:
        return None
    return read_system(folder, environ)


def open_system(folder: str | None, environ: Mapping[str, str]) -> System:
    """Read the system and enter it: its folder becomes the working directory and goes first on ``sys.path``."""
    system = read_system(folder, environ)
    os.chdir(system.folder)
    here = str(system.folder)
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    return system


def only_service(system: System) -> str:
    """The name of the one service that a system has; ``Usage`` when there are several to choose from."""
    if len(system.services) == 1:
        return next(iter(system.services))
    has = f"it has {', '.join(system.services) or 'none'}"
    raise Usage(f"{system.file.name} does not have exactly one service", where=[has], fix="name the one that is meant")


def _parse(file: Path, environ: Mapping[str, str]) -> System:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", fix="make it readable, in UTF-8") from None
    return parse(text, file.resolve(), environ)


def _missing(folder: str | None, start: Path) -> ConfigError:
    if folder is not None:
        place = start / folder
        what = f"{place} has no {FILE}" if place.is_dir() else f"{place} is no folder"
        return ConfigError(what, fix=f"give the folder that has the {FILE}")
    return ConfigError(
        f"there is no {FILE} in {start} or any folder above it",
        fix="change into a system's folder, or name it: --dir DIR",
    )
