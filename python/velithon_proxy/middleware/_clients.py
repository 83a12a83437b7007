"""Watches, while a request waits for an upstream, whether its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ._answers import logger

_WATCH_AFTER: Final = 0.01
"""Seconds after which a request is slow enough to watch whether its client still waits; watching has a price."""


class ClientWatch:
    """Cancels the running task if the client goes away while it waits for an upstream.

    Nothing happens in the first moments, which is all that most requests need: waiting for the client costs a task
    and a wake-up of the server's own threads. A client that left before is noticed then.

    Args:
        gone: waits until the client has gone.
    """

    __slots__ = ("_fired", "_gone", "_task", "_timer", "_watcher")

    def __init__(self, gone: Callable[[], Awaitable[object]]) -> None:
        self._gone = gone
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._fired = False
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER, self._start)

    def end(self) -> None:
        """Stop watching. A waiter that stays behind would take the news of a later request of its connection."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def was_the_reason(self) -> bool:
        """Whether a cancellation came from here alone, which ends it; otherwise it must go on."""
        return self._fired and self._task is not None and self._task.uncancel() == 0

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        try:
            await self._gone()
        except Exception:
            # A wrapper without this method, or a server that has given the connection up already.
            logger.debug("cannot watch the client's connection", exc_info=True)
            return
        # Granian's experimental tasks in Rust cannot be cancelled; then the upstream finishes for nobody.
        if self._task is not None and self._task.cancel():
            self._fired = True
