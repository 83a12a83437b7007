"""Delivers changes of state to a callback of the user's, on the loop that uses the pool."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from . import _bridge
from ._attempts import StateChange, read_change
from ._errors import Code, InternalError

StateCallback: TypeAlias = Callable[[StateChange], "Awaitable[object] | object"]


class Watch:
    """Asks the core for changes, again and again, and hands each one to the callback, in order, one at a time.

    It runs on callbacks of the loop alone: there is no task that would be pending when the program ends.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: _bridge.Channel,
        pool: int,
        callback: StateCallback,
        since: int = 0,
    ) -> None:
        self.loop = loop
        self.last = since
        """Number of the last change that was told."""
        self._channel = channel
        self._pool = pool
        self._callback = callback
        self._queue: deque[StateChange] = deque()
        self._running: asyncio.Future[object] | None = None
        self._ask()

    def _ask(self) -> None:
        future: asyncio.Future[Any] = self.loop.create_future()
        future.add_done_callback(self._told)
        argument = json.dumps({"since": self.last}).encode()
        self._channel.control(future, self._pool, "changes", argument)

    def _told(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        reply = future.result()
        if reply[0]:
            if reply[0] not in (Code.CLIENT_CLOSED, Code.CANCELLED, Code.FORKED):  # the pool or the loop is at its end
                error = InternalError(f"changes of state are told no more: {reply[3]}")
                self._report(error, "on_state_change ends")
            return
        answer = json.loads(reply[3])
        self.last = answer["last"]
        self._queue.extend(read_change(record) for record in answer["changes"])
        self._ask()
        self._deliver()

    def _deliver(self, ended: asyncio.Future[object] | None = None) -> None:
        if ended is not None:
            self._running = None
            if not ended.cancelled() and (error := ended.exception()) is not None:
                self._report(error)
        while self._queue and self._running is None:
            change = self._queue.popleft()
            try:
                waiting = self._callback(change)
                if isinstance(waiting, Awaitable):
                    self._running = asyncio.ensure_future(cast("Awaitable[object]", waiting), loop=self.loop)
                    self._running.add_done_callback(self._deliver)
            except Exception as error:
                self._report(error)

    def _report(self, error: BaseException, what: str = "on_state_change raised") -> None:
        self.loop.call_exception_handler({"message": what, "exception": error, "callback": self._callback})
