"""Run the trials: each at most a minute, one line for each server, a summary, and status 1 when one has failed.

The rows are T1 to T12 of docs/chaos.md and a relay with faults. Traffic stays on the loopback interface; everything is
started and stopped here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

# Servers, drivers and hostile bytes are those of the benchmarks and of other tests, here and in child processes.
_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = [str(_ROOT / name) for name in ("benchmarks", "tests/chaos", "tests/conformance")]
sys.path[:0] = _FOLDERS
_LOG = _ROOT / "benchmarks" / ".build" / "trials.log"
os.environ["SERVER_LOG"] = str(_LOG)
os.environ["PYTHONPATH"] = os.pathsep.join([*_FOLDERS, *filter(None, [os.environ.get("PYTHONPATH")])])

import connections  # noqa: E402
import desync  # noqa: E402
import fuzz  # noqa: E402
import leftovers  # noqa: E402
import outages  # noqa: E402
import relay  # noqa: E402
import steady  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from trial import SECONDS_MOST, Finding, Trial  # noqa: E402

CLIENT = ("",)
TRIALS = [
    Trial("T1", "200 clients, small and large, byte for byte", steady.steady),
    Trial("T2", "upstreams are killed and reset connections", outages.killed),
    Trial("T3", "hostile upstreams and clients among 50,000 requests", desync.desync),
    Trial("T4", "connections close as they are used again", connections.reuse),
    Trial("T5", "10,000 requests to a black hole", connections.black_hole, CLIENT),
    Trial("T6", "5,000 clients leave", connections.leaving),
    Trial("T7", "all upstreams answer 503, 1,000 requests/s", outages.failing),
    Trial("T8", "all upstreams are down for 10 s", outages.down),
    Trial("T9", "SIGTERM at 300 requests/s, 20 times", connections.stops),
    Trial("T10", "what requests leave behind that end in five ways", leftovers.leftovers, CLIENT),
    Trial("T11", "200 clients that do not read", connections.slow_readers),
    Trial("T12", "fuzzing", fuzz.fuzz, CLIENT),
    Trial("T13", "a relay that delays, slices, throttles, cuts and resets", relay.relay),
]


def _run(trial: Trial, server: str, verbose: bool, console: Console) -> bool:
    """Run one trial and print its line."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    began, broken = time.monotonic(), ""
    findings: list[Finding] = []
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(f"{trial.name} {server or 'client'}: {trial.words}", total=None)
        try:
            findings = trial.run(server)
        except Exception as error:  # whatever it was, the row has failed and the others still run
            broken = f"{type(error).__name__}: {error}"
            if verbose:
                traceback.print_exc()
    took = time.monotonic() - began
    fine = not broken and all(finding.fine for finding in findings)
    bad = [finding for finding in findings if not finding.fine]
    told = broken or "; ".join(map(str, findings if verbose or fine else bad))
    if not verbose and fine and len(findings) > 6:
        told = f"{len(findings)} findings within their limits"
    verdict = "[green]PASS[/]" if fine else "[red]FAIL[/]"
    console.print(f"{trial.name:<4} {server or 'client':<13} {verdict} {took:5.1f} s  {trial.words}: ", end="")
    console.print(told, markup=False, highlight=False)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [trial.name for trial in TRIALS]
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of {' '.join(names)}; all if none is given")
    parser.add_argument("--server", choices=["RSGI", "Granian ASGI", "uvicorn"], help="on this server only")
    parser.add_argument("--verbose", action="store_true", help="every finding, and where a trial broke off")
    args = parser.parse_args()
    unknown = sorted(set(args.rows) - set(names))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; the rows are {' '.join(names)}")
    console = Console() if sys.stdout.isatty() else Console(width=240)
    _LOG.parent.mkdir(exist_ok=True)
    _LOG.write_text("")
    began, failed, count = time.monotonic(), 0, 0
    for trial in TRIALS:
        if args.rows and trial.name not in args.rows:
            continue
        for server in trial.on:
            if args.server in (None, server) or not server:
                count += 1
                failed += not _run(trial, server, args.verbose, console)
    minutes = (time.monotonic() - began) / 60
    if failed:
        console.print(f"what the servers wrote: {_LOG}")
    console.print(f"{count - failed} of {count} passed in {minutes:.1f} minutes, each at most {SECONDS_MOST:g} s")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
