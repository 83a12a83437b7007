"""The servers in front of which the gateway tests run: each test runs on each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gateway_process import GatewayProcess
from scripted_upstream import ScriptedUpstream

#: Application of gateway_apps.py, event loop, number of workers.
SERVERS = [
    ("bare", "uvloop", 1),
    ("bare", "rloop", 2),
    ("bare", "asyncio", 1),
    ("velithon", "uvloop", 2),
    ("velithon", "rloop", 1),
    ("velithon", "asyncio", 2),
]


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream for all tests; each begins by saying what it does, which also begins a new ledger."""
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session", params=SERVERS, ids=lambda server: "-".join(map(str, server)))
def gateway(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    """A running Granian with gateways before ``upstream``."""
    kind, loop, workers = request.param
    environment = {"UPSTREAM": upstream.url, "WITH_VELITHON": "1" if kind == "velithon" else ""}
    with GatewayProcess(f"gateway_apps:{kind}", loop=loop, workers=workers, environment=environment) as gateway:
        yield gateway
