"""Scripts: signals while the core runs. Go's threads must not take those that Python waits for, and handlers must not
run on the stack of a goroutine."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import isolated_sigaction as sigaction
from isolated_scripts import PATIENCE, client, new_name, run, settled, turns, use_once, wait_seen, works
from isolated_upstream import pattern

from velithon_proxy import ProxyClient, UpstreamClosedError, _bridge, _runtime

BLOCKED = {
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH),
}


async def _load(one: ProxyClient, width: int = 32) -> None:
    """Requests for ever."""

    async def worker(index: int) -> None:
        while True:
            if index % 8:
                await works(one)
            else:
                assert (await one.forward_request("GET", "/bytes?size=100000")).body == pattern(100_000)

    async with asyncio.TaskGroup() as workers:
        for index in range(width):
            workers.create_task(worker(index))


def keyboard_interrupt(loop: str) -> None:
    """Ctrl-C under load ends asyncio.run(); a client and the core go on."""
    one = client()

    async def main() -> None:
        working = asyncio.ensure_future(_load(one))
        await works(one)
        print("ready", flush=True)
        await working

    try:
        run(main(), loop)
    except KeyboardInterrupt:
        print(f"{time.monotonic():.6f}", flush=True)
    run(works(one), loop)
    one.close()


def keyboard_interrupt_without_a_loop() -> None:
    """Ctrl-C while Python waits for something else and Go's threads are busy."""
    run(use_once())
    loop = asyncio.new_event_loop()
    channel = _bridge.Channel()
    channel.measure(loop.create_future(), 6, 2, int(0.5e9))
    try:
        print("ready", flush=True)
        threading.Event().wait(PATIENCE)
    except KeyboardInterrupt:
        print(f"{time.monotonic():.6f}", flush=True)
    channel.close()
    loop.close()


def sigterm(loop: str) -> None:
    """loop.add_signal_handler() under load, once and many times."""

    async def main() -> None:
        one = client()
        seen = [0, 0]
        stop = asyncio.Event()

        def count() -> None:
            seen[0] += 1

        running = asyncio.get_running_loop()
        running.add_signal_handler(signal.SIGUSR1, count)
        running.add_signal_handler(signal.SIGTERM, stop.set)
        working = asyncio.ensure_future(_load(one))
        await works(one)
        for wanted in range(1, 51):
            os.kill(os.getpid(), signal.SIGUSR1)
            await settled(lambda wanted=wanted: seen[0] >= wanted, "told of SIGUSR1")
        print("ready", flush=True)
        await stop.wait()
        print(f"{time.monotonic():.6f}", flush=True)
        working.cancel()
        await asyncio.wait([working])
        await works(one)
        one.close()

    run(main(), loop)


def _blocked(task: Path) -> set[int]:
    for line in (task / "status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            mask = int(line.split()[1], 16)
            return {number for number in range(1, 65) if mask >> (number - 1) & 1}
    raise AssertionError("no SigBlk")


def _other_threads(own: Path) -> list[Path]:
    return [task for task in own.parent.iterdir() if task != own]


def masks() -> None:
    """No thread of Go's takes a signal that Python waits for, and the mask of Python's own thread is what it was."""
    main_thread = Path(f"/proc/self/task/{threading.get_native_id()}")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
    before = _blocked(main_thread)

    async def main() -> None:
        one = client()
        await asyncio.gather(*(works(one) for _ in range(64)))
        # Busy goroutines and a collector make Go start the threads it has not started yet.
        channel = _runtime.channel_of(asyncio.get_running_loop())
        burnt = asyncio.get_running_loop().create_future()
        channel.measure(burnt, 6, 4, int(0.05e9))
        await burnt
        others = _other_threads(main_thread)
        assert len(others) >= 3
        for task in others:
            missing = BLOCKED - _blocked(task)
            assert not missing, f"thread {task.name} takes {missing}"
        assert _blocked(main_thread) == before
        one.close()

    run(main())


def handlers_off_the_stack(loop: str) -> None:
    """Handlers that other libraries install without SA_ONSTACK get the flag by the next replies."""
    signal.signal(signal.SIGPROF, lambda *_: None)
    sigaction.take_off_stack(signal.SIGPROF)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    sigaction.take_off_stack(signal.SIGCHLD)

    async def main() -> None:
        one = client()
        for _ in range(3):
            await works(one)
            assert sigaction.on_stack(signal.SIGCHLD)
            for _ in range(20):
                await works(one)
            assert sigaction.on_stack(signal.SIGPROF)
            for number in (signal.SIGPROF, signal.SIGCHLD):
                sigaction.take_off_stack(number)
                assert not sigaction.on_stack(number)
        # What is not handled stays so.
        for number in (signal.SIGPROF, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for _ in range(20):
            await works(one)
        assert not sigaction.handled(signal.SIGCHLD)
        assert not sigaction.handled(signal.SIGPROF)
        one.close()

    run(main(), loop)


def uvloop_installs_its_handler_off_the_stack() -> None:
    """The guard is needed, and works: libuv's handler for SIGCHLD lacks the flag until the next reply is drained."""

    async def main() -> None:
        one = client()
        await works(one)
        for _ in range(3):
            assert not sigaction.handled(signal.SIGCHLD)
            process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
            assert sigaction.handled(signal.SIGCHLD)
            # Should libuv set the flag one day, this fails and the guard may go.
            assert not sigaction.on_stack(signal.SIGCHLD)
            await works(one)
            assert sigaction.on_stack(signal.SIGCHLD)
            await asyncio.wait_for(process.communicate(b""), PATIENCE)
        one.close()

    run(main(), "uvloop")


SPAWNED = 300


def subprocess_storm(loop: str) -> None:
    """Children that end while requests run: without the guard, uvloop's handler ends the process on a Go thread."""

    async def main() -> None:
        one = client()
        working = asyncio.ensure_future(_load(one))
        left = SPAWNED

        async def spawn() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                process = await asyncio.create_subprocess_exec("true")
                assert await asyncio.wait_for(process.wait(), PATIENCE) == 0

        await asyncio.gather(*(spawn() for _ in range(8)))
        assert not working.done()
        working.cancel()
        await asyncio.wait([working])
        await works(one)
        one.close()

    run(main(), loop)


def profiler(loop: str) -> None:
    """A profiler's SIGPROF, which Go's threads cannot block, 1,000 times a second of CPU."""
    ticks = 0

    def tick(*_: object) -> None:
        nonlocal ticks
        ticks += 1

    signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)

    async def main() -> None:
        one = client()
        working = asyncio.ensure_future(_load(one))
        await settled(lambda: ticks >= 200, "ticked")
        assert not working.done()
        working.cancel()
        await asyncio.wait([working])
        one.close()

    try:
        run(main(), loop)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


STORM = (signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGUSR1)


def storm(loop: str) -> None:
    """A thousand signals, with Python handlers where Python allows them; each kind arrives, no request notices."""
    counts = dict.fromkeys(STORM, 0)

    def count(number: int, _: object) -> None:
        counts[signal.Signals(number)] += 1

    run(use_once(), loop)
    for number in STORM:
        if number != signal.SIGURG:  # Go's own: it preempts goroutines with it
            signal.signal(number, count)
    names = " ".join(number.name.removeprefix("SIG") for number in STORM)
    # With a pause: Python calls handlers inside of handlers when signals come faster than it can take them.
    rounds = f"while :; do for s in {names}; do kill -$s {os.getpid()}; done; sleep 0.001; done"
    sender = subprocess.Popen(["sh", "-c", rounds])

    async def main() -> None:
        one = client()
        working = asyncio.ensure_future(_load(one))
        await settled(lambda: all(counts[number] >= 200 for number in STORM if number != signal.SIGURG), "counted")
        assert not working.done()
        working.cancel()
        await asyncio.wait([working])
        one.close()

    try:
        run(main(), loop)
    finally:
        sender.kill()
        sender.wait()


def broken_pipes(disposition: str) -> None:
    """An upstream that resets its connections is an error of the request, however SIGPIPE is set, and Python's own
    broken pipes stay what they are."""
    if disposition == "default-before":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    async def main() -> None:
        one = client(max_failures=1000)
        await works(one)
        if disposition == "default-after":
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for size in (0, 10_000, 300_000, 8 << 20):
            for first in ("", "", "fin", "fin", "fin", "fin"):  # the second kind makes the kernel say EPIPE
                name = new_name()
                try:
                    await one.forward_request("POST", f"/reset?first={first}&name={name}", body=bytes(size))
                except UpstreamClosedError:
                    wait_seen(name)
                else:
                    raise AssertionError("a reply from an upstream that gives none")
        await works(one)
        one.close()

    run(main())
    if disposition == "python":
        reading, writing = os.pipe()
        os.close(reading)
        try:
            os.write(writing, b"x")
        except BrokenPipeError:
            os.close(writing)
        else:
            raise AssertionError("no BrokenPipeError")


def faulthandler_first() -> None:
    """faulthandler, enabled before the first request, still tells of a crash; panics that Go recovers are none."""
    faulthandler.enable()

    async def main() -> None:
        one = client()
        await works(one)
        channel = _runtime.channel_of(asyncio.get_running_loop())
        for _ in range(10):
            panicked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            channel.measure(panicked, 5, 0, 0)
            assert (await panicked)[0] == 16
        await works(one)
        one.close()

    run(main())
    print("used", flush=True)
    faulthandler._sigsegv()


def restored_after_loading() -> None:
    """Handlers of Python's that were there before the core was loaded are there afterwards."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM]
    seen: list[int] = []
    for number in numbers:
        signal.signal(number, lambda number, _: seen.append(number))
    run(use_once())
    for number in numbers:
        os.kill(os.getpid(), number)
    run(turns(1))
    assert sorted(seen) == sorted(numbers)
