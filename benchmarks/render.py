"""Turn result files into tables: on the terminal, and as benchmarks/results.md."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import client_matrix
import result_files
import targets
from programs import BENCHMARKS
from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Section:
    """A table with a title and a sentence under it."""

    title: str
    note: str
    table: Table


def _table(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    magnitude = abs(value)
    return f"{value:,.0f}" if magnitude >= 100 else f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


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
]


def _client_sections(data: dict[str, Any]) -> Iterator[Section]:
    rounds = {name: client_matrix.usable_rounds(result) for name, result in data["scenarios"].items()}
    rounds = {name: found for name, found in rounds.items() if found}
    clients = list(dict.fromkeys(client for found in rounds.values() for client in found[0]))
    for figure, title, note in _CLIENT_TABLES:
        table = _table(["client", *rounds])
        for client in clients:
            row = [
                _number(client_matrix.median(found, client, figure)) if client in found[0] else "-"
                for found in rounds.values()
            ]
            table.add_row(client, *row)
        yield Section(title, note, table)

    table = _table(["scenario", "best peer", "ours / best peer", "ours / Go loop", "rounds", "disturbed"])
    for name, found in rounds.items():
        best = client_matrix.best_peer(found, "cpu_us")
        ours = targets.OURS if targets.OURS in found[0] else None
        against = [best, client_matrix.FLOOR if client_matrix.FLOOR in found[0] else None]
        ratios = [
            _number(client_matrix.ratio(found, ours, other, "cpu_us")) if ours and other else "-" for other in against
        ]
        table.add_row(name, best or "-", *ratios, str(len(found)), str(len(data["scenarios"][name]["disturbed"])))
    yield Section("CPU ratios", "Each ratio is taken within one round; the median over the rounds is shown.", table)


def _gateway_sections(data: dict[str, Any]) -> Iterator[Section]:
    results = data["concurrencies"]
    names = list(dict.fromkeys(name for result in results.values() for r in result["rounds"] for name in r))
    for figure, title, note in _GATEWAY_TABLES:
        table = _table(["gateway", *(f"c={c}" for c in results)])
        for name in names:
            row: list[str] = []
            for result in results.values():
                found = [r[name][figure] for r in result["rounds"] if name in r]
                row.append(_number(statistics.median(found)) if found else "-")
            table.add_row(name, *row)
        yield Section(title, note, table)
    for c, result in results.items():
        for name, reason in result["skipped"].items():
            yield Section(f"{name}, c={c}", f"Left out: {reason}", _table([]))


def _gateway_load_sections(data: dict[str, Any]) -> Iterator[Section]:
    rounds = data["bulk"]
    table = _table(["gateway", *rounds[0][next(iter(rounds[0]))]])
    for name in rounds[0]:
        table.add_row(name, *(_number(statistics.median(r[name][key] for r in rounds)) for key in rounds[0][name]))
    yield Section("100 MB", f"Medians of {len(rounds)} rounds, each with fresh servers.", table)
    for what, note in (
        ("events", "200 streams with an event each 100 ms."),
        ("slow readers", "200 clients that take nothing of 50 MB for ten seconds."),
        ("abort storm", "Clients that leave with a reset, before the response or in its middle."),
        ("stops", "SIGTERM in the middle of 1.5 s at 300 requests/s, summed over all times."),
    ):
        found = data[what]
        table = _table(["gateway", *found[next(iter(found))]])
        for name, figures in found.items():
            table.add_row(name, *map(_number, figures.values()))
        yield Section(what.capitalize(), note, table)


def _border_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = _table(["loop", "in flight", "CPU us", "bare future, CPU us"])
    for row in data["empty_operation"]:
        table.add_row(row["loop"], str(row["concurrency"]), _number(row["cpu_us"]), _number(row["bare_future_us"]))
    note = "From submit to result of an operation that does nothing in Go; beside it a future resolved by call_soon."
    yield Section("An empty core operation", note, table)

    table = _table(["loop", "requests in flight", "burning", "p50 us", "p99 us", "max us"])
    for row in data["loop_delay"]:
        figures = [_number(row[key]) for key in ("p50_us", "p99_us", "max_us")]
        burning = row["burning"] + (", low priority" if row["low_priority"] else "")
        table.add_row(row["loop"], str(row["concurrency"]), burning, *figures)
    note = (
        "Time from another process writing a timestamp to a socket until the event loop has read it. `elsewhere`: "
        "as many busy threads in other processes, which is what the operating system alone adds. `low priority`: "
        "whatever burns leaves the loop its core, so that only waiting for Go would show."
    )
    yield Section("Event-loop delay", note, table)


def _import_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = _table(["figure", "value"])
    table.add_row("import beyond asyncio, ms", _number(data["import_ms"]))
    table.add_row("the same in CPU time, ms", _number(data["cpu_ms"]))
    table.add_row("threads after import", str(data["threads"]))
    table.add_row("Go core mapped after import", "yes" if data["go_mapped"] else "no")
    yield Section("Import", f"Median of {data['interpreters']} fresh interpreters.", table)


def _leak_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = _table(["client", "descriptors", "threads", "goroutines", "memory, kB", "memory per 100,000 requests, kB"])
    for client, result in data["clients"].items():
        growth, slope = result["cycles"]["growth"], result["requests"]["rss_kb_per_100k"]
        kinds = ("descriptors", "threads", "goroutines", "rss_kb")
        table.add_row(client, *(_number(growth[kind]) for kind in kinds), _number(slope))
    cycles = next(iter(data["clients"].values()))["cycles"]["cycles"] if data["clients"] else 0
    note = f"Growth over {cycles} cycles of create, use, close; slope of the resident memory after warm-up."
    yield Section("Leaks", note, table)


def _stream_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = _table(["client", "direction", "MB/s", "CPU, s", "memory gained, kB"])
    for direction in ("down", "up"):
        rounds = data[direction]
        for client in rounds[0]:
            row = [statistics.median(r[client][key] for r in rounds) for key in ("mb_per_s", "cpu_s", "rss_kb")]
            table.add_row(client, direction, *map(_number, row))
    yield Section(
        "Streams", f"{data['bytes']:,} bytes; medians of {len(data['down'])} rounds in turns, on uvloop.", table
    )


def _load_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = _table(["what", "figure", "value"])
    for what, figures in data.items():
        if not isinstance(figures, dict) or what == "machine":
            continue
        for name, value in figures.items():
            if isinstance(value, dict):
                value = sum(max(part, 0) for part in value.values())
            table.add_row(what, name, _number(value) if isinstance(value, (int, float)) else str(value))
    yield Section("Load", "A black hole, callers that leave, connections that close as they are used again.", table)


def _chaos_sections(data: dict[str, Any]) -> Iterator[Section]:
    table = _table(["what", "figure", "value"])
    for what in ("kill", "outage", "failure"):
        for name, value in data[what].items():
            table.add_row(what, name, _number(value))
    note = "Upstreams that are killed every two seconds, down for ten, or answer 503 to everything."
    yield Section("Chaos", note, table)


_BY_SUITE = {
    "clients": _client_sections,
    "gateways": _gateway_sections,
    "gateway-load": _gateway_load_sections,
    "streams": _stream_sections,
    "load": _load_sections,
    "chaos": _chaos_sections,
    "border": _border_sections,
    "import": _import_sections,
    "leaks": _leak_sections,
}


def _target_section(folder: Path, suites: Iterable[str]) -> tuple[Section, int]:
    table = _table(["target", "at most", "measured", "met", "remark"])
    missed = 0
    for verdict in targets.verdicts(folder, suites):
        missed += verdict.met is False
        met = {True: "yes", False: "NO", None: "-"}[verdict.met]
        limit = f"{verdict.limit:g} {verdict.unit}".strip()
        table.add_row(verdict.promise, limit, _number(verdict.measured), met, verdict.note)
    return Section("Targets", "", table), missed


def _head(data: dict[str, Any]) -> str:
    machine = data["machine"]
    words = f"{data['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}"
    words += f", Python {machine['python']}, commit {data['commit'] or 'unknown'}"
    versions: dict[str, str] = {}
    for result in data.get("scenarios", {}).values():
        versions |= result["versions"]
    if versions:
        words += ". " + ", ".join(f"{name} {version}" for name, version in versions.items())
    return words + (". QUICK RUN" if data["quick"] else "") + "."


def show(console: Console, folder: Path, suites: list[str]) -> int:
    """Print the tables of `suites` and the targets. Returns the number of targets missed."""
    for suite in suites:
        data = result_files.load(folder, suite)
        if data is None:
            continue
        console.rule(suite)
        console.print(_head(data), style="dim", highlight=False)
        for section in _BY_SUITE[suite](data):
            console.print(f"\n[bold]{section.title}[/bold]  [dim]{section.note}")
            console.print(section.table)
        for name, result in data.get("scenarios", {}).items():
            for client, reason in result["skipped"].items():
                console.print(f"[yellow]{name}: {client} was not measured: {reason}")
    section, missed = _target_section(folder, suites)
    console.rule("targets")
    console.print(section.table)
    return missed


def write_markdown(path: Path, folder: Path) -> None:
    """Write every table to `path`."""
    text = ["# Benchmark results", "", "Made by `make bench`; `benchmarks/README.md` says how it measures.", ""]
    text += ["## Targets", "", _markdown(_target_section(folder, _BY_SUITE)[0].table), ""]
    for suite, sections in _BY_SUITE.items():
        data = result_files.load(folder, suite)
        if data is None:
            continue
        text += [f"## {suite.capitalize()}", "", _head(data), ""]
        for section in sections(data):
            text += [f"### {section.title}", "", *([section.note, ""] if section.note else [])]
            text += [_markdown(section.table), ""]
    path.write_text("\n".join(text).rstrip() + "\n")


def _markdown(table: Table) -> str:
    out = io.StringIO()
    table.box = box.MARKDOWN
    Console(file=out, width=400, color_system=None).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


def main() -> None:
    """Render the committed result files again."""
    show(Console(), result_files.RESULTS, list(_BY_SUITE))
    write_markdown(BENCHMARKS / "results.md", result_files.RESULTS)


if __name__ == "__main__":
    main()
