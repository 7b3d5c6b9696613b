"""What holds for every test: a clean environment, nothing left running, and the same examples in every CI run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
from hypothesis import settings

# No deadline: a slow example is not a wrong one.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

GRACE = 1.0
"""Seconds for a thread that was told to end; a driver's may outlive the answer to its close by a moment."""
READ_FROM_OUTSIDE = ("CONSUL_", "ETCD_", "KUBERNETES_")


@pytest.fixture(autouse=True)
def _clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is configured by the shell it was started from."""
    for name in list(os.environ):
        if name.startswith(READ_FROM_OUTSIDE) or (not name.startswith("_") and "__" in name):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """A test ends what it began; what a fixture of a wider scope runs was there before."""
    threads, children = set(threading.enumerate()), _children()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(GRACE)
    left = [thread.name for thread in threading.enumerate() if thread not in threads]
    left += [f"process {child}" for child in sorted(_children() - children)]
    assert not left, f"left running: {', '.join(left)}"


def _children() -> set[str]:
    """Process ids of our children, the dead ones nobody waited for included; none where there is no /proc."""
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(task.read_text().split())
        except OSError:  # the thread ended meanwhile
            continue
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server of our own; skips with the reason where there is none."""
    try:
        server = postgres.start()
    except postgres.Absent as absent:
        pytest.skip(str(absent))
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> str:
    """The URL of a new, empty PostgreSQL database."""
    return postgres_server.new_database()
