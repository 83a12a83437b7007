"""Scripts: what a process has after much work, compared with what it had after a little."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from collections.abc import Iterable
from typing import Any

from isolated_scripts import (
    PATIENCE,
    client,
    collected,
    descriptors,
    nothing_in_flight,
    rss_kb,
    run,
    settled,
    stats,
    threads,
    works,
)

from velithon_proxy import ProxyClient, _runtime

MEGABYTE_KB = 1024
MORE_THREADS = 8
"""Go's scheduler may start one or two at any time, and never ends one: that is noise, one for each client is not."""


def _resources() -> dict[str, int]:
    counters = stats()
    return {
        "descriptors": descriptors(),
        "threads": threads(),
        "goroutines": counters["goroutines"],
        "nodes": counters["nodes"],
        "pools": counters["pools"],
    }


async def _at_most(limit: dict[str, int]) -> None:
    """Connections and goroutines may end a little after their client."""
    limit["threads"] += MORE_THREADS
    await settled(
        lambda: nothing_in_flight() and all(count <= limit[what] for what, count in _resources().items()),
        f"at or below {limit}, but at {_resources()}",
    )


def cycles(loop: str) -> None:
    """Create a client, use it, close it: 200 times, in one loop."""

    async def cycle() -> None:
        async with client() as one:
            await asyncio.gather(*(works(one) for _ in range(4)))
            await one.forward_request("POST", "/echo", body=bytes(100_000))

    async def main() -> None:
        await _busy()
        for _ in range(20):
            await cycle()
        await settled()
        before = _resources()
        for _ in range(200):
            await cycle()
        await _at_most(before)

    run(main(), loop)


async def _busy() -> None:
    """Go starts its threads when there is work and garbage for them: let it have all of them first."""
    async with client() as one:
        await asyncio.gather(*(works(one) for _ in range(64)))
    running = asyncio.get_running_loop()
    burnt: asyncio.Future[Any] = running.create_future()
    _runtime.channel_of(running).measure(burnt, 6, 4, int(0.1e9))
    await burnt


def loop_cycles(loop: str) -> None:
    """The same with a loop for each client."""
    run(_busy(), loop)

    async def cycle() -> None:
        async with client() as one:
            await works(one)

    async def look() -> dict[str, int]:
        async with client() as one:
            await works(one)
        await settled()
        return _resources()

    for _ in range(10):
        run(cycle(), loop)
    before = run(look(), loop)
    for _ in range(100):
        run(cycle(), loop)

    async def compare() -> None:
        async with client() as one:
            await works(one)
        await _at_most(before)

    run(compare(), loop)


CONCURRENCY = 64


async def _send(one: ProxyClient, count: int) -> None:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            response = await one.forward_request("GET", "/small", [("accept", "*/*")])
            assert len(response.body) == 100

    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENCY):
            workers.create_task(worker())


def requests(loop: str) -> None:
    """100,000 requests: the slope of the resident memory after a warm-up."""

    async def main() -> None:
        one = client()
        await _busy()
        await _send(one, 40_000)
        sent, memory = [0], [rss_kb()]
        before = _resources()
        for _ in range(20):
            await _send(one, 5_000)
            sent.append(sent[-1] + 5_000)
            memory.append(rss_kb())
        slope = statistics.linear_regression(sent, memory).slope * sent[-1]
        assert sent[-1] == 100_000
        assert slope < MEGABYTE_KB, f"{slope:.0f} KB: {memory}"
        await _at_most(before)
        one.close()

    run(main(), loop)


def references(loop: str) -> None:
    """What a request is given is let go of when it is over, however it ends."""

    async def main() -> None:
        one = client()
        await works(one)
        bodies: list[Any] = [b"b" * 100, b"b" * 300_000, bytearray(70_000), memoryview(bytes(5000)), "text" * 500]
        headers: list[Any] = [{"a" * 50: "b" * 50}, [("c" * 50, "d" * 50)], ((b"e" * 50, b"f" * 50),)]
        paths = ["/echo?" + "p" * 60, "/reset?" + "p" * 60, "/hold?" + "p" * 60, "not a path " + "p" * 60]
        given = [*bodies, *headers, *paths]
        collected()
        before = [sys.getrefcount(item) for item in given]
        await _all_ended(one, itertools.product(paths, headers, bodies))
        await settled()
        collected()
        for item, was in zip(given, before, strict=True):
            assert sys.getrefcount(item) == was + 1, repr(item)[:60]  # one for the name
        bodies[2].extend(b"not locked any more")
        one.close()

    run(main(), loop)


async def _all_ended(one: ProxyClient, combinations: Iterable[tuple[str, Any, Any]]) -> None:
    for path, fields, body in combinations:
        for _ in range(10):
            await _ended(one, path, fields, body)


async def _ended(one: ProxyClient, path: str, fields: Any, body: Any) -> None:
    """One request, ended by a reply, by an error, or by cancelling it."""
    task = asyncio.ensure_future(one.forward_request("POST", path, fields, body))
    if path.startswith("/hold"):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    if not task.cancelled():
        assert (task.exception() is None) == path.startswith("/echo")


LARGE = 64 << 20


def large_bodies(loop: str) -> None:
    """Bodies of 64 MB, up and down, are gone when their owner drops them: Go keeps none of it, nor does the bridge."""

    async def main() -> None:
        one = client()
        await asyncio.gather(*(works(one) for _ in range(64)))
        before, heap = rss_kb(), 0
        for _ in range(3):
            response = await one.forward_request("POST", "/echo", body=bytes(LARGE))
            assert len(response.body) == LARGE
            assert rss_kb() > before + LARGE // 1024 // 2
            heap = max(heap, stats()["heap_bytes"])
            del response
            task = asyncio.ensure_future(one.forward_request("GET", f"/body?size={LARGE}&sent={LARGE - 1}"))
            await settled(lambda: rss_kb() > before + LARGE // 1024 // 2, "being received")
            task.cancel()
            await asyncio.wait([task])
            del task
            await settled()
        collected()
        await settled(lambda: rss_kb() < before + 8 * MEGABYTE_KB, "back to the memory of before")
        assert heap < LARGE // 8, heap
        one.close()

    run(main(), loop)
