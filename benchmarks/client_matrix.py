"""Compare clients: every scenario, every client, in rounds that take turns.

For one scenario each client gets a fresh process (client_cell.py) and they are warmed up one after the other. Then, in
each round, every client is measured for one short window, in an order that is shifted from round to round. After a few
rounds all processes are replaced: a client keeps for its whole life some luck of thread placement and memory layout,
worth up to a factor of two. A ratio is taken within one round, between windows a few seconds apart, and the median
over the rounds is what is reported.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import peers
from processes import cpu_seconds_of, machine_busy_seconds
from programs import BENCHMARKS, Upstream, Worker, WorkerError, build, closing_all
from scenarios import REQUEST_HEADERS, SCENARIOS, Scenario
from suites import Request, Step

FLOOR = "Go loop"
CORE = "Go loop on core/h1"
_GO_LOOPS = (FLOOR, CORE)

_QUICK_CLIENTS = ("velithon-proxy", "wreq", "pyreqwest", "aiohttp")

Round = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        generations: how often all client processes are started; up to three times as often when rounds are disturbed.
        rounds: rounds measured with the same processes.
        window: seconds counted for each client in each round.
        other_cores: a round is disturbed when other programs used more than this many cores during a window.
    """

    generations: int = 3
    rounds: int = 3
    window: float = 0.6
    other_cores: float = 0.3


def run(request: Request) -> dict[str, Any]:
    """The suite: all scenarios that were asked for, as the content of a result file."""
    plan = Plan(generations=1, rounds=2, window=0.4, other_cores=float("inf")) if request.quick else Plan()
    plan = replace(
        plan,
        generations=request.generations or plan.generations,
        rounds=request.rounds or plan.rounds,
        window=request.window or plan.window,
    )
    names = request.scenarios or [s.name for s in SCENARIOS.values() if s.quick or not request.quick]
    results: dict[str, Any] = {}
    for name in names:
        clients = request.clients or _clients_for(SCENARIOS[name], request.quick)
        results[name] = run_scenario(SCENARIOS[name], clients, plan, request.step)
    return {"window_seconds": plan.window, "scenarios": results}


def _clients_for(scenario: Scenario, quick: bool) -> list[str]:
    """Those that are measured when none are asked for by name."""
    if quick:
        return [*_QUICK_CLIENTS, FLOOR]
    return [*(name for name, entry in peers.CLIENTS.items() if scenario.slow_clients or not entry.slow), *_GO_LOOPS]


def _command(client: str, scenario: Scenario, upstream: Upstream) -> list[str]:
    if client in _GO_LOOPS:
        command = [str(build("goloop")), "-address", upstream.address]
        command += ["-core"] * (client == CORE)
        command += ["-method", scenario.method, "-path", scenario.path, "-c", str(scenario.concurrency)]
        command += ["-body", str(scenario.request_bytes), "-want", str(scenario.answer_bytes)]
        for name, value in REQUEST_HEADERS:
            command += ["-header", f"{name}:{value}"]
        return command
    command = [sys.executable, str(BENCHMARKS / "client_cell.py")]
    command = [*command, "--client", client, "--scenario", scenario.name, "--base-url"]
    url = {"plain": upstream.base_url, "tls": upstream.tls_url, "unix": upstream.unix_url}[scenario.transport]
    return [*command, url]


def start_cell(client: str, scenario: Scenario, upstream: Upstream) -> tuple[Worker | None, str]:
    """Start a process for one client and wait until it is warm. Without a process, the reason."""
    try:
        worker = Worker(_command(client, scenario, upstream))
    except WorkerError as error:
        return None, str(error)
    if "missing" in worker.ready:
        worker.close()
        return None, worker.ready["missing"]
    return worker, ""


def measure_window(worker: Worker, upstream: Upstream, seconds: float) -> dict[str, float]:
    """One window of one client, with what it did to the upstream and what else the machine did meanwhile."""

    def other_seconds() -> float:
        return machine_busy_seconds() - cpu_seconds_of(worker.pid) - cpu_seconds_of(upstream.pid)

    connections, started, others = upstream.connections(), time.perf_counter(), other_seconds()
    window = worker.ask(seconds)
    elapsed = time.perf_counter() - started
    window["other_cores"] = max(0.0, (other_seconds() - others) / elapsed)
    window["new_connections"] = upstream.connections() - connections
    return window


def is_disturbed(measured: Round, plan: Plan) -> bool:
    """Whether other programs took part of the machine, or a client did not finish a single request."""
    return any(w["other_cores"] > plan.other_cores or not w["requests"] for w in measured.values())


def run_scenario(scenario: Scenario, clients: Iterable[str], plan: Plan, step: Step) -> dict[str, Any]:
    """Measure all clients on one scenario.

    Returns:
        ``versions`` (client to version), ``skipped`` (client to reason) and ``rounds``: a list of client -> figures,
        with ``disturbed`` rounds apart.
    """
    outcome: dict[str, Any] = {"versions": {}, "skipped": {}, "rounds": [], "disturbed": []}
    wanted = list(clients)
    if scenario.transport != "plain" or scenario.shape == "stream":
        wanted = [client for client in wanted if client not in _GO_LOOPS]  # they do neither
    for generation in range(3 * plan.generations):
        missing = plan.rounds * plan.generations - len(outcome["rounds"])
        if missing <= 0:
            break
        with Upstream() as upstream, closing_all({}) as workers:
            for client in wanted:
                step(f"{scenario.name}, processes {generation + 1}: warming up {client}")
                worker, reason = start_cell(client, scenario, upstream)
                if worker is None:
                    outcome["skipped"][client] = reason
                    continue
                workers[client] = worker
                outcome["versions"][client] = worker.ready["version"]
            wanted = list(workers)
            if not wanted:
                break
            for turn in range(min(plan.rounds, missing)):
                step(f"{scenario.name}, processes {generation + 1}: round {turn + 1} of {plan.rounds}")
                shift = (generation * plan.rounds + turn) % len(wanted)
                measured: Round = {}
                for client in wanted[shift:] + wanted[:shift]:
                    measured[client] = measure_window(workers[client], upstream, plan.window)
                outcome["disturbed" if is_disturbed(measured, plan) else "rounds"].append(measured)
    return outcome


def usable_rounds(result: dict[str, Any]) -> list[Round]:
    """The undisturbed rounds, or all of them when fewer than three were undisturbed."""
    kept: list[Round] = result["rounds"]
    everything = kept if len(kept) >= 3 else kept + result["disturbed"]
    return [r for r in everything if all(w["requests"] for w in r.values())]


def median(rounds: list[Round], client: str, figure: str) -> float:
    """The median of one figure of one client."""
    return statistics.median(r[client][figure] for r in rounds)


def ratio(rounds: list[Round], client: str, other: str, figure: str) -> float:
    """The median over the rounds of `client` divided by `other`."""
    return statistics.median(r[client][figure] / r[other][figure] for r in rounds)


def best_peer(rounds: list[Round], figure: str) -> str | None:
    """The peer with the lowest median, None without peers. All configurations of a client count, the floor does not."""
    names = [name for name in rounds[0] if name not in _GO_LOOPS and not peers.CLIENTS[name].ours]
    return min(names, key=lambda name: median(rounds, name, figure), default=None)
