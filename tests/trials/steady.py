"""T1: clients that keep their connections and send small and large requests, each checked byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import defaultdict

import aiohttp
from gateway_servers import GATEWAYS, Server
from programs import Upstream
from trial import SERVERS, Finding, exactly, percentile

CLIENTS = 200
SECONDS = 10.0
_KILOBYTE = 1 << 10
_MEGABYTE = 1 << 20


def steady(server: str) -> list[Finding]:
    """200 clients for ten seconds: GETs of 1 KB, POSTs of 4 KB, and streams of 1 MB."""
    with Upstream() as upstream, Server(GATEWAYS[SERVERS[server]], upstream.base_url) as gateway:
        took, errors, mismatches = asyncio.run(_load(gateway.port))
    spread = max(percentile(times, 0.99) / percentile(times, 0.5) for times in took.values())
    return [
        Finding("requests", sum(map(len, took.values())), float("inf"), 1000),
        exactly("errors", len(errors)),
        exactly("mismatches", mismatches),
        Finding("worst p99 / p50", spread, 10),
    ]


async def _load(port: int) -> tuple[dict[str, list[float]], list[str], int]:
    took: dict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    mismatches = 0
    end = time.perf_counter() + SECONDS
    base = f"http://127.0.0.1:{port}/echo"

    async def one(session: aiohttp.ClientSession, kind: str, name: str) -> bool:
        sent = name.encode() * (4 * _KILOBYTE // len(name)) if kind == "POST" else None
        size = {"GET": _KILOBYTE, "stream": _MEGABYTE}.get(kind, 0)
        expected = sent if sent is not None else (name.encode() * (size // len(name) + 1))[:size]
        digest = hashlib.sha256()
        method = "POST" if sent else "GET"
        url = f"{base}?bytes={size}" if size else base
        async with session.request(method, url, data=sent, headers={"X-Id": name}) as response:
            async for piece in response.content.iter_any():
                digest.update(piece)
            right = digest.digest() == hashlib.sha256(expected).digest()
            return response.status == 200 and right and response.headers.getall("X-Id") == [name]

    async def client(number: int) -> None:
        nonlocal mismatches
        dice = random.Random(number)
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session:
            turn = 0
            await asyncio.sleep(dice.uniform(0, 0.5))
            while time.perf_counter() < end:
                kind, turn = dice.choices(("GET", "POST", "stream"), (60, 36, 4))[0], turn + 1
                began = time.perf_counter()
                try:
                    mismatches += not await one(session, kind, f"{number}-{turn}-")
                except (aiohttp.ClientError, TimeoutError) as error:
                    errors.append(repr(error))
                took[kind].append(time.perf_counter() - began)
                await asyncio.sleep(dice.uniform(0.2, 0.8))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return took, errors, mismatches
