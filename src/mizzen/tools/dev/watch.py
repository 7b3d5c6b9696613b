"""Watch a system's folder for changes of its code and configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

DEBOUNCE = 200
"""Milliseconds: an editor's save is several events, and nobody notices so short a wait."""
_IGNORED = {"__pycache__", "node_modules", "site-packages", "build", "dist", "venv"}


def is_source(path: Path, folder: Path) -> bool:
    """Whether a change of that file can change what runs: code and TOML, but no tests and nothing installed."""
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        return False
    if any(part.startswith(".") or part in _IGNORED or part == "tests" for part in parts[:-1]):
        return False
    name = path.name
    if name.startswith(("test_", ".")) or name == "conftest.py":
        return False
    return path.suffix in (".py", ".toml")


def can_watch() -> bool:
    """Whether watchfiles is there."""
    try:
        import watchfiles  # noqa: F401  # only whether it is there
    except ImportError:
        return False
    return True


async def changes(folder: Path, stop: asyncio.Event) -> AsyncIterator[set[Path]]:
    """The files that changed, each time some did, until ``stop`` is set."""
    from watchfiles import Change, awatch

    def wanted(_: Change, path: str) -> bool:
        return is_source(Path(path), folder)

    async for found in awatch(folder, watch_filter=wanted, debounce=DEBOUNCE, stop_event=stop, ignore_permission_denied=True):
        yield {Path(path) for _, path in found}
