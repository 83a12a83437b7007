"""One kind of trouble for our client, in a process of its own. Prints one object of JSON.

``hole``: requests in flight to a server that never answers, all at once; their time limit ends them.

``cancel``: requests whose callers leave at a random moment; the server notes when it saw each connection end.

``reuse``: connections that the server closes about when they are used again, on a grid around the client's own pause.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import time
from typing import Any

from core_hooks import CoreHooks
from processes import descriptor_count, rss_kb

from velithon_proxy import Limits, ProxyClient, ProxyError, TotalTimeout

HEADERS = [("accept", "application/json"), ("x-request-id", "7b0f3c1e9a5d4f62")]
HOLE_SECONDS = 6.0


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


async def _warm_up(address: str) -> tuple[int, int]:
    """Have everything started that stays for the life of the process; descriptors and goroutines after that."""
    async with ProxyClient(f"http://{address}") as client:
        await client.forward_request("GET", "/seen")
    hooks = CoreHooks()
    await hooks.burn(2, 0.2)  # Go's collector starts its threads with its first run
    await asyncio.sleep(0.3)
    return descriptor_count(), hooks.goroutines()


async def _left(descriptors: int, goroutines: int) -> dict[str, int]:
    """What is held beyond the beginning, once it has stopped shrinking."""
    for _ in range(50):
        gc.collect()
        left = {"descriptors": descriptor_count() - descriptors, "goroutines": CoreHooks().goroutines() - goroutines}
        if max(left.values()) <= 0:
            break
        await asyncio.sleep(0.1)
    return left


async def hole(address: str, count: int) -> dict[str, Any]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = min(count, hard - 200)
    limits = Limits(max_connections=connections, max_waiting=count)
    delays: list[float] = []
    over: list[float] = []
    others: list[str] = []
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            delays.append(time.perf_counter() - began - 0.001)

    client = ProxyClient(f"http://{address}", int(HOLE_SECONDS * 1000), max_retries=0, limits=limits)

    async def one() -> None:
        began = time.monotonic()
        try:
            await client.forward_request("GET", "/hold", HEADERS)
        except TotalTimeout:
            over.append(time.monotonic() - began - HOLE_SECONDS)
        except ProxyError as error:
            others.append(type(error).__name__)

    descriptors, goroutines = await _warm_up(address)
    before = rss_kb()
    watcher = asyncio.create_task(watch())
    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await asyncio.sleep(HOLE_SECONDS * 0.8)
    memory = (rss_kb() - before) / count
    in_flight = sum(not task.done() for task in tasks)
    await asyncio.gather(*tasks)
    stop.set()
    await watcher
    await client.aclose()
    return {
        "requests": count,
        "in_flight": in_flight,
        "connections": connections,
        "rss_kb_each": memory,
        "timed_out": len(over),
        "other_errors": others[:5],
        "late_s": max(over, default=0.0),
        "loop_delay_p99_ms": percentile(delays, 0.99) * 1e3,
        "left": await _left(descriptors, goroutines),
    }


async def cancel(address: str, count: int) -> dict[str, Any]:
    dice = random.Random(1)
    client = ProxyClient(f"http://{address}", 30_000, max_retries=0)
    descriptors, goroutines = await _warm_up(address)
    cancelled: dict[str, int] = {}
    ended = 0

    async def one(number: int) -> None:
        nonlocal ended
        path = f"/{dice.choice(('hold', 'drip', 'large'))}?id={number}"
        task = asyncio.ensure_future(client.forward_request("GET", path, HEADERS))
        await asyncio.sleep(dice.uniform(0, 0.02))
        if task.done():
            ended += 1
            await task
            return
        task.cancel()
        cancelled[str(number)] = time.time_ns()
        await asyncio.wait([task])

    for first in range(0, count, 50):
        await asyncio.gather(*(one(number) for number in range(first, min(first + 50, count))))
    await asyncio.sleep(1)
    closed: dict[str, int] = json.loads((await client.forward_request("GET", "/closed")).body)
    await client.aclose()
    # A caller may leave before its request was sent at all: no connection ends for it.
    took = [(closed[number] - at) / 1e6 for number, at in cancelled.items() if number in closed]
    return {
        "requests": count,
        "cancelled": len(cancelled),
        "seen_to_close": len(took),
        "close_p50_ms": percentile(took, 0.5),
        "close_p99_ms": percentile(took, 0.99),
        "close_max_ms": max(took, default=0.0),
        "left": await _left(descriptors, goroutines),
    }


async def reuse(address: str, count: int, hint: bool) -> dict[str, Any]:
    client = ProxyClient(f"http://{address}", 5_000)
    failed = {"GET": 0, "POST": 0}
    done = {"GET": 0, "POST": 0}

    async def work(worker: int) -> None:
        dice = random.Random(worker)
        for turn in range(count // 20):
            method = "GET" if turn % 2 else "POST"
            # The upstream closes after 0.5 to 3 ms in steps of 0.1; the client pauses for 0.5 to 3 ms.
            keep = 500 + 100 * (turn % 26)
            path = f"/brief?id={worker}-{turn}&keep={keep}" + "&hint=1" * hint
            try:
                response = await client.forward_request(method, path, HEADERS, b"x" * 10 if method == "POST" else None)
                assert response.body == f"{worker}-{turn}".encode()
            except ProxyError:
                failed[method] += 1
            done[method] += 1
            await asyncio.sleep(dice.uniform(0.0005, 0.003))

    await asyncio.gather(*(work(worker) for worker in range(20)))
    seen: dict[str, int] = json.loads((await client.forward_request("GET", "/seen")).body)
    await client.aclose()
    return {
        "get": done["GET"],
        "post": done["POST"],
        "failed_get": failed["GET"],
        "failed_post": failed["POST"],
        "failed_post_percent": 100 * failed["POST"] / max(done["POST"], 1),
        "duplicated": sum(times > 1 for times in seen.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hole", "cancel", "reuse"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--hint", action="store_true", help="for reuse: the upstream sends Keep-Alive: timeout=1")
    args = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if args.what == "hole":
            result = runner.run(hole(args.address, args.count))
        elif args.what == "cancel":
            result = runner.run(cancel(args.address, args.count))
        else:
            result = runner.run(reuse(args.address, args.count, args.hint))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
