"""Large bodies as streams, both ways: how fast, at what cost, and how much memory they take."""

from __future__ import annotations

import sys
from typing import Any

from programs import BENCHMARKS, Upstream, run_json
from suites import Request

_CELL = [sys.executable, str(BENCHMARKS / "stream_cell.py")]
CLIENTS = ("velithon-proxy", "aiohttp", "pyreqwest")
DIRECTIONS = ("down", "up")
BYTES = 1_000_000_000
QUICK_BYTES = 200_000_000


def run(request: Request) -> dict[str, Any]:
    """The suite: for each direction the rounds, in which the clients take turns, as the content of a result file."""
    size = QUICK_BYTES if request.quick else BYTES
    count = request.rounds or (3 if request.quick else 7)
    outcome: dict[str, Any] = {"bytes": size, "skipped": {}}
    clients = list(CLIENTS)
    with Upstream() as upstream:
        for direction in DIRECTIONS:
            rounds: list[dict[str, Any]] = []
            for turn in range(count):
                measured: dict[str, Any] = {}
                shift = turn % len(clients)
                for client in clients[shift:] + clients[:shift]:
                    request.step(f"{direction}, round {turn + 1} of {count}: {client}")
                    command = [*_CELL, direction, "--client", client, "--base-url", upstream.base_url]
                    result = run_json([*command, "--bytes", str(size)])
                    if "missing" in result:
                        outcome["skipped"][client] = result["missing"]
                    else:
                        measured[client] = result
                clients = [client for client in clients if client not in outcome["skipped"]]
                rounds.append(measured)
            outcome[direction] = rounds
    return outcome
