"""The process's one core and the channel of each event loop.

Importing this module loads nothing. The core, a Go runtime, is loaded at the first request, inside a running event
loop: a process that forks its workers after importing the application must not have one, because a Go runtime does
not survive a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import struct
import sys
import threading
import time
from collections.abc import MutableMapping
from weakref import WeakKeyDictionary

from . import _bridge

_LIBRARY = os.path.join(  # noqa: PTH118 - pathlib would be a third of the time that importing the package takes
    os.path.dirname(__file__),  # noqa: PTH120
    "libvelithonproxy.dylib" if sys.platform == "darwin" else "libvelithonproxy.so",
)
_EXIT_PATIENCE = 1.0
"""Seconds that the end of the process waits for requests in flight to be given up."""

lock = threading.RLock()
"""Guards what happens once per process, loop or client. Look it up anew each time: a forked child gets its own."""

_channels: MutableMapping[asyncio.AbstractEventLoop, _bridge.Channel] = WeakKeyDictionary()
_failure: str | None = None
_loaded = False


def _after_fork_in_child() -> None:
    """Replace a lock that a thread of the parent may hold: that thread does not exist here."""
    global lock
    lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def channel_of(loop: asyncio.AbstractEventLoop) -> _bridge.Channel:
    """Return the channel of a running event loop; the first call in a process loads the core.

    Raises:
        ImportError: the core library is missing or not usable here; the message says why.
        ForkedProcessError: this process was forked from one that had used the core.
        NotImplementedError: the loop cannot watch file descriptors.
        OSError: no file descriptor is left.
    """
    with lock:
        channel = _channels.get(loop)
        if channel is None:
            _load()
            _close_ended()
            channel = _bridge.Channel()
            try:
                loop.add_reader(channel.fileno(), channel.drain)
            except BaseException:
                channel.close()
                raise
            _channels[loop] = channel
        return channel


def _load() -> None:
    global _failure, _loaded
    if _loaded:
        return
    if _failure is not None:
        raise ImportError(_failure)  # a new one each time: it keeps the frames that it has passed
    try:
        if not os.path.exists(_LIBRARY):  # noqa: PTH110
            raise ImportError(f"{_LIBRARY} is missing: the package was not built completely")
        _check_complete()
        # Zeros: the defaults of the core (capi/main.go).
        _bridge.load(_LIBRARY, 0, 0, 0)
    except ImportError as error:
        hint = ""
        if "static TLS" in str(error):
            hint = (
                "; send a first request before loading other large libraries, or raise glibc.rtld.optional_static_tls"
            )
        _failure = f"{error}{hint}"
        raise ImportError(_failure) from error
    _loaded = True
    atexit.register(_shut_down)


def _check_complete() -> None:
    """Refuse an ELF file that was cut short: the linker would map it, and the process die of SIGBUS in what is missing.

    The section headers are the last thing in the file (System V ABI, chapter 4: e_shoff, e_shentsize, e_shnum).
    """
    try:
        with open(_LIBRARY, "rb") as file:  # noqa: PTH123
            header = file.read(64)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return  # the linker says it better
    if len(header) == 64 and header[:6] == b"\x7fELF\x02\x01":
        (start,) = struct.unpack_from("<Q", header, 40)
        entry, count = struct.unpack_from("<HH", header, 58)
        if size < start + entry * count:
            raise ImportError(
                f"the core of velithon_proxy cannot be loaded: {_LIBRARY} has {size} bytes, fewer than it needs"
            )


def _close_ended() -> None:
    """Give up the channels of loops that were closed: nobody drains them any more."""
    for loop, channel in list(_channels.items()):
        if loop.is_closed():
            del _channels[loop]
            channel.close()


def _shut_down() -> None:
    """Cancel what is in flight and let it come back, so that the process ends without anybody using its memory.

    A loop that still runs is that of a daemon thread in the middle of its work, which will simply stop to exist. An
    error raised there now would be printed while the interpreter takes stderr apart, and that aborts the process.
    """
    with lock:
        channels = [_channels.pop(loop) for loop in list(_channels) if not loop.is_running()]
    for channel in channels:
        channel.close()
    end = time.monotonic() + _EXIT_PATIENCE
    while _bridge.reap() and time.monotonic() < end:
        time.sleep(0.002)
