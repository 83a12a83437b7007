"""wreq (Rust). Its body is a memoryview on Rust memory, its headers a map of memoryviews.

Request headers must be a mapping; a dict is the cheapest form it takes. ``one-worker`` gives it a runtime of one
thread instead of one per core.
"""

from __future__ import annotations

import datetime
from typing import Any

import wreq

from . import POOL_SIZE, TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, pieces, unix_path

METHODS = {"GET": wreq.Method.GET, "POST": wreq.Method.POST}


async def connect(base_url: str, shape: Shape, variant: str) -> Client:
    options: dict[str, Any] = (
        {"tls_verify": False, "tls_verify_hostname": False} if base_url.startswith("https:") else {}
    )
    options |= {"runtime": wreq.Runtime(workers=1)} if variant == "one-worker" else {}
    path = unix_path(base_url)
    if path:
        options |= {"proxies": [wreq.Proxy.unix(path)]}
        base_url = "http://localhost"
    else:
        options |= {"no_proxy": True}
    client = wreq.Client(
        http1_only=True,
        pool_max_idle_per_host=POOL_SIZE,
        pool_max_size=POOL_SIZE,
        pool_idle_timeout=datetime.timedelta(minutes=5),
        timeout=datetime.timedelta(seconds=TIMEOUT_SECONDS),
        redirect=wreq.redirect.Policy.none(),
        referer=False,
        gzip=False,
        brotli=False,
        deflate=False,
        zstd=False,
        **options,
    )

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        if body is None:
            response = await client.request(METHODS[method], base_url + path, headers=dict(headers))
        else:
            response = await client.request(METHODS[method], base_url + path, headers=dict(headers), body=body)
        return response.status.as_int(), response.headers, await response.bytes()

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        status, answer_headers, view = await native(method, path, headers, body)
        pairs = [(str(name, "latin-1"), str(value, "latin-1")) for name, value in answer_headers]
        return status, pairs, view.tobytes()

    async def stream(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        sent, size = {} if body is None else {"body": pieces(body)}, 0
        response = await client.request(METHODS[method], base_url + path, headers=dict(headers), **sent)
        async with response.stream() as arriving:
            async for piece in arriving:
                size += len(piece)
        return response.status.as_int(), response.headers, size

    async def close() -> None:
        client.close()

    return Client({"native": native, "gateway": gateway, "stream": stream}[shape], close)
