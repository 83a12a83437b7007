"""niquests: HTTP/1.1 only, one pool. It decompresses and keeps cookies; the upstream gives it neither to do."""

from __future__ import annotations

import warnings
from typing import Any

import niquests

from . import POOL_SIZE, TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, pieces, refuse_unix


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    refuse_unix(base_url)
    warnings.filterwarnings("ignore", message="Unverified HTTPS")
    session = niquests.AsyncSession(
        disable_http2=True, disable_http3=True, pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE, verify=False
    )
    session.trust_env = False

    async def request(method: str, path: str, headers: Pairs, body: Any, stream: bool) -> Any:
        return await session.request(
            method, base_url + path, headers=headers, data=body, timeout=TIMEOUT_SECONDS, allow_redirects=False,
            stream=stream,
        )  # fmt: skip

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await request(method, path, headers, body, False)
        return response.status_code, response.headers, response.content

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        status, answer_headers, content = await native(method, path, headers, body)
        return status, list(answer_headers.items()), content

    async def stream(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await request(method, path, headers, None if body is None else pieces(body), True)
        size = 0
        async for piece in await response.iter_raw():
            size += len(piece)
        return response.status_code, response.headers, size

    return Client({"native": native, "gateway": gateway, "stream": stream}[shape], session.close)
