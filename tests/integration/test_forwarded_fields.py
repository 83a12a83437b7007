"""What an upstream gets to know about the client behind trusted proxies, and how a request counts its stations."""

from __future__ import annotations

from typing import Any

import pytest
from fast_path_gateway import connected, ordinary
from rsgi_server import HOST, Lines, Scope
from scripted_upstream import ScriptedUpstream

TRUSTED: dict[str, Any] = {"trusted_proxies": ["::ffff:192.0.2.0/120"]}


async def received(upstream: ScriptedUpstream, lines: Lines, method: str = "GET", **options: Any) -> list[str]:
    """The header lines that arrive at the upstream but Host, after a request that was answered with 200."""
    async with connected(upstream, **options) as gateway:
        protocol = await ordinary(gateway, Scope(method=method, lines=lines))
        assert protocol.answers[0][0] == 200
        return upstream.only_request().head.decode().split("\r\n")[2:]


@pytest.mark.parametrize("host", ["example.com", "internal:8080"])
async def test_the_port_fits_what_a_trusted_proxy_says(upstream: ScriptedUpstream, host: str) -> None:
    said = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "example.com")]
    assert await received(upstream, [("host", host), *said], **TRUSTED) == [
        "x-forwarded-proto: https",
        "x-forwarded-host: example.com",
        "x-forwarded-for: 203.0.113.9, 192.0.2.7",
        "x-forwarded-port: 443",
        "via: 1.1 velithon-proxy",
    ]


async def test_gateways_with_names_alike_pass_requests_to_each_other(upstream: ScriptedUpstream) -> None:
    others = ", ".join(f"1.1 edge-{n}, 1.1 my-edge-{n}.example" for n in range(5))
    assert (await received(upstream, [HOST, ("via", others)], via="edge"))[-1] == f"via: {others}, 1.1 edge"
    async with connected(upstream, via="edge") as gateway:
        protocol = await ordinary(gateway, Scope(lines=[HOST, ("via", ", ".join(["1.1 edge"] * 10))]))
        assert protocol.answers[0][0] == 508
        assert upstream.ledger.of("request") == []


async def test_leading_zeros_do_not_end_the_way(upstream: ScriptedUpstream) -> None:
    lines = await received(upstream, [HOST, ("max-forwards", "0000000001")], method="OPTIONS")
    assert "max-forwards: 0" in lines
