"""Watches, while a request waits for an upstream, whether its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ._answers import logger

WATCH_AFTER: Final = 0.05
"""A request that is so many seconds old, or twice as many, is slow enough to watch whether its client still waits."""


async def has_left(gone: Callable[[], Awaitable[object]]) -> bool:
    """Wait until a client has gone; False if nobody can tell."""
    try:
        await gone()
    except Exception:
        # A wrapper without this method, or a server that has given the connection up already.
        logger.debug("cannot watch the client's connection", exc_info=True)
        return False
    return True


class ClientWatch:
    """Cancels the running task if the client goes away while it waits for an upstream.

    Nothing happens in the first moments, which is all that most requests need: waiting for the client costs a task
    and a wake-up of the server's own threads. A client that left before is noticed then.

    Args:
        gone: waits until the client has gone.
    """

    __slots__ = ("_among", "_fired", "_gone", "_task", "_watcher")

    def __init__(self, gone: Callable[[], Awaitable[object]]) -> None:
        loop = asyncio.get_running_loop()
        self._gone = gone
        self._task = asyncio.current_task(loop)
        self._watcher: asyncio.Task[None] | None = None
        self._fired = False
        self._among = (_clocks.get(loop) or _clock_of(loop)).add(self)

    def end(self) -> None:
        """Stop watching. A waiter that stays behind would take the news of a later request of its connection."""
        self._among.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()

    def was_the_reason(self) -> bool:
        """Whether a cancellation came from here alone, which ends it; otherwise it must go on."""
        return self._fired and self._task is not None and self._task.uncancel() == 0

    def start(self) -> None:
        """Begin to watch."""
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        # Granian's experimental tasks in Rust cannot be cancelled; then the upstream finishes for nobody.
        if await has_left(self._gone) and self._task is not None and self._task.cancel():
            self._fired = True


class _Clock:
    """Starts the watches of one event loop that have become old, with one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._young: set[ClientWatch] = set()
        self._old: set[ClientWatch] = set()  # since the last turn or longer
        self._running = False

    def add(self, watch: ClientWatch) -> set[ClientWatch]:
        """Take a watch in; to be discarded from the set that is returned."""
        self._young.add(watch)
        if not self._running:
            self._running = True
            self._loop.call_later(WATCH_AFTER, self._turn)
        return self._young

    def _turn(self) -> None:
        due, self._old, self._young = self._old, self._young, set()
        for watch in due:
            watch.start()
        self._running = bool(self._old)
        if self._running:
            self._loop.call_later(WATCH_AFTER, self._turn)


_clocks: Final[dict[asyncio.AbstractEventLoop, _Clock]] = {}


def _clock_of(loop: asyncio.AbstractEventLoop) -> _Clock:
    for other in list(_clocks):  # a copy: other threads have loops as well
        if other.is_closed():
            _clocks.pop(other, None)
    clock = _clocks[loop] = _Clock(loop)
    return clock
