"""Upstreams that are killed, down for a while, or fail for everybody.

As a suite of run.py, or alone: ``benchmarks/chaos.py --seconds 60`` prints one table and writes no file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from programs import BENCHMARKS, run_json
from rich.console import Console
from rich.table import Table
from suites import Request, Step, progress_line

_CELL = [sys.executable, str(BENCHMARKS / "chaos_cell.py")]

_NAMES = {
    "kill": "one of three killed every {every:g} s, another resets 5 %, 500/s",
    "outage": "both of two down for {outage:g} s, 500/s",
    "failure": "all of three answer 503, 1,000/s, GET only",
}


def _measure(seconds: Mapping[str, float], every: float, step: Step) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for what, length in seconds.items():
        step(f"{what}: {length:g} s")
        results[what] = run_json([*_CELL, what, "--seconds", str(length), "--every", str(every)])
    return results


def run(request: Request) -> dict[str, Any]:
    """The suite: one object for each of the three, as the content of a result file."""
    seconds = {"kill": 6, "outage": 3, "failure": 3} if request.quick else {"kill": 60, "outage": 10, "failure": 10}
    return _measure(seconds, 2.0, request.step)


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _table(results: dict[str, Any], every: float, outage: float) -> Table:
    table = Table(title="Chaos")
    table.add_column("what")
    for name in ("requests", "GET success %", "POST failed %", "executed twice", "attempts per request",
                 "refused, p99 ms", "full traffic after, s"):  # fmt: skip
        table.add_column(name, justify="right")
    for what, got in results.items():
        posted = got["POST success %"]
        table.add_row(
            _NAMES[what].format(every=every, outage=outage),
            _show(got["requests"], ",d"),
            _show(got["GET success %"], ".3f"),
            _show(None if posted is None else 100 - posted, ".2f"),
            _show(got["POST executed twice"], "d"),
            _show(got["attempts per request"], ".3f"),
            _show(got.get("refused, p99 ms"), ".2f"),
            _show(got.get("back to full traffic, s"), ".2f"),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the upstreams that are killed (60)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from one kill to the next (1)")
    parser.add_argument("--outage", type=float, default=10.0, help="seconds without any upstream (10)")
    parser.add_argument("--failure", type=float, default=10.0, help="seconds of 503 from all (10)")
    args = parser.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=170)
    seconds = {"kill": args.seconds, "outage": args.outage, "failure": args.failure}
    with progress_line(console, "chaos") as step:
        results = _measure(seconds, args.every, step)
    console.print(_table(results, args.every, args.outage))


if __name__ == "__main__":
    main()
