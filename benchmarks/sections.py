"""The tables of a result file, one function for each suite."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import client_matrix
import conformance
import gateway_open
import targets
from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Section:
    """A table with a title and a sentence under it."""

    title: str
    note: str
    table: Table


def table_of(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    magnitude = abs(value)
    return f"{value:,.0f}" if magnitude >= 100 else f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def markdown(table: Table) -> str:
    """A table as Markdown."""
    out = io.StringIO()
    table.box = box.MARKDOWN
    Console(file=out, width=400, color_system=None).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


_CLIENT_TABLES = [
    ("cpu_us", "CPU per request, us", "User and system time of the client process."),
    ("p50_us", "Latency p50, us", ""),
    ("p99_us", "Latency p99, us", ""),
    ("rate", "Requests per second", "Client and upstream share the machine: see CPU for what a client costs."),
    ("max_rss_kb", "Largest resident memory, kB", "Of the whole client process, interpreter included."),
]


_GATEWAY_TABLES = [
    ("cpu_us", "CPU per request, us", "User and system time of the server with its worker."),
    ("p50_us", "Latency p50, us", "In a closed loop, driver and upstream on the same machine."),
    ("p99_us", "Latency p99, us", ""),
    ("rate", "Requests per second", ""),
    ("rss_kb", "Resident memory, kB", "Of the server and its worker, after the window."),
]


def _client_sections(data: dict[str, Any]) -> Iterator[Section]:
    rounds = {name: client_matrix.usable_rounds(result) for name, result in data["scenarios"].items()}
    rounds = {name: found for name, found in rounds.items() if found}
    clients = list(dict.fromkeys(client for found in rounds.values() for client in found[0]))
    for figure, title, note in _CLIENT_TABLES:
        table = table_of(["client", *rounds])
        for client in clients:
            row = [
                number(client_matrix.median(found, client, figure)) if client in found[0] else "-"
                for found in rounds.values()
            ]
            table.add_row(client, *row)
        yield Section(title, note, table)

    table = table_of(["scenario", "best peer", "ours / best peer", "ours / Go loop", "rounds", "disturbed"])
    for name, found in rounds.items():
        best = client_matrix.best_peer(found, "cpu_us")
        ours = targets.OURS if targets.OURS in found[0] else None
        against = [best, client_matrix.FLOOR if client_matrix.FLOOR in found[0] else None]
        ratios = [
            number(client_matrix.ratio(found, ours, other, "cpu_us")) if ours and other else "-" for other in against
        ]
        table.add_row(name, best or "-", *ratios, str(len(found)), str(len(data["scenarios"][name]["disturbed"])))
    yield Section("CPU ratios", "Each ratio is taken within one round; the median over the rounds is shown.", table)


def _gateway_sections(data: dict[str, Any]) -> Iterator[Section]:
    results = data["concurrencies"]
    names = list(dict.fromkeys(name for result in results.values() for r in result["rounds"] for name in r))
    for figure, title, note in _GATEWAY_TABLES:
        table = table_of(["gateway", *(f"c={c}" for c in results)])
        for name in names:
            row: list[str] = []
            for result in results.values():
                found = [r[name][figure] for r in result["rounds"] if figure in r.get(name, {})]
                row.append(number(statistics.median(found)) if found else "-")
            table.add_row(name, *row)
        yield Section(title, note, table)
    for c, result in results.items():
        for name, reason in result["skipped"].items():
            yield Section(f"{name}, c={c}", f"Left out: {reason}", table_of([]))


_OPEN_COLUMNS = [
    ("rate", "requests/s"), ("cpu_us", "CPU, us"), ("p50_us", "p50, us"), ("p90_us", "p90, us"), ("p99_us", "p99, us"),
    ("p999_us", "p99.9, us"), ("loop_p50_us", "loop p50, us"), ("loop_p99_us", "loop p99, us"),
    ("loop_busy", "loop busy"),
]  # fmt: skip


def _gateway_open_sections(data: dict[str, Any]) -> Iterator[Section]:
    names = list(dict.fromkeys(name for r in data["rounds"] for name in r))
    for load, words in (
        (gateway_open.HALF, "Half of what each does at most, which is the rate that is shown."),
        (gateway_open.TWO_FIFTHS, "Two fifths of it."),
        (gateway_open.COMMON, "The same rate for all; those that cannot take it are left out."),
    ):
        table = table_of(["gateway", *(title for _, title in _OPEN_COLUMNS)])
        for name in names:
            row = [gateway_open.median(data, name, load, figure) for figure, _ in _OPEN_COLUMNS]
            if row[0] is not None:
                table.add_row(name, *map(number, row))
        note = (
            f"{words} Latency from when a request was due; `loop`: how late the gateway's event loop is, and the share "
            "of time that its thread runs."
        )
        yield Section(f"Open loop, {load}", note, table)


def _gateway_load_sections(data: dict[str, Any]) -> Iterator[Section]:
    rounds = data["bulk"]
    table = table_of(["gateway", *rounds[0][next(iter(rounds[0]))]])
    for name in rounds[0]:
        table.add_row(name, *(number(statistics.median(r[name][key] for r in rounds)) for key in rounds[0][name]))
    yield Section("100 MB", f"Medians of {len(rounds)} rounds, each with fresh servers.", table)
    for what, note in (
        ("events", "200 streams with an event each 100 ms."),
        ("slow readers", "200 clients that take nothing of 50 MB for ten seconds."),
        ("abort storm", "Clients that leave with a reset, before the response or in its middle."),
        ("stops", "SIGTERM in the middle of 1.5 s at 300 requests/s, summed over all times."),
    ):
        found = data[what]
        table = table_of(["gateway", *found[next(iter(found))]])
        for name, figures in found.items():
            table.add_row(name, *map(number, figures.values()))
        yield Section(what.capitalize(), note, table)


def _border_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = table_of(["loop", "in flight", "CPU us", "bare future, CPU us"])
    for row in data["empty_operation"]:
        table.add_row(row["loop"], str(row["concurrency"]), number(row["cpu_us"]), number(row["bare_future_us"]))
    note = "From submit to result of an operation that does nothing in Go; beside it a future resolved by call_soon."
    yield Section("An empty core operation", note, table)

    table = table_of(["loop", "requests in flight", "burning", "p50 us", "p99 us", "max us"])
    for row in data["loop_delay"]:
        figures = [number(row[key]) for key in ("p50_us", "p99_us", "max_us")]
        burning = row["burning"] + (", low priority" if row["low_priority"] else "")
        table.add_row(row["loop"], str(row["concurrency"]), burning, *figures)
    note = (
        "Time from another process writing a timestamp to a socket until the event loop has read it. `elsewhere`: "
        "as many busy threads in other processes, which is what the operating system alone adds. `low priority`: "
        "whatever burns leaves the loop its core, so that only waiting for Go would show."
    )
    yield Section("Event-loop delay", note, table)


def _import_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = table_of(["figure", "value"])
    table.add_row("import beyond asyncio, ms", number(data["import_ms"]))
    table.add_row("the same in CPU time, ms", number(data["cpu_ms"]))
    table.add_row("gateways beyond that, ms", number(data["gateways_ms"]))
    table.add_row("threads after import", str(data["threads"]))
    table.add_row("Go core mapped after import", "yes" if data["go_mapped"] else "no")
    yield Section("Import", f"Median of {data['interpreters']} fresh interpreters.", table)


def _leak_sections(data: dict[str, Any]) -> Iterator[Section]:
    kinds = ("descriptors", "threads", "goroutines")
    table = table_of(["client", *kinds, "memory, kB", "memory per 100,000 requests, kB"])
    for client, result in data["clients"].items():
        growth, slope = result["cycles"]["growth"], result["requests"]["rss_kb_per_100k"]
        table.add_row(client, *(number(growth[kind]) for kind in (*kinds, "rss_kb")), number(slope))
    cycles = next(iter(data["clients"].values()))["cycles"]["cycles"] if data["clients"] else 0
    note = f"Growth over {cycles} cycles of create, use, close; slope of the resident memory after warm-up."
    yield Section("Leaks", note, table)


def _stream_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = table_of(["client", "direction", "MB/s", "CPU, s", "memory gained, kB"])
    for direction in ("down", "up"):
        rounds = data[direction]
        for client in rounds[0]:
            row = [statistics.median(r[client][key] for r in rounds) for key in ("mb_per_s", "cpu_s", "rss_kb")]
            table.add_row(client, direction, *map(number, row))
    yield Section(
        "Streams", f"{data['bytes']:,} bytes; medians of {len(data['down'])} rounds in turns, on uvloop.", table
    )


def _load_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = table_of(["what", "figure", "value"])
    for what, figures in data.items():
        if not isinstance(figures, dict) or what == "machine":
            continue
        for name, value in figures.items():
            if isinstance(value, dict):
                value = sum(max(part, 0) for part in value.values())
            table.add_row(what, name, number(value) if isinstance(value, (int, float)) else str(value))
    yield Section("Load", "A black hole, callers that leave, connections that close as they are used again.", table)


def _chaos_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = table_of(["what", "figure", "value"])
    for what in ("kill", "outage", "failure"):
        for name, value in data[what].items():
            table.add_row(what, name, number(value))
    note = "Upstreams that are killed every two seconds, down for ten, or answer 503 to everything."
    yield Section("Chaos", note, table)


def conformance_tables(data: dict[str, Any], what: str, names: list[str]) -> tuple[Table, Table]:
    """Rows by product, as how many are right of how many; and what was wrong, by kind."""
    found = {name: data[what][name] for name in names if name in data[what]}
    grouped = {name: conformance.groups(verdicts) for name, verdicts in found.items()}
    rows = table_of(["row", *found])
    for row in next(iter(grouped.values()), {}):
        cells: list[str] = []
        for name in found:
            verdicts = grouped[name][row]
            right = verdicts.count("right")
            cells.append(str(right) if right == len(verdicts) else f"**{right}**/{len(verdicts)}")
        rows.add_row(row, *cells)
    kinds = sorted({verdict for verdicts in found.values() for verdict in verdicts.values()} - {"right"})
    totals = table_of(["product", "right", *kinds])
    for name, verdicts in found.items():
        counts = Counter(verdicts.values())
        totals.add_row(name, f"{counts['right']}/{len(verdicts)}", *(number(counts[kind]) for kind in kinds))
    return rows, totals


def _conformance_sections(data: dict[str, Any]) -> Iterator[Section]:
    for what, words in (("responses", "Hostile upstreams"), ("requests", "Hostile clients")):
        _, totals = conformance_tables(data, what, list(data[what]))
        yield Section(words, "Rows by verdict; docs/conformance.md says what the verdicts are.", totals)


BY_SUITE: dict[str, Callable[[dict[str, Any]], Iterator[Section]]] = {
    "clients": _client_sections,
    "gateways": _gateway_sections,
    "gateway-open": _gateway_open_sections,
    "gateway-load": _gateway_load_sections,
    "streams": _stream_sections,
    "load": _load_sections,
    "chaos": _chaos_sections,
    "border": _border_sections,
    "import": _import_sections,
    "leaks": _leak_sections,
    "conformance": _conformance_sections,
}
