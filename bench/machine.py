"""The machine that measures: its cores, its limits, and how a program is kept on one core."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from typing import NamedTuple


class Cores(NamedTuple):
    """Where things run; None where there is one core only, or no way to choose."""

    server: int | None
    load: int | None


def cores() -> Cores:
    """A core for the server under test, and one for everything else."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return Cores(allowed[0], allowed[1]) if len(allowed) > 1 and shutil.which("taskset") else Cores(None, None)


def on(core: int | None) -> list[str]:
    """What goes before a command so that it stays on that core."""
    return [] if core is None else ["taskset", "-c", str(core)]


def open_files(wanted: int) -> int:
    """Let this process and its children open so many files, if the system allows it; how many they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def describe() -> str:
    """What the numbers were measured on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
