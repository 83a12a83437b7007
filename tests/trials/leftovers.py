"""T10: what stays behind of requests that succeed, fail, time out, are cancelled, or are cut off.

As a program: the measurement, in a process of its own. Prints one object of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from core_hooks import CoreHooks
from processes import descriptor_count, rss_kb
from programs import Upstream, run_json
from trial import Finding

from velithon_proxy import ProxyClient, ProxyError

_SECONDS = 52.0
_SLOPE_SECONDS = 40.0
_IN_FLIGHT = 256


def leftovers(_: str) -> list[Finding]:
    """At least 100,000 requests that end in five ways, for 52 seconds; memory over the last 40."""
    with Upstream() as upstream:
        command = [sys.executable, __file__, "--address", upstream.address, "--raw", upstream.raw_address]
        found = run_json(command)
    return [
        Finding("requests", sum(found["done"].values()), float("inf"), 100_000),
        Finding("ways to end", len(found["done"]), 5, 5),
        Finding("MB per minute", found["mb_per_minute"], 1),
        Finding("descriptors left", found["left"]["descriptors"]),
        Finding("goroutines left", found["left"]["goroutines"]),
    ]


async def _measure(address: str, raw: str) -> dict[str, object]:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    done = Counter[str]()
    good, bad = ProxyClient(f"http://{address}"), ProxyClient(f"http://{raw}", max_retries=0)
    closed, brief = ProxyClient(refused, max_retries=0), ProxyClient(f"http://{raw}", timeout_ms=20, max_retries=0)

    async def ok() -> None:
        assert (await good.forward_request("GET", "/small")).status == 200

    async def cancel() -> None:
        task = asyncio.ensure_future(bad.forward_request("GET", "/hold?id=c"))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait([task])

    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "ok": ok,
        "refused": lambda: closed.forward_request("GET", "/"),
        "timeout": lambda: brief.forward_request("GET", "/hold?id=t"),
        "cancel": cancel,
        "truncate": lambda: bad.forward_request("GET", "/short?id=s"),
    }

    async def one(kind: str) -> None:
        try:
            await kinds[kind]()
        except ProxyError:
            if kind in ("ok", "cancel"):
                raise
        else:
            assert kind in ("ok", "cancel"), kind
        done[kind] += 1

    async def batch() -> None:
        for kind in kinds:
            await asyncio.gather(*(one(kind) for _ in range(_IN_FLIGHT)))

    await batch()
    hooks = CoreHooks()
    await hooks.burn(2, 0.2)  # Go's collector starts its threads with its first run
    await asyncio.sleep(0.5)
    before = {"descriptors": descriptor_count(), "goroutines": hooks.goroutines()}
    began = time.monotonic()
    at: list[float] = []
    memory: list[float] = []
    while (now := time.monotonic() - began) < _SECONDS:
        await batch()
        if now > _SECONDS - _SLOPE_SECONDS:
            at.append(now / 60)
            memory.append(rss_kb() / 1024)
    for _ in range(50):
        gc.collect()
        after = {"descriptors": descriptor_count(), "goroutines": hooks.goroutines()}
        left = {kind: max(after[kind] - before[kind], 0) for kind in before}
        if not any(left.values()):
            break
        await asyncio.sleep(0.1)
    for client in (good, bad, closed, brief):
        await client.aclose()
    return {"done": done, "left": left, "mb_per_minute": statistics.linear_regression(at, memory).slope}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--raw", required=True)
    args = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_measure(args.address, args.raw))))
