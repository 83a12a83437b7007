"""One kind of outage for our balancer before real upstream processes. Prints one object of JSON.

``kill``: of three upstreams one is killed and started again every two seconds (``--every``), one resets a twentieth of
its requests.

``outage``: two upstreams are down for a while; what is answered meanwhile, and how long it takes until all is well.

``failure``: all upstreams answer 503 to everything, and that is a reason to try again.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "chaos"))

from chaos_load import Process, Tally, executed_twice, load, processes, recovered

from velithon_proxy import PoolStatus, ProxyLoadBalancer, Retry

RECOVERY = 1.0


def _urls(given: list[Process]) -> list[str]:
    return [process.url for process in given]


def _common(given: list[Process], tally: Tally, state: PoolStatus) -> dict[str, Any]:
    """What is asked of each of the three. A refused request has made no attempt."""
    return {
        "requests": tally.sent,
        "GET success %": 100 * tally.share("GET"),
        "POST success %": 100 * tally.share("POST") if any(method == "POST" for method, _ in tally.outcomes) else None,
        "POST executed twice": len(executed_twice(given)),
        "without an outcome": tally.sent - tally.outcomes.total(),
        "wrong answers": len(tally.wrong),
        "attempts per request": (state.requests - state.refused + state.retries) / state.requests,
    }


async def kill(given: list[Process], seconds: float, every: float) -> dict[str, Any]:
    await given[1].does(reset=20)
    options: dict[str, Any] = {"max_failures": 3, "recovery_timeout_ms": 500}
    end = time.perf_counter() + seconds
    async with ProxyLoadBalancer(_urls(given), **options) as balancer:
        async with load(balancer, 500) as tally:
            while time.perf_counter() < end:
                await asyncio.sleep(every * 0.75)
                await given[0].restart(signal.SIGKILL, every * 0.25)
        return _common(given, tally, balancer.snapshot())


async def outage(given: list[Process], seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {"max_failures": 5, "recovery_timeout_ms": int(RECOVERY * 1000)}
    async with ProxyLoadBalancer(_urls(given), **options) as balancer:
        async with load(balancer, 500) as tally:
            await asyncio.sleep(1)
            for process in given:
                await asyncio.to_thread(process.end, signal.SIGKILL)
            await asyncio.sleep(seconds)
            for process in given:
                await asyncio.to_thread(process.start)
            back = time.perf_counter()
            while not recovered(balancer):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)
            took = time.perf_counter() - back
            await asyncio.sleep(1)
        common = _common(given, tally, balancer.snapshot())
    return {
        **common,
        "refused while open": sum(tally.outcomes[method, "NoHealthyTargetError"] for method in ("GET", "POST")),
        "refused, p99 ms": tally.p99("NoHealthyTargetError") * 1000,
        "back to full traffic, s": took,
        "recovery timeout, s": RECOVERY,
    }


async def failure(given: list[Process], seconds: float) -> dict[str, Any]:
    for process in given:
        await process.does(status=503, delay=0.005)
    balancer = ProxyLoadBalancer(_urls(given), max_failures=1_000_000, retry=Retry(statuses=[503]))
    async with balancer:
        async with load(balancer, 1000, ("GET",)) as tally:
            await asyncio.sleep(seconds)
        common = _common(given, tally, balancer.snapshot())
    attempts = Counter(line for process in given for line in process.lines)
    return {
        **common,
        "attempts": sum(attempts.values()),
        "attempts beyond 1.2 x requests + 3": sum(attempts.values()) - 1.2 * tally.sent - 3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kill", "outage", "failure"))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one kill to the next")
    options = parser.parse_args()
    run, count = {
        "kill": (functools.partial(kill, every=options.every), 3),
        "outage": (outage, 2),
        "failure": (failure, 3),
    }[options.what]
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder), count) as given:
        print(json.dumps(asyncio.run(run(given, options.seconds))))


if __name__ == "__main__":
    main()
