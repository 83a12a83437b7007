"""httpx: no connection limits. It always decompresses and keeps cookies; the upstream gives it neither to do."""

from __future__ import annotations

import httpx

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    client = httpx.AsyncClient(
        timeout=TIMEOUT_SECONDS,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=300),
        follow_redirects=False,
        trust_env=False,
    )

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.request(method, base_url + path, headers=headers, content=body)
        return response.status_code, response.headers, response.content

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.request(method, base_url + path, headers=headers, content=body)
        return response.status_code, response.headers.multi_items(), response.content

    return Client(native if shape == "native" else gateway, client.aclose)
