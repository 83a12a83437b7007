"""Result files: one JSON file for each suite under ``benchmarks/results/``, with machine, versions and date."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

from processes import describe_machine
from programs import BENCHMARKS

RESULTS = BENCHMARKS / "results"


def _commit() -> str:
    """The commit that was measured, ``+`` behind it when the tree differs; empty outside a clone."""
    git = ["git", "-C", str(BENCHMARKS.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        state = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def save(folder: Path, suite: str, quick: bool, data: dict[str, Any]) -> Path:
    """Write ``<folder>/<suite>.json`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {
        "suite": suite,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "quick": quick,
        "machine": describe_machine(),
    }
    path = folder / f"{suite}.json"
    path.write_text(json.dumps({**head, **data}, indent=1) + "\n")
    return path


def load(folder: Path, suite: str) -> dict[str, Any] | None:
    """The last results of a suite, None when it was never run."""
    path = folder / f"{suite}.json"
    return json.loads(path.read_text()) if path.exists() else None
