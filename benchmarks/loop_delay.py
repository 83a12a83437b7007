"""How late an event loop is: another process writes the time to a socket about once a millisecond, the loop reads it
and notes the difference.

A timer of the loop would not do: uvloop rounds timers to milliseconds, and a callback chain that spins would itself
take a core from those it shares the machine with.

As a program it is that other process: ``loop_delay.py --path SOCKET --seconds 2`` writes to a loop that :class:`Delays`
watches there, and prints its figures at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STAMP = struct.Struct("=q")
_REPORT = b"report"


def figures(delays: list[float]) -> dict[str, float]:
    """Median, p99 and the largest of delays in microseconds."""
    delays, n = sorted(delays), len(delays)
    return {"samples": n, "p50_us": delays[n // 2], "p99_us": delays[n * 99 // 100], "max_us": delays[-1]}


class Delays:
    """Reads the times that arrive at a datagram socket, on a running loop, until it is closed.

    Attributes:
        seen: delays in microseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, source: socket.socket) -> None:
        self.seen: list[float] = []
        self._began = (0.0, 0.0)  # when the first of them came: time, and CPU time of the loop's thread
        self._loop, self._source = loop, source
        source.setblocking(False)
        loop.add_reader(source.fileno(), self._read)

    def _read(self) -> None:
        try:
            while True:
                message, sender = self._source.recvfrom(64)
                if message == _REPORT:
                    report = {**figures(self.seen), "busy": self._busy()}
                    self._source.sendto(json.dumps(report).encode(), sender)
                    self.seen.clear()
                else:
                    if not self.seen:
                        self._began = (time.monotonic(), time.thread_time())
                    self.seen.append((time.monotonic_ns() - _STAMP.unpack(message)[0]) / 1e3)
        except BlockingIOError:
            return

    def _busy(self) -> float:
        """The share of its time that the loop's thread has run since the first delay that is still in ``seen``."""
        at, used = self._began
        return (time.thread_time() - used) / (time.monotonic() - at)

    def close(self) -> None:
        """Stop reading. The socket stays open."""
        self._loop.remove_reader(self._source.fileno())


class ProbedRSGI:
    """An RSGI application whose loop is watched; its requests take no other way than before."""

    def __init__(self, app: Any, path: str) -> None:
        self.__rsgi__: Callable[..., Any] = getattr(app, "__rsgi__", app)
        self._app, self._path = app, path

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        getattr(self._app, "__rsgi_init__", lambda _: None)(loop)
        self._delays = Delays(loop, _bound(self._path))


def probed_asgi(app: Any, path: str) -> Any:
    """An ASGI application whose loop is watched from its lifespan on."""

    def call(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "lifespan":
            call.delays = Delays(asyncio.get_running_loop(), _bound(path))  # type: ignore[attr-defined]
        return app(scope, receive, send)

    return call


def _bound(path: str) -> socket.socket:
    source = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    source.bind(path)
    return source


def _write_times(out: socket.socket, seconds: float) -> None:
    """A time each 0.5 to 1.5 ms; at random, so as not to fall in step with anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(random.uniform(0.0005, 0.0015))
        out.send(_STAMP.pack(time.monotonic_ns()))


def command(seconds: float, *, descriptor: int = -1, path: str = "") -> list[str]:
    """The command of the other process, for a socket that it inherits or for a path."""
    where = ["--path", path] if path else ["--descriptor", str(descriptor)]
    return [sys.executable, __file__, *where, "--seconds", str(seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", default="", help="the socket of a loop that is watched")
    parser.add_argument("--descriptor", type=int, default=-1, help="a socket that was inherited; nothing is printed")
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    if not args.path:
        _write_times(socket.socket(fileno=args.descriptor), args.seconds)
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.bind(str(Path(folder) / "here"))  # to have an address that can be answered
        out.connect(args.path)
        _write_times(out, args.seconds)
        out.settimeout(10)
        out.send(_REPORT)
        print(out.recv(1024).decode())


if __name__ == "__main__":
    main()
