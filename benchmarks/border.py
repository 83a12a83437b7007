"""What the border between Python and Go costs, and how late it makes the event loop."""

from __future__ import annotations

import statistics
import sys
from typing import Any

from programs import BENCHMARKS, Upstream, run_json
from suites import Request, SuiteSkippedError

# What burns meanwhile, and whether at the lowest priority.
_BURNING = [("nothing", False), ("elsewhere", False), ("in Go", False), ("elsewhere", True), ("in Go", True)]
_CELL = [sys.executable, str(BENCHMARKS / "border_cell.py")]


def _median_of(runs: int, command: list[str]) -> dict[str, float]:
    """Run a cell several times and take the median of each figure."""
    results = [run_json(command) for _ in range(runs)]
    for result in results:
        if "missing" in result:
            raise SuiteSkippedError(result["missing"])
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def run(request: Request) -> dict[str, Any]:
    """The suite: rows of ``empty_operation`` and ``loop_delay``, as the content of a result file."""
    runs, seconds = (1, "1") if request.quick else (5, "2")
    empty: list[dict[str, Any]] = []
    for loop in ("uvloop", "asyncio"):
        for concurrency in (1, 64, 512):
            request.step(f"empty operation on {loop}, {concurrency} in flight")
            command = [*_CELL, "empty", "--loop", loop, "--concurrency", str(concurrency), "--seconds", seconds]
            empty.append({"loop": loop, "concurrency": concurrency, **_median_of(runs, command)})

    runs, seconds = (1, "2") if request.quick else (5, "3")
    delays: list[dict[str, Any]] = []
    with Upstream() as upstream:
        for loop in ("uvloop", "asyncio"):
            for concurrency in (0, 1, 64):
                for burning, low in _BURNING:
                    request.step(f"delay of {loop}, {concurrency} requests in flight, burning: {burning}")
                    command = [*_CELL, "delay", "--loop", loop, "--concurrency", str(concurrency)]
                    command += ["--burning", burning, "--base-url", upstream.base_url, "--seconds", seconds]
                    command += ["--low-priority"] * low
                    row = {"loop": loop, "concurrency": concurrency, "burning": burning, "low_priority": low}
                    delays.append({**row, **_median_of(runs, command)})
    return {"empty_operation": empty, "loop_delay": delays}
