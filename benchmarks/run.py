"""Run the benchmarks and print their tables.

A full run takes about 90 minutes; it writes benchmarks/results/*.json and renders benchmarks/results.md, the figures in
README.md and docs/, and the plots. A quick run takes less than two minutes and, like any run limited to some
scenarios or clients, leaves those files alone.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import client_matrix
import gateway_servers
import peers
import render
import result_files
from programs import BENCHMARKS
from rich.console import Console
from scenarios import SCENARIOS
from suites import Request, SuiteSkippedError, progress_line

# Suite to the module with its run(request).
SUITES = {
    "clients": "client_matrix",
    "gateways": "gateways",
    "gateway-open": "gateway_open",
    "gateway-load": "gateway_load",
    "streams": "streams",
    "load": "load",
    "chaos": "chaos",
    "border": "border",
    "import": "import_cost",
    "leaks": "leaks",
    "conformance": "conformance",
}
QUICK_SUITES = ["clients", "gateways", "gateway-open", "import"]


def _names(allowed: list[str]) -> Callable[[str], list[str]]:
    """An argparse type: a comma-separated list of some of `allowed`. A name may hold a comma itself."""

    def parse(text: str) -> list[str]:
        names: list[str] = []
        rest = text
        while rest:
            name = max((a for a in allowed if rest == a or rest.startswith(a + ",")), key=len, default=None)
            if name is None:
                raise argparse.ArgumentTypeError(f"{rest!r} does not start with one of: {'; '.join(allowed)}")
            names.append(name)
            rest = rest[len(name) + 1 :]
        return names

    return parse


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"want a whole number from 1 on, got {text}")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"want a positive number, got {text}")
    return number


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    clients = [*peers.CLIENTS, client_matrix.FLOOR, client_matrix.CORE, *gateway_servers.GATEWAYS]
    parser.add_argument("--quick", action="store_true", help="fewer suites, scenarios, clients and rounds")
    parser.add_argument("--only", type=_names(list(SUITES)), metavar="SUITES",
                        help=f"some of: {', '.join(SUITES)}; a quick run has {', '.join(QUICK_SUITES)}")  # fmt: skip
    parser.add_argument("--scenarios", type=_names(list(SCENARIOS)), metavar="NAMES", default=[],
                        help=f"for the suite `clients`, some of: {', '.join(SCENARIOS)}")  # fmt: skip
    parser.add_argument("--clients", type=_names(clients), metavar="NAMES", default=[],
                        help=f"for the suites with peers, some of: {'; '.join(clients)}")  # fmt: skip
    parser.add_argument("--generations", type=_count, help="how often each client is started (3, quick 1)")
    parser.add_argument("--rounds", type=_count, help="rounds measured with the same processes (3, quick 2)")
    parser.add_argument("--window", type=_positive, help="seconds counted per client and round (0.6, quick 0.5)")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where to write the result files")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target is missed")
    args = parser.parse_args()
    args.only = args.only or (QUICK_SUITES if args.quick else list(SUITES))
    return args


def main() -> int:
    args = _parse()
    # Wide enough for the tables where there is no terminal to ask, as in a log.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    partial = args.quick or args.scenarios or args.clients or args.generations or args.rounds or args.window
    folder: Path = args.results or (BENCHMARKS / ".build" / "results" if partial else result_files.RESULTS)
    for suite in args.only:
        module = importlib.import_module(SUITES[suite])
        with progress_line(console, suite) as step:
            plan = {"generations": args.generations, "rounds": args.rounds, "window": args.window}
            request = Request(args.quick, args.scenarios, args.clients, **plan, step=step)
            try:
                path = result_files.save(folder, suite, args.quick, module.run(request))
            except SuiteSkippedError as reason:
                console.print(f"[yellow]{suite}: skipped: {reason}")
                continue
        console.print(f"[dim]{suite}: {path}")
    missed = render.show(console, folder, args.only)
    if folder == result_files.RESULTS:
        render.write(folder)
    return 1 if args.check and missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
