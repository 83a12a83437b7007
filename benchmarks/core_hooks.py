"""The private operations of velithon-proxy that only benchmarks use: nothing else here reaches into the package."""

from __future__ import annotations

import asyncio
from typing import Any

from suites import SuiteSkippedError

# Kinds of capi/abi.h.
_NOOP, _BURN = 4, 6


class CoreHooks:
    """Operations of the Go core on the running event loop.

    Raises:
        SuiteSkippedError: the package, or its private operations, are not there.
    """

    def __init__(self) -> None:
        try:
            from velithon_proxy import _bridge, _runtime

            self._loop = asyncio.get_running_loop()
            self._channel = _runtime.channel_of(self._loop)
            self._measure, self._stats = self._channel.measure, _bridge.stats
        except (ImportError, AttributeError) as error:
            raise SuiteSkippedError(f"the operations that measure the border are missing: {error}") from error

    async def empty_operation(self) -> None:
        """Send an operation through both queues that does nothing in Go."""
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        self._measure(future, _NOOP, 0, 0)
        await future

    async def burn(self, goroutines: int, seconds: float) -> None:
        """Keep `goroutines` busy in Go for some seconds; they allocate all the time, so that the collector runs."""
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        self._measure(future, _BURN, goroutines, int(seconds * 1e9))
        await future

    def goroutines(self) -> int:
        """Goroutines of the core now."""
        return self._stats()["goroutines"]
