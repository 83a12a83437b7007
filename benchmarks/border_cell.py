"""One measurement of the border between Python and Go, in a process of its own. Prints one object of JSON.

``empty``: CPU time from submit to result of an operation that does nothing in Go, and of a bare future for comparison.

``delay``: how late the event loop is (:mod:`loop_delay`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import loop_delay
import peers
from core_hooks import CoreHooks
from processes import cpu_seconds
from scenarios import REQUEST_HEADERS
from suites import SuiteSkippedError

BURNERS = 2


async def _cpu_us(operation: Callable[[], Awaitable[None]], concurrency: int, seconds: float) -> float:
    """CPU time of one operation with `concurrency` of them in flight, in microseconds."""
    done = 0
    stop = False

    async def work() -> None:
        nonlocal done
        while not stop:
            await operation()
            done += 1

    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(work())
        await asyncio.sleep(seconds / 4)
        cpu, before = cpu_seconds(), done
        await asyncio.sleep(seconds)
        cpu, after = cpu_seconds() - cpu, done
        stop = True
    return cpu / (after - before) * 1e6


async def empty(concurrency: int, seconds: float) -> dict[str, float]:
    """CPU time of an empty core operation, and of a future that the loop itself resolves one turn later."""
    hooks, loop = CoreHooks(), asyncio.get_running_loop()

    async def bare_future() -> None:
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future

    return {
        "bare_future_us": await _cpu_us(bare_future, concurrency, seconds / 2),
        "cpu_us": await _cpu_us(hooks.empty_operation, concurrency, seconds),
    }


async def _delays(seconds: float) -> list[float]:
    """Delays of the running loop, in microseconds."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        command = loop_delay.command(seconds * 2, descriptor=there.fileno())
        pinger = subprocess.Popen(command, pass_fds=[there.fileno()])  # noqa: ASYNC220 - before anything is measured
        delays = loop_delay.Delays(asyncio.get_running_loop(), here)
        try:
            await asyncio.sleep(seconds)
        finally:
            delays.close()
            pinger.kill()
            pinger.wait()
    return delays.seen


def _lower_other_threads() -> None:
    """Give every thread of this process but the calling one the lowest priority. Linux only."""
    for thread in Path("/proc/self/task").iterdir():
        if int(thread.name) != threading.get_native_id():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)


async def delay(base_url: str, concurrency: int, burning: str, low: bool, seconds: float) -> dict[str, float]:
    """Delays of the loop while `concurrency` requests are in flight and two threads burn: ``in Go``, ``elsewhere``, or
    ``nothing`` does. With `low` those that burn, which in Go are all threads of the core, have the lowest priority."""
    hooks = CoreHooks()
    client = await peers.connect("velithon-proxy", base_url, "native")
    stop = False

    async def work() -> None:
        while not stop:
            await client.forward("GET", "/small", REQUEST_HEADERS, None)

    others: list[subprocess.Popen[bytes]] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work())
            if burning == "in Go":
                tasks.create_task(hooks.burn(BURNERS, seconds + 1))
                await asyncio.sleep(0.1)  # the runtime starts its threads
                if low:
                    _lower_other_threads()
            elif burning == "elsewhere":
                spin = [sys.executable, "-c", f"import os; os.nice({19 if low else 0})\nwhile True: pass"]
                others = [subprocess.Popen(spin) for _ in range(BURNERS)]  # noqa: ASYNC220 - as above
            await asyncio.sleep(0.3)
            delays = await _delays(seconds)
            stop = True
    finally:
        for other in others:
            other.kill()
            other.wait()
        await client.close()
    return loop_delay.figures(delays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["empty", "delay"])
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--burning", choices=["in Go", "elsewhere", "nothing"], default="nothing")
    parser.add_argument("--low-priority", action="store_true", help="for what burns")
    parser.add_argument("--base-url", default="")
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    if args.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            if args.what == "empty":
                figures = runner.run(empty(args.concurrency, args.seconds))
            else:
                figures = runner.run(
                    delay(args.base_url, args.concurrency, args.burning, args.low_priority, args.seconds)
                )
        except SuiteSkippedError as reason:
            print(json.dumps({"missing": str(reason)}))
        else:
            print(json.dumps(figures))


if __name__ == "__main__":
    main()
