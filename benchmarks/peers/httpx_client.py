"""httpx and httpx2: no connection limits. They decompress and keep cookies; the upstream gives them neither to do."""

from __future__ import annotations

import importlib
from typing import Any

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, pieces, unix_path


async def connect(base_url: str, shape: Shape, variant: str) -> Client:
    httpx: Any = importlib.import_module(variant)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=300)
    path = unix_path(base_url)
    if path:
        base_url = "http://localhost"
    transport = httpx.AsyncHTTPTransport(uds=path, limits=limits, verify=False, trust_env=False)
    client = httpx.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.request(method, base_url + path, headers=headers, content=body)
        return response.status_code, response.headers, response.content

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.request(method, base_url + path, headers=headers, content=body)
        return response.status_code, response.headers.multi_items(), response.content

    async def stream(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        sent, size = None if body is None else pieces(body), 0
        async with client.stream(method, base_url + path, headers=headers, content=sent) as response:
            async for piece in response.aiter_raw():
                size += len(piece)
            return response.status_code, response.headers, size

    return Client({"native": native, "gateway": gateway, "stream": stream}[shape], client.aclose)
