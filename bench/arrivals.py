"""An open loop: latency at a fixed arrival rate, counted from the moment a request was due, so that a stall is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import machine

HERE = Path(__file__).parent
LATE = 0.25
"""Share of a p99 that the generator's own lateness may be; beyond it the p99 says more about the generator."""


class Latency(NamedTuple):
    """What came of a rate."""

    asked_rps: float
    answered: int
    failed: int
    """Answers that were not 2xx, and those that never came."""
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    lag_p99_ms: float
    """How late the generator itself was where a connection was free; part of the latencies."""

    @property
    def doubtful(self) -> bool:
        """Whether the generator was too late itself for the number to be the server's."""
        return self.lag_p99_ms > LATE * self.p99_ms


def arrive(
    generator: Path | None,
    address: str,
    path: str,
    *,
    rate: float,
    seconds: float,
    connections: int,
    core: int | None,
    shared: bool = False,
) -> Latency:
    """Latency of GET at ``rate``; ``generator`` is the built one, None for asyncio's; ``shared`` leaves the core to others."""
    command = [sys.executable, str(HERE / "fallback.py")] if generator is None else [str(generator)]
    command += ["--address", address, "--path", path, "--rate", f"{rate:.3f}", "--seconds", str(seconds)]
    command += ["--connections", str(connections)]
    if generator is not None and (shared or core is None):
        command.append("--nap")
    run = subprocess.run([*machine.on(core), *command], check=False, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the generator failed: {run.stderr.strip()[-500:]}")
    return Latency(**json.loads(run.stdout))
