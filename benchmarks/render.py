"""Turn result files into tables on the terminal, benchmarks/results.md, the figures in README.md and docs/, and plots.

``render.py`` renders the committed result files again; ``render.py --check`` ends with status 1 when a page is not what
would be rendered, without writing anything.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import blocks
import result_files
import targets
from programs import BENCHMARKS
from rich.console import Console
from sections import BY_SUITE, Section, markdown, number, table_of

_ROOT = BENCHMARKS.parent
_PAGES = (_ROOT / "README.md", _ROOT / "docs" / "performance.md", _ROOT / "docs" / "conformance.md")
_BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.S)


def _target_section(folder: Path, suites: Iterable[str], known: bool = False) -> tuple[Section, int]:
    """The promises and the number of those that were missed; with `known`, without those that were not measured."""
    table = table_of(["target", "at most", "measured", "met", "remark"])
    missed = 0
    for verdict in targets.verdicts(folder, suites):
        if known and verdict.met is None:
            continue
        missed += verdict.met is False
        met = {True: "yes", False: "NO", None: "-"}[verdict.met]
        limit = f"{verdict.limit:g} {verdict.unit}".strip()
        table.add_row(verdict.promise, limit, number(verdict.measured), met, verdict.note)
    return Section("Targets", "", table), missed


def _head(data: dict[str, Any]) -> str:
    machine = data["machine"]
    words = f"{data['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}"
    words += f", Python {machine['python']}, commit {data['commit'] or 'unknown'}"
    versions: dict[str, str] = dict(data.get("versions", {}))
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
        for section in BY_SUITE[suite](data):
            console.print(f"\n[bold]{section.title}[/bold]  [dim]{section.note}")
            console.print(section.table)
        for name, result in data.get("scenarios", {}).items():
            for client, reason in result["skipped"].items():
                console.print(f"[yellow]{name}: {client} was not measured: {reason}")
    section, missed = _target_section(folder, suites, known=True)
    console.rule("targets")
    console.print(section.table)
    return missed


def results_page(folder: Path) -> str:
    """Every table, as benchmarks/results.md."""
    text = ["# Benchmark results", "", "Made by `make bench`; `benchmarks/README.md` says how it measures.", ""]
    text += ["## Targets", "", markdown(_target_section(folder, BY_SUITE)[0].table), ""]
    for suite, sections in BY_SUITE.items():
        data = result_files.load(folder, suite)
        if data is None:
            continue
        text += [f"## {suite.capitalize()}", "", _head(data), ""]
        for section in sections(data):
            text += [f"### {section.title}", "", *([section.note, ""] if section.note else [])]
            text += [markdown(section.table), ""]
    return "\n".join(text).rstrip() + "\n"


def _with_figures(page: str, folder: Path) -> str:
    """A page with its blocks of figures rendered anew; what is between them is written by hand."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{blocks.BLOCKS[found[2]](folder)}\n\n{found[3]}", page)


def pages(folder: Path) -> dict[Path, str]:
    """Every page that has figures, and what it ought to be."""
    rendered = {path: _with_figures(path.read_text(encoding="utf-8"), folder) for path in _PAGES}
    return {BENCHMARKS / "results.md": results_page(folder), **rendered}


def write(folder: Path) -> None:
    """Write the pages, and the plots where matplotlib is."""
    for path, text in pages(folder).items():
        path.write_text(text, encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        import plots

        plots.write(folder, _ROOT / "docs" / "plots")


def _check(folder: Path) -> int:
    stale = 0
    for path, wanted in pages(folder).items():
        there = path.read_text(encoding="utf-8")
        if there != wanted:
            stale = 1
            name = str(path.relative_to(_ROOT))
            lines = difflib.unified_diff(there.splitlines(), wanted.splitlines(), name, "rendered", lineterm="", n=0)
            print("\n".join(lines))
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when a page is out of date")
    if parser.parse_args().check:
        return _check(result_files.RESULTS)
    show(Console() if sys.stdout.isatty() else Console(width=160), result_files.RESULTS, list(BY_SUITE))
    write(result_files.RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
