"""Build and run the two Go programs of the benchmarks, and talk to the processes that take orders by line."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BENCHMARKS = Path(__file__).resolve().parent
_BUILD = BENCHMARKS / ".build"


def build(name: str) -> Path:
    """Compile ``benchmarks/<name>`` and return the program. Go's cache makes a second call cheap."""
    go = shutil.which(os.environ.get("GO", "go"))
    if go is None:
        raise SystemExit("benchmarks: no `go` on PATH; install Go 1.26 or newer, or name it in the variable GO")
    program = _BUILD / name
    _BUILD.mkdir(exist_ok=True)
    command = [go, "build", "-trimpath", "-o", str(program), f"./benchmarks/{name}"]
    subprocess.run(command, cwd=BENCHMARKS.parent, check=True)
    return program


class Upstream:
    """A running upstream server. Use as a context manager.

    Attributes:
        address: ``127.0.0.1:port``.
        tls_url: ``https://127.0.0.1:port``, with a certificate that nobody trusts.
        unix_url: ``unix:/path`` of the same server.
        raw_address: ``127.0.0.1:port`` of the server of the suite `load`.
        pid: process id, for its CPU time.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        path = f"{self._folder.name}/upstream.sock"
        self.unix_url = f"unix:{path}"
        self._process = subprocess.Popen(
            [build("upstream"), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        ports = self._process.stdout.readline().split()
        if len(ports) != 3:
            raise SystemExit(f"benchmarks: the upstream did not start, exit status {self._process.wait()}")
        self.address, tls_address, self.raw_address = (f"127.0.0.1:{port}" for port in ports)
        self.tls_url = f"https://{tls_address}"
        self.pid = self._process.pid
        self._control = http.client.HTTPConnection(self.address, timeout=10)

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://{self.address}"

    def connections(self) -> int:
        """Connections accepted so far, its own control connection included."""
        self._control.request("GET", "/counters")
        return json.loads(self._control.getresponse().read())["connections"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._control.close()
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends with its input
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


class Worker:
    """A process that prints a line of JSON when it is ready and answers each line of input with one."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=env
        )
        self.pid = self._process.pid
        self.ready = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"ended with status {self._process.wait()}")
        return json.loads(line)

    def ask(self, order: object) -> dict[str, Any]:
        """Send one line, wait for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{order}\n")
        except BrokenPipeError:
            raise WorkerError(f"ended with status {self._process.wait()}") from None
        return self._answer()

    def close(self) -> None:
        """Close its input and wait for it to end; it is killed after 10 s."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class WorkerError(Exception):
    """A worker process ended before it answered."""


@contextlib.contextmanager
def closing_all(workers: dict[str, Worker]) -> Iterator[dict[str, Worker]]:
    """Close every worker at the end, also those added later."""
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def run_json(command: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a program to its end and return the object of JSON it printed."""
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env).stdout)
