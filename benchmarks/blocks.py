"""The blocks of figures in README.md and docs/performance.md, each rendered from result files.

A page holds ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``; what is between them is written by render.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import client_matrix
import conformance
import gateway_load
import gateway_open
import gateways
import result_files
import targets
from gateway_servers import GATEWAYS
from sections import BY_SUITE, conformance_tables, markdown, number, table_of

_CLIENT_ROWS = [
    ("get-100b-c1", "GET 100 B, one at a time"),
    ("get-100b-c64", "GET 100 B, 64 in flight"),
    ("get-100b-c512", "GET 100 B, 512 in flight"),
    ("get-10k-c64", "GET 10 KB, 64 in flight"),
    ("post-10k-c64", "POST 10 KB, 64 in flight"),
    ("get-1m-c8", "GET 1 MB, 8 in flight"),
    ("post-1m-c8", "POST 1 MB, 8 in flight"),
    ("get-1m-c8-stream", "GET 1 MB as a stream, 8 in flight"),
    ("post-1m-c8-stream", "POST 1 MB as a stream, 8 in flight"),
    ("get-100b-c1-tls", "GET 100 B over TLS, one at a time"),
    ("get-100b-c64-tls", "GET 100 B over TLS, 64 in flight"),
    ("get-1m-c8-tls", "GET 1 MB over TLS, 8 in flight"),
    ("get-100b-c64-unix", "GET 100 B over a unix socket, 64 in flight"),
    ("get-100b-c1-asyncio", "GET 100 B on plain asyncio, one at a time"),
    ("get-100b-c64-asyncio", "GET 100 B on plain asyncio, 64 in flight"),
]
_GATEWAY_ROWS = [
    ("Velithon, ours", "Velithon, GatewayRoute"),
    ("RSGI, ours", "RSGI, pyreqwest"),
    ("Granian ASGI, ours", "Granian ASGI, aiohttp"),
    ("uvicorn, ours", "uvicorn, aiohttp"),
    ("uvicorn, ours", "uvicorn, asgiproxy"),
    ("FastAPI on uvicorn, ours", "FastAPI on uvicorn, fastapi-proxy-lib"),
    ("FastAPI on uvicorn, ours", "FastAPI on uvicorn, fastapi-reverse-proxy"),
    ("RSGI, ours", "nginx"),
    ("RSGI, ours", "HAProxy"),
    ("RSGI, ours", "RSGI, empty handler"),
]


def _load(folder: Path, suite: str) -> dict[str, Any]:
    return result_files.load(folder, suite) or {}


def _measured(data: dict[str, Any]) -> str:
    machine = data["machine"]
    return (
        f"{data['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, commit {data['commit'] or 'unknown'}"
    )


def _clients(folder: Path) -> str:
    data = _load(folder, "clients")
    if not data:
        return "Not measured."
    table = table_of(["", "velithon-proxy, us", "best peer, us", "ours / best peer", "p50 latency", "ours / Go loop"])
    versions: dict[str, str] = {}
    for scenario, words in _CLIENT_ROWS:
        result = data["scenarios"].get(scenario)
        rounds = client_matrix.usable_rounds(result) if result else []
        best = client_matrix.best_peer(rounds, "cpu_us") if rounds else None
        if best is None or targets.OURS not in rounds[0]:
            continue
        versions |= result["versions"]
        floor = client_matrix.FLOOR
        table.add_row(
            words,
            number(client_matrix.median(rounds, targets.OURS, "cpu_us")),
            f"{best}, {number(client_matrix.median(rounds, best, 'cpu_us'))}",
            number(client_matrix.ratio(rounds, targets.OURS, best, "cpu_us")),
            number(client_matrix.ratio(rounds, targets.OURS, best, "p50_us")),
            number(client_matrix.ratio(rounds, targets.OURS, floor, "cpu_us")) if floor in rounds[0] else "-",
        )
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != targets.OURS)
    return f"{markdown(table)}\n\n{_measured(data)}. {named}."


def _gateways(folder: Path) -> str:
    data = _load(folder, "gateways")
    if not data:
        return "Not measured."
    table = table_of(["gateway", "us", "instead", "us", *(f"ratio, c={c}" for c in gateways.CONCURRENCIES)])
    rounds = data["concurrencies"]["64"]["rounds"]

    def cpu(name: str) -> str:
        found = [r[name]["cpu_us"] for r in rounds if name in r]
        return number(statistics.median(found)) if found else "-"

    for name, other in _GATEWAY_ROWS:
        ratios = [gateways.ratio(data, c, name, other) for c in gateways.CONCURRENCIES]
        table.add_row(name.removesuffix(", ours"), cpu(name), other, cpu(other), *map(number, ratios))
    named = ", ".join(f"{name} {version}" for name, version in data.get("versions", {}).items())
    return f"{markdown(table)}\n\n{_measured(data)}. {named}."


def _open_loop(folder: Path) -> str:
    data = _load(folder, "gateway-open")
    if not data:
        return "Not measured."
    text: list[str] = []
    for section in BY_SUITE["gateway-open"](data):
        text += [f"{section.title}. {section.note}", "", markdown(section.table), ""]
    return "\n".join([*text, f"{_measured(data)}."])


def _loads(folder: Path) -> str:
    lines: list[str] = []
    streams, load, chaos = (_load(folder, suite) for suite in ("streams", "load", "chaos"))
    if streams:
        ratios = [
            f"{number(statistics.median(r[targets.OURS]['mb_per_s'] / r[peer]['mb_per_s'] for r in streams[way]))} "
            f"times the throughput of {peer} {way}"
            for way in ("down", "up")
            for peer in streams[way][0]
            if peer != targets.OURS
        ]
        memory = max(statistics.median(r[targets.OURS]["rss_kb"] for r in streams[way]) for way in ("down", "up"))
        lines.append(f"1 GB as a stream: {', '.join(ratios)}, with {number(memory / 1024)} MB of memory.")
    if load:
        hole, race, cancel = load["hole"], load["reuse"], load["cancel"]
        lines += [
            f"{number(hole['requests'])} requests to a server that never answers take {number(hole['rss_kb_each'])} kB "
            f"each and end within {number(hole['late_s'])} s of their limit.",
            f"{number(cancel['requests'])} cancelled requests: the upstream's connection is closed within "
            f"{number(cancel['close_p99_ms'])} ms (p99).",
            f"Of {number(race['get'] + race['post'])} reuses of connections that close just then {race['failed_get']} "
            f"GET fail and {race['duplicated']} requests are sent twice.",
        ]
    if chaos:
        kill, outage, failure = chaos["kill"], chaos["outage"], chaos["failure"]
        lines += [
            f"One of three upstreams killed every two seconds, another resetting 5 % of its requests: "
            f"{number(kill['requests'])} requests, {kill['GET success %']:.3f} % of the GETs answered, "
            f"{kill['POST executed twice']} POSTs executed twice.",
            f"With all upstreams down the answer takes {number(outage['refused, p99 ms'])} ms (p99); when all of them "
            f"answer 503, {number(failure['attempts per request'])} attempts are made for each request.",
        ]
    gateway = _load(folder, "gateway-load")
    if gateway:
        stops = gateway["stops"].values()
        lines += [
            f"200 event streams through a gateway: events arrive at most "
            f"{number(gateway_load.worst(gateway, 'events', 'added p99, ms'))} ms later (p99).",
            f"{number(sum(int(s['answered']) for s in stops))} requests on servers that were told to stop: "
            f"{number(sum(int(s['cut']) for s in stops))} cut off.",
        ]
    start, leaks = _load(folder, "import"), _load(folder, "leaks")
    if start:
        lines.append(
            f"Importing takes {number(start['import_ms'])} ms beyond asyncio, {number(start['gateways_ms'])} more when "
            "a gateway is made, and starts no thread."
        )
    if leaks:
        slope = leaks["clients"][targets.OURS]["requests"]["rss_kb_per_100k"]
        lines.append(f"100,000 requests grow the process by {number(slope)} kB.")
    return "\n".join(f"- {line}" for line in lines) or "Not measured."


def _targets(folder: Path) -> str:
    table = table_of(["target", "at most", "measured", "met", "remark"])
    for verdict in targets.verdicts(folder):
        met = {True: "yes", False: "**no**", None: "-"}[verdict.met]
        limit = f"{verdict.limit:g} {verdict.unit}".strip()
        table.add_row(verdict.promise, limit, number(verdict.measured), met, verdict.note)
    return markdown(table)


def _missed(folder: Path) -> str:
    missed = [v for v in targets.verdicts(folder) if v.met is False]
    lines = [f"- {v.promise}: {number(v.measured)} {v.unit}".rstrip() + f", aim {v.limit:g}." for v in missed]
    return "\n".join(lines) or "Everything was reached."


def _open_half(folder: Path) -> str:
    data = _load(folder, "gateway-open")
    names = [name for name, _ in _GATEWAY_ROWS[:4]]
    delays = [gateway_open.median(data, name, gateway_open.HALF, "loop_p99_us") for name in names]
    known = [delay for delay in delays if delay is not None]
    if not known:
        return "Not measured."
    return f"At half load the event loop of our gateways is at most {number(max(known) / 1000)} ms late (p99)."


def _conformance(folder: Path, what: str, names: list[str]) -> str:
    data = _load(folder, "conformance")
    if not data:
        return "Not measured."
    rows, totals = conformance_tables(data, what, names)
    return f"{markdown(totals)}\n\n{markdown(rows)}"


def _responses_to_clients(folder: Path) -> str:
    return _conformance(folder, "responses", conformance.CLIENTS)


def _responses_to_gateways(folder: Path) -> str:
    return _conformance(folder, "responses", list(GATEWAYS))


def _requests_to_gateways(folder: Path) -> str:
    data = _load(folder, "conformance")
    machine = f"\n\n{_measured(data)}." if data else ""
    return _conformance(folder, "requests", list(GATEWAYS)) + machine


BLOCKS: dict[str, Callable[[Path], str]] = {
    "clients": _clients,
    "gateways": _gateways,
    "open-loop": _open_loop,
    "loop-delay": _open_half,
    "loads": _loads,
    "targets": _targets,
    "missed": _missed,
    "responses-to-clients": _responses_to_clients,
    "responses-to-gateways": _responses_to_gateways,
    "requests-to-gateways": _requests_to_gateways,
}
"""Name to function from the folder of the result files to Markdown."""
