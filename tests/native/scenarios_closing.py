"""Channels that are closed or dropped while the core works for them."""

from __future__ import annotations

import select
import sys
import time
from typing import Any

from fake_border import (
    PATIENCE,
    Border,
    _bridge,
    descriptors,
    load,
    raises,
    run,
    settle,
)


def channels_closed() -> None:
    """A closed channel refuses work and takes back what was under way, however it was closed."""

    async def main() -> None:
        border = Border()
        futures = [border.submit("/?hold=1&deaf=1&body=3", body=bytearray(900))[0] for _ in range(50)]
        tokens = [border.submit("/?after=5000")[1] for _ in range(50)]
        channel = border.channel
        assert border.close() > 0
        for _ in range(3):
            assert channel.fileno() == -1
            channel.drain()
            channel.cancel(tokens[0])
            channel.close()
            raises(RuntimeError, channel.submit, futures[0], border.pool, "GET", "/", None, None, 0, 0)
            raises(RuntimeError, channel.measure, futures[0], 4, 0, 0)
        settle()
        assert not any(future.done() for future in futures)

    def drop() -> None:
        channel = _bridge.Channel()
        pool = _bridge.pool_new(b"{}")
        for path in ("/?hold=1", "/?after=1000", "/?direct=70000", "/"):
            channel.submit(object(), pool, "GET", path, {"a": "b"}, bytearray(2000), 0, 0, None)

    run(main())
    before = descriptors()
    for _ in range(8):
        for _ in range(10):
            drop()
        settle()
    assert descriptors() <= before + 10  # no more than there were channels at once

    class Exits:
        """Closes the channel from inside its drain."""

        def __init__(self, channel: Any) -> None:
            self.channel = channel

        def set_result(self, _: object) -> None:
            self.channel.close()
            _bridge.reap()

        def done(self) -> bool:
            return True

    for _ in range(20):
        channel = _bridge.Channel()
        pool = _bridge.pool_new(b"{}")
        for _ in range(5):
            channel.submit(Exits(channel), pool, "GET", "/?batch=5", None, None, 0, 0, None)
        while channel.fileno() >= 0:
            channel.drain()
        del channel
        settle()


class _Reaper(bytes):
    """A body whose end reaps, as any destructor does that lets a loop go."""

    def __del__(self) -> None:
        _bridge.reap()


def reaping_again_while_reaping() -> None:
    """Giving an abandoned request's objects back may run any Python code, also code that reaps."""
    load()
    pool = _bridge.pool_new(b"{}")
    for _ in range(50):
        for size in (1, 3):
            channels = [_bridge.Channel() for _ in range(3)]
            for channel in channels:
                for _ in range(size):
                    channel.submit(None, pool, "GET", "/?hold=1", None, _Reaper(b"x" * 100), 0, 0, None)
            for channel in channels:
                channel.close()
            settle()


def closed_while_an_answer_is_given() -> None:
    """A thread of the core that is held up between giving a node back and waking the loop finds the queue."""
    load()
    pool = _bridge.pool_new(b"{}")
    for _ in range(30):
        channel = _bridge.Channel()
        kept: list[object] = []

        class Keeps:
            def set_result(self, reply: object, kept: list[object] = kept) -> None:
                kept.append(reply)

        channel.submit(Keeps(), pool, "GET", "/?pause=3000", None, None, 0, 0, None)
        end = time.monotonic() + PATIENCE
        while not kept:
            channel.drain()  # the loop is awake for another reason
            assert time.monotonic() < end
        assert channel.close() == 0
    settle()


class _Closes:
    """An integer whose value is asked for after the channel was looked at."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def __index__(self) -> int:
        self.channel.close()
        settle()
        return 0


def closed_by_an_argument() -> None:
    """Reading an argument may run Python code that closes the channel."""
    load()
    pool = _bridge.pool_new(b"{}")
    for _ in range(10):
        channel = _bridge.Channel()
        raises(RuntimeError, channel.submit, None, pool, "GET", "/", None, None, _Closes(channel), 0, None)
        channel = _bridge.Channel()
        raises(RuntimeError, channel.measure, None, 4, 0, _Closes(channel))
    if sys.version_info >= (3, 12):

        class Buffer(_Closes):
            def __buffer__(self, flags: int) -> memoryview:
                self.__index__()
                return memoryview(b"x")

        channel = _bridge.Channel()
        raises(RuntimeError, channel.submit, None, pool, "GET", "/", None, Buffer(channel), 0, 0, None)
    settle()


def exceptions_survive_a_dropped_channel() -> None:
    """A channel that is dropped while an exception is on its way does not swallow it."""
    load()
    pool = _bridge.pool_new(b"{}")

    def asked_for_memory() -> Any:
        channel = _bridge.Channel()
        channel.submit(None, pool, "GET", "/?direct=70000", None, bytearray(100), 0, 0, None)
        assert select.select([channel.fileno()], [], [], PATIENCE)[0]
        return channel

    def fail() -> None:
        raise KeyError("on its way")

    for _ in range(20):
        # The channel has no other owner than the expression that the exception ends.
        raises(KeyError, lambda: (asked_for_memory(), fail()))
    settle()
