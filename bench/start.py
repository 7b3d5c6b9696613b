"""How long `mizzen run` takes to its first 200, and what a service costs in memory.

Start. The reference is ``python -c "import asyncio, uvloop, httptools, msgspec"``, from the moment before it is spawned
until it has exited: what any Python service on these libraries pays before it does anything. Mizzen is ``mizzen run
user`` on ``bench/system`` through the installed console script, from the moment before it is spawned until the last
byte of the first 200 of ``GET /users/1`` is here. Both run the same interpreter with its ``.pyc`` files written (an
unmeasured round sees to that), rounds are interleaved, and the ratio is taken within a round, because the speed of a
shared machine drifts. The side that asks tries to connect every half millisecond, which delays what it sees by a quarter
of one and costs the service nothing before it listens.

Beside the time there is the CPU that the process took, user and system, its children included, by ``wait4`` after a
SIGKILL at the first 200: it hardly depends on who else uses the machine.

Memory. ``/proc/PID/smaps_rollup`` of one running service: resident, proportional (``Pss``, shared pages divided by
those who share them) and unique (private) bytes; idle, after requests one after another on 32 connections, and with
idle keep-alive connections held open, each of which was asked once. Away from Linux there is no such file and the
answer is None.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SYSTEM = HERE / "system"
BARE = "import asyncio, uvloop, httptools, msgspec"
ROUNDS = 15
LIMIT = 30.0
"""Seconds for a first 200 under any load of the machine."""
POLL = 0.0005
"""Seconds between tries to connect."""
KEPT = 32
"""Connections over which the requests of the memory run go, as in the other measurements."""


class Took(NamedTuple):
    """One process: seconds on the clock and seconds of CPU."""

    wall: float
    cpu: float


class Start(NamedTuple):
    """Every round of both contestants, and what came of them."""

    bare: list[Took]
    mizzen: list[Took]

    @property
    def ratio(self) -> float:
        """Median over the rounds of time to the first 200 by time of the bare line."""
        return statistics.median(ours.wall / bare.wall for bare, ours in zip(self.bare, self.mizzen, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU."""
        return statistics.median(ours.cpu / bare.cpu for bare, ours in zip(self.bare, self.mizzen, strict=True))


class Memory(NamedTuple):
    """Bytes of one process."""

    resident: int
    proportional: int
    unique: int


class Memories(NamedTuple):
    """One service in three conditions."""

    idle: Memory
    worked: Memory
    crowded: Memory
    connections: int

    @property
    def per_connection(self) -> float:
        """Unique bytes in user space that one idle connection adds to a service that has worked; the kernel's come on top."""
        return (self.crowded.unique - self.worked.unique) / self.connections


def measure_start(
    *,
    python: Path = Path(sys.executable),
    system: Path = SYSTEM,
    service: str = "user",
    path: str = "/users/1",
    rounds: int = ROUNDS,
) -> Start:
    """Time both, interleaved; ``python`` has Mizzen and its console script installed beside it."""
    bare, ours = [], []
    for round in range(rounds + 1):
        taken = time_bare(python), time_service(python, system, service, path)
        if round:  # the first one wrote .pyc files and filled the page cache
            bare.append(taken[0])
            ours.append(taken[1])
    return Start(bare, ours)


def time_bare(python: Path) -> Took:
    """The bare line, from spawn to exit."""
    began = time.monotonic()
    pid = os.posix_spawn(python, [str(python), "-c", BARE], _environ())
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - began
    if status:
        raise RuntimeError(f"{python} cannot do {BARE!r}")
    return Took(wall, used.ru_utime + used.ru_stime)


def time_service(python: Path, system: Path, service: str, path: str) -> Took:
    """``mizzen run``, from spawn to the end of its first 200."""
    port = _free_port()
    began = time.monotonic()
    pid = _spawn(python, system, service, port)
    try:
        with contextlib.closing(_first_200(pid, port, path)):
            wall = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGKILL)
        _, _, used = os.wait4(pid, 0)
    return Took(wall, used.ru_utime + used.ru_stime)


def measure_memory(
    *,
    python: Path = Path(sys.executable),
    system: Path = SYSTEM,
    service: str = "user",
    path: str = "/users/1",
    requests: int = 10_000,
    connections: int = 1_000,
) -> Memories | None:
    """One service idle, after ``requests``, and with ``connections`` idle ones; None where there is no ``smaps_rollup``."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    port = _free_port()
    pid = _spawn(python, system, service, port, LIMITS__CONNECTIONS=str(connections + KEPT + 10))
    try:
        _first_200(pid, port, path).close()
        time.sleep(1.0)  # what a start leaves to its first second, such as checks, is done
        idle = read_memory(pid)
        with _open(port, KEPT) as kept:
            for number in range(requests):
                _ask(kept[number % KEPT], path)
        worked = read_memory(pid)
        with _open(port, connections) as held:
            for each in held:
                _ask(each, path)
            crowded = read_memory(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return Memories(idle, worked, crowded, connections)


def read_memory(pid: int) -> Memory:
    """What the kernel says that a process has now."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def _spawn(python: Path, system: Path, service: str, port: int, **settings: str) -> int:
    prefix = f"MIZZEN__SERVICES__{service.upper()}__"
    own = {"PORT": str(port), "HOST": "127.0.0.1", **settings}
    environ = {**_environ(), **{prefix + key: value for key, value in own.items()}}
    script = python.parent / "mizzen"
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        command = [str(script), "run", service, "--dir", str(system)]
        return os.posix_spawn(script, command, environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
    finally:
        os.close(null)


def _environ() -> dict[str, str]:
    """Ours, in which ``.pyc`` files are written: a service in production has them."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _first_200(pid: int, port: int, path: str) -> socket.socket:
    """The connection over which the first 200 came."""
    ends = time.monotonic() + LIMIT
    while time.monotonic() < ends:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        except ConnectionRefusedError:
            if os.waitpid(pid, os.WNOHANG)[0]:
                raise RuntimeError("the service ended before it answered: see its words above") from None
            time.sleep(POLL)
            continue
        while _ask(connection, path, accept=(200, 503)) != 200:  # it starts: 503 until it serves
            time.sleep(POLL)
        return connection
    raise RuntimeError(f"no 200 within {LIMIT:g} s")


def _ask(connection: socket.socket, path: str, *, accept: tuple[int, ...] = (200,)) -> int:
    """One request and its whole answer; its status."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
    answer = b""
    while True:
        got = connection.recv(65536)
        if not got:
            raise RuntimeError(f"the service closed the connection after {answer!r}")
        answer += got
        head, blank, body = answer.partition(b"\r\n\r\n")
        if not blank:
            continue
        status = int(head.split(b" ", 2)[1])
        if status not in accept:
            raise RuntimeError(f"GET {path} is {status}: {body!r}")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) >= length:
            return status


@contextlib.contextmanager
def _open(port: int, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LIMIT)) for _ in range(count)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    """Print both for one or several Pythons."""
    parser = argparse.ArgumentParser(description="start to the first 200, and memory, of a small service")
    parser.add_argument("python", nargs="*", type=Path, default=[Path(sys.executable)], help="each with Mizzen installed")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--system", type=lambda text: Path(text).absolute(), default=SYSTEM)
    parser.add_argument("--only", choices=("start", "memory"))
    parser.add_argument("--json", action="store_true", help="every sample, as JSON")
    options = parser.parse_args()
    for python in options.python:
        version = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout.strip()
        print(version)
        if options.only != "memory":
            start = measure_start(python=python, system=options.system, rounds=options.rounds)
            if options.json:
                print(json.dumps(start._asdict()))
            _print_start(start)
        if options.only != "start":
            memories = measure_memory(python=python, system=options.system)
            _print_memory(memories)
    return 0


def _print_start(start: Start) -> None:
    for name, taken in start._asdict().items():
        walls, cpus = [each.wall * 1000 for each in taken], [each.cpu * 1000 for each in taken]
        print(
            f"  {name:<8} to first 200 or exit {statistics.median(walls):6.1f} ms (min {min(walls):.1f})"
            f"   CPU {statistics.median(cpus):6.1f} ms (min {min(cpus):.1f})"
        )
    least = min(each.cpu for each in start.mizzen) / min(each.cpu for each in start.bare)
    print(f"  ratio    {start.ratio:.2f}   of CPU {start.cpu_ratio:.2f}   of the least CPU {least:.2f}")


def _print_memory(memories: Memories | None) -> None:
    if memories is None:
        print("  memory   not told here: there is no /proc/PID/smaps_rollup")
        return
    for name in ("idle", "worked", "crowded"):
        memory: Memory = getattr(memories, name)
        print(
            f"  {name:<8} resident {memory.resident / 1e6:5.1f} MB   proportional {memory.proportional / 1e6:5.1f} MB"
            f"   unique {memory.unique / 1e6:5.1f} MB"
        )
    print(f"  each of {memories.connections:,} idle connections adds {memories.per_connection:,.0f} bytes")


if __name__ == "__main__":
    sys.exit(main())
