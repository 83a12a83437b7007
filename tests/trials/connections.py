"""T4, T5, T6, T9, T11: connections that close as they are used again, never answer, are left, or are not read."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import sys
from collections import Counter

import aiohttp
import gateway_clients
from gateway_servers import GATEWAYS, Server
from programs import Upstream, run_json
from trial import ROOT, SERVERS, Finding, exactly

_REUSES = 20_000
_WORKERS = 20
_STOPS = 20
_MEMORY_MB = 500


def reuse(server: str) -> list[Finding]:
    """20,000 requests on connections that the upstream closes 0.5 to 3 ms after their last use."""
    options = {"max_failures": 1_000_000}  # every request is a race here: it is not the breaker that is looked at
    with Upstream() as upstream:
        with Server(GATEWAYS[SERVERS[server]], f"http://{upstream.raw_address}", options=options) as gateway:
            failed, done = asyncio.run(_reuse(gateway.port))
        seen = _json(upstream.raw_address, "/seen")
    return [
        Finding("requests", done.total(), float("inf"), _REUSES),
        exactly("failed GET", failed["GET"]),
        exactly("sent twice", sum(times > 1 for name, times in seen.items() if int(name.split("-")[1]) % 2 == 0)),
        # A POST that meets the close on its way may have been executed and is not sent again.
        Finding("failed POST %", 100 * failed["POST"] / done["POST"], 3),
    ]


async def _reuse(port: int) -> tuple[Counter[str], Counter[str]]:
    failed, done = Counter[str](), Counter[str]()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session:

        async def work(worker: int) -> None:
            dice = random.Random(worker)
            for turn in range(_REUSES // _WORKERS):
                method = "GET" if turn % 2 else "POST"
                keep = 500 + 100 * (turn % 26)
                url = f"http://127.0.0.1:{port}/brief?id={worker}-{turn}&keep={keep}"
                async with session.request(method, url, data=b"x" * 10 if method == "POST" else None) as response:
                    right = await response.read() == f"{worker}-{turn}".encode() and response.status == 200
                failed[method] += not right
                done[method] += 1
                await asyncio.sleep(dice.uniform(0.0005, 0.003))

        await asyncio.gather(*(work(worker) for worker in range(_WORKERS)))
    return failed, done


def black_hole(_: str) -> list[Finding]:
    """10,000 requests at once to a server that never answers; their limit of 6 s ends them."""
    with Upstream() as upstream:
        command = [sys.executable, str(ROOT / "benchmarks" / "load_cell.py"), "hole"]
        found = run_json([*command, "--address", upstream.raw_address, "--count", "10000"])
    return [
        exactly("ended by TotalTimeout", found["timed_out"], 10_000),
        Finding("late s", found["late_s"], 0.5),
        Finding("event-loop delay p99 ms", found["loop_delay_p99_ms"], 50),
        Finding("kB each", found["rss_kb_each"], 32),
        Finding("left over", sum(max(count, 0) for count in found["left"].values())),
    ]


def leaving(server: str) -> list[Finding]:
    """5,000 clients that leave with a reset at a random moment."""
    with Upstream() as upstream, Server(GATEWAYS[SERVERS[server]], f"http://{upstream.raw_address}") as gateway:
        found = gateway_clients.abort_storm(gateway, _port(upstream.raw_address), 5000)
    return [
        Finding("connections seen to close", found["upstream closed"], float("inf"), 3000),
        Finding("closed after, p99 ms", found["closed after, p99 ms"], 1000),
        exactly("requests left", found["in flight at the end"]),
        Finding("descriptors left", found["descriptors left"], 1),
    ]


def stops(server: str) -> list[Finding]:
    """SIGTERM in the middle of 300 requests/s, 20 times."""
    found = Counter[str]()
    for turn in range(_STOPS):
        with Upstream() as upstream, Server(GATEWAYS[SERVERS[server]], f"http://{upstream.raw_address}") as gateway:
            found.update(gateway_clients.stop_under_load(gateway, _port(upstream.raw_address), turn))
    return [
        Finding("answered", found["answered"], float("inf"), 1000),
        exactly("cut", found["cut"]),
        exactly("did not end", found["did not end"]),
    ]


def slow_readers(server: str) -> list[Finding]:
    """200 clients that take nothing of 50 MB for ten seconds."""
    with Upstream() as upstream, Server(GATEWAYS[SERVERS[server]], upstream.base_url) as gateway:
        found = gateway_clients.slow_readers(gateway, 200, 50_000_000)
    return [exactly("readers", found["readers"], 200), Finding("memory MB", found["memory MB"], _MEMORY_MB)]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _json(address: str, path: str) -> dict[str, int]:
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", path)
    found: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return found
