"""A closed loop, for saturation only: how many answers a server gives when every connection always waits for one.

It tells nothing about latency: a server that stalls is asked less meanwhile (see ``arrivals``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import machine

HERE = Path(__file__).parent


class Load(NamedTuple):
    """What a load saw."""

    requests: int
    seconds: float
    failed: int
    """Answers that were not 2xx or 3xx, and connections that broke."""


def saturate(
    address: str, path: str, *, seconds: float, connections: int, core: int | None, method: str = "GET", body: str = ""
) -> Load:
    """Put load on ``address`` from a process of its own, pinned to ``core``."""
    if shutil.which("wrk"):
        # wrk takes whole seconds.
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(HERE / "generator" / "report.lua"),
        ]
        env = {**os.environ, "BENCH_METHOD": method, **({"BENCH_BODY": body} if body else {})}
        command = [*machine.on(core), *command, f"http://{address}{path}"]
        return parse_wrk(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    command = [sys.executable, str(HERE / "fallback.py"), "--address", address, "--path", path, "--method", method]
    command += ["--body", body, "--seconds", str(seconds), "--connections", str(connections)]
    return Load(**json.loads(subprocess.run([*machine.on(core), *command], check=True, capture_output=True, text=True).stdout))


def parse_wrk(output: str) -> Load:
    """What ``generator/report.lua`` said among wrk's own words."""
    found = re.search(r"^saw (\{.*\})$", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk did not say what it saw: {output[-500:]}")
    return Load(**json.loads(found.group(1)))


def tool() -> str:
    """What puts the load on."""
    return "wrk" if shutil.which("wrk") else "bench/fallback.py (wrk is not installed)"
