"""The command line. What production needs (`run`, `health`, `version`, `registry`) works without Typer and Rich."""

from __future__ import annotations

from collections.abc import Sequence

from .say import Usage

__all__ = ["Usage", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 when it failed, 2 when it could not even begin."""
    from .entry import enter

    return enter(argv)
