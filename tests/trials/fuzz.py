"""T12: the fuzz targets of the core, and the properties of the parsers in Python, for a while each."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from trial import ROOT, Finding, exactly

_TARGETS = [
    ("./core/h1", "FuzzHead"),  # against net/http
    ("./core/h1", "FuzzChunkedBody"),
    ("./core/h1", "FuzzRequestHead"),
    ("./core/h1", "FuzzFieldsNeverReadPastTheirEnd"),
    ("./core", "FuzzParseTarget"),
    ("./core", "FuzzParseConfig"),
]
_SECONDS_EACH = 4


def fuzz(_: str) -> list[Finding]:
    """Six targets in Go, four seconds each beside building them; a crash is kept under testdata."""
    go = os.environ.get("GO", "go")
    findings: list[Finding] = []
    for folder, target in _TARGETS:
        command = [go, "test", "-run=^$", f"-fuzz=^{target}$", f"-fuzztime={_SECONDS_EACH}s", folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        runs = [int(count) for count in re.findall(r"execs: (\d+)", done.stdout)]
        if done.returncode:
            sys.stderr.write(done.stdout[-4000:] + done.stderr[-2000:])
        findings += [
            Finding(f"{target} inputs", max(runs, default=0), float("inf"), 1000),
            exactly("failed", int(done.returncode != 0)),
        ]
    return findings
