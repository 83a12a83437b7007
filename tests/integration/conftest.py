"""The servers in front of which the gateway tests run: each test runs on each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gateway_process import GatewayProcess
from scripted_upstream import ScriptedUpstream

#: Application of gateway_apps.py, event loop, number of workers, and the server with its interface or parser.
SERVERS = [
    ("bare", "uvloop", 1, "granian-rsgi"),
    ("bare", "rloop", 2, "granian-rsgi"),
    ("bare", "asyncio", 1, "granian-rsgi"),
    ("velithon", "uvloop", 2, "granian-rsgi"),
    ("velithon", "rloop", 1, "granian-rsgi"),
    ("velithon", "asyncio", 2, "granian-rsgi"),
]
ASGI_SERVERS = [
    ("asgi", "uvloop", 1, "granian-asgi"),
    ("asgi", "asyncio", 1, "uvicorn-h11"),
    ("asgi", "uvloop", 1, "uvicorn-httptools"),
    ("starlette", "uvloop", 1, "uvicorn-h11"),
    ("fastapi", "uvloop", 1, "uvicorn-httptools"),
    ("asgi", "asyncio", 1, "hypercorn-h11"),
]


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream for all tests; each begins by saying what it does, which also begins a new ledger."""
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session", params=SERVERS, ids=lambda server: "-".join(map(str, server[:3])))
def gateway(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    """A running Granian with gateways before ``upstream``."""
    yield from _serve(request, upstream)


@pytest.fixture(scope="session", params=ASGI_SERVERS, ids=lambda server: f"{server[0]}-{server[3]}")
def asgi_gateway(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    """A running ASGI server with gateways before ``upstream``."""
    yield from _serve(request, upstream)


def _serve(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    kind, loop, workers, server = request.param
    environment = {"UPSTREAM": upstream.url, "FRAMEWORK": kind}
    with GatewayProcess(
        f"gateway_apps:{kind}", loop=loop, workers=workers, environment=environment, server=server
    ) as gateway:
        yield gateway
