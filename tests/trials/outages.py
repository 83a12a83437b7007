"""T2, T7, T8: upstreams that are killed, fail for everybody, or are all down, behind a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from chaos_load import Process, executed_twice, paced, processes
from gateway_servers import GATEWAYS, Server
from trial import SERVERS, Finding, exactly, percentile

RECOVERY = 1.0


@dataclass
class Tally:
    """What clients have seen."""

    sent: int = 0
    ends: Counter[int] = field(default_factory=Counter[int])
    outcomes: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    """By method and status; 0 for a connection that broke off."""
    wrong: int = 0
    took: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    """Seconds, by status."""
    last_failure: float = 0.0
    """Of ``time.perf_counter()``: when the last request that failed was sent."""

    @property
    def inexact(self) -> int:
        """Requests that did not end exactly once."""
        return sum(self.ends[number] != 1 for number in range(self.sent)) + len(set(self.ends) - set(range(self.sent)))


@contextlib.asynccontextmanager
async def load(port: int, rate: int, methods: tuple[str, ...] = ("GET", "POST")) -> AsyncIterator[Tally]:
    """So many requests a second, whatever becomes of them, until the block ends."""
    tally = Tally()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)

    async def send(session: aiohttp.ClientSession, number: int) -> None:
        name, method, began, status = f"id-{number}", methods[number % len(methods)], time.perf_counter(), 0
        tally.sent += 1
        try:
            body = name if method == "POST" else None
            async with session.request(method, f"http://127.0.0.1:{port}/?{name}", data=body) as response:
                content, status = await response.read(), response.status
                # A gateway's own answers say what happened in JSON, the upstreams' are the id.
                ours = response.content_type == "application/json"
                tally.wrong += content != name.encode() and not (ours and status >= 500)
        except (aiohttp.ClientError, TimeoutError):
            pass
        tally.outcomes[method, status] += 1
        tally.ends[number] += 1
        tally.took.setdefault(status, []).append(time.perf_counter() - began)
        if status != 200:
            tally.last_failure = max(tally.last_failure, began)

    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session,
        paced(rate, lambda number: send(session, number)),
    ):
        yield tally


@contextlib.contextmanager
def _gateway(server: str, count: int, **options: Any) -> Iterator[tuple[Server, list[Process]]]:
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder), count) as given:
        urls = ",".join(process.url for process in given)
        with Server(GATEWAYS[SERVERS[server]], urls, options=options) as gateway:
            yield gateway, given


def killed(server: str) -> list[Finding]:
    """Three upstreams at 500 requests/s: one is killed every two seconds, one resets a twentieth of its requests."""

    async def run(gateway: Server, given: list[Process]) -> Tally:
        await given[1].does(reset=20)
        async with load(gateway.port, 500) as tally:
            for _ in range(6):
                await asyncio.sleep(1.5)
                await given[0].restart(signal.SIGKILL, 0.5)
        return tally

    with _gateway(server, 3, max_failures=3, recovery_timeout_ms=500) as (gateway, given):
        tally = asyncio.run(run(gateway, given))
        gets = sum(count for (method, _), count in tally.outcomes.items() if method == "GET")
        return [
            Finding("requests", tally.sent, float("inf"), 4000),
            Finding("GET answered %", 100 * tally.outcomes["GET", 200] / gets, 100, 99.95),
            exactly("POST executed twice", len(executed_twice(given))),
            exactly("without exactly one end", tally.inexact),
            exactly("wrong answers", tally.wrong),
        ]


def failing(server: str) -> list[Finding]:
    """Three upstreams that answer 503, which is a reason to try again, at 1,000 requests/s."""

    async def run(gateway: Server, given: list[Process]) -> tuple[Tally, float, float]:
        async with load(gateway.port, 1000, ("GET",)) as healthy:
            await asyncio.sleep(1)
            before = gateway.cpu_seconds(), healthy.sent
            await asyncio.sleep(3)
            well = (gateway.cpu_seconds() - before[0]) / (healthy.sent - before[1])
        for process in given:
            await process.does(status=503)
        async with load(gateway.port, 1000, ("GET",)) as tally:
            await asyncio.sleep(1)
            before = gateway.cpu_seconds(), tally.sent
            await asyncio.sleep(4)
            ill = (gateway.cpu_seconds() - before[0]) / (tally.sent - before[1])
        return tally, ill / well, healthy.sent

    with _gateway(server, 3, retry_statuses=[503]) as (gateway, given):
        tally, ratio, healthy = asyncio.run(run(gateway, given))
        attempts = sum(len(process.lines) for process in given) - healthy
        return [
            Finding("requests", tally.sent, float("inf"), 3000),
            Finding("attempts beyond 1.2 x requests + 3", attempts - 1.2 * tally.sent - 3, 0),
            Finding("CPU per request / healthy", ratio, 1),
            exactly("without exactly one end", tally.inexact),
        ]


def down(server: str) -> list[Finding]:
    """Two upstreams, both down for ten seconds, at 300 requests/s."""

    async def run(gateway: Server, given: list[Process]) -> tuple[Tally, float]:
        async with load(gateway.port, 300) as tally:
            await asyncio.sleep(1)
            for process in given:
                await asyncio.to_thread(process.end, signal.SIGKILL)
            await asyncio.sleep(10)
            for process in given:
                await asyncio.to_thread(process.start)
            back = time.perf_counter()
            await asyncio.sleep(RECOVERY + 2)
        return tally, max(tally.last_failure - back, 0)

    with _gateway(server, 2, max_failures=5, recovery_timeout_ms=int(RECOVERY * 1000)) as (gateway, given):
        tally, took = asyncio.run(run(gateway, given))
        refused = tally.took.get(503, [])
        return [
            Finding("refused while open", len(refused), float("inf"), 1500),
            Finding("refused, p99 ms", percentile(refused, 0.99) * 1000, 5),
            Finding("full traffic after s", took, RECOVERY + 1),
            exactly("without exactly one end", tally.inexact),
            exactly("wrong answers", tally.wrong),
            exactly("POST executed twice", len(executed_twice(given))),
        ]
