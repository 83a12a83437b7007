"""Request bodies that come piece by piece from an asynchronous iterable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final

from . import _bridge

_WINDOW: Final = 512 * 1024
"""Bytes that may be on their way: handed to the core and not yet taken by the socket to the upstream."""
_PIECES: Final = 64
"""Pieces that may be on their way, however small they are."""


class Upload:
    """Sends what an asynchronous iterable yields as the body of one request.

    The iterable is asked for a piece only when there is room for it: what the upstream does not take is not collected.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, channel: _bridge.Channel, token: int, body: AsyncIterable[Any]
    ) -> None:
        self.failure: BaseException | None = None
        """What the iterable raised; the request was cancelled for it."""
        self._loop = loop
        self._channel = channel
        self._token = token
        self._task = loop.create_task(self._send_all(body.__aiter__()))

    async def _send_all(self, pieces: AsyncIterator[Any]) -> None:
        try:
            try:
                await self._send_each(pieces)
            finally:
                close = getattr(pieces, "aclose", None)
                if close is not None:
                    await close()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failure = error
            self._channel.cancel(self._token)

    async def _send_each(self, pieces: AsyncIterator[Any]) -> None:
        on_the_way: deque[tuple[asyncio.Future[Any], int]] = deque()
        size = 0
        async for piece in pieces:
            future = self._send(piece, False)
            on_the_way.append((future, len(piece)))
            size += len(piece)
            if size < _WINDOW and len(on_the_way) < _PIECES:
                continue
            # Wait until half of it is gone, not for each piece by itself: pieces are taken in order.
            room = max(size - _WINDOW // 2, 1)
            while room > 0 or len(on_the_way) > _PIECES // 2:
                future, taken = on_the_way.popleft()
                room -= taken
                size -= taken
            if (await future)[0]:
                return  # the request is over: the response did not wait for the rest, or it failed
        self._send(b"", True)

    def _send(self, piece: Any, last: bool) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._channel.send(future, self._token, piece, last)
        return future

    async def stop(self) -> None:
        """End the sending and wait until the iterable was closed."""
        self._task.cancel()
        await asyncio.wait((self._task,))
