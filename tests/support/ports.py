"""Ports for what a test starts, which no other test and no connection is given meanwhile."""

from __future__ import annotations

import os
import random
import socket
from itertools import cycle

FIRST, EACH, WORKERS = 10_000, 2_000, 11
"""Below 32,768, from where Linux hands out ports by itself (macOS: 49,152): one that was free a moment ago stays free.
Every worker of a test run has a part to itself."""


def _mine() -> list[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    start = FIRST + worker * EACH
    first = random.randrange(EACH)  # another test run on this machine begins elsewhere
    return [start + (first + number) % EACH for number in range(EACH)]


_ports = cycle(_mine())


def free_port() -> int:
    """A port that nobody listens on, another one each time."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: the ports go round")
