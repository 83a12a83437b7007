"""A gateway that is called in this process, so that a test chooses whether a request takes its fast path.

Only the server is a stand-in (``rsgi_server.py``); upstream, core and sockets are real.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from rsgi_server import Protocol, Scope
from scripted_upstream import ScriptedUpstream, reply

from velithon_proxy import ProxyMiddleware


@contextlib.asynccontextmanager
async def connected(upstream: ScriptedUpstream, **options: Any) -> AsyncIterator[ProxyMiddleware]:
    """A gateway that has served its first request, with a new ledger."""
    options = {"path_prefix": "/api", "max_retries": 0, "max_failures": 1_000_000, **options}
    gateway = ProxyMiddleware(upstream.url, **options)
    upstream.answers(reply(body=b"first"))
    await ordinary(gateway, Scope(path=options["path_prefix"]))
    upstream.answers(reply("200 OK", "X-B: 1", "x-b: 2", "Set-Cookie: a", "Set-Cookie: b", body=b"whole"))
    try:
        yield gateway
    finally:
        gateway.close()


async def ordinary(gateway: ProxyMiddleware, scope: Scope) -> Protocol:
    """Serve a request as if there were no fast path."""
    protocol = Protocol()
    await gateway._rsgi.serve(scope, protocol, scope.path)  # type: ignore[arg-type]
    return protocol


async def fast(gateway: ProxyMiddleware, scope: Scope) -> Protocol:
    """Serve a request that the fast path must take."""
    protocol = Protocol()
    flight = take(gateway, scope, protocol)
    assert flight is not None
    assert await flight == protocol.answers[0][0]
    return protocol


def take(gateway: ProxyMiddleware, scope: object, protocol: object) -> asyncio.Future[int] | None:
    """Offer a request to the fast path of the running event loop; None if it is left to the ordinary way."""
    gateway._rsgi._fast.renew()
    return gateway._rsgi._fast.take(scope, protocol)


async def quiet(gateway: ProxyMiddleware) -> None:
    """Wait until nothing is under way any more."""
    while (await gateway.get_proxy_status())["in_flight"]:  # noqa: ASYNC110 -- the core has no event for it
        await asyncio.sleep(0.001)
    flights = gateway._rsgi._fast._flights
    assert not flights._watched
    assert not flights._left
    assert not flights._tasks
