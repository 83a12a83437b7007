"""One cell of the client comparison: a process that has one client, drives one scenario, and does nothing else.

It prints one line of JSON when it is warm. Then, for every number of seconds read from standard input, it measures a
window of that length and prints it; the end of the input ends it. Between windows its threads sleep, so that the cells
of several clients can take turns every second and share whatever the machine is doing just then.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import sys
import time

import peers
from processes import cpu_seconds, max_rss_kb
from scenarios import REQUEST_HEADERS, SCENARIOS, Scenario

WARM_UP_SECONDS = 0.5
# At the start of each window, not counted: the workers fill the pipeline.
RAMP_SECONDS = 0.1


class Cell:
    """A client driven by a fixed number of workers."""

    def __init__(self, client: peers.Client, scenario: Scenario):
        self._forward = client.forward
        self._scenario = scenario
        self._body = b"y" * scenario.request_bytes if scenario.request_bytes else None
        self._latencies: list[int] = []
        self._stop = False

    async def check(self) -> None:
        """Send one request and look at everything that comes back, so that no client is measured on errors."""
        scenario = self._scenario
        status, headers, body = await self._forward(scenario.method, scenario.path, REQUEST_HEADERS, self._body)
        expected = str(scenario.request_bytes).encode() if scenario.request_bytes else b"x" * scenario.answer_bytes
        right = body == len(expected) if scenario.shape == "stream" else bytes(body) == expected
        if status != 200 or not right:
            raise SystemExit(f"status {status} with another body than the {len(expected)} bytes that were sent")
        if len(headers) < 4:
            raise SystemExit(f"only {len(headers)} header lines came back")

    async def _work(self) -> None:
        method, path, body = self._scenario.method, self._scenario.path, self._body
        forward, headers, size = self._forward, REQUEST_HEADERS, self._scenario.answer_bytes
        clock = time.perf_counter_ns
        count = int if self._scenario.shape == "stream" else len
        while not self._stop:
            started = clock()
            status, _, answer = await forward(method, path, headers, body)
            if status != 200 or count(answer) != size:
                raise SystemExit(f"status {status} with {count(answer)} bytes, want 200 with {size}")
            self._latencies.append(clock() - started)

    async def window(self, ramp: float, seconds: float) -> dict[str, float]:
        """Run the workers for `ramp` and count what completes in the `seconds` after it."""
        self._stop = False
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._scenario.concurrency):
                workers.create_task(self._work())
            await asyncio.sleep(ramp)
            self._latencies = []
            cpu, started = cpu_seconds(), time.perf_counter()
            await asyncio.sleep(seconds)
            elapsed, cpu = time.perf_counter() - started, cpu_seconds() - cpu
            latencies, self._latencies = self._latencies, []
            self._stop = True
        latencies.sort()
        n = len(latencies)
        if n == 0:
            return {"requests": 0}
        return {
            "requests": n,
            "seconds": elapsed,
            "cpu_us": cpu / n * 1e6,
            "rate": n / elapsed,
            "p50_us": latencies[n // 2] / 1e3,
            "p99_us": latencies[n * 99 // 100] / 1e3,
            "max_rss_kb": max_rss_kb(),
        }


def serve(name: str, scenario: Scenario, base_url: str) -> None:
    """Answer the orders on standard input."""
    if scenario.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            client = runner.run(peers.connect(name, base_url, scenario.shape))
        except ImportError as error:
            print(json.dumps({"missing": f"{error.name} cannot be imported"}), flush=True)
            return
        except peers.UnsupportedError as error:
            print(json.dumps({"missing": str(error)}), flush=True)
            return
        cell = Cell(client, scenario)
        runner.run(cell.check())
        runner.run(cell.window(0, WARM_UP_SECONDS))
        try:
            version = importlib.metadata.version(peers.CLIENTS[name].distribution)
        except importlib.metadata.PackageNotFoundError:  # run from the source tree
            version = "source tree"
        print(json.dumps({"version": version}), flush=True)
        for order in sys.stdin:
            print(json.dumps(runner.run(cell.window(RAMP_SECONDS, float(order)))), flush=True)
        runner.run(client.close())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", required=True, choices=list(peers.CLIENTS))
    parser.add_argument("--scenario", required=True, choices=list(SCENARIOS))
    parser.add_argument("--base-url", required=True, help="http[s]://host:port or unix:/path of the upstream")
    args = parser.parse_args()
    serve(args.client, SCENARIOS[args.scenario], args.base_url)


if __name__ == "__main__":
    main()
