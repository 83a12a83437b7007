"""Gateways under loads other than many small requests: large bodies, event streams, slow readers, clients that leave,
and a server that is told to stop."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import gateway_clients as clients
from gateway_servers import GATEWAYS, Server
from programs import Upstream
from suites import Request

_OURS = ("RSGI, ours", "Granian ASGI, ours", "uvicorn, ours")
_BULK = (*_OURS, "Granian ASGI, aiohttp", "uvicorn, aiohttp")
_MEGABYTES = 100


def run(request: Request) -> dict[str, Any]:
    """The suite: one object for each load, by gateway."""
    rounds = 1 if request.quick else 5
    storm, stops = (500, 2) if request.quick else (5_000, 20)
    results: dict[str, Any] = {"bulk": _bulk(rounds, request)}
    loads: dict[str, Callable[[Server, Upstream], dict[str, float]]] = {
        "events": lambda server, upstream: clients.events(server.port, _port(upstream.raw_address), 200),
        "slow readers": lambda server, _: clients.slow_readers(server, 200, 50_000_000),
        "abort storm": lambda server, upstream: clients.abort_storm(server, _port(upstream.raw_address), storm),
    }
    for what, load in loads.items():
        results[what] = {}
        for name in _OURS:
            request.step(f"{what}: {name}")
            with Upstream() as upstream:
                url = upstream.base_url if what == "slow readers" else f"http://{upstream.raw_address}"
                with Server(GATEWAYS[name], url) as server:
                    results[what][name] = load(server, upstream)
    results["stops"] = {}
    for name in _OURS:
        with Upstream() as upstream:
            tallies = []
            for turn in range(stops):
                request.step(f"stops: {name}, {turn + 1} of {stops}")
                with Server(GATEWAYS[name], f"http://{upstream.raw_address}") as server:
                    tallies.append(clients.stop_under_load(server, _port(upstream.raw_address), turn))
            results["stops"][name] = {key: sum(tally[key] for tally in tallies) for key in tallies[0]}
    return results


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _bulk(rounds: int, request: Request) -> list[dict[str, dict[str, float]]]:
    """100 MB down and up; each round has fresh servers, and all gateways in turn."""
    measured: list[dict[str, dict[str, float]]] = []
    for turn in range(rounds):
        found: dict[str, dict[str, float]] = {}
        for name in _BULK:
            request.step(f"bulk: {name}, round {turn + 1} of {rounds}")
            with Upstream() as upstream, Server(GATEWAYS[name], upstream.base_url) as server:
                found[name] = clients.bulk(server, _MEGABYTES)
        measured.append(found)
    return measured


def bulk_ratio(data: dict[str, Any], name: str, other: str, figure: str) -> float | None:
    """The median over the rounds of a figure of `name` divided by that of `other`."""
    rounds = data.get("bulk", [])
    ratios = [r[name][figure] / r[other][figure] for r in rounds if r[other][figure]]
    return statistics.median(ratios) if ratios else None


def worst(data: dict[str, Any], what: str, figure: str, names: tuple[str, ...] = _OURS) -> float | None:
    """The largest value of a figure among some gateways."""
    if what == "bulk":
        return max((r[name][figure] for r in data.get(what, []) for name in names), default=None)
    return max((data[what][name][figure] for name in names if name in data.get(what, {})), default=None)
