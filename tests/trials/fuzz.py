"""T12: the fuzz targets of the core, for a while each."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from trial import ROOT, Finding, exactly

_TARGETS = [
    ("core/h1", "FuzzHead"),  # against net/http
    ("core/h1", "FuzzChunkedBody"),
    ("core/h1", "FuzzRequestHead"),
    ("core/h1", "FuzzFieldsNeverReadPastTheirEnd"),
    ("core", "FuzzParseTarget"),
    ("core", "FuzzParseConfig"),
]
# Counted, not timed: up to Go 1.26 a deadline can fail a target that has found nothing (go.dev/issue/75804).
_INPUTS_EACH = 30_000


def fuzz(_: str) -> list[Finding]:
    """Six targets in Go, about five seconds each; the input of a crash is kept under testdata of the package."""
    built = ROOT / os.environ.get("FUZZERS", "build/fuzz")
    findings: list[Finding] = []
    for folder, target in _TARGETS:
        command = [
            str(built / f"{folder.split('/')[-1]}.test"),
            *("-test.run=^$", f"-test.fuzz=^{target}$", f"-test.fuzztime={_INPUTS_EACH}x"),
            f"-test.fuzzcachedir={built / 'corpus'}",
        ]
        done = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True, check=False)
        runs = [int(count) for count in re.findall(r"execs: (\d+)", done.stdout + done.stderr)]
        if done.returncode:
            sys.stderr.write(done.stdout[-4000:] + done.stderr[-2000:])
        findings += [
            Finding(f"{target} inputs", max(runs, default=0), float("inf"), _INPUTS_EACH),
            exactly("failed", int(done.returncode != 0)),
        ]
    return findings
