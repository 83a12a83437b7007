"""What stays behind: descriptors, threads, goroutines and memory, over cycles of a client and over many requests."""

from __future__ import annotations

import sys
from typing import Any

from peers import CLIENTS
from programs import BENCHMARKS, Upstream, run_json
from suites import Request, SuiteSkippedError

_CELL = [sys.executable, str(BENCHMARKS / "leak_cell.py")]
CYCLES = 200
# More than the 100,000 the target speaks of: garbage may lie about in a collected heap for as long as that, and a small
# leak may hide in it.
REQUESTS = 1_000_000
QUICK_REQUESTS = 300_000


def run(request: Request) -> dict[str, Any]:
    """The suite: both measurements of every client asked for, as the content of a result file."""
    clients = [c for c in request.clients if c in CLIENTS] or [c for c, entry in CLIENTS.items() if entry.ours]
    results: dict[str, Any] = {}
    with Upstream() as upstream:
        for client in clients:
            results[client] = {}
            for what, count in (("cycles", CYCLES), ("requests", QUICK_REQUESTS if request.quick else REQUESTS)):
                request.step(f"{client}: {count} {what}")
                command = [*_CELL, what, "--client", client, "--base-url", upstream.base_url, "--count", str(count)]
                result = run_json(command)
                if "missing" in result:
                    raise SuiteSkippedError(result["missing"])
                results[client][what] = result
    return {"clients": results}
