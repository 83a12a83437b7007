"""Scripts: the border between the event loop and the core: panics, bursts, and loops that tell of an edge only."""

from __future__ import annotations

import asyncio
import select
import warnings
from typing import Any

from isolated_scripts import (
    PATIENCE,
    client,
    collected,
    new_name,
    open_gate,
    run,
    settled,
    stats,
    wait_seen,
    wait_until,
    works,
)
from isolated_upstream import pattern

from velithon_proxy import InternalError, ProxyClient, _bridge, _runtime
from velithon_proxy._errors import reply_error

NOOP, PANIC = 4, 5  # VP_KIND_NOOP, VP_KIND_PANIC
INTERNAL = 16  # VP_CODE_INTERNAL
DRAIN_MAX = 512


def panic(loop: str) -> None:
    """A panic of the core's is the error of the request it happened in, and of no other."""

    async def main() -> None:
        one = client()
        await works(one)
        running = asyncio.get_running_loop()
        channel = _runtime.channel_of(running)
        name = new_name()
        around = [asyncio.ensure_future(one.forward_request("GET", f"/gate?size=9&name={name}")) for _ in range(20)]
        await asyncio.sleep(0)
        for count in range(1, 101):
            future: asyncio.Future[tuple[Any, ...]] = running.create_future()
            channel.measure(future, PANIC, 0, 0)
            code, phase, outcome, message, elapsed_ns, *_ = await asyncio.wait_for(future, PATIENCE)
            error = reply_error(code, phase, outcome, message, elapsed_ns, "http://upstream", method="GET")
            assert code == INTERNAL
            assert isinstance(error, InternalError)
            assert "panic in the core: provoked by the caller" in str(error)
            assert stats()["panics"] == count
        open_gate(name)
        assert {response.status for response in await asyncio.gather(*around)} == {200}
        await works(one)
        await settled()
        one.close()

    run(main(), loop)


async def _burst(count: int, channel: _bridge.Channel) -> list[asyncio.Future[Any]]:
    """That many completions, all of them waiting to be drained when this returns."""
    one, name = client(), new_name()
    running = asyncio.get_running_loop()
    futures = [running.create_future() for _ in range(count)]
    for future in futures:
        channel.measure(future, NOOP, 0, 0)
    # The core takes submissions in order: when the upstream has this one, it has answered the others.
    coroutine = one.forward_request("GET", f"/hold?name={name}")
    coroutine.send(None)
    wait_seen(name)
    coroutine.close()
    one.close()
    assert not any(future.done() for future in futures)
    return futures


def burst(loop: str) -> None:
    """Thousands of completions in one wake-up are taken in pieces: a timer and other callbacks run in between."""

    async def main() -> None:
        one = client()
        await works(one)
        running = asyncio.get_running_loop()
        futures = await _burst(5000, _runtime.channel_of(running))
        done = 0

        def count(_: object) -> None:
            nonlocal done
            done += 1

        for future in futures:
            future.add_done_callback(count)
        at_turn: list[int] = []
        at_timer: list[int] = []
        running.call_later(0.0001, lambda: at_timer.append(done))
        while done < len(futures):
            await asyncio.sleep(0)
            at_turn.append(done)
        steps = [after - before for before, after in zip([0, *at_turn], at_turn, strict=False)]
        # rloop has more than one look at its descriptors in one turn.
        assert max(steps) <= (len(futures) // 2 if loop == "rloop" else DRAIN_MAX), steps
        assert at_timer
        assert at_timer[0] <= 2 * DRAIN_MAX, at_timer
        await settled()
        one.close()

    run(main(), loop)


def burst_of_replies(loop: str) -> None:
    """The same with requests: more than a drain takes, small and large ones mixed, each the right one."""

    async def main() -> None:
        one = client(timeout_ms=20_000)
        name = new_name()
        sizes = [70_000 if index % 100 == 0 else index for index in range(500)]
        tasks = [asyncio.ensure_future(one.forward_request("GET", f"/gate?size={size}&name={name}")) for size in sizes]
        others = [asyncio.ensure_future(one.forward_request("GET", f"/bytes?size={size}")) for size in range(1000)]
        await asyncio.sleep(0)
        wait_seen(name, len(sizes))
        open_gate(name)
        for task, size in zip([*tasks, *others], [*sizes, *range(1000)], strict=True):
            assert (await task).body == pattern(size)
        await settled()
        one.close()

    run(main(), loop)


def one_drain_for_each_edge() -> None:
    """An edge-triggered loop, simulated: drain() is called once whenever the descriptor becomes readable, and never for
    what was readable before. Nothing may be left behind."""

    async def load() -> None:
        async with client() as one:
            await works(one)

    run(load())
    loop = asyncio.new_event_loop()
    channel = _bridge.Channel()
    pool = client()
    pool._pool = _bridge.pool_new(pool._config)
    edges = select.epoll()
    edges.register(channel.fileno(), select.EPOLLIN | select.EPOLLET)

    def drained(futures: list[asyncio.Future[Any]]) -> int:
        """Drain once for each edge until all are done; the number of edges."""
        count = 0
        while not all(future.done() for future in futures):
            assert edges.poll(PATIENCE), "a wake-up was lost"
            channel.drain()
            count += 1
        return count

    def submit(path: str) -> asyncio.Future[Any]:
        future = loop.create_future()
        channel.submit(future, pool._pool, "GET", path, None, None, 0, 0, None)
        return future

    # A burst that several drains must take; none of them sees a new edge but the one it makes itself.
    futures = [loop.create_future() for _ in range(3000)]
    for future in futures:
        channel.measure(future, NOOP, 0, 0)
    name = new_name()
    last = submit(f"/gate?size=5&name={name}")
    wait_seen(name)
    assert drained(futures) >= 3000 // DRAIN_MAX
    open_gate(name)
    drained([last])
    # One after the other, and in small groups, with large replies that ask for memory in between.
    for count in range(2000):
        group = [loop.create_future() for _ in range(count % 3)]
        for future in group:
            channel.measure(future, NOOP, 0, 0)
        if count % 10 == 0:
            group.append(submit("/small"))
        if count % 50 == 0:
            group.append(submit("/bytes?size=200000"))
        drained(group)
    wait_until(lambda: stats()["core_in_flight"] == 0, "idle")
    assert channel.close() == 0
    pool.close()
    loop.close()


def warned_when_dropped_open() -> None:
    """Only a client that has connections, and that nobody can close any more, is worth a warning."""

    def of(use: bool, close: bool) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _use_and_drop(use, close)
            collected()
        return [f"{warning.category.__name__}: {warning.message}" for warning in caught]

    pools: list[int] = []
    for use, close in ((False, False), (False, True), (True, True)):
        assert of(use, close) == []
    for _ in range(3):
        (text,) = of(True, False)
        assert text.startswith("ResourceWarning: unclosed <ProxyClient 'http://127.0.0.1:")
        # It is closed all the same.
        pools.append(stats()["pools"])
    assert pools == [0, 0, 0]


def _use_and_drop(use: bool, close: bool) -> None:
    one: ProxyClient = client()
    if use:
        run(works(one))
    if close:
        one.close()
        one.close()
