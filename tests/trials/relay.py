"""T13: a relay between gateway and upstream that delays, slices, throttles, cuts and resets.

The relay is Toxiproxy (https://github.com/Shopify/toxiproxy), whose names the kinds of trouble have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from gateway_servers import GATEWAYS, Server
from programs import Upstream
from trial import SERVERS, Finding, exactly

_TIMEOUT_MS = 1500
_REQUESTS = 120


@dataclass(frozen=True)
class _Toxic:
    """A kind of trouble on the way of responses, and the statuses that are true of it."""

    kind: str
    attributes: dict[str, int]
    statuses: frozenset[int] = field(default_factory=lambda: frozenset({200}))


_TOXICS = [
    _Toxic("latency", {"latency": 40, "jitter": 30}),
    _Toxic("slicer", {"average_size": 40, "size_variation": 20, "delay": 10}),
    _Toxic("bandwidth", {"rate": 2000}),
    _Toxic("slow_close", {"delay": 50}),
    # Its bytes end in the middle of a head or of a body.
    _Toxic("limit_data", {"bytes": 700}, frozenset({502})),
    _Toxic("reset_peer", {"timeout": 0}, frozenset({502})),
    _Toxic("timeout", {"timeout": 0}, frozenset({504})),
]


def relay(server: str) -> list[Finding]:
    """Seven kinds of trouble between gateway and upstream, one after the other; then all is well again."""
    found = Counter[str]()
    findings: list[Finding] = []
    with Upstream() as upstream, _relay(upstream.address) as (api, address):
        options = {"timeout_ms": _TIMEOUT_MS, "max_retries": 0, "max_failures": 1_000_000}
        with Server(GATEWAYS[SERVERS[server]], f"http://{address}", options=options) as gateway:
            for toxic in _TOXICS:
                _call(api, "POST", "/proxies/way/toxics", {"type": toxic.kind, "attributes": toxic.attributes})
                statuses, wrong, slowest = asyncio.run(_requests(gateway.port))
                _call(api, "DELETE", f"/proxies/way/toxics/{toxic.kind}_downstream")
                untrue = sum(count for status, count in statuses.items() if status not in toxic.statuses)
                findings.append(exactly(f"{toxic.kind}: other answers than {sorted(toxic.statuses)}", untrue))
                found["wrong"] += wrong
                findings.append(Finding(f"{toxic.kind}: slowest s", slowest, _TIMEOUT_MS / 1000 + 1))
            statuses, wrong, _ = asyncio.run(_requests(gateway.port))
            findings.append(exactly("afterwards: answered", statuses[200], _REQUESTS))
    return [exactly("wrong answers", found["wrong"] + wrong), *findings]


async def _requests(port: int) -> tuple[Counter[int], int, float]:
    statuses, wrong, slowest = Counter[int](), 0, 0.0
    connector = aiohttp.TCPConnector(limit=20)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:

        async def one(number: int) -> None:
            nonlocal wrong, slowest
            name, began, status = f"{number}-", time.perf_counter(), 0
            url = f"http://127.0.0.1:{port}/echo?bytes=10000"
            # One that is answered with 200 and then cut off breaks off here too: it is the gateway's way to say so.
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async with session.get(url, headers={"X-Id": name}) as response:
                    status = 502
                    body = await response.read()
                    status = response.status
                    wrong += status == 200 and body != (name * 10_000)[:10_000].encode()
            statuses[status] += 1
            slowest = max(slowest, time.perf_counter() - began)

        for first in range(0, _REQUESTS, 20):
            await asyncio.gather(*(one(number) for number in range(first, first + 20)))
    return statuses, wrong, slowest


@contextlib.contextmanager
def _relay(upstream: str) -> Iterator[tuple[str, str]]:
    """Start the relay before an upstream; yields the addresses of its control and of its way."""
    ports: list[int] = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    api, way = (f"127.0.0.1:{port}" for port in ports)
    program = os.environ.get("TOXIPROXY", "toxiproxy-server")
    with subprocess.Popen(
        [program, "-port", str(ports[0])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    _call(api, "GET", "/version")
                    break
                time.sleep(0.05)
            _call(api, "POST", "/proxies", {"name": "way", "listen": way, "upstream": upstream, "enabled": True})
            yield api, way
        finally:
            process.kill()


def _call(api: str, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://{api}{path}", data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()
