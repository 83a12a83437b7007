"""A large response on RSGI: through a pipe that the server takes for a file.

What ``response_stream`` is given the server keeps until the client has taken it, and it does not say how much that is.
A file it reads piece by piece, as fast as the client takes them, and a pipe as well: when it is full, the client is
slow, and the upstream is held back.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
import time
from types import TracebackType
from typing import Final

_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")
_SIZE: Final = 262_144
"""Bytes that a pipe should hold: two reads of a server."""
_PATIENCE: Final = 5.0
"""Seconds in which a server opens the path, or it has lost the client before."""
_POLL: Final = 0.002
"""Seconds between two looks at a pipe whose other end has not been opened yet."""


class Pipe:
    """A pipe with a path; ``with`` closes it.

    Raises:
        OSError: no descriptor is left, or the system has no paths for them.
    """

    def __init__(self) -> None:
        folder = next((name for name in _FOLDERS if os.path.isdir(name)), None)  # noqa: PTH112
        if folder is None:
            raise OSError("descriptors have no paths here")
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        with contextlib.suppress(OSError, AttributeError):  # more than an ordinary user may have; only Linux has it
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, _SIZE)
        self._sent = 0
        self._patience = time.monotonic() + _PATIENCE
        self.path: Final = f"{folder}/{self._reader}"

    async def send(self, data: bytes) -> None:
        """Write all of it, as fast as the other end reads.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        rest = memoryview(data)
        while rest:
            try:
                count = os.write(self._writer, rest)
            except BlockingIOError:
                await self._writable()
                continue
            self._sent += count
            rest = rest[count:]
            if self._reader >= 0:
                self._look()

    async def finish(self) -> None:
        """Wait until the other end has opened the path, which is gone after the end of the block."""
        self._look()
        while self._reader >= 0:
            await asyncio.sleep(_POLL)
            self._look()

    def _look(self) -> None:
        """Leave the pipe to the other end once it has read something: our own would hide that nobody reads.

        Raises:
            BrokenPipeError: it has not in all the time since the beginning.
        """
        if self._reader < 0:
            return
        unread = bytearray(4)
        fcntl.ioctl(self._reader, termios.FIONREAD, unread)
        if int.from_bytes(unread, sys.byteorder) < self._sent:
            os.close(self._reader)
            self._reader = -1
        elif time.monotonic() > self._patience:
            raise BrokenPipeError("nobody has opened the pipe")

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._writer, _wake, future)
        # As long as we could read ourselves, nothing tells that nobody else will.
        timer = loop.call_later(_PATIENCE, _give_up, future) if self._reader >= 0 else None
        try:
            await future
        finally:
            loop.remove_writer(self._writer)
            if timer is not None:
                timer.cancel()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reader >= 0:
            os.close(self._reader)
        os.close(self._writer)


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(BrokenPipeError("nobody has opened the pipe"))


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
