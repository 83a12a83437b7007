"""Many requests at once on every loop, and what interrupts them: cancellations, loops that end, other threads."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
from typing import Any

from event_loops import INSTALLED, loop_factory
from fake_border import (
    PATIENCE,
    Border,
    ProxyClient,
    _bridge,
    allocated,
    descriptors,
    empty_nodes,
    load,
    pack,
    reply_body,
    reply_lines,
    reply_message,
    run,
    settle,
    unraisable,
)

from velithon_proxy import ClientClosedError, ProxyError

REQUESTS = 2500
AT_ONCE = 64
BATCH = 8
CODES = (*range(1, 19), 77)  # all of abi.h, and one that a later core might have


def _random_request(dice: random.Random) -> tuple[str, dict[str, Any], tuple[Any, ...]]:
    """A path, the other arguments, and the reply without its duration."""
    wait = f"&after={dice.randrange(2000)}" if dice.random() < 0.3 else ""
    kind = dice.randrange(4)
    if kind == 0:
        code, phase, outcome, size = dice.choice(CODES), dice.randrange(9), dice.randrange(8), dice.choice((0, 9, 999))
        path = f"/?code={code}&phase={phase}&outcome={outcome}&message={size}{wait}"
        return path, {}, (code, phase, outcome, reply_message(size))
    if kind == 1:
        size, lines = dice.choice((65_536, 100_001, 300_000)), dice.randrange(3)
        return f"/?direct={size}&lines={lines}{wait}", {}, (0, 200, pack(reply_lines(lines)), reply_body(size))
    if kind == 2:
        headers = [(f"h{i}", "v" * dice.randrange(40)) for i in range(dice.randrange(5))]
        body = dice.randbytes(dice.choice((0, 1, 300, 70_000)))
        given = dice.choice((body, bytearray(body), memoryview(body)))
        lines = pack([(name.encode(), value.encode()) for name, value in headers])
        return f"/?echo=1{wait}", {"headers": headers, "body": given, "method": "POST"}, (0, 200, lines, body)
    status, lines = dice.randrange(200, 600), dice.choice((0, 1, 30, 1000))
    size = dice.choice((0, 1, 100, 65_535))
    path = f"/?status={status}&lines={lines}&body={size}{wait}"
    return path, {}, (0, status, pack(reply_lines(lines)), reply_body(size))


async def _traffic(count: int, seed: int) -> None:
    border = Border()
    dice = random.Random(seed)
    left = iter(range(count))

    async def work() -> None:
        for turn in left:
            if turn % 20 == 0:  # answered together, the last one first
                replies = await asyncio.gather(
                    *(border.request(f"/?batch={BATCH}&status={200 + i}") for i in range(BATCH))
                )
                assert [reply[1] for reply in replies] == [200 + i for i in range(BATCH)]
            path, rest, expected = _random_request(dice)
            reply = await border.request(path, **rest)
            assert reply[:4] == expected, (path, reply[:2])
            assert reply[4] >= 0

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    border.close()


def traffic_asyncio() -> None:
    """Thousands of requests of every kind get the replies they ask for, on asyncio."""
    run(_traffic(REQUESTS, 1))
    settle()


def traffic_uvloop() -> None:
    """The same on uvloop."""
    run(_traffic(REQUESTS, 2), "uvloop")
    settle()


def traffic_rloop() -> None:
    """The same on rloop, which tells of a wake-up once only."""
    run(_traffic(REQUESTS, 3), "rloop")
    settle()


def traffic_while_collecting() -> None:
    """Python's garbage collector may run inside any call of the bridge."""
    gc.set_threshold(5, 2, 2)
    run(_traffic(REQUESTS // 5, 4))
    settle()


async def _cancel(count: int, seed: int) -> None:
    dice = random.Random(seed)
    client = ProxyClient("http://fake")
    outcomes = {"cancelled": 0, "answered": 0}

    async def one() -> None:
        how = dice.randrange(7)
        path = (
            "/?hold=1",
            f"/?after={dice.randrange(400)}",
            f"/?after={dice.randrange(400)}&deaf=1",
            "/?direct=70000",
            f"/?direct=70000&after={dice.randrange(200)}&deaf=1",
            "/?hold=1&deaf=1&code=5",
            f"/?batch=1000000&body={dice.randrange(3)}",
        )[how]
        task = asyncio.create_task(client.forward_request("POST", path, [("a", "b")], bytes(dice.randrange(100))))
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        if how in (1, 2, 3, 4) and dice.random() < 0.5:
            await asyncio.sleep(dice.random() / 2000)  # to meet the answer on its way
        task.cancel()
        try:
            await task
            outcomes["answered"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1

    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await one()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    assert outcomes["cancelled"] > count // 2, outcomes
    # A task that is thrown away, and a limit.
    for _ in range(50):
        coroutine = client.forward_request("GET", "/?hold=1")
        coroutine.send(None)  # runs until it waits for its future
        coroutine.close()
        try:
            async with asyncio.timeout(0.001):
                await client.forward_request("GET", "/?hold=1")
            raise AssertionError("a held request was answered")
        except TimeoutError:
            pass
    client.close()


def cancellations_asyncio() -> None:
    """A cancelled request frees what it lent, whatever the core was about to say; nothing is reported as an error."""
    with unraisable() as seen:
        run(_cancel(2000, 5))
        settle()
    assert not seen, seen


def cancellations_uvloop() -> None:
    """The same on uvloop."""
    with unraisable() as seen:
        run(_cancel(2000, 6), "uvloop")
        settle()
    assert not seen, seen


async def _leave_in_flight(client: ProxyClient) -> None:
    for path in ("/?hold=1", "/?after=2000", "/?direct=80000", "/?direct=80000&after=1500", "/?after=500&body=70000"):
        for _ in range(10):
            asyncio.create_task(client.forward_request("PUT", path, {"a": "b"}, bytearray(b"x" * 500)))  # noqa: RUF006
    await asyncio.sleep(0)


def loops_closed_in_flight() -> None:
    """A loop may be closed while the core works for it: nothing is used after it is gone, nothing is left behind."""
    _close_loops("asyncio", "uvloop")


def loops_closed_in_flight_rloop() -> None:
    """The same on rloop, of which each loop leaves two descriptors of its own behind."""
    _close_loops("rloop")


def _close_loops(*names: str) -> None:
    before = 0
    for turn in range(20):
        for name in names:
            client = ProxyClient("http://fake")
            loop = loop_factory(name)()
            asyncio.set_event_loop(loop)
            loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending": that is the point
            loop.run_until_complete(_leave_in_flight(client))
            loop.close()
            asyncio.set_event_loop(None)
            del loop
            if turn % 2:
                client.close()  # the requests end with an error that nobody waits for
            else:
                gc.collect()

            async def again(client: ProxyClient = client) -> None:
                if client._closed:
                    return
                assert (await client.forward_request("GET", "/?body=3")).body == reply_body(3)

            run(again(), name)
            client.close()
            del client
            gc.collect()
        if turn == 4:
            run(_one_request())
            settle()
            before = descriptors()
    run(_one_request())
    settle()
    # Some channels wait for the core while the next ones are made; how many there are at once varies.
    assert names == ("rloop",) or descriptors() <= before + 6, (descriptors(), before)


async def _one_request() -> None:
    async with ProxyClient("http://fake") as client:
        await client.forward_request("GET", "/")


def threads_with_loops() -> None:
    """Loops in several threads share one client; a thread beside them makes one short-lived loop after the other."""
    shared = ProxyClient("http://fake")
    failures: list[BaseException] = []
    ended = threading.Event()

    async def many(seed: int) -> None:
        dice = random.Random(seed)
        own = ProxyClient("http://fake")

        async def some(client: ProxyClient) -> None:
            for _ in range(25):
                path, rest, expected = _random_request(dice)
                method = rest.pop("method", "GET")
                try:
                    status, headers, body = await client.forward_request(method, path, **rest)
                    assert (0, status, headers.packed, body) == expected
                except (ProxyError, ValueError, asyncio.CancelledError):
                    assert "code" in path

        await asyncio.gather(*(some(client) for client in (shared, own) for _ in range(10)))
        own.close()

    def loop(name: str, seed: int) -> None:
        try:
            run(many(seed), name)
        except BaseException as error:
            failures.append(error)

    def short_loops() -> None:
        try:
            while not ended.is_set():
                run(_one_request())
        except BaseException as error:
            failures.append(error)

    load()
    threads = [threading.Thread(target=loop, args=(name, seed)) for seed, name in enumerate(INSTALLED)]
    beside = threading.Thread(target=short_loops)
    for thread in (*threads, beside):
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    ended.set()
    beside.join(PATIENCE)
    assert not failures, failures
    assert not beside.is_alive()
    assert not any(thread.is_alive() for thread in threads)
    shared.close()
    run(_one_request())
    settle()


def pools_closed_in_flight() -> None:
    """Closing a client ends its requests, those of another one go on."""

    async def main() -> None:
        for _ in range(20):
            doomed, other = ProxyClient("http://fake"), ProxyClient("http://fake")
            held = [asyncio.ensure_future(doomed.forward_request("GET", "/?hold=1")) for _ in range(20)]
            late = [asyncio.ensure_future(other.forward_request("GET", "/?after=3000&body=9")) for _ in range(5)]
            await asyncio.sleep(0)
            doomed.close()
            for outcome in await asyncio.gather(*held, return_exceptions=True):
                assert isinstance(outcome, ClientClosedError), outcome
            assert [(await response).body for response in late] == [reply_body(9)] * 5
            other.close()

    run(main())
    settle()


def memory_returns() -> None:
    """What requests allocate, in C or in Python, is freed: ended, cancelled, failed and abandoned ones alike."""

    def round_() -> int | None:
        run(_traffic(500, 7))
        run(_cancel(200, 8))
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        client = ProxyClient("http://fake")
        loop.run_until_complete(_leave_in_flight(client))
        client.close()
        loop.close()
        del loop, client
        gc.collect()
        settle()
        run(empty_nodes())
        settle()
        gc.collect()
        bytes_now = allocated()
        # Nodes are never freed; how many there are at once varies.
        return None if bytes_now is None else bytes_now - 500 * _bridge.stats()["nodes"]

    for _ in range(3):
        round_()  # grows tables, caches and free lists
    sizes = [round_() for _ in range(4)]
    print("allocated bytes after each round:", sizes)
    if None not in sizes:
        # A leak shows in every round; a table that grows does not.
        assert min(later - earlier for earlier, later in itertools.pairwise(sizes)) < 5000, sizes
