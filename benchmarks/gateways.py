"""Compare gateways: what one forwarded request costs a server process with ours, and with what people use instead.

For one scenario each gateway gets a fresh server with one worker (gateway_apps.py) and a driver of its own, the bare Go
loop, which keeps so many requests in flight and ends with an error at the first answer that is not 200. As with the
clients, each is measured for one short window per round, in an order that shifts, and ratios are taken within a round.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from processes import cpu_seconds_of, processes_of_session
from programs import BENCHMARKS, Upstream, Worker, WorkerError, build
from suites import Request, Step

_PYTHON = [sys.executable, "-m"]
_GRANIAN = [*_PYTHON, "granian", "--loop", "uvloop", "--workers", "1", "--log-level", "warning",
            "--http1-header-read-timeout", "60000"]  # fmt: skip
_UVICORN = [*_PYTHON, "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-proxy-headers",
            "--timeout-keep-alive", "300"]  # fmt: skip
SERVERS = {
    "rsgi": [*_GRANIAN, "--interface", "rsgi"],
    "asgi": [*_GRANIAN, "--interface", "asgi"],
    "uvicorn": [*_UVICORN, "--log-level", "warning"],
}


@dataclass(frozen=True)
class Gateway:
    """One row: a server, and an application of gateway_apps.py."""

    server: str
    app: str


GATEWAYS = {
    "RSGI, empty handler": Gateway("rsgi", "rsgi_empty"),
    "RSGI, ours": Gateway("rsgi", "rsgi_ours"),
    "RSGI, pyreqwest": Gateway("rsgi", "rsgi_pyreqwest"),
    "Velithon, ours": Gateway("rsgi", "velithon_ours"),
    "Velithon, GatewayRoute": Gateway("rsgi", "velithon_gateway"),
    "Granian ASGI, ours": Gateway("asgi", "asgi_ours"),
    "Granian ASGI, aiohttp": Gateway("asgi", "asgi_aiohttp"),
    "uvicorn, ours": Gateway("uvicorn", "asgi_ours"),
    "uvicorn, aiohttp": Gateway("uvicorn", "asgi_aiohttp"),
    "FastAPI on uvicorn, ours": Gateway("uvicorn", "fastapi_ours"),
    "FastAPI on uvicorn, fastapi-proxy-lib": Gateway("uvicorn", "fastapi_proxy_lib"),
}
CONCURRENCIES = (1, 64, 512)

_START_LIMIT = 30.0
_HEADERS = ("accept:application/json", "user-agent:velithon-proxy-benchmark/1", "x-request-id:7b0f3c1e9a5d4f62",
            "authorization:Bearer 0123456789abcdef0123456789abcdef", "cookie:session=0123456789abcdef")  # fmt: skip

Round = dict[str, dict[str, float]]


class Server:
    """A server process with its workers. Use as a context manager."""

    def __init__(self, gateway: Gateway, upstream: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process = subprocess.Popen(
            [*SERVERS[gateway.server], "--host", "127.0.0.1", "--port", str(self.port), "gateway_apps:app"],
            cwd=BENCHMARKS,
            env={**os.environ, "UPSTREAM": upstream, "APP": gateway.app},
            start_new_session=True,
        )
        end = time.monotonic() + _START_LIMIT
        while not self._listens():
            if time.monotonic() > end or self._process.poll() is not None:
                self.close()
                raise WorkerError(f"the server of {gateway.app} did not start")
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @property
    def pids(self) -> list[int]:
        """The processes of the server, workers included."""
        return processes_of_session(self._process.pid)

    def cpu_seconds(self) -> float:
        """User and system time of the server and its workers so far."""
        return sum(map(cpu_seconds_of, self.pids))

    @property
    def leader(self) -> int:
        """The process that was started; its workers have others."""
        return self._process.pid

    def ended(self, seconds: float) -> bool:
        """Wait until the server has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def close(self) -> None:
        """End all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _driven(gateway: Gateway, upstream: Upstream, concurrency: int) -> Iterator[tuple[Server, Worker]]:
    with Server(gateway, upstream.base_url) as server:
        command = [str(build("goloop")), "-address", f"127.0.0.1:{server.port}", "-c", str(concurrency)]
        for line in _HEADERS:
            command += ["-header", line]
        driver = Worker(command)
        try:
            yield server, driver
        finally:
            driver.close()


def _window(server: Server, driver: Worker, seconds: float) -> dict[str, float]:
    """One window. The driver's ramp is part of the CPU that is divided, so it is part of the requests as well."""
    before = server.cpu_seconds()
    window = driver.ask(seconds)
    used = server.cpu_seconds() - before
    return {
        "requests": window["requests"],
        "cpu_us": used / window["all"] * 1e6 if window["all"] else 0.0,
        "rate": window["rate"],
        "p50_us": window["p50_us"],
        "p99_us": window["p99_us"],
    }


def run_concurrency(names: list[str], concurrency: int, generations: int, rounds: int, seconds: float, step: Step
                    ) -> dict[str, Any]:  # fmt: skip
    """Measure all gateways with so many requests in flight."""
    outcome: dict[str, Any] = {"skipped": {}, "rounds": []}
    for generation in range(generations):
        with contextlib.ExitStack() as stack:
            upstream = stack.enter_context(Upstream())
            running: dict[str, tuple[Server, Worker]] = {}
            for name in names:
                step(f"c={concurrency}, processes {generation + 1}: starting {name}")
                try:
                    running[name] = stack.enter_context(_driven(GATEWAYS[name], upstream, concurrency))
                except WorkerError as error:
                    outcome["skipped"][name] = str(error)
            for turn in range(rounds):
                step(f"c={concurrency}, processes {generation + 1}: round {turn + 1} of {rounds}")
                order = list(running)
                shift = (generation * rounds + turn) % len(order)
                measured: Round = {}
                for name in order[shift:] + order[:shift]:
                    try:
                        measured[name] = _window(*running[name], seconds)
                    except WorkerError as error:  # an answer that was not 200
                        outcome["skipped"][name] = f"c={concurrency}: {error}"
                        running.pop(name)
                outcome["rounds"].append(measured)
    return outcome


def run(request: Request) -> dict[str, Any]:
    """The suite: one object for each concurrency."""
    generations = request.generations or (1 if request.quick else 3)
    rounds = request.rounds or (2 if request.quick else 3)
    seconds = request.window or (0.7 if request.quick else 1.0)
    names = [name for name in GATEWAYS if not request.clients or name in request.clients]
    return {
        "window_seconds": seconds,
        "concurrencies": {
            str(c): run_concurrency(names, c, generations, rounds, seconds, request.step) for c in CONCURRENCIES
        },
    }


def ratio(data: dict[str, Any], concurrency: int, name: str, other: str) -> float | None:
    """The median over the rounds of CPU per request of `name` divided by that of `other`."""
    rounds = data.get("concurrencies", {}).get(str(concurrency), {}).get("rounds", [])
    ratios = [r[name]["cpu_us"] / r[other]["cpu_us"] for r in rounds if name in r and other in r and r[other]["cpu_us"]]
    return statistics.median(ratios) if ratios else None
