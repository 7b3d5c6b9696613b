"""`make bench`: what Mizzen costs beside Go, FastAPI, uvicorn and aiohttp, measured in one run, as one table of ratios.

Parts follow each other and print what they measured; the table of ratios and budgets ends the run. See README.md for the
method. ``BENCH_PARTS``, ``BENCH_ROUNDS`` and ``BENCH_SECONDS`` choose less or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import machine
import parts
import programs
import saturation
from figures import Ratio, ratio_table
from rounds import Plan

PARTS = {
    "server": parts.server,
    "hop": parts.hop,
    "client": parts.client,
    "start": parts.start_up,
    "memory": parts.memory,
    "idle": parts.idle_connections,
    "slow": parts.promises,
    "discovery": parts.discovery,
}
"""Server, hop, client call, start to first 200, memory, 10,000 idle connections, deadlines and probes, 1,000 services."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for; 1 when one of them failed, whatever the budgets say."""
    options = _options(arguments)
    began = time.monotonic()
    machine.open_files(16_000)
    references = {folder: programs.build_go(folder) for folder in ("go", "generator")}
    built = {folder: made for folder, made in references.items() if isinstance(made, Path)}
    plan = Plan(options.rounds, options.seconds, machine.cores(), built.get("generator"))
    print(
        f"{machine.describe()}; {plan.rounds} interleaved rounds, {plan.seconds:g} s for what has a budget; "
        f"saturation by {saturation.tool()}, arrivals by {'bench/generator' if plan.generator else 'bench/fallback.py'}"
    )
    for folder, made in references.items():
        if not isinstance(made, Path):
            print(f"without bench/{folder}: {made}")
    if options.peer_python is None:
        print("without FastAPI and uvicorn: --peer-python names no Python that has them")
    if plan.cores.load is None:
        print("without latency at a fixed rate: it needs two cores, and taskset to keep the load off the server's")

    results: dict[str, object] = {"python": sys.version.split()[0], "machine": machine.describe(), "rounds": plan.rounds}
    ratios: list[Ratio] = []
    bench = parts.Bench(plan, parts.Contestants(built.get("go"), options.peer_python), ratios, results)
    failed: list[str] = []
    for name in options.parts:
        with _told(name, failed):
            PARTS[name](bench)
    if ratios:
        print("\n" + ratio_table(ratios))
    results["ratios"] = [ratio._asdict() for ratio in ratios]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1))
    print(f"\n{time.monotonic() - began:.0f} s; every sample is in {os.path.relpath(options.out)}")
    if failed:
        print(f"FAILED: {', '.join(failed)} (see above)")
    return 1 if failed else 0


@contextlib.contextmanager
def _told(name: str, failed: list[str]) -> Iterator[None]:
    """A part that fails does not take the others' numbers with it."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        print(f"\n{name} FAILED: {error}")
        failed.append(name)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    absolute: Callable[[str], Path] = lambda path: Path(path).absolute()  # noqa: E731 - argparse wants a callable
    environ = os.environ.get
    parser.add_argument("--peer-python", type=absolute, help="the Python of the environment that has FastAPI and uvicorn")
    parser.add_argument("--rounds", type=int, default=int(environ("BENCH_ROUNDS") or 5))
    parser.add_argument("--seconds", type=float, default=float(environ("BENCH_SECONDS") or 2))
    wanted = (environ("BENCH_PARTS") or " ".join(PARTS)).split()
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=wanted)
    parser.add_argument("--out", type=absolute, default=programs.OUT / "last.json", help="where every sample is kept, as JSON")
    options = parser.parse_args(arguments)
    if wrong := [part for part in options.parts if part not in PARTS]:
        parser.error(f"BENCH_PARTS has {', '.join(wrong)}; there are {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
