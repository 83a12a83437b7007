"""The package under test."""

from __future__ import annotations

import warnings

from velithon_proxy import TLS, ProxyClient

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, pieces


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tls = TLS(insecure=True) if base_url.startswith("https:") else None
    client = ProxyClient(base_url, timeout_ms=TIMEOUT_SECONDS * 1000, tls=tls)

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.forward_request(method, path, headers, body)
        return response.status, response.headers, response.body

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.forward_request(method, path, headers, body)
        return response.status, list(response.headers.items()), response.body

    async def stream(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        sent, size = None if body is None else pieces(body), 0
        async with client.stream_request(method, path, headers, sent) as response:
            async for piece in response.aiter_bytes():
                size += len(piece)
            return response.status, response.headers, size

    return Client({"native": native, "gateway": gateway, "stream": stream}[shape], client.aclose)
