"""What the scenarios of this folder share: the border as an event loop uses it, with the fake core on the other side.

Scenarios are functions of the modules `scenarios_*`. Each is run by play.py in an interpreter of its own, with the
bridge and the fake core built for a sanitizer, so most faults end the process; asserts find the others.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from event_loops import loop_factory

import velithon_proxy
from velithon_proxy import ProxyClient, _bridge, _runtime

CORE = Path(velithon_proxy.__file__).with_name("libvelithonproxy.so")
REPLY, FAILURE = 7, 8  # members of a reply
PATIENCE = 20.0  # seconds; only a hang takes that long


class Text(str):
    """A str that is not one to `type(x) is str`."""


class Octets(bytes):
    """The same for bytes."""


class Rude:
    """Neither, and not even presentable."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def load() -> None:
    """Load the fake core, as the first request of a process does."""
    _bridge.load(str(CORE), 0, 0, 0)


def run(main: Coroutine[Any, Any, None], loop: str = "asyncio") -> None:
    """Run a coroutine on a new loop, with a limit, and see that its exception handler got nothing."""
    complaints: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(2 * PATIENCE):
            await main

    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(limited())
    assert not complaints, complaints


class Border:
    """A channel on the running loop, and a pool."""

    def __init__(self) -> None:
        load()
        self.loop = asyncio.get_running_loop()
        self.channel = _bridge.Channel()
        self.descriptor = self.channel.fileno()
        self.loop.add_reader(self.descriptor, self.channel.drain)
        self.pool = _bridge.pool_new(b"{}")

    def submit(
        self, path: str = "/", *, method: str = "GET", headers: object = None, body: object = None
    ) -> tuple[asyncio.Future[Any], int]:
        future = self.loop.create_future()
        return future, self.channel.submit(future, self.pool, method, path, headers, body, 0, 0, None)

    async def request(self, path: str = "/", **rest: Any) -> tuple[Any, ...]:
        reply = await self.submit(path, **rest)[0]
        assert type(reply) is tuple, reply
        assert len(reply) == (FAILURE if reply[0] else REPLY), reply
        return reply

    def close(self) -> int:
        self.loop.remove_reader(self.descriptor)
        left = self.channel.close()
        _bridge.pool_close(self.pool)
        return left


def settle() -> None:
    """Wait until the core owns nothing any more and the bridge knows it."""
    end = time.monotonic() + PATIENCE
    while True:
        _runtime._close_ended()
        left, stats = _bridge.reap(), _bridge.stats()
        if not left and not stats["in_flight"] and not stats["core_in_flight"]:
            return
        assert time.monotonic() < end, (left, stats)
        time.sleep(0.001)


async def empty_nodes() -> None:
    """Nodes keep small memory for their next request, and give back large: afterwards they have none."""
    border, size = Border(), _bridge.stats()["nodes"]
    headers = {"a": "b" * 40_000}
    await asyncio.gather(*(border.request(f"/?batch={size}&body=40000", headers=headers) for _ in range(size)))
    border.close()


def pack(lines: list[tuple[bytes, bytes]]) -> bytes:
    """The packed form of header lines, as abi.h describes it."""
    return b"".join(struct.pack("=II", len(name), len(value)) + name + value for name, value in lines)


def reply_lines(count: int) -> list[tuple[bytes, bytes]]:
    """The header lines that the fake core makes for `lines=count`."""
    return [(b"x-%d" % i, b"\xe9 %d" % i) for i in range(count)]


def reply_body(size: int) -> bytes:
    """The body that the fake core makes for `body=size` or `direct=size`."""
    return bytes([size & 0xFF]) * size


def reply_message(size: int) -> str:
    """The text that the fake core makes for `message=size`."""
    return bytes(0xFF if i % 7 == 6 else ord("a") + i % 26 for i in range(size)).decode("utf-8", "replace")


def raises(
    error: type[BaseException] | tuple[type[BaseException], ...], call: Callable[..., object], *args: Any
) -> str:
    """Call and return the message of the exception, which must be of that class."""
    try:
        result = call(*args)
    except error as raised:
        return str(raised)
    raise AssertionError(f"{call} took {args!r} and returned {result!r}")


def exits_with_seven(scenario: Callable[[], None]) -> Callable[[], None]:
    """Mark a scenario that ends its process itself; sanitize.py looks for the mark."""
    return scenario


@contextmanager
def unraisable() -> Iterator[list[Any]]:
    """Collect what would be printed because nobody can be told."""
    seen: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda args: seen.append((args.exc_type, str(args.exc_value)))
    try:
        yield seen
    finally:
        sys.unraisablehook = before


def descriptors() -> int:
    """How many descriptors are open."""
    return len(list(Path("/dev/fd").iterdir()))


def allocated() -> int | None:
    """Bytes that are allocated now, by everybody; None if the sanitizer cannot tell."""
    try:
        count = ctypes.CDLL(None).__sanitizer_get_current_allocated_bytes
    except AttributeError:
        return None
    count.restype = ctypes.c_size_t
    return int(count())


__all__ = [
    "CORE",
    "PATIENCE",
    "Border",
    "Octets",
    "ProxyClient",
    "Rude",
    "Text",
    "_bridge",
    "_runtime",
    "allocated",
    "descriptors",
    "empty_nodes",
    "exits_with_seven",
    "load",
    "pack",
    "raises",
    "reply_body",
    "reply_lines",
    "reply_message",
    "run",
    "settle",
    "unraisable",
]
