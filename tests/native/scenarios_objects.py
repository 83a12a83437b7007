"""Python objects on their way in and out: bodies, replies, futures."""

from __future__ import annotations

import array
import asyncio
import os
import select
import time
from collections.abc import Callable
from typing import Any

from fake_border import (
    Border,
    Octets,
    ProxyClient,
    Rude,
    Text,
    _bridge,
    load,
    pack,
    reply_body,
    reply_lines,
    reply_message,
    run,
    settle,
    unraisable,
)

from velithon_proxy import ConnectError, InternalError
from velithon_proxy._errors import PROXY_ERRORS, VALUE_ERRORS, Code

DRAIN_MAX = 512  # completions that one drain takes, _bridge_channel.c


def bodies() -> None:
    """Each kind of body is sent as it was at the call, even if the caller changes it at once."""

    async def main() -> None:
        border = Border()

        async def echoed(body: Any) -> bytes:
            return (await border.request("/?echo=1&after=300", method="POST", body=body))[3]

        big = os.urandom(3_000_000)
        for body, expected in (
            (None, b""),
            (b"", b""),
            ("", b""),
            (b"bytes", b"bytes"),
            (Octets(b"subclass"), b"subclass"),
            ("text \xe9 \u20ac \U0001f600", "text \xe9 \u20ac \U0001f600".encode()),
            (Text("subclass \xe9"), "subclass \xe9".encode()),
            (bytearray(b"array"), b"array"),
            (memoryview(b"0123456789")[::2], b"02468"),
            (memoryview(b"0123456789")[::-1], b"9876543210"),
            (memoryview(array.array("I", [1, 2, 3])), array.array("I", [1, 2, 3]).tobytes()),
            (array.array("d", [0.5]), array.array("d", [0.5]).tobytes()),
            (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12))),
            (memoryview(b""), b""),
            (big, big),
            (memoryview(big)[1:-1:3], big[1:-1:3]),
        ):
            assert await echoed(body) == expected, type(body)
        changing = bytearray(b"a" * 100_000)
        future, _ = border.submit("/?echo=1&after=2000", body=changing)
        changing[:] = b"b" * 100_000
        changing.extend(b"b" * 400_000)  # not locked by the request, either
        assert (await future)[3] == b"a" * 100_000
        future, _ = border.submit("/?echo=1&after=2000", body=bytearray(b"c" * 300_000))
        assert (await future)[3] == b"c" * 300_000  # nobody else holds it
        future, _ = border.submit(
            "/?echo=1&after=2000", body=b"%d" % time.time_ns() * 20_000, headers=b"".join([pack([(b"n", b"v")])])
        )
        assert len((await future)[3]) == 19 * 20_000
        released = memoryview(b"x")
        released.release()
        for wrong, error in (
            (3, TypeError),
            (2.5, TypeError),
            ([1, 2], TypeError),
            ((b"a",), TypeError),
            ({}, TypeError),
            (iter(b"ab"), TypeError),
            (object(), TypeError),
            (Rude(), TypeError),
            ("\ud800", ValueError),
            (released, ValueError),
        ):
            future = border.loop.create_future()
            try:
                border.channel.submit(future, border.pool, "POST", "/", None, wrong, 0, 0, None)
                raise AssertionError(f"{type(wrong)} was sent")
            except error:
                assert not future.done()
        border.close()

    run(main())
    settle()


def large_replies() -> None:
    """Large bodies land in the object that the caller gets; without memory that request alone fails."""

    async def main() -> None:
        border = Border()
        for size in (1, 65_536, 5_000_001, 64 << 20):
            assert (await border.request(f"/?direct={size}"))[3] == reply_body(size)
        replies = await asyncio.gather(
            *(border.request(f"/?direct={70_000 + i}&after={i % 9 * 100}") for i in range(200))
        )
        assert all(reply[3] == reply_body(70_000 + i) for i, reply in enumerate(replies))
        for size in (1 << 46, (1 << 63) - 100, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            hopeless = border.request(f"/?direct={size}&phase=7")
            reply, fine = await asyncio.gather(hopeless, border.request("/?direct=70000"))
            assert reply[:3] == (Code.BODY_TOO_LARGE, 7, 0), size
            assert fine[3] == reply_body(70_000)
        # A caller that leaves before the memory is asked for, while it is lent, and after it was filled.
        for after in (0, 100, 300):
            future, token = border.submit(f"/?direct=90000&after={after}&deaf=1")
            await asyncio.sleep(after / 1e6)
            future.cancel()
            border.channel.cancel(token)
        border.close()

    run(main())
    settle()


def every_code() -> None:
    """Each code of the core becomes its exception, with what the core says; unknown ones too."""

    async def main() -> None:
        client = ProxyClient("http://fake")

        async def error_of(query: str) -> BaseException:
            try:
                await client.forward_request("GET", f"/?{query}")
            except BaseException as error:
                return error
            raise AssertionError(f"{query} raised nothing")

        for code in (*Code, 19, 77, (1 << 32) - 1):
            if code in (Code.OK, Code.CANCELLED):
                continue
            error = await error_of(f"code={int(code)}&phase=5&outcome=1&message=21&after=10")
            if code in VALUE_ERRORS:
                assert type(error) is VALUE_ERRORS[code]
                assert str(error) == reply_message(21)
                continue
            assert type(error) is PROXY_ERRORS.get(code, InternalError)
            assert reply_message(21) in str(error)
            assert (error.phase, error.request_sent, error.target) == ("write", True, "http://fake")
            assert error.elapsed > 0
        assert type(await error_of(f"code={int(Code.CANCELLED)}")) is asyncio.CancelledError
        error = await error_of("code=3&phase=99&outcome=255")
        assert isinstance(error, ConnectError)
        assert error.phase is None
        client.close()

    run(main())
    settle()


class _Future:
    """Stands where a future is expected."""

    def __init__(self, act: Callable[[Any], object], *, done: bool = True) -> None:
        self.act, self.is_done = act, done

    def set_result(self, reply: object) -> None:
        self.act(reply)

    def done(self) -> bool:
        return self.is_done


def odd_futures() -> None:
    """A future that was resolved, cancelled, or is none does not harm the others; only real faults are told."""

    def fail(_: object) -> None:
        raise RuntimeError("set_result failed")

    async def main() -> None:
        border = Border()

        def submit(future: Any) -> None:
            border.channel.submit(future, border.pool, "GET", "/?body=9", None, None, 0, 0, None)

        with unraisable() as seen:
            for prepare in (
                lambda f: f.cancel(),
                lambda f: f.set_result(1),
                lambda f: f.set_exception(OSError()) or f.exception(),
            ):
                future = border.loop.create_future()
                submit(future)
                prepare(future)
            submit(_Future(fail, done=True))
            await border.request("/?after=3000")
            assert not seen, seen
            for odd in (None, 3, object(), _Future(fail, done=False), type):
                submit(odd)
            await border.request("/?after=3000")
            assert len(seen) == 5, seen
        same = border.loop.create_future()
        with unraisable() as seen:
            submit(same)
            submit(same)
            assert (await same)[3] == reply_body(9)
            await border.request("/?after=3000")
        assert not seen, seen
        kept: list[Any] = []
        submit(_Future(lambda reply: kept.append(reply)))
        await border.request("/?after=3000")
        assert kept[0][3] == reply_body(9)
        for _ in range(3):
            for kind, argument, timeout in ((4, 0, 0), (5, 0, 0), (6, 2, 1_000_000)):
                future = border.loop.create_future()
                border.channel.measure(future, kind, argument, timeout)
                reply = await future
                assert reply[0] == (Code.INTERNAL if kind == 5 else Code.OK), reply
        assert _bridge.stats()["panics"] == 3
        border.close()

    run(main())
    settle()


def bursts() -> None:
    """A burst of replies is taken in pieces; each piece wakes the loop again, also one that is told of edges only."""
    load()
    loop = asyncio.new_event_loop()
    pool, count = _bridge.pool_new(b"{}"), 4 * DRAIN_MAX + 7
    for edge in (0, select.EPOLLET):
        channel = _bridge.Channel()
        poll = select.epoll()
        poll.register(channel.fileno(), select.EPOLLIN | edge)
        for size in (1, DRAIN_MAX, DRAIN_MAX + 1, count):
            resolved: list[object] = []
            for _ in range(size):
                channel.submit(_Future(resolved.append), pool, "GET", f"/?batch={size}", None, None, 0, 0, None)
            drains = 0
            while len(resolved) < size:
                assert poll.poll(5), (edge, size, len(resolved))
                before = len(resolved)
                channel.drain()
                drains += 1
                assert len(resolved) - before <= DRAIN_MAX
            assert drains >= -(-size // DRAIN_MAX)
            while poll.poll(0):
                channel.drain()  # nothing left: falls asleep
        assert channel.close() == 0
        poll.close()
    loop.close()
    settle()


def reply_heads() -> None:
    """Long header lists come back whole, and replies grow and shrink in the memory of one node."""

    async def main() -> None:
        border = Border()
        for lines, size in ((0, 0), (50_000, 0), (0, 0), (1, 65_000), (3000, 1), (0, 2_000_000), (2, 2)):
            reply = await border.request(f"/?lines={lines}&body={size}")
            assert reply[:4] == (0, 200, pack(reply_lines(lines)), reply_body(size))
            text = _bridge.unpack_fields(reply[2])
            assert [(name.encode(), value.encode("latin-1")) for name, value in text] == reply_lines(lines)
        border.close()

    run(main())
    settle()
