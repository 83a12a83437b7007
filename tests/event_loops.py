"""The event loops that the tests run on, for test modules and for scripts in interpreters of their own."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def _rloop() -> NewLoop:
    """A loop of rloop that closes its descriptors once.

    rloop 0.5.0 closes the two ends of its wake-up twice when a run ends: once in Rust, and once more as the sockets
    that ``_ssock_stop`` drops are collected. In between, another thread may have got the number for a descriptor of its
    own: an upstream connection of the core, or the selector of another loop.
    """
    from rloop.loop import RLoop

    class ClosingOnce(RLoop):  # type: ignore[misc]  # not typed
        def _ssock_stop(self) -> None:
            ends = (self._ssock_r, self._ssock_w)
            super()._ssock_stop()
            for end in ends:
                if end is not None:
                    end.detach()

    return ClosingOnce


def _uvloop() -> NewLoop:
    return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]


_KINDS: dict[str, Callable[[], NewLoop]] = {
    "asyncio": lambda: asyncio.new_event_loop,
    "uvloop": _uvloop,
    "rloop": _rloop,
}

NAMES = tuple(_KINDS)
INSTALLED = tuple(name for name in NAMES if importlib.util.find_spec(name) is not None)


def loop_factory(name: str) -> NewLoop:
    """The function that makes an event loop of that kind."""
    return _KINDS[name]()
