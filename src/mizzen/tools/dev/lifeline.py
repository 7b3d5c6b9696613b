"""The lifeline between `mizzen dev` and its children: their standard input, whose other end only the supervisor holds."""

from __future__ import annotations

from mizzen.assembly.lifeline import end_with

GRACE = 8.0
"""Seconds from SIGTERM to SIGKILL, as the supervisor itself has it."""


def stop_when_stdin_ends(descriptor: int = 0, *, grace: float = GRACE) -> None:
    """End this process, and the process group that it leads, when ``descriptor`` comes to its end."""
    end_with(descriptor, grace=grace, ask=True)
