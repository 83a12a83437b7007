"""Upstreams that are killed, down for a while, or fail for everybody."""

from __future__ import annotations

import sys
from typing import Any

from programs import BENCHMARKS, run_json
from suites import Request

_CELL = [sys.executable, str(BENCHMARKS / "chaos_cell.py")]


def run(request: Request) -> dict[str, Any]:
    """The suite: one object for each of the three, as the content of a result file."""
    seconds = {"kill": 6, "outage": 3, "failure": 3} if request.quick else {"kill": 60, "outage": 10, "failure": 10}
    results: dict[str, Any] = {}
    for what, length in seconds.items():
        request.step(f"{what}: {length} s")
        results[what] = run_json([*_CELL, what, "--seconds", str(length)])
    return results
