"""T3: hostile upstreams and hostile clients among requests that must get their own answers, over one pool."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future

import aiohttp
from conformance_rows import ROWS as RESPONSES
from gateway_servers import GATEWAYS, Server
from request_rows import ROWS as REQUESTS
from trial import SERVERS, Finding, exactly

VICTIMS = 50_000
_WORKERS = 48
# A second is enough for every row, and it is not the breaker that is looked at.
_OPTIONS = {"timeout_ms": 1000, "max_failures": 1_000_000}
# Heads and bodies of many kilobytes would take the time of thousands of victims.
_RESPONSES = [row for row in RESPONSES if len(row.sends) < 8192]
_REQUESTS = [row for row in REQUESTS if len(row.data) < 8192]


def desync(server: str) -> list[Finding]:
    """50,000 requests with an answer each, and one in eight an upstream or a client that breaks the rules."""
    with _upstream() as url, Server(GATEWAYS[SERVERS[server]], url, options=_OPTIONS) as gateway:
        before = gateway.pids
        asyncio.run(_Attack(gateway.port).run(2000))  # whatever a server starts late
        attack = _Attack(gateway.port)
        asyncio.run(attack.run(VICTIMS))
        return [
            exactly("requests", attack.done, VICTIMS),
            Finding("hostile", attack.hostile, float("inf"), VICTIMS / 20),
            exactly("cross-talk", attack.wrong),
            exactly("GET without an answer", attack.failed["GET"]),
            # A row may be a good response and then the end of the connection, which a POST can meet on its way.
            Finding("POST answered with 502 %", 100 * attack.failed["POST"] / VICTIMS, 1),
            exactly("other failures", attack.failed["other"]),
            exactly("hangs", attack.hung),
            exactly("workers that died", len(set(before) - set(gateway.pids))),
        ]


class _Attack:
    def __init__(self, port: int) -> None:
        self._base, self._port = f"http://127.0.0.1:{port}", port
        self.done = self.hostile = self.wrong = self.hung = 0
        self.failed = Counter[str]()

    async def run(self, victims: int) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:
            share, rest = divmod(victims, _WORKERS)
            await asyncio.gather(*(self._work(session, n, share + (n < rest)) for n in range(_WORKERS)))

    async def _work(self, session: aiohttp.ClientSession, number: int, count: int) -> None:
        dice = random.Random(number)
        for turn in range(count):
            if dice.random() < 0.12:
                self.hostile += 1
                await self._upstream_row(session, dice.randrange(len(_RESPONSES)))
            elif dice.random() < 0.01:
                self.hostile += 1
                await self._client_row(dice.choice(_REQUESTS).data)
            await self._victim(session, f"{number}-{turn}", dice.random() < 0.3)

    async def _victim(self, session: aiohttp.ClientSession, name: str, post: bool) -> None:
        method = "POST" if post else "GET"
        try:
            async with session.request(method, f"{self._base}/v/{name}", data=name if post else None) as response:
                body = await response.read()
                if response.status != 200:
                    self.failed[method if method == "GET" or response.status == 502 else "other"] += 1
                elif body != name.encode() or response.headers.getall("X-Id", []) != [name]:
                    self.wrong += 1
        except TimeoutError:
            self.hung += 1
        except aiohttp.ClientError:
            self.failed["other"] += 1
        self.done += 1

    async def _upstream_row(self, session: aiohttp.ClientSession, number: int) -> None:
        try:
            async with session.request(_RESPONSES[number].method, f"{self._base}/row/{number}") as response:
                await response.read()
        except TimeoutError:
            self.hung += 1
        except aiohttp.ClientError:
            pass  # it was cut off, or is not HTTP for this client either

    async def _client_row(self, data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(OSError):
            writer.write(data)
            await asyncio.sleep(0.002)
        writer.transport.abort()


@contextlib.contextmanager
def _upstream() -> Iterator[str]:
    """A server in a thread of its own that answers /v/ID with ID, /row/N as the row says, and all else with nothing."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def run() -> None:
        over = asyncio.Event()
        async with await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=1024) as server:
            ready.set_result((asyncio.get_running_loop(), over, server.sockets[0].getsockname()[1]))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    loop, over, port = ready.result(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            target = head.split(b" ", 2)[1].decode()
            await _skip_body(reader, head)
            if target.startswith("/row/"):
                row = _RESPONSES[int(target[5:])]
                writer.write(row.sends)
                await writer.drain()
                if row.ending == "reset":
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    return
                if row.ending == "fin":
                    return
                continue
            body = target[3:].encode() if target.startswith("/v/") else b""
            writer.write(b"HTTP/1.1 200 OK\r\nX-Id: %b\r\nContent-Length: %d\r\n\r\n%b" % (body, len(body), body))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass
    finally:
        writer.close()


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    """What a gateway sends is framed without doubt; everything else of the trial relies on that."""
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        while size := int(await reader.readuntil(b"\n"), 16):  # incomplete: the gateway broke the request off
            await reader.readexactly(size + 2)
        await reader.readline()
    elif b"\r\ncontent-length: " in head:
        await reader.readexactly(int(head.split(b"\r\ncontent-length: ", 1)[1].split(b"\r", 1)[0]))
