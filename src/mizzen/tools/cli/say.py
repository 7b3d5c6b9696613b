"""What a command line says when something is wrong: what, where, and the fix, to stderr."""

from __future__ import annotations

import sys

from mizzen.words.errors import StartError


class Usage(StartError):
    """The command was not given as it must be."""


def say_error(error: StartError) -> None:
    """Print an error in the one form that all of them have."""
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print what is for people while stdout is for data."""
    print(text, file=sys.stderr, flush=True)
