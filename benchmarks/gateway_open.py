"""Gateways under an open loop: requests come at a fixed rate, whatever has become of those before them.

A closed loop sends less while a server pauses, and so leaves out what a pause does to those who would have come. Here
each latency begins when its request was due. Three rates for each gateway: the same for all, and a half and two fifths
of what it does itself at most (a closed loop with 64 in flight, measured just before). Meanwhile another process
measures how late the event loop of the gateway is, and the loop how busy its thread is (loop_delay.py): a request costs
more at a lower rate, so that half the rate is more than half the work.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from typing import Any

import loop_delay
from gateway_servers import GATEWAYS, versions
from gateways import driven
from programs import Upstream, Worker, WorkerError
from suites import Request

COMMON_RATE = 1000
HALF = "half load"
TWO_FIFTHS = "two fifths of the load"
COMMON = f"{COMMON_RATE}/s"
_CONCURRENCY = 64
# The empty handler answers by itself; the slowest do not reach the common rate.
_LEFT_OUT = ("RSGI, empty handler",)
_QUICK = ("RSGI, ours", "uvicorn, ours", "uvicorn, aiohttp")

Figures = dict[str, float]


def run(request: Request) -> dict[str, Any]:
    """The suite: rounds of gateway -> load -> figures."""
    rounds = request.rounds or (1 if request.quick else 3)
    seconds = request.window or (1.0 if request.quick else 3.0)
    among = _QUICK if request.quick and not request.clients else GATEWAYS
    names = [n for n in among if n not in _LEFT_OUT and (not request.clients or n in request.clients)]
    outcome: dict[str, Any] = {"versions": versions(), "seconds": seconds, "skipped": {}, "rounds": []}
    for turn in range(rounds):
        measured: dict[str, dict[str, Figures]] = {}
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            request.step(f"{name}, round {turn + 1} of {rounds}")
            try:
                measured[name] = _measure(name, seconds)
            except WorkerError as error:
                outcome["skipped"][name] = str(error)
        outcome["rounds"].append(measured)
    return outcome


def _measure(name: str, seconds: float) -> dict[str, Figures]:
    gateway = GATEWAYS[name]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Upstream() as upstream:
        path = f"{folder}/loop" if gateway.in_python else ""
        with driven(gateway, upstream, _CONCURRENCY, path) as (server, driver):
            most = driver.ask(1.0)["rate"]
            found: dict[str, Figures] = {}
            for load, rate in ((HALF, most / 2), (TWO_FIFTHS, most * 0.4), (COMMON, COMMON_RATE)):
                if rate > 0.8 * most:
                    continue
                before = server.cpu_seconds()
                window, delays = _open_window(driver, seconds, rate, path)
                used = server.cpu_seconds() - before
                found[load] = {
                    "rate": rate,
                    "cpu_us": used / window["all"] * 1e6,
                    **{key: window[key] for key in ("p50_us", "p90_us", "p99_us", "p999_us")},
                    **{f"loop_{key}": value for key, value in delays.items()},
                }
            return found


def _open_window(driver: Worker, seconds: float, rate: float, path: str) -> tuple[dict[str, Any], Figures]:
    """One window of the driver, with what the event loop was late meanwhile."""
    if not path:
        return driver.ask(f"{seconds} {rate}"), {}
    with subprocess.Popen(loop_delay.command(seconds, path=path), stdout=subprocess.PIPE, text=True) as pinger:
        window = driver.ask(f"{seconds} {rate}")
        assert pinger.stdout is not None
        line = pinger.stdout.readline()
    if not line:
        raise WorkerError("the event loop did not answer")
    return window, {key: value for key, value in json.loads(line).items() if key != "samples"}


def median(data: dict[str, Any], name: str, load: str, figure: str) -> float | None:
    """The median over the rounds; None when it was not measured."""
    rounds = data.get("rounds", [])
    values = [r[name][load][figure] for r in rounds if figure in r.get(name, {}).get(load, {})]
    return statistics.median(values) if values else None
