"""The bridge under AddressSanitizer and UndefinedBehaviorSanitizer, with a fake core in C: see sanitize.py."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import sanitize

SCENARIOS = sanitize.scenarios()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sanitized")
    try:
        runtime = sanitize.build(folder, "asan", shlex.split(os.environ.get("CC", "cc")))
    except sanitize.UnavailableError as error:
        pytest.skip(str(error))
    return sanitize.environment(folder, "asan", runtime)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_holds_under_the_sanitizer(scenario: str, environment: dict[str, str]) -> None:
    outcome = sanitize.run(scenario, SCENARIOS[scenario], environment)
    assert outcome.ok, outcome.output


def test_the_sanitizer_is_at_work(environment: dict[str, str]) -> None:
    # Otherwise all of the above could pass because something else was run.
    code = "import velithon_proxy._bridge as b, velithon_proxy._runtime as r; print(b.__file__, r._LIBRARY, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        assert b"__asan_report_load8" in Path(line).read_bytes()
        assert b"__ubsan_handle" in Path(line).read_bytes()
    code = (
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
        "memory = ctypes.c_void_p(libc.malloc(8)); libc.free(memory); libc.free(memory)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 66, done.stderr
    assert "double-free" in done.stderr
