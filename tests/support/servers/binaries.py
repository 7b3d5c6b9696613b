"""Where the real servers are: in the folder that `make servers` fills, else on PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = bool(os.environ.get("MIZZEN_SERVERS_REQUIRED"))
"""Set by `make test-servers` in CI: a server that is absent is a failure there, not a skip."""

_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_FOLDER = Path(os.environ.get("MIZZEN_SERVERS") or _HOME / "mizzen" / "servers")  # read here: tests run without such variables


def find(name: str) -> Path | None:
    """The executable of that server, or None."""
    built = _FOLDER / name
    if built.is_file():
        return built
    found = shutil.which(name)
    return Path(found) if found else None


def need(name: str, *, how: str = "make servers builds it (needs Go), or put it on PATH") -> Path:
    """The executable of that server; skips the test where it is absent, and says how to get it."""
    found = find(name)
    if found is None:
        missing(f"no {name}: {how}")
    return found


def missing(why: str) -> NoReturn:
    """Skip with that reason; a failure where every server must be there."""
    if REQUIRED:
        pytest.fail(why)
    pytest.skip(why)
