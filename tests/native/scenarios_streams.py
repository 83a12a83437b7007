"""Bodies that cross the border piece by piece, both ways: nodes that are parked in the middle of their request."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import select
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from event_loops import loop_factory
from fake_border import (
    PATIENCE,
    Border,
    ProxyClient,
    _bridge,
    allocated,
    descriptors,
    empty_nodes,
    load,
    raises,
    reply_body,
    run,
    settle,
    unraisable,
)

from velithon_proxy import ClientClosedError, ProxyError

AT_ONCE = 48
STREAM, UPLOAD = 4, 8  # flags of abi.h
NO_RESPONSE = "there is no response to read from"


def _body(pieces: int, size: int, rest: int) -> bytes:
    """What the fake core streams, as long as each read asks for ``size`` bytes at least."""
    return b"".join(bytes([number & 0xFF]) * size for number in range(pieces)) + bytes([pieces & 0xFF]) * rest


async def _pieces(dice: random.Random, count: int, fail: bool = False) -> AsyncIterator[Any]:
    for _ in range(count):
        if dice.random() < 0.3:
            await asyncio.sleep(0)
        data = dice.randbytes(dice.choice((0, 1, 100, 5000, 70_000)))
        yield dice.choice((data, bytearray(data), memoryview(data), "text"))
    if fail:
        raise KeyError("mine")


async def _traffic(count: int, seed: int) -> None:
    client = ProxyClient("http://fake")
    dice = random.Random(seed)
    ended: dict[str, int] = {}

    async def one() -> str:
        pieces, size, rest = dice.randrange(5), dice.choice((1, 999, 16_384)), dice.choice((0, 1, 8000, 16_384))
        gap = dice.choice(("", f"&gap={dice.randrange(300)}", f"&pause={dice.randrange(200)}"))
        code = dice.choice((0, 0, 9, 10, 77))
        path = f"/?head=1&lines=2&pieces={pieces}&size={size}&rest={rest}{gap}&code={code}&message=9"
        leave = dice.choice((None, None, 0, 1, 3))
        upload = dice.choice(("", "", "&early=1", f"&early=1&slow={dice.randrange(200)}", "&early=1&stuck=1"))
        body = _pieces(dice, dice.randrange(90), fail=dice.random() < 0.1) if upload else None
        seen = bytearray()
        try:
            async with client.stream_request("POST", path + upload, {"a": "b"}, body) as response:
                assert response.status == 200
                assert len(response.headers.raw) == 2
                taken = 0
                async for piece in response.aiter_raw():
                    seen += piece
                    taken += 1
                    if leave is not None and taken > leave:
                        return "left"
        except KeyError:
            assert body is not None
            return "raised"
        except ProxyError:
            assert code
            assert seen == _body(pieces, size, 0)
            return "broken"
        assert not code
        assert seen == _body(pieces, size, rest)
        return "whole"

    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            how = await one()
            ended[how] = ended.get(how, 0) + 1

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    assert min(ended.get(how, 0) for how in ("left", "broken", "whole")) > count // 20, ended
    client.close()


def streams_asyncio() -> None:
    """Streams of every kind on asyncio: whole, left, broken off, with a body of their own at the same time."""
    with unraisable() as seen:
        run(_traffic(1500, 21))
        settle()
    assert not seen, seen


def streams_uvloop() -> None:
    """The same on uvloop."""
    with unraisable() as seen:
        run(_traffic(1500, 22), "uvloop")
        settle()
    assert not seen, seen


def streams_rloop() -> None:
    """The same on rloop."""
    with unraisable() as seen:
        run(_traffic(1500, 23), "rloop")
        settle()
    assert not seen, seen


def streams_while_collecting() -> None:
    """Python's garbage collector may run inside any call of the bridge."""
    gc.set_threshold(5, 2, 2)
    run(_traffic(300, 24))
    settle()


async def _uploads(count: int, seed: int) -> None:
    client = ProxyClient("http://fake")
    dice = random.Random(seed)

    async def one() -> None:
        sizes = [dice.choice((0, 1, 100, 5000, 70_000)) for _ in range(dice.randrange(100))]

        async def pieces() -> AsyncIterator[bytes]:
            for size in sizes:
                yield bytes(size)

        slow = dice.choice(("", f"&slow={dice.randrange(300)}"))
        response = await client.forward_request("PUT", f"/?tally=1{slow}", None, pieces())
        assert response.body == reply_body(sum(sizes))

    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await one()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    client.close()


def uploads_asyncio() -> None:
    """All pieces of a body are handed over, whatever their sizes and however slowly they are taken."""
    run(_uploads(300, 25))
    settle()


def uploads_uvloop() -> None:
    """The same on uvloop."""
    run(_uploads(300, 26), "uvloop")
    settle()


async def _cancel(count: int, seed: int) -> None:
    client = ProxyClient("http://fake")
    dice = random.Random(seed)
    outcomes = {"cancelled": 0, "answered": 0}

    async def one() -> None:
        path = dice.choice((
            "/?hold=1",
            f"/?head=1&pieces=1000000&size=9&gap={dice.randrange(200)}",
            "/?head=1&pieces=1000000&size=16384",
            f"/?head=1&after={dice.randrange(300)}&pieces=3&size=100",
            f"/?head=1&deaf=1&pieces=1000000&size=100&gap={dice.randrange(100)}",
            "/?tally=1&stuck=1",
            f"/?tally=1&slow={dice.randrange(400)}",
            f"/?head=1&early=1&stuck=1&pieces=1000000&size=5&gap={dice.randrange(100)}",
        ))  # fmt: skip
        body = _pieces(dice, 200) if "tally" in path or "early" in path else dice.choice((None, b"x" * 1000))

        async def call() -> None:
            async with client.stream_request("POST", path, {"a": "b"}, body) as response:
                await response.read()

        task = asyncio.create_task(call())
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0)
        if dice.random() < 0.5:
            await asyncio.sleep(dice.random() / 500)
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
    client.close()


def streams_cancelled_asyncio() -> None:
    """A cancelled stream or upload frees what it lent, whatever the core was about to say."""
    with unraisable() as seen:
        run(_cancel(800, 27))
        settle()
    assert not seen, seen


def streams_cancelled_uvloop() -> None:
    """The same on uvloop."""
    with unraisable() as seen:
        run(_cancel(800, 28), "uvloop")
        settle()
    assert not seen, seen


class _Future:
    """What a future is to the bridge, without a loop."""

    def __init__(self, then: Callable[[Any], object] | None = None) -> None:
        self.results: list[Any] = []
        self.then = then

    def set_result(self, result: Any) -> None:
        self.results.append(result)
        if self.then is not None:
            self.then(result)

    def done(self) -> bool:
        return bool(self.results)


def _drain_until(channel: Any, condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        channel.drain()
        assert time.monotonic() < end


def _open(channel: Any, pool: int, path: str = "/?head=1&pieces=3&size=100&rest=50", flags: int = STREAM) -> int:
    """A stream whose head has come: its node is parked."""
    future = _Future()
    token = int(channel.submit(future, pool, "GET", path, {"a": "b"}, None, 0, flags, None))
    _drain_until(channel, lambda: future.results)
    assert future.results[0][3] is None, future.results
    return token


def _read(channel: Any, token: int, size: int) -> Any:
    future = _Future()
    channel.read(future, token, size)
    _drain_until(channel, lambda: future.results)
    return future.results[0]


def _settle_channel(channel: Any) -> None:
    _drain_until(channel, lambda: not _bridge.stats()["in_flight"])


def reads_of_every_size() -> None:
    """The memory of a read is cut to what was filled, in place or as a copy; the end says how much it filled."""
    load()
    pool = _bridge.pool_new(b"{}")
    channel = _bridge.Channel()
    sizes = (1, 2, 3, 50, 99, 100, 101, 200, 201, 5000, 100_000)
    for size, rest in itertools.product(sizes, (0, 1, 50, 200)):
        token = _open(channel, pool, f"/?head=1&pieces=3&size=100&rest={rest}")
        filled = min(size, 100)
        pieces = [_read(channel, token, size) for _ in range(3)]
        assert pieces == [bytes([number]) * filled for number in range(3)]
        code, last, elapsed = _read(channel, token, size)
        assert (code, last) == (0, b"\3" * min(size, rest))
        assert elapsed > 0
        assert len({*pieces, last}) == 4  # their hashes are those of what they hold
        assert raises(RuntimeError, channel.read, _Future(), token, size) == NO_RESPONSE
    channel.close()
    settle()


def reads_that_cannot_be() -> None:
    """A read of nothing, of too much, of another channel's response or twice at a time is refused without harm."""
    load()
    pool = _bridge.pool_new(b"{}")
    channel, other = _bridge.Channel(), _bridge.Channel()
    for _ in range(20):
        token = _open(channel, pool)
        for size in (0, -1, -(1 << 63)):
            raises(RuntimeError, channel.read, _Future(), token, size)
        for size in (1 << 63, 1 << 200, "1", None, 1.5):
            raises((OverflowError, TypeError), channel.read, _Future(), token, size)
        raises((MemoryError, OverflowError), channel.read, _Future(), token, (1 << 63) - 1)
        for wrong in (token + 1, token - 1, 0, (1 << 64) - 1, token ^ (1 << 40)):
            assert raises(RuntimeError, channel.read, _Future(), wrong, 10) == NO_RESPONSE
        for wrong in (-1, 1 << 64, "1", None):
            raises((OverflowError, TypeError), channel.read, _Future(), wrong, 10)
        raises(TypeError, channel.read)
        raises(TypeError, channel.read, _Future(), token, 10, 10)
        assert raises(RuntimeError, other.read, _Future(), token, 10) == NO_RESPONSE
        future = _Future()
        channel.read(future, token, 100)
        assert raises(RuntimeError, channel.read, _Future(), token, 100) == NO_RESPONSE
        _drain_until(channel, lambda future=future: future.results)
        assert future.results == [b"\0" * 100]
        other.cancel(token)  # of no concern to that channel
        assert _read(channel, token, 100) == b"\1" * 100
        for _ in range(3):
            channel.cancel(token)
            assert raises(RuntimeError, channel.read, _Future(), token, 10) == NO_RESPONSE
        _settle_channel(channel)
    channel.close()
    other.close()
    raises(RuntimeError, channel.read, _Future(), 1, 1)
    settle()


def futures_that_act_at_once() -> None:
    """A future may read on, cancel, close the channel or raise while it is told of a head or a piece."""
    load()
    pool = _bridge.pool_new(b"{}")
    path = "/?head=1&pieces=20&size=10&rest=5"

    def submit(channel: Any, then: Callable[[Any], object]) -> int:
        return int(channel.submit(_Future(then), pool, "GET", path, None, None, 0, STREAM, None))

    with unraisable() as seen:
        for stop in range(5):
            channel = _bridge.Channel()
            got: list[Any] = []

            def on(result: Any, channel: Any = channel, got: list[Any] = got) -> None:
                got.append(result)
                if len(got) < 22:
                    channel.read(_Future(on), tokens[0], 100)  # noqa: B023 - of this turn

            tokens = [submit(channel, on)]
            _drain_until(channel, lambda got=got: len(got) == 22)
            assert got[-1][:2] == (0, b"\x14" * 5)
            assert got[1:-1] == [bytes([number]) * 10 for number in range(20)]

            for act in ("cancel", "close", "raise", "read and raise", "drain", "drop"):
                channel = _bridge.Channel()
                count = 0

                def misbehave(_: Any, channel: Any = channel, act: str = act) -> None:
                    nonlocal count
                    count += 1
                    if count <= stop:  # noqa: B023 - of this turn
                        channel.read(_Future(misbehave), tokens[0], 100)  # noqa: B023 - of this turn
                    elif act == "cancel":
                        channel.cancel(tokens[0])  # noqa: B023 - of this turn
                    elif act == "close":
                        channel.close()
                        _bridge.reap()
                    elif act == "raise":
                        raise KeyError("mine")
                    elif act == "read and raise":
                        channel.read(_Future(), tokens[0], 100)  # noqa: B023 - of this turn
                        raise KeyError("mine")
                    elif act == "drain":
                        channel.drain()

                tokens = [submit(channel, misbehave)]
                _drain_until(channel, lambda stop=stop: count > stop)  # noqa: B023 - of this turn
                channel.drain()
                channel.close()
                del channel
                settle()
    assert all(kind is KeyError for kind, _ in seen), seen


def channels_closed_with_parked_nodes() -> None:
    """A channel may go while its streams are parked, in the core, in its queue, or in the middle of a body."""
    load()
    pool = _bridge.pool_new(b"{}")
    before = 0
    for turn in range(40):
        channels = [_bridge.Channel() for _ in range(4)]
        for channel in channels:
            parked = [_open(channel, pool) for _ in range(5)]
            channel.read(_Future(), parked[0], 100)  # on its way
            _read(channel, parked[1], 100)  # parked with a piece
            slow = _open(channel, pool, "/?head=1&pieces=9&size=9&gap=3000")
            channel.read(_Future(), slow, 100)
            for path in ("/?head=1", "/?hold=1&head=1", "/?head=1&after=1500&pieces=2&size=2", "/?head=1&pause=500"):
                channel.submit(_Future(), pool, "GET", path, None, bytearray(1000), 0, STREAM, None)
            for query in ("stuck=1", "slow=2000", "early=1&head=1", "early=1&head=1&stuck=1"):
                path = f"/?{query}"
                token = channel.submit(_Future(), pool, "PUT", path, {"a": "b"}, None, 0, STREAM | UPLOAD, None)
                for size in (0, 10, 100_000):
                    channel.send(_Future(), token, bytearray(size), size == 100_000 and turn % 2)
        if turn % 3 == 0:
            # All that will come has come, and waits in the queues for a loop that does not look.
            assert select.select([channel.fileno() for channel in channels], [], [], PATIENCE)[0]
        if turn % 4 == 0:
            del channels, channel
        else:
            for channel in channels:
                channel.close()
        if turn % 5 == 0:
            gc.collect()
        settle()
        if turn == 10:
            before = descriptors()
    assert descriptors() <= before + 8, (descriptors(), before)


def loops_closed_with_streams() -> None:
    """Loops that end in the middle of streams and uploads leave nothing in the core, and the client usable."""
    for name in ("asyncio", "uvloop"):
        for turn in range(10):
            client = ProxyClient("http://fake")
            loop = loop_factory(name)()
            loop.set_exception_handler(lambda *_: None)
            kept: list[Any] = []

            async def leave(client: ProxyClient = client, kept: list[Any] = kept) -> None:
                for path in ("/?head=1&pieces=9&size=9&gap=1000", "/?head=1&pieces=9&size=9", "/?head=1"):
                    for count in range(3):
                        context = client.stream_request("GET", path)
                        response = await context.__aenter__()
                        kept.extend((context, response))
                        if count and "pieces" in path:
                            assert await anext(response.aiter_raw()) == b"\0" * 9
                dice = random.Random(29)
                for path in ("/?stuck=1", "/?slow=1000", "/?early=1&head=1&stuck=1"):
                    kept.append(asyncio.ensure_future(client.forward_request("PUT", path, None, _pieces(dice, 300))))
                for _ in range(turn % 4):  # noqa: B023 - called in this turn
                    await asyncio.sleep(0)

            loop.run_until_complete(leave())
            loop.close()
            if turn % 2:
                client.close()

            async def again(client: ProxyClient = client) -> None:
                if not client._closed:
                    assert (await client.forward_request("GET", "/?body=3")).body == reply_body(3)

            run(again(), name)
            client.close()
            del loop
            kept.clear()
            gc.collect()
            settle()


def pools_closed_with_streams() -> None:
    """Closing a client ends its streams, wherever they are, with its own error."""

    async def main() -> None:
        for _ in range(20):
            client = ProxyClient("http://fake")
            contexts = [client.stream_request("GET", "/?head=1&pieces=1000000&size=9&gap=100") for _ in range(10)]
            responses = [await context.__aenter__() for context in contexts]
            iterators = [response.aiter_raw() for response in responses[:5]]
            for iterator in iterators:
                assert await anext(iterator) == b"\0" * 9
            waiting = [asyncio.ensure_future(response.read()) for response in responses[5:]]
            await asyncio.sleep(0)
            client.close()
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(outcome, ClientClosedError), outcome
            for iterator in iterators:
                try:
                    while True:  # what had arrived comes first
                        await anext(iterator)
                except ClientClosedError:
                    pass
            for context in contexts:
                await context.__aexit__(None, None, None)

    run(main())
    settle()


def pieces_that_are_refused() -> None:
    """A piece for a request that is over, or never was, is answered as refused; one that is none raises."""

    async def main() -> None:
        border = Border()

        async def send(token: int, piece: Any, last: bool = False) -> int:
            future = border.loop.create_future()
            border.channel.send(future, token, piece, last)
            return int((await future)[0])

        done, token = border.submit("/?body=3")
        await done
        for wrong in (token, token + 1, 0, 1 << 32, (5000 << 32) + 5):
            assert await send(wrong, b"x" * 1000) == 15
        held, token = border.submit("/?hold=1")  # a request without pieces
        assert await send(token, b"x") == 15
        border.channel.cancel(token)
        assert (await held)[0] == 15
        future = border.loop.create_future()
        token = border.channel.submit(future, border.pool, "PUT", "/?tally=1", None, None, 0, UPLOAD, None)
        for piece in (5, [b"x"], object(), 1.5, "\udc80"):
            raises((TypeError, ValueError), border.channel.send, future, token, piece, False)

        class NoTruth:
            def __bool__(self) -> bool:
                raise KeyError("mine")

        raises(KeyError, border.channel.send, future, token, b"x", NoTruth())
        raises(TypeError, border.channel.send, future, token, b"x")
        raises((TypeError, OverflowError), border.channel.send, future, -1, b"x", True)
        assert await send(token, b"12345") == 0
        assert await send(token, None) == 0
        assert await send(token, b"678", True) == 0
        assert (await future)[3] == reply_body(8)
        channel = border.channel
        border.close()
        raises(RuntimeError, channel.send, future, token, b"x", True)

    run(main())
    settle()


def memory_of_streams_returns() -> None:
    """What streams and uploads allocate is freed: whole, left, cancelled, broken off and abandoned ones alike."""

    def round_() -> int | None:
        run(_traffic(200, 30))
        run(_uploads(50, 31))
        run(_cancel(100, 32))
        channels_closed_with_parked_nodes()
        run(empty_nodes())
        settle()
        gc.collect()
        bytes_now = allocated()
        # Nodes are never freed; how many there are at once varies.
        return None if bytes_now is None else bytes_now - 500 * _bridge.stats()["nodes"]

    for _ in range(2):
        round_()  # grows tables, caches and free lists
    sizes = [round_() for _ in range(4)]
    print("allocated bytes after each round:", sizes)
    if None not in sizes:
        # A leak shows in every round; a table that grows does not.
        assert min(later - earlier for earlier, later in itertools.pairwise(sizes)) < 5000, sizes
