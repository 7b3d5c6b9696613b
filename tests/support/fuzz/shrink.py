"""A failing stream made as short as it can be and still fail in the same way."""

from __future__ import annotations

from collections.abc import Callable

TRIES = 400
"""Attempts after which the shortest so far is good enough."""


def shrink(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Drop pieces, halving their size each round, for as long as the rest still fails."""
    size, tries = max(len(data) // 2, 1), 0
    while size and tries < TRIES:
        at, shorter = 0, False
        while at < len(data) and tries < TRIES:
            candidate = data[:at] + data[at + size :]
            tries += 1
            if candidate and fails(candidate):
                data, shorter = candidate, True
            else:
                at += size
        if not shorter or size > 1:
            size //= 2
    return data
