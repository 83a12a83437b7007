"""Compare gateways: what one forwarded request costs a server process with ours, and with what people use instead.

For one scenario each gateway gets a fresh server with one worker (gateway_servers.py) and a driver of its own, the
bare Go loop, which keeps so many requests in flight and ends with an error at the first answer that is not 200. As
with the clients, each is measured for one short window per round, in an order that shifts, and ratios are taken
within a round.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import Any

from gateway_servers import GATEWAYS, Gateway, Server, versions
from programs import Upstream, Worker, WorkerError, build
from suites import Request, Step

CONCURRENCIES = (1, 64, 512)
QUICK = ("RSGI, ours", "RSGI, pyreqwest", "Velithon, ours", "Velithon, GatewayRoute", "uvicorn, ours",
         "uvicorn, aiohttp")  # fmt: skip
_HEADERS = ("accept:application/json", "user-agent:velithon-proxy-benchmark/1", "x-request-id:7b0f3c1e9a5d4f62",
            "authorization:Bearer 0123456789abcdef0123456789abcdef", "cookie:session=0123456789abcdef")  # fmt: skip

Round = dict[str, dict[str, float]]


@contextlib.contextmanager
def driven(gateway: Gateway, upstream: Upstream, concurrency: int, delay_path: str = ""
           ) -> Iterator[tuple[Server, Worker]]:  # fmt: skip
    """A server and a driver of its own that keeps so many requests in flight."""
    with Server(gateway, upstream.base_url, delay_path) as server:
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
        "rss_kb": server.rss_kb(),
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
                    running[name] = stack.enter_context(driven(GATEWAYS[name], upstream, concurrency))
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
    quick = request.quick and not request.clients
    names = [name for name in (QUICK if quick else GATEWAYS) if not request.clients or name in request.clients]
    return {
        "versions": versions(),
        "window_seconds": seconds,
        "concurrencies": {
            str(c): run_concurrency(names, c, generations, rounds, seconds, request.step)
            for c in ((64,) if quick else CONCURRENCIES)
        },
    }


def ratio(data: dict[str, Any], concurrency: int, name: str, other: str) -> float | None:
    """The median over the rounds of CPU per request of `name` divided by that of `other`."""
    rounds = data.get("concurrencies", {}).get(str(concurrency), {}).get("rounds", [])
    ratios = [r[name]["cpu_us"] / r[other]["cpu_us"] for r in rounds if name in r and other in r and r[other]["cpu_us"]]
    return statistics.median(ratios) if ratios else None
