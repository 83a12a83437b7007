"""Runs scripts in fresh interpreters, each with a hard time limit.

A script is a function of a module ``isolated_*`` of this folder, named ``"module.function"``; isolated_main.py calls it
in the new interpreter. Warnings are errors there, and a script says nothing on stderr, so that "unclosed", "never
retrieved" and "exception ignored" are found without looking for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from event_loops import INSTALLED, NAMES

import velithon_proxy

HERE = Path(__file__).resolve().parent
PACKAGE = Path(velithon_proxy.__file__).resolve().parent
LIMIT = 30.0
"""Seconds for one script. Each takes one or two; only a hang takes that long."""

LOOPS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(name not in INSTALLED, reason=f"{name} is not installed"),
    )
    for name in NAMES
]
"""Parameters of a test that is to hold on every event loop."""

on_every_loop = pytest.mark.parametrize("loop", LOOPS)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

During = Callable[["subprocess.Popen[str]"], None]


@dataclass(frozen=True)
class Outcome:
    """How a script ended."""

    code: int
    stdout: str
    stderr: str
    ended: float
    """``time.monotonic()``, a clock that the script shares."""

    def passed(self) -> None:
        """Check that the script ran to its end and said nothing else."""
        assert (self.code, self.stdout, self.stderr) == (0, "done\n", ""), f"{self.stdout}\n{self.stderr}"


class Play:
    """Runs scripts against one upstream. ``port`` is that of isolated_upstream.py."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self,
        script: str,
        *arguments: object,
        limit: float = LIMIT,
        flags: tuple[str, ...] = ("-W", "error"),
        path: Path | None = None,
        during: During | None = None,
    ) -> Outcome:
        """Run a script and wait for it and all its children.

        Args:
            script: ``"module.function"``.
            arguments: what the function gets, as ``str``.
            limit: seconds until everything is killed and the test fails.
            flags: what the interpreter gets.
            path: the folder with the package, if it is another than the one of these tests.
            during: called once the script has printed its first line, which is then not in ``stdout``.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
        environment["UPSTREAM_PORT"] = str(self.port)
        environment["PYTHONPATH"] = f"{path or PACKAGE.parent}{os.pathsep}{HERE.parent}"
        command = [sys.executable, *flags, str(HERE / "isolated_main.py"), script, *map(str, arguments)]
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            if during is not None:
                assert process.stdout is not None
                first = process.stdout.readline()
                assert first == "ready\n", (first, process.communicate(timeout=limit))
                during(process)
            # Its children have the same pipes: one that is left behind makes this wait as well.
            stdout, stderr = process.communicate(timeout=limit)
            return Outcome(process.returncode, stdout, stderr, time.monotonic())
        except subprocess.TimeoutExpired:
            pytest.fail(f"{script} {arguments} did not end within {limit:.0f} s\n{_last_words(process)}")
        finally:
            if process.poll() is None:
                _kill(process)
                process.communicate()


def _last_words(process: subprocess.Popen[str]) -> str:
    """Ask a script that hangs where it is (isolated_main.py registers that), then end it with its children."""
    if process.poll() is None:
        process.send_signal(signal.SIGUSR2)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
    _kill(process)
    return "\n".join(process.communicate())


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
