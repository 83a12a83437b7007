"""One measurement of the border between Python and Go, in a process of its own. Prints one object of JSON.

``empty``: CPU time from submit to result of an operation that does nothing in Go, and of a bare future for comparison.

``delay``: how late the event loop is. Another process (:func:`ping`) writes the time to a socket about once a
millisecond; the loop reads it and notes the difference. A timer of the loop would not do: uvloop rounds timers to
milliseconds, and a callback chain that spins would itself take a core from those it shares the machine with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import peers
from core_hooks import CoreHooks
from processes import cpu_seconds
from scenarios import REQUEST_HEADERS
from suites import SuiteSkippedError

_STAMP = struct.Struct("=q")
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


def ping(descriptor: int, seconds: float) -> None:
    """Write the time to a socket every 0.5 to 1.5 ms; at random, so as not to fall in step with anything."""
    out = socket.socket(fileno=descriptor)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(random.uniform(0.0005, 0.0015))
        out.send(_STAMP.pack(time.monotonic_ns()))


async def _delays(seconds: float) -> list[float]:
    """Delays of the running loop, in microseconds."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    delays: list[float] = []

    def read() -> None:
        try:
            while True:
                stamp = here.recv(_STAMP.size)
                delays.append((time.monotonic_ns() - _STAMP.unpack(stamp)[0]) / 1e3)
        except BlockingIOError:
            return

    with here, there:
        command = [sys.executable, __file__, "ping", "--descriptor", str(there.fileno()), "--seconds", str(seconds * 2)]
        pinger = subprocess.Popen(command, pass_fds=[there.fileno()])  # noqa: ASYNC220 - before anything is measured
        loop.add_reader(here.fileno(), read)
        try:
            await asyncio.sleep(seconds)
        finally:
            loop.remove_reader(here.fileno())
            pinger.kill()
            pinger.wait()
    return delays


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
            delays = sorted(await _delays(seconds))
            stop = True
    finally:
        for other in others:
            other.kill()
            other.wait()
        await client.close()
    n = len(delays)
    return {"samples": n, "p50_us": delays[n // 2], "p99_us": delays[n * 99 // 100], "max_us": delays[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["empty", "delay", "ping"])
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--burning", choices=["in Go", "elsewhere", "nothing"], default="nothing")
    parser.add_argument("--low-priority", action="store_true", help="for what burns")
    parser.add_argument("--base-url", default="")
    parser.add_argument("--descriptor", type=int, default=-1)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    if args.what == "ping":
        ping(args.descriptor, args.seconds)
        return
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
