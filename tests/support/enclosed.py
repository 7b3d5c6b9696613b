"""Tests that need a network of their own run again inside a network namespace: addresses and names there are the test's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from servers.binaries import missing

ENCLOSED = bool(os.environ.get("MIZZEN_ENCLOSED"))
"""Whether this is such an inner run."""
INSIDE = "10.231.0.1"
"""The address of the namespace besides loopback, which some registries do not take for an instance's."""
LIMIT = 300.0
"""Seconds for all tests of one file."""


def run_enclosed(file: str, *, expected: int, resolv_conf: Path | None = None) -> None:
    """Run the tests of ``file`` that are meant for the inside; as many as ``expected`` must pass, and all that run.

    ``resolv_conf`` is what names are looked up with there. Skips where no namespace can be made, and says why.
    """
    if not shutil.which("unshare") or os.getuid() != 0:
        missing("making a network namespace takes root and unshare (Linux): run it as root")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "servers", file]
    names = f"mount --bind {resolv_conf} /etc/resolv.conf && " if resolv_conf else ""
    script = f'ip link set lo up && ip address add {INSIDE}/32 dev lo && {names}exec "$@"'
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *command],
        cwd=Path(file).parents[2], env={**environ, "MIZZEN_ENCLOSED": "yes"},
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{expected} passed" in done.stdout, done.stdout
