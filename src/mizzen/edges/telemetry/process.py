"""The process's own metrics, under the names that every Prometheus client uses."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from . import names
from .metrics import Metrics

PROC = "/proc"


def add_process_metrics(metrics: Metrics, *, proc: str = PROC, linux: bool = sys.platform.startswith("linux")) -> None:
    """Add ``process_*`` to the page; away from Linux only what can be told there: CPU time and the descriptor limit."""
    metrics.add(names.CPU, function=time.process_time)
    metrics.add(names.MAX_FDS, function=_max_fds)
    if not linux:
        return
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    metrics.add(names.OPEN_FDS, function=lambda: _open_fds(f"{proc}/self/fd"))
    metrics.add(names.VIRTUAL_MEMORY, function=lambda: _stat(proc)[20])
    metrics.add(names.RESIDENT_MEMORY, function=lambda: _stat(proc)[21] * page)
    metrics.add(names.START_TIME, function=_start_time(proc, tick))


def _stat(proc: str) -> list[int]:
    """The numbers of ``stat``, field N at N - 3; the second, the program's name, may hold anything."""
    fields = _read(f"{proc}/self/stat").rpartition(b")")[2].split()
    return [0, *(int(field) for field in fields[1:])]


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:  # noqa: PTH123  # a start does without pathlib
        return opened.read()


def _open_fds(folder: str) -> int:
    # Since Linux 6.2 the folder's size is the number of its entries: no walk through ten thousand connections.
    return os.stat(folder).st_size or len(os.listdir(folder)) - 1  # noqa: PTH116, PTH208  # as above


def _max_fds() -> float:
    import resource  # when somebody looks

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if most == resource.RLIM_INFINITY else most


def _start_time(proc: str, tick: int) -> Callable[[], float]:
    def started() -> float:
        lines = _read(f"{proc}/stat").splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith(b"btime"))
        return boot + _stat(proc)[19] / tick

    return started
