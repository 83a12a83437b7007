"""One leak measurement of one client, in a process of its own. Prints one object of JSON.

``cycles``: open the client, send a few requests at once, close it; what grew from after the first cycles to the end.

``requests``: many requests through one client; the slope of the resident memory after a warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
from typing import Any

import peers
from core_hooks import CoreHooks
from processes import descriptor_count, rss_kb, thread_count
from scenarios import REQUEST_HEADERS

WARM_UP_CYCLES = 20
REQUESTS_PER_CYCLE = 4
CONCURRENCY = 64
SAMPLES = 40
SETTLE_SECONDS = 3.0


def _resources(name: str) -> dict[str, int]:
    gc.collect()
    found = {"descriptors": descriptor_count(), "threads": thread_count(), "rss_kb": rss_kb()}
    if peers.CLIENTS[name].ours:
        found["goroutines"] = CoreHooks().goroutines()
    return found


async def _settled(name: str) -> dict[str, int]:
    """Resources once they have stopped shrinking: connections and threads may end a little after their client."""
    lowest = _resources(name)
    for _ in range(int(SETTLE_SECONDS / 0.1)):
        await asyncio.sleep(0.1)
        lowest = {kind: min(value, lowest[kind]) for kind, value in _resources(name).items()}
    return lowest


async def cycles(name: str, base_url: str, count: int) -> dict[str, Any]:
    """Growth over `count` cycles of create, use and close."""

    async def cycle() -> None:
        client = await peers.connect(name, base_url, "native")
        async with asyncio.TaskGroup() as requests:
            for _ in range(REQUESTS_PER_CYCLE):
                requests.create_task(_get(client))
        await client.close()

    for _ in range(WARM_UP_CYCLES):
        await cycle()
    if peers.CLIENTS[name].ours:
        await CoreHooks().burn(2, 0.2)  # Go's collector starts its threads with its first run
    before = await _settled(name)
    for _ in range(count):
        await cycle()
    after = await _settled(name)
    growth: dict[str, int | None] = {kind: after[kind] - before[kind] for kind in before}
    return {"cycles": count, "before": before, "after": after, "growth": {"goroutines": None, **growth}}


async def _get(client: peers.Client) -> None:
    status, _, body = await client.forward("GET", "/small", REQUEST_HEADERS, None)
    if status != 200 or len(body) != 100:
        raise SystemExit(f"status {status} with {len(body)} bytes, want 200 with 100")


async def requests(name: str, base_url: str, count: int) -> dict[str, Any]:
    """Slope of the resident memory over `count` requests, after half as many to warm up."""
    client = await peers.connect(name, base_url, "native")
    left = 0

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await _get(client)

    async def send(n: int) -> None:
        nonlocal left
        left = n
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENCY):
                workers.create_task(work())

    await send(count // 2)
    sent: list[int] = []
    memory: list[int] = []
    for sample in range(SAMPLES + 1):
        sent.append(sample * (count // SAMPLES))
        memory.append(rss_kb())
        if sample < SAMPLES:
            await send(count // SAMPLES)
    await client.close()
    slope = statistics.linear_regression(sent, memory).slope
    return {"requests": sent[-1], "rss_kb": memory, "rss_kb_per_100k": slope * 100_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cycles", "requests"])
    parser.add_argument("--client", required=True, choices=list(peers.CLIENTS))
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--count", type=int, required=True)
    args = parser.parse_args()
    import uvloop

    measure = cycles if args.what == "cycles" else requests
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            print(json.dumps(runner.run(measure(args.client, args.base_url, args.count))))
        except ImportError as error:
            print(json.dumps({"missing": str(error)}))


if __name__ == "__main__":
    main()
