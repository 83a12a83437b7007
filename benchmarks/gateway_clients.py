"""Clients of the suite `gateway-load`, on plain sockets: what they do to a gateway, and what they see of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

from gateways import Server
from processes import descriptor_count_of, rss_kb_of

_CHUNK = b"x" * (1 << 20)


def request(target: str, method: str = "GET", *lines: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: gateway", *lines, "", ""]).encode()


def _resident(server: Server) -> int:
    return sum(map(rss_kb_of, server.pids))


@contextlib.contextmanager
def _peak(server: Server) -> Iterator[list[int]]:
    """Watch the resident memory of a server; the list holds the growth of its peak, in kB, at the end."""
    pids = server.pids
    before = sum(map(rss_kb_of, pids))
    peak, over, result = before, threading.Event(), [0]

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, sum(map(rss_kb_of, pids)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield result
    finally:
        over.set()
        watcher.join()
        result[0] = peak - before


def _download(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(request(f"/stream?bytes={size}", "GET", "Connection: close"))
        received, buffer = 0, bytearray(1 << 20)
        while count := client.recv_into(buffer):
            received += count
    if received < size:
        raise SystemExit(f"a download of {size} bytes ended after {received}")


def _upload(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(request("/sink", "POST", f"Content-Length: {size}", "Connection: close"))
        for _ in range(size // len(_CHUNK)):
            client.sendall(_CHUNK)
        answer = b""
        while data := client.recv(65536):
            answer += data
    if not answer.endswith(str(size).encode()):
        raise SystemExit(f"an upload of {size} bytes was answered with {answer[-80:]!r}")


_TIMES = 5
"""Transfers in a row: one alone is over within a few ticks of the clock that CPU time is counted with."""


def bulk(server: Server, megabytes: int) -> dict[str, float]:
    """Large bodies down, one after the other, and up, after a small one of each."""
    figures: dict[str, float] = {}
    for what, transfer in (("down", _download), ("up", _upload)):
        transfer(server.port, 1 << 20)
        cpu = server.cpu_seconds()
        with _peak(server) as growth:
            for _ in range(_TIMES):
                transfer(server.port, megabytes << 20)
        figures[f"{what}, CPU ms/MB"] = (server.cpu_seconds() - cpu) * 1e3 / megabytes / _TIMES
        figures[f"{what}, memory MB"] = growth[0] / 1024
    return figures


def events(port: int, direct: int, count: int) -> dict[str, float]:
    """How much later events arrive through the gateway than without it, in ms; ``count`` streams for five seconds."""
    alone, through = asyncio.run(_delays(direct, count)), asyncio.run(_delays(port, count))
    return {
        "events": len(through),
        "p50, ms": _percentile(through, 0.5),
        "p99, ms": _percentile(through, 0.99),
        "added p99, ms": _percentile(through, 0.99) - _percentile(alone, 0.99),
    }


async def _delays(port: int, count: int) -> list[float]:
    delays: list[float] = []

    async def one(number: int) -> None:
        await asyncio.sleep(number / count)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(f"/events?id={number}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while True:
                    line = await reader.readline()
                    if line.startswith(b"data: "):
                        delays.append((time.time_ns() - int(line[6:])) / 1e6)
        writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(count)))
    return delays


def slow_readers(server: Server, count: int, size: int) -> dict[str, float]:
    """Memory that the server takes for readers that have taken nothing of their bodies after ten seconds."""
    readers: list[socket.socket] = []
    with _peak(server) as growth:
        for _ in range(count):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(request(f"/stream?bytes={size}"))
            readers.append(reader)
        time.sleep(10)
    good = sum(reader.recv(12) == b"HTTP/1.1 200" for reader in readers)
    for reader in readers:
        reader.close()
    return {"readers": good, "memory MB": growth[0] / 1024}


def abort_storm(server: Server, direct: int, count: int) -> dict[str, float]:
    """Clients that leave, with a reset, before the response or in the middle of it."""
    worker = max(server.pids)
    _get(server.port, "/-/status")
    asyncio.run(_leave(server.port, 50, 10_000_000))  # whatever stays for the life of the process
    time.sleep(1.5)
    descriptors, threads = descriptor_count_of(worker), len(os.listdir(f"/proc/{worker}/task"))  # noqa: PTH208
    left = asyncio.run(_leave(server.port, count, 0))
    time.sleep(2)
    in_flight = _in_flight(server)
    closed: dict[str, int] = json.loads(_get(direct, "/closed"))
    took = [(closed[number] - at) / 1e6 for number, at in left.items() if number in closed]
    ended = time.monotonic()
    while _in_flight(server) + max(descriptor_count_of(worker) - descriptors - 1, 0) and time.monotonic() < ended + 80:
        time.sleep(0.2)
    return {
        "clients": count,
        "upstream closed": len(took),
        "closed after, p99 ms": _percentile(took, 0.99),
        "in flight after 2 s": in_flight,
        "nothing left after, s": time.monotonic() - ended + 2,
        "in flight at the end": _in_flight(server),
        "descriptors left": max(descriptor_count_of(worker) - descriptors, 0),
        "threads left": len(os.listdir(f"/proc/{worker}/task")) - threads,  # noqa: PTH208
    }


def _in_flight(server: Server) -> int:
    count: int = json.loads(_get(server.port, "/-/status"))["in_flight"]
    return count


async def _leave(port: int, count: int, first: int) -> dict[str, int]:
    dice = random.Random(1)
    left: dict[str, int] = {}

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(f"/{dice.choice(('hold', 'drip', 'large'))}?id={number}"))
        await asyncio.sleep(dice.uniform(0.005, 0.2))
        sock: Any = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        left[str(number)] = time.time_ns()
        del reader

    for start in range(first, first + count, 50):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 50, first + count))))
    return left


def stop_under_load(server: Server, direct: int, turn: int) -> dict[str, int]:
    """SIGTERM at 300 requests/s: how many were answered, refused at the door or left lying there, and cut.

    A connection that the system has taken and the server has not is reset at the end; no upstream has seen its request.
    """
    _get(server.port, "/late?ms=0")
    ends = asyncio.run(_load(server, turn))
    left_behind = 0 if server.ended(20) else 1
    seen: dict[str, int] = json.loads(_get(direct, "/seen"))
    cut = [name for name, end in ends.items() if end == "cut"]
    return {
        "answered": sum(end == "answered" for end in ends.values()),
        "refused": sum(end == "refused" for end in ends.values()),
        "never accepted": sum(name not in seen for name in cut),
        "cut": sum(name in seen for name in cut),
        "did not end": left_behind,
    }


async def _load(server: Server, turn: int) -> dict[str, str]:
    ends: dict[str, str] = {}

    async def one(number: int) -> None:
        name = f"{turn}-{number}"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            ends[name] = "refused"
            return
        try:
            writer.write(request(f"/late?id={name}&ms={number % 100}", "GET", "Connection: close"))
            ends[name] = "answered" if (await reader.read()).endswith(b"\r\n\r\nlate") else "cut"
        except OSError:
            ends[name] = "cut"
        finally:
            writer.transport.abort()

    tasks: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    for number in range(450):
        await asyncio.sleep(max(0.0, began + number / 300 - time.perf_counter()))
        if number == 225:
            os.kill(server.leader, signal.SIGTERM)
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    return ends


def _get(port: int, target: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", target)
        return connection.getresponse().read()


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0
