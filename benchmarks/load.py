"""Load that goes wrong: a black hole, callers that leave, and connections that close as they are used again."""

from __future__ import annotations

import sys
from typing import Any

from programs import BENCHMARKS, Upstream, run_json
from suites import Request

_CELL = [sys.executable, str(BENCHMARKS / "load_cell.py")]


def run(request: Request) -> dict[str, Any]:
    """The suite: one object for each of the three, as the content of a result file."""
    counts = {"hole": 2_000, "cancel": 1_000, "reuse": 4_000} if request.quick else {
        "hole": 10_000, "cancel": 5_000, "reuse": 20_000,
    }  # fmt: skip
    results: dict[str, Any] = {}
    for what, count in counts.items():
        for extra in ([], ["--hint"]) if what == "reuse" else ([],):
            name = what + "_hinted" * bool(extra)
            request.step(f"{name}: {count}")
            with Upstream() as upstream:
                command = [*_CELL, what, "--address", upstream.raw_address, "--count", str(count), *extra]
                results[name] = run_json(command)
    return results
