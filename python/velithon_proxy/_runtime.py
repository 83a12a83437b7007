"""The process's one core and the channel of each event loop.

Importing this module loads nothing. The core, a Go runtime, is loaded at the first request, inside a running event
loop: a process that forks its workers after importing the application must not have one, because a Go runtime does
not survive a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import os
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

_lock = threading.Lock()
_channels: MutableMapping[asyncio.AbstractEventLoop, _bridge.Channel] = WeakKeyDictionary()
_failure: ImportError | None = None
_loaded = False


def channel_of(loop: asyncio.AbstractEventLoop) -> _bridge.Channel:
    """Return the channel of a running event loop; the first call in a process loads the core.

    Raises:
        ImportError: the core library is missing or not usable here; the message says why.
        ForkedProcessError: this process was forked from one that had used the core.
        NotImplementedError: the loop cannot watch file descriptors.
    """
    with _lock:
        channel = _channels.get(loop)
        if channel is None:
            _load()
            _close_ended()
            channel = _bridge.Channel()
            loop.add_reader(channel.fileno(), channel.drain)
            _channels[loop] = channel
        return channel


def _load() -> None:
    global _failure, _loaded
    if _loaded:
        return
    if _failure is not None:
        raise _failure
    try:
        if not os.path.exists(_LIBRARY):  # noqa: PTH110
            raise ImportError(f"{_LIBRARY} is missing: the package was not built completely")
        # Zeros: the defaults of the core (capi/main.go).
        _bridge.load(_LIBRARY, 0, 0, 0)
    except ImportError as error:
        hint = ""
        if "static TLS" in str(error):
            hint = (
                "; send a first request before loading other large libraries, or raise glibc.rtld.optional_static_tls"
            )
        _failure = ImportError(f"{error}{hint}")
        raise _failure from error
    _loaded = True
    atexit.register(_shut_down)


def _close_ended() -> None:
    """Give up the channels of loops that were closed: nobody drains them any more."""
    for loop, channel in list(_channels.items()):
        if loop.is_closed():
            del _channels[loop]
            channel.close()


def _shut_down() -> None:
    """Cancel what is in flight and let it come back, so that the process ends without anybody using its memory."""
    with _lock:
        channels = list(_channels.values())
        _channels.clear()
    for channel in channels:
        channel.close()
    end = time.monotonic() + _EXIT_PATIENCE
    while _bridge.reap() and time.monotonic() < end:
        time.sleep(0.002)
