"""Fuzzes server and client, or tries one input again: ``make fuzz``, or ``python tests/fuzz/run.py server 1234``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fuzz import campaign, clients, judge, servers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", nargs="?", choices=sorted(campaign.SIDES), help="try one input of this side again")
    parser.add_argument("number", nargs="?", type=int, help="which one")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with: other numbers are other inputs")
    parser.add_argument("--seconds", type=float, default=900.0, help="when to stop, whatever is left")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.side:
        return one(options.side, options.number or 0)
    report = campaign.run(
        options.inputs,
        first=options.first,
        seconds=options.seconds,
        processes=options.processes,
        tell=lambda line: print(line, flush=True),
    )
    print("\n".join(report.lines()))
    short = sum(report.tried.values()) < options.inputs and not report.failures
    if short:
        print(f"stopped after {options.seconds:g}s: --seconds (FUZZ_SECONDS) gives it longer")
    return 1 if report.failures else 2 if short else 0


def one(side: str, number: int) -> int:
    """Show one input and what is made of it."""
    if side == "server":
        data = servers.make(number)[0]
        print(f"stream   {data!r}\nRFC 9112 {judge.requests(data)}")
    else:
        method, data, *_ = clients.make(number)
        print(f"stream   {method} {data!r}\nRFC 9112 {judge.answer(data, method)}")
    found = campaign.SIDES[side]([number], {})
    for _, _, wrong in found:
        print(f"WRONG    {wrong}")
    if not found:
        print("nothing is wrong with it")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
