"""A scripted upstream in a process of its own, without Go: the path of a request says how it is answered.

It is cheap (100,000 requests are a matter of seconds), it survives what the scripts do to their own process, and it
keeps a ledger that a script can wait on instead of sleeping. ``name`` in a query names the entry of the ledger:

=============================== ====================================================================================
``/small``                      100 bytes, not in the ledger
``/bytes?size=``                that many bytes
``/echo``                       the body of the request
``/hold``                       no answer
``/head``                       half a response head, then nothing
``/body?size=&sent=``           a response head, ``sent`` of ``size`` bytes, then nothing
``/gate?size=``                 ``size`` bytes once ``/control/open?name=`` was asked for
``/deaf``                       reads the head of the request and nothing of its body
``/reset?first=fin``            reads the head of the request and resets the connection, after a FIN if one is wanted
``/control/wait?kind=&count=``  answered once the ledger has ``count`` entries: ``seen`` for a request whose head has
                                arrived, ``left`` for a request that was cut off by the other side
``/control/count?kind=``        how many entries there are
=============================== ====================================================================================
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import cast
from urllib.parse import parse_qsl, urlsplit

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop


@lru_cache(8)
def pattern(size: int) -> bytes:
    """The body of that size: no two of its 256-byte blocks are in the wrong order unnoticed."""
    return b"".join(block.to_bytes(4, "big") * 64 for block in range(size // 256 + 1))[:size]


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


_SMALL = response(b"x" * 100)


class Ledger:
    """What happened, and who waits for it."""

    def __init__(self) -> None:
        self.entries: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.waiting: list[tuple[tuple[str, str], int, Callable[[], None]]] = []

    def add(self, kind: str, name: str) -> None:
        self.entries[kind, name] += 1
        waiting, self.waiting = self.waiting, []
        for key, count, answer in waiting:
            self.wait(key, count, answer)

    def wait(self, key: tuple[str, str], count: int, answer: Callable[[], None]) -> None:
        if self.entries[key] >= count:
            answer()
        else:
            self.waiting.append((key, count, answer))


LEDGER = Ledger()
GATES: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
DEAF: defaultdict[str, list[asyncio.Transport]] = defaultdict(list)


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.handler: Callable[[bytes], None] | None = None  # takes the body of the request whose head has arrived
        self.missing = 0  # bytes of that body
        self.held: str | None = None  # name of a request that is not answered yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /small ") and data.endswith(b"\r\n\r\n"):
            self.transport.write(_SMALL)
            return
        self.received += data
        while True:
            if self.handler is None:
                head, end, rest = bytes(self.received).partition(b"\r\n\r\n")
                if not end:
                    return
                self.received = bytearray(rest)
                self.begin(head)
            if len(self.received) < self.missing or self.handler is None:
                return
            body, self.received = bytes(self.received[: self.missing]), self.received[self.missing :]
            handler, self.handler = self.handler, None
            handler(body)

    def begin(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        target = urlsplit(first.split(" ")[1])
        query = dict(parse_qsl(target.query))
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.missing = int(fields.get("content-length", "0"))
        self.handler = self.handler_of(target.path, query)

    def handler_of(self, path: str, query: dict[str, str]) -> Callable[[bytes], None]:
        name, size = query.get("name", ""), int(query.get("size", "0"))
        if path.startswith("/control/"):
            return lambda _: self.control(path.removeprefix("/control/"), name, query)
        before: bytes | None = None
        match path:
            case "/small":
                return lambda _: self.transport.write(_SMALL)
            case "/bytes":
                LEDGER.add("seen", name)
                return lambda _: self.transport.write(response(pattern(size)))
            case "/echo":
                LEDGER.add("seen", name)
                return lambda body: self.transport.write(response(body))
            case "/gate":
                GATES[name].append(lambda: self.release(response(pattern(size))))
            case "/deaf":
                self.transport.pause_reading()
                DEAF[name].append(self.transport)
            case "/reset":
                with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as raw:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if query.get("first") == "fin":
                        raw.shutdown(socket.SHUT_WR)
                self.transport.abort()
            case "/hold":
                pass
            case "/head":
                before = b"HTTP/1.1 200 OK\r\nContent-Le"
            case "/body":
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
                before = head + pattern(int(query["sent"]))
            case _:
                return lambda _: self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        self.held = name
        if before is not None:
            self.transport.write(before)
        LEDGER.add("seen", name)
        return lambda _: None

    def release(self, answer: bytes) -> None:
        self.held = None
        if not self.transport.is_closing():
            self.transport.write(answer)

    def control(self, what: str, name: str, query: dict[str, str]) -> None:
        key = (query.get("kind", ""), name)
        match what:
            case "wait":
                for transport in DEAF.pop(name, []):  # one that does not read does not notice the end either
                    transport.resume_reading()
                LEDGER.wait(key, int(query["count"]), lambda: self.release(response(b"")))
            case "count":
                self.transport.write(response(str(LEDGER.entries[key]).encode()))
            case "open":
                for release in GATES.pop(name, []):
                    release()
                self.transport.write(response(b""))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.held is not None:
            LEDGER.add("left", self.held)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
