"""One kind of outage for our balancer before real upstream processes. Prints one object of JSON.

``kill``: of three upstreams one is killed and started again every two seconds, one resets a twentieth of its requests.

``outage``: two upstreams are down for a while; what is answered meanwhile, and how long it takes until all is well.

``failure``: all upstreams answer 503 to everything, and that is a reason to try again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "chaos"))

from chaos_load import Process, executed_twice, load, processes

from velithon_proxy import ProxyLoadBalancer, Retry

RECOVERY = 1.0


def _urls(given: list[Process]) -> list[str]:
    return [process.url for process in given]


async def kill(given: list[Process], seconds: float) -> dict[str, Any]:
    await given[1].does(reset=20)
    options: dict[str, Any] = {"max_failures": 3, "recovery_timeout_ms": 500}
    end = time.perf_counter() + seconds
    async with ProxyLoadBalancer(_urls(given), **options) as balancer, load(balancer, 500) as tally:
        while time.perf_counter() < end:
            await asyncio.sleep(1.5)
            await given[0].restart(signal.SIGKILL, 0.5)
    answered = sum(tally.outcomes.values())
    return {
        "requests": tally.sent,
        "GET success %": 100 * tally.share("GET"),
        "POST success %": 100 * tally.share("POST"),
        "POST executed twice": len(executed_twice(given)),
        "without an outcome": tally.sent - answered,
        "wrong answers": len(tally.wrong),
    }


async def outage(given: list[Process], seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {"max_failures": 5, "recovery_timeout_ms": int(RECOVERY * 1000)}
    async with ProxyLoadBalancer(_urls(given), **options) as balancer, load(balancer, 500) as tally:
        await asyncio.sleep(1)
        for process in given:
            await asyncio.to_thread(process.end, signal.SIGKILL)
        await asyncio.sleep(seconds)
        for process in given:
            await asyncio.to_thread(process.start)
        back = time.perf_counter()
        while not all(target.usable for target in balancer.snapshot().targets):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        recovered = time.perf_counter() - back
        await asyncio.sleep(1)
    return {
        "requests": tally.sent,
        "refused while open": sum(tally.outcomes[method, "NoHealthyTargetError"] for method in ("GET", "POST")),
        "refused, p99 ms": tally.p99("NoHealthyTargetError") * 1000,
        "back to full traffic, s": recovered,
        "recovery timeout, s": RECOVERY,
    }


async def failure(given: list[Process], seconds: float) -> dict[str, Any]:
    for process in given:
        await process.does(status=503, delay=0.005)
    balancer = ProxyLoadBalancer(_urls(given), max_failures=1_000_000, retry=Retry(statuses=[503]))
    async with balancer, load(balancer, 1000, ("GET",)) as tally:
        await asyncio.sleep(seconds)
    attempts = Counter(line for process in given for line in process.lines)
    return {
        "requests": tally.sent,
        "attempts": sum(attempts.values()),
        "attempts beyond 1.2 x requests + 3": sum(attempts.values()) - 1.2 * tally.sent - 3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kill", "outage", "failure"))
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    run, count = {"kill": (kill, 3), "outage": (outage, 2), "failure": (failure, 3)}[options.what]
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder), count) as given:
        print(json.dumps(asyncio.run(run(given, options.seconds))))


if __name__ == "__main__":
    main()
