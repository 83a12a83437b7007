"""What the client comparison sends: the scenarios, and the header lines that every request carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peers import Pairs, Shape

# What a gateway receives from a browser behind a load balancer, shortened.
REQUEST_HEADERS: Pairs = [
    ("accept", "application/json"),
    ("user-agent", "velithon-proxy-benchmark/1"),
    ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ("x-forwarded-for", "192.0.2.17"),
    ("x-request-id", "7b0f3c1e9a5d4f62"),
]

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Scenario:
    """One row of work that every client is measured on.

    Attributes:
        method, path: of each request.
        concurrency: requests in flight; each worker sends its next request when its last one is answered.
        request_bytes: size of the request body, 0 for none.
        answer_bytes: size that every answer's body must have.
        shape: see :mod:`peers`.
        loop: ``uvloop`` or ``asyncio``.
        quick: part of a quick run.
        transport: ``plain``, ``tls`` or ``unix``; connections are kept alive.
        slow_clients: whether clients that are an order of magnitude behind take part.
    """

    name: str
    method: str
    path: str
    concurrency: int
    answer_bytes: int
    request_bytes: int = 0
    shape: Shape = "native"
    loop: str = "uvloop"
    quick: bool = False
    transport: Literal["plain", "tls", "unix"] = "plain"
    slow_clients: bool = False


_ALL = [
    Scenario("get-100b-c1", "GET", "/small", 1, 100, quick=True, slow_clients=True),
    Scenario("get-100b-c64", "GET", "/small", 64, 100, quick=True, slow_clients=True),
    Scenario("get-100b-c512", "GET", "/small", 512, 100, slow_clients=True),
    Scenario("get-10k-c64", "GET", "/10k", 64, 10 << 10),
    Scenario("get-1m-c8", "GET", "/1m", 8, MEBIBYTE, quick=True, slow_clients=True),
    Scenario("post-10k-c64", "POST", "/sink", 64, len(str(10 << 10)), 10 << 10),
    Scenario("post-1m-c8", "POST", "/sink", 8, len(str(MEBIBYTE)), MEBIBYTE),
    Scenario("get-1m-c8-stream", "GET", "/1m", 8, MEBIBYTE, shape="stream"),
    Scenario("post-1m-c8-stream", "POST", "/sink", 8, len(str(MEBIBYTE)), MEBIBYTE, shape="stream"),
    Scenario("get-100b-c1-tls", "GET", "/small", 1, 100, transport="tls"),
    Scenario("get-100b-c64-tls", "GET", "/small", 64, 100, transport="tls"),
    Scenario("get-1m-c8-tls", "GET", "/1m", 8, MEBIBYTE, transport="tls"),
    Scenario("get-100b-c64-unix", "GET", "/small", 64, 100, transport="unix"),
    Scenario("get-100b-c64-gateway", "GET", "/small", 64, 100, shape="gateway"),
    Scenario("get-1m-c8-gateway", "GET", "/1m", 8, MEBIBYTE, shape="gateway"),
    Scenario("get-100b-c1-asyncio", "GET", "/small", 1, 100, loop="asyncio"),
    Scenario("get-100b-c64-asyncio", "GET", "/small", 64, 100, loop="asyncio"),
]
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
