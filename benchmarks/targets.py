"""The figures that velithon-proxy promises, and where each is measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import client_matrix
import gateway_load
import gateway_open
import gateways
import result_files

OURS = "velithon-proxy"


@dataclass(frozen=True)
class Verdict:
    """One promise and what was measured; `measured` is None when the suite was not run or ours was not in it."""

    promise: str
    limit: float
    measured: float | None
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the promise holds; None when it was not measured."""
        return None if self.measured is None else self.measured <= self.limit


def _against_best_peer(clients: dict[str, Any], scenario: str, figure: str, limit: float, words: str) -> Verdict:
    promise = f"{words}: ours / best peer"
    rounds = _rounds(clients, scenario)
    best = client_matrix.best_peer(rounds, figure) if rounds else None
    if best is None:
        return Verdict(promise, limit, None, "x")
    return Verdict(promise, limit, client_matrix.ratio(rounds, OURS, best, figure), "x", f"best peer: {best}")


def _against_floor(clients: dict[str, Any], scenario: str, limit: float, words: str) -> Verdict:
    promise = f"{words}: ours / Go loop"
    rounds = _rounds(clients, scenario)
    if not rounds or client_matrix.FLOOR not in rounds[0]:
        return Verdict(promise, limit, None, "x")
    return Verdict(promise, limit, client_matrix.ratio(rounds, OURS, client_matrix.FLOOR, "cpu_us"), "x")


def _core_against_floor(clients: dict[str, Any], scenario: str, limit: float, words: str) -> Verdict:
    promise = f"{words}: core/h1 / HostClient.Do"
    rounds = _rounds(clients, scenario)
    if not rounds or not {client_matrix.FLOOR, client_matrix.CORE} <= rounds[0].keys():
        return Verdict(promise, limit, None, "x")
    return Verdict(promise, limit, client_matrix.ratio(rounds, client_matrix.CORE, client_matrix.FLOOR, "cpu_us"), "x")


def _rounds(clients: dict[str, Any], scenario: str) -> list[client_matrix.Round]:
    """The usable rounds in which ours took part."""
    result = clients.get("scenarios", {}).get(scenario)
    rounds = client_matrix.usable_rounds(result) if result else []
    return rounds if rounds and OURS in rounds[0] else []


def _clients(data: dict[str, Any]) -> list[Verdict]:
    return [
        _against_best_peer(data, "get-100b-c1", "cpu_us", 0.8, "GET 100 B, c=1, CPU"),
        _against_best_peer(data, "get-100b-c1", "p50_us", 0.8, "GET 100 B, c=1, latency p50"),
        _against_best_peer(data, "get-100b-c64", "cpu_us", 0.60, "GET 100 B, c=64, CPU"),
        _against_floor(data, "get-100b-c64", 1.45, "GET 100 B, c=64, CPU"),
        _against_best_peer(data, "get-100b-c512", "cpu_us", 0.60, "GET 100 B, c=512, CPU"),
        _against_floor(data, "get-100b-c512", 1.45, "GET 100 B, c=512, CPU"),
        _against_best_peer(data, "get-10k-c64", "cpu_us", 0.75, "GET 10 KB, c=64, CPU"),
        _against_best_peer(data, "get-100b-c1-tls", "cpu_us", 0.85, "GET 100 B over TLS, c=1, CPU"),
        _against_best_peer(data, "get-100b-c64-tls", "cpu_us", 0.85, "GET 100 B over TLS, c=64, CPU"),
        *(_core_against_floor(data, f"get-100b-c{c}", 0.8, f"Go alone, GET 100 B, c={c}, CPU") for c in (1, 64, 512)),
        _against_best_peer(data, "get-1m-c8", "cpu_us", 0.75, "GET 1 MB, c=8, CPU"),
        _against_best_peer(data, "post-1m-c8", "cpu_us", 0.75, "POST 1 MB, c=8, CPU"),
        _against_best_peer(data, "get-1m-c8-stream", "cpu_us", 1.0, "GET 1 MB as a stream, c=8, CPU"),
        _against_best_peer(data, "post-1m-c8-stream", "cpu_us", 1.0, "POST 1 MB as a stream, c=8, CPU"),
    ]


_GATEWAY_LIMITS = [
    ("Velithon, ours", "Velithon, GatewayRoute", 0.27),
    ("Velithon, ours", "RSGI, empty handler", 2.2),
    ("RSGI, ours", "RSGI, pyreqwest", 0.7),
    ("Granian ASGI, ours", "Granian ASGI, aiohttp", 0.6),
    ("uvicorn, ours", "uvicorn, aiohttp", 0.6),
    ("FastAPI on uvicorn, ours", "FastAPI on uvicorn, fastapi-proxy-lib", 0.15),
]


def _gateways(data: dict[str, Any]) -> list[Verdict]:
    return [
        Verdict(f"{name} / {other}, c={c}, CPU", limit, gateways.ratio(data, c, name, other), "x")
        for name, other, limit in _GATEWAY_LIMITS
        for c in gateways.CONCURRENCIES
    ]


def _gateway_open(data: dict[str, Any]) -> list[Verdict]:
    return [
        Verdict(f"{name}, event-loop delay p99 at {load}", 2000,
                gateway_open.median(data, name, load, "loop_p99_us"), "us")
        for load in (gateway_open.HALF, gateway_open.TWO_FIFTHS)
        for name in ("RSGI, ours", "Velithon, ours", "Granian ASGI, ours", "uvicorn, ours")
    ]  # fmt: skip


def _gateway_load(data: dict[str, Any]) -> list[Verdict]:
    asgi = ("Granian ASGI, ours", "uvicorn, ours")
    verdicts: list[Verdict] = []
    for way in ("down", "up"):
        memory = gateway_load.worst(data, "bulk", f"{way}, memory MB", asgi)
        verdicts.append(Verdict(f"100 MB {way} through ASGI, memory gained", 16, memory, "MB"))
        for server in ("Granian ASGI", "uvicorn"):
            ratio = gateway_load.bulk_ratio(data, f"{server}, ours", f"{server}, aiohttp", f"{way}, CPU ms/MB")
            verdicts.append(Verdict(f"... {server}, CPU per MB, ours / aiohttp", 1.0, ratio, "x"))
    storm, stops = "abort storm", "stops"
    return [
        *verdicts,
        Verdict("200 event streams, delay added, p99", 20, gateway_load.worst(data, "events", "added p99, ms"), "ms"),
        Verdict("200 slow readers of 50 MB on ASGI, memory gained", 500,
                gateway_load.worst(data, "slow readers", "memory MB", asgi), "MB"),
        Verdict("... on RSGI", 500, gateway_load.worst(data, "slow readers", "memory MB", ("RSGI, ours",)), "MB"),
        Verdict("5,000 clients that leave: upstream closed after, p99", 1000,
                gateway_load.worst(data, storm, "closed after, p99 ms"), "ms"),
        Verdict("... requests in flight afterwards", 0, gateway_load.worst(data, storm, "in flight at the end")),
        Verdict("... descriptors left", 1, gateway_load.worst(data, storm, "descriptors left")),
        Verdict("SIGTERM at 300 requests/s, 20 times: accepted requests that were cut", 0,
                gateway_load.worst(data, stops, "cut")),
        Verdict("... servers that did not end", 0, gateway_load.worst(data, stops, "did not end")),
    ]  # fmt: skip


def _border(data: dict[str, Any]) -> list[Verdict]:
    empty = {(row["loop"], row["concurrency"]): row["cpu_us"] for row in data.get("empty_operation", [])}
    delays = [row for row in data.get("loop_delay", []) if row["burning"] == "in Go" and row["low_priority"]]
    worst = max(delays, key=lambda row: row["p99_us"], default=None)
    delay, note = (worst["p99_us"], f"on {worst['loop']}, c={worst['concurrency']}") if worst else (None, "")
    return [
        Verdict("Empty core operation, c=64, uvloop, CPU", 4.0, empty.get(("uvloop", 64)), "us"),
        Verdict("Event-loop delay p99, two goroutines burning, collector running", 1000.0, delay, "us", note),
    ]


def _import(data: dict[str, Any]) -> list[Verdict]:
    return [
        Verdict("Import beyond asyncio", 15.0, data.get("import_ms"), "ms"),
        Verdict("Threads after import", 1, data.get("threads")),
        Verdict("Go mapped after import", 0, data.get("go_mapped")),
    ]


def _leaks(data: dict[str, Any]) -> list[Verdict]:
    ours = data.get("clients", {}).get(OURS, {})
    growth = ours.get("cycles", {}).get("growth", {})
    slope = ours.get("requests", {}).get("rss_kb_per_100k")
    verdicts = [
        Verdict(f"200 create-use-close cycles, growth of {what}", 0, growth.get(what))
        for what in ("descriptors", "threads", "goroutines")
    ]
    return [*verdicts, Verdict("Resident memory gained over 100,000 requests", 1024, slope, "kB")]


def _streams(data: dict[str, Any]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for direction in ("down", "up"):
        rounds = [r for r in data.get(direction, []) if OURS in r]
        others = [name for name in (rounds[0] if rounds else ()) if name != OURS]
        for peer in others:
            ratio = statistics.median(r[peer]["mb_per_s"] / r[OURS]["mb_per_s"] for r in rounds)
            verdicts.append(Verdict(f"1 GB {direction} as a stream, throughput: {peer} / ours", 1.0, ratio, "x"))
        memory = statistics.median(r[OURS]["rss_kb"] for r in rounds) if rounds else None
        verdicts.append(Verdict(f"1 GB {direction} as a stream, memory gained", 8192, memory, "kB"))
    return verdicts


def _load(data: dict[str, Any]) -> list[Verdict]:
    hole, cancel = data.get("hole", {}), data.get("cancel", {})
    missing = hole["requests"] - hole["timed_out"] if hole else None
    left = sum(max(v, 0) for part in (hole, cancel) for v in part.get("left", {}).values()) if hole else None
    verdicts = [
        Verdict("10,000 in flight to a black hole, memory each", 32, hole.get("rss_kb_each"), "kB"),
        Verdict("... not ended by TotalTimeout", 0, missing),
        Verdict("... ended late by", 0.5, hole.get("late_s"), "s"),
        Verdict("... event-loop delay p99", 20, hole.get("loop_delay_p99_ms"), "ms"),
        Verdict("5,000 cancellations, connection closed after, p99", 100, cancel.get("close_p99_ms"), "ms"),
        Verdict("Left over after both (descriptors, goroutines)", 0, left),
    ]
    for name, words in (
        ("reuse", "Keep-alive race, 20,000 reuses"),
        ("reuse_hinted", "... with Keep-Alive: timeout=1"),
    ):
        race = data.get(name, {})
        verdicts += [
            Verdict(f"{words}: failed GET", 0, race.get("failed_get")),
            Verdict(f"{words}: duplicated requests", 0, race.get("duplicated")),
            Verdict(f"{words}: failed POST", 3 if name == "reuse" else 0, race.get("failed_post_percent"), "%"),
        ]
    return verdicts


def _chaos(data: dict[str, Any]) -> list[Verdict]:
    kill, outage, failure = (data.get(what, {}) for what in ("kill", "outage", "failure"))
    failed = 100 - kill["GET success %"] if kill else None
    late = outage["back to full traffic, s"] - outage["recovery timeout, s"] if outage else None
    return [
        Verdict("One of three killed every 2 s, another resets 5 %: failed GET", 0.05, failed, "%"),
        Verdict("... POST executed twice", 0, kill.get("POST executed twice")),
        Verdict("... requests without exactly one outcome, or with another's", 0,
                kill["without an outcome"] + kill["wrong answers"] if kill else None),
        Verdict("Outage of 10 s: answers while breakers are open, p99", 5, outage.get("refused, p99 ms"), "ms"),
        Verdict("... full traffic later than the recovery timeout by", 1, late, "s"),
        Verdict("All answer 503, 1,000 requests/s: attempts beyond 1.2 x requests + 3", 0,
                failure.get("attempts beyond 1.2 x requests + 3")),
    ]  # fmt: skip


_BY_SUITE: dict[str, Callable[[dict[str, Any]], list[Verdict]]] = {
    "clients": _clients,
    "gateways": _gateways,
    "gateway-open": _gateway_open,
    "gateway-load": _gateway_load,
    "streams": _streams,
    "load": _load,
    "chaos": _chaos,
    "border": _border,
    "import": _import,
    "leaks": _leaks,
}


def verdicts(folder: Path, suites: Iterable[str] = tuple(_BY_SUITE)) -> list[Verdict]:
    """Every promise of `suites` against the result files in `folder`."""
    return [
        verdict
        for suite in suites
        if suite in _BY_SUITE
        for verdict in _BY_SUITE[suite](result_files.load(folder, suite) or {})
    ]
