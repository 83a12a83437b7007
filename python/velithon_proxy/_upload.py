"""Request bodies that come piece by piece from an asynchronous iterable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
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
        self._stopping = False
        self._task = loop.create_task(self._send_all(body))

    async def _send_all(self, body: AsyncIterable[Any]) -> None:
        try:
            pieces = body.__aiter__()
            try:
                await self._send_each(pieces)
            finally:
                close = getattr(pieces, "aclose", None)
                if close is not None:
                    await close()
        except BaseException as error:
            if self._stopping and isinstance(error, asyncio.CancelledError):
                raise
            # A CancelledError of the iterable's own as well: the request would wait for the rest of its body.
            self.failure = error
            self._channel.cancel(self._token)

    async def _send_each(self, pieces: AsyncIterator[Any]) -> None:
        on_the_way: deque[tuple[asyncio.Future[Any], int]] = deque()
        size = 0
        async for piece in pieces:
            bytes_of_it = _size(piece)
            future = self._send(piece, False)
            on_the_way.append((future, bytes_of_it))
            size += bytes_of_it
            if size < _WINDOW and len(on_the_way) < _PIECES:
                continue
            # Wait until half of it is gone, not for each piece by itself: pieces are taken in order.
            while size > _WINDOW // 2 or len(on_the_way) > _PIECES // 2:
                future, taken = on_the_way.popleft()
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
        self._stopping = True
        self._task.cancel()
        await asyncio.wait((self._task,))

    def abandon(self) -> None:
        """End the sending without waiting. For those who cannot wait: in any thread, and when the loop is closed."""
        self._stopping = True
        with suppress(RuntimeError):  # the loop is closed, and nothing runs on it any more
            self._loop.call_soon_threadsafe(self._task.cancel)


def _size(piece: Any) -> int:
    """Return the size of a piece in bytes; that of text is near enough.

    Raises:
        TypeError: it is neither bytes-like nor text.
    """
    if isinstance(piece, (bytes, str)):
        return len(piece)
    try:
        return memoryview(piece).nbytes
    except TypeError:
        raise TypeError(f"a piece of the body is of {type(piece)!r}; bytes-like or str is allowed") from None
