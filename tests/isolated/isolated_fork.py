"""Scripts: processes that fork before and after the core was loaded.

A Go runtime does not survive a fork: in a child, whatever needs a goroutine would wait for ever. So each child here has
a limit, and what it may ask for is answered at once.
"""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from event_loops import loop_factory
from isolated_scripts import (
    PATIENCE,
    client,
    core_loaded,
    exit_code,
    in_child,
    new_name,
    open_gate,
    run,
    settled,
    turns,
    use_once,
    wait_seen,
    works,
)
from isolated_upstream import pattern

from velithon_proxy import ForkedProcessError, ProxyClient, _bridge, _runtime

AT_ONCE = 0.1
"""Seconds within which a forked child is told that it may not use the core."""


def before_use(loop: str) -> None:
    """Workers that fork from a process that has imported the package and made its clients: all of them work."""
    shared = client()

    def work() -> None:
        async def main() -> None:
            await asyncio.gather(*(works(shared) for _ in range(20)))
            shared.close()

        run(main(), loop)
        assert core_loaded()

    def work_and_fork() -> None:
        assert in_child(work) == 0
        work()

    assert in_child(work) == 0
    assert in_child(work_and_fork) == 0
    assert not core_loaded()
    work()


def _refused(one: ProxyClient, loop: str) -> None:
    """Everything that would need the core is refused at once, in a process that was forked too late."""
    for user in (one, client()):
        start = time.monotonic()
        try:
            run(user.forward_request("GET", "/small"), loop)
        except ForkedProcessError as error:
            seconds, text = time.monotonic() - start, str(error)
        else:
            raise AssertionError("a forked child used the core")
        assert seconds < AT_ONCE
        assert "was forked after velithon_proxy had been used" in text
    with suppress(ForkedProcessError):
        one._snapshot()
    one.close()
    assert "closed" in repr(one)


def after_use(loop: str) -> None:
    """The child is told; the parent goes on; so do child and grandchild that start a fresh Python."""

    async def main() -> None:
        one = client()
        await works(one)
        for _ in range(3):
            assert in_child(lambda: _refused(one, loop)) == 0
            assert in_child(lambda: run_child_of_child(one)) == 0
            await works(one)
        one.close()

    def run_child_of_child(one: ProxyClient) -> None:
        assert in_child(lambda: _refused(one, loop)) == 0
        fresh = [sys.executable, *sys.orig_argv[1:-2], "isolated_fork.fresh", loop]
        done = subprocess.run(fresh, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")

    run(main(), loop)


def fresh(loop: str) -> None:
    run(use_once(), loop)


def child_that_ends_itself(loop: str) -> None:
    """A child that was forked too late ends the ordinary way, with its own exit code and without a word, although its
    parent has requests under way."""

    async def begin(one: ProxyClient, name: str) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.ensure_future(one.forward_request("GET", f"/gate?size=3&name={name}")) for _ in range(5)]
        await turns(3)
        wait_seen(name, 5)
        for task in tasks:
            task._log_destroy_pending = False  # asyncio's own remark on tasks that nobody ends
        return tasks

    runner = asyncio.Runner(loop_factory=loop_factory(loop))
    one, name = client(), new_name()
    tasks = runner.run(begin(one, name))
    pid = os.fork()
    if pid == 0:
        one.close()
        tasks.clear()
        sys.exit(4)
    assert exit_code(pid) == 4
    open_gate(name)

    async def end() -> None:
        assert [response.body for response in await asyncio.gather(*tasks)] == [b"\0\0\0"] * 5
        await works(one)

    runner.run(end())
    runner.close()
    one.close()


def child_that_cancels(loop: str) -> None:
    """What cancels a request of the parent's in the child sees the cancellation, not an error that hides it."""

    async def main() -> None:
        one, name = client(), new_name()
        coroutines = [one.forward_request("GET", f"/gate?size=3&name={name}") for _ in range(2)]
        futures = [coroutine.send(None) for coroutine in coroutines]
        wait_seen(name, 2)

        def cancels() -> None:
            coroutines[0].close()
            try:
                coroutines[1].throw(asyncio.CancelledError())
            except asyncio.CancelledError:
                return
            raise AssertionError("not cancelled")

        assert in_child(cancels) == 0
        open_gate(name)
        assert [reply[:2] for reply in await asyncio.gather(*futures)] == [(0, 200)] * 2
        for coroutine in coroutines:
            coroutine.close()
        one.close()

    run(main(), loop)


def in_flight(loop: str) -> None:
    """Requests that are under way at the moment of a fork end well in the parent: small ones, large ones, and those
    that wait for the event loop."""

    async def main() -> None:
        one = client()
        names = [new_name() for _ in range(3)]
        sizes = (10, 300_000, 1_000_000)
        tasks = [
            asyncio.ensure_future(one.forward_request("POST", f"/gate?size={size}&name={name}", body=b"b" * size))
            for name, size in zip(names, sizes, strict=True)
            for _ in range(10)
        ]
        await turns(3)
        for name in names:
            wait_seen(name, 10)
        for name in names:
            assert in_child(lambda: _refused(one, loop)) == 0
            open_gate(name)
            assert in_child(lambda: _refused(one, loop)) == 0
        for task, size in zip(tasks, [size for size in sizes for _ in range(10)], strict=True):
            response = await asyncio.wait_for(task, PATIENCE)
            assert response.body == pattern(size)
        await settled()
        one.close()

    run(main(), loop)


def drain_in_child(loop: str) -> None:
    """The child has the parent's descriptors: it must not read the wake-up that is meant for its parent."""

    async def main() -> None:
        one = client()
        await works(one)
        running = asyncio.get_running_loop()
        channel = _runtime.channel_of(running)
        for _ in range(20):
            name = new_name()
            coroutine = one.forward_request("GET", f"/gate?size=5&name={name}")
            future = coroutine.send(None)
            wait_seen(name)
            open_gate(name)
            _readable(channel)

            assert in_child(lambda: _drains(channel)) == 0
            _readable(channel)
            assert (await asyncio.wait_for(future, PATIENCE))[1] == 200
            coroutine.close()
        one.close()

    run(main(), loop)


def _drains(channel: _bridge.Channel) -> None:
    with suppress(ForkedProcessError):
        channel.drain()
        raise AssertionError("drained in a forked child")
    with suppress(ForkedProcessError):
        channel.cancel(1)
    channel.close()
    _bridge.reap()


def _readable(channel: _bridge.Channel) -> None:
    assert select.select([channel.fileno()], [], [], PATIENCE)[0], "no wake-up"


def while_another_thread_loads() -> None:
    """A fork in the middle of another thread's first request: the child has half a Go runtime and a locked lock."""
    shared = client()
    thread = threading.Thread(target=lambda: run(works(shared)))
    thread.start()
    while not core_loaded():
        assert thread.is_alive(), "the fork comes too late to prove anything"
    assert in_child(lambda: _works_or_is_refused(shared)) == 0
    thread.join(PATIENCE)
    assert not thread.is_alive()
    run(works(shared))
    shared.close()


def while_another_thread_binds(used: str) -> None:
    """A fork while another thread has the locks of the package, because its loop is used for the first time."""
    shared = client()
    if used == "used":
        run(works(shared))
    binding = threading.Event()

    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, *arguments: Any) -> None:
            binding.set()
            forked.wait(0.3)  # a fork may as well wait for this thread
            super().add_reader(*arguments)

    forked = threading.Event()

    def bind() -> None:
        loop = Loop()
        loop.run_until_complete(works(shared))
        loop.close()

    def ends() -> None:
        _works_or_is_refused(shared)
        _runtime._shut_down()

    thread = threading.Thread(target=bind)
    thread.start()
    assert binding.wait(PATIENCE)
    code = in_child(ends)
    forked.set()
    thread.join(PATIENCE)
    assert code == 0
    assert not thread.is_alive()
    run(works(shared))
    shared.close()


def _works_or_is_refused(shared: ProxyClient) -> None:
    with suppress(ForkedProcessError):
        run(works(shared))
    shared.close()


def other_programs(loop: str) -> None:
    """Starting a program is no fork that matters, however it is done."""

    async def main() -> None:
        one = client()
        await works(one)
        for start in (
            lambda: subprocess.run(["true"], check=True),
            lambda: subprocess.run(["true"], check=True, preexec_fn=lambda: None),
            lambda: subprocess.run(["true"], check=True, close_fds=False),
            lambda: os.waitpid(os.posix_spawnp("true", ["true"], os.environ), 0),
            lambda: os.system("true"),
        ):
            start()
            await works(one)
        process = await asyncio.create_subprocess_exec("true")
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        await works(one)
        one.close()

    run(main(), loop)


# multiprocessing. Targets are found by name in the new process.


def _request_in_worker(loop: str, results: Any) -> None:
    try:
        run(use_once(), loop)
        results.put("works")
    except ForkedProcessError as error:
        results.put(error)


def workers(method: str, used: str, loop: str) -> None:
    import multiprocessing

    if used == "used":
        run(use_once(), loop)
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    processes = [context.Process(target=_request_in_worker, args=(loop, results)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = [results.get() for _ in processes]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    if method == "fork" and used == "used":
        assert all(isinstance(outcome, ForkedProcessError) for outcome in outcomes), outcomes
    else:
        assert outcomes == ["works"] * 2, outcomes
    run(use_once(), loop)
    if method == "forkserver":
        from multiprocessing import forkserver

        forkserver._forkserver._stop()  # it would outlive this process by a moment
