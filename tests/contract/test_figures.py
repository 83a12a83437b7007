"""The figures in the pages are those of the result files: nobody edits them by hand, nobody forgets to render them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_pages_are_rendered_from_the_results() -> None:
    pytest.importorskip("rich")
    command = [sys.executable, str(ROOT / "benchmarks" / "render.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"run benchmarks/render.py\n{done.stdout}\n{done.stderr}"


def test_the_plots_of_the_pages_are_there() -> None:
    for name in ("clients", "gateways", "gateway-open"):
        assert (ROOT / "docs" / "plots" / f"{name}.svg").stat().st_size > 1000
