"""aiohttp: no connection limit, no decompression, no cookies, no header lines of its own."""

from __future__ import annotations

import aiohttp

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, pieces, unix_path


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    path = unix_path(base_url)
    if path:
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=0, keepalive_timeout=300)
        base_url = "http://localhost"
    else:
        secure = base_url.startswith("https:")
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=300, ssl=not secure)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
    )

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        async with session.request(
            method, base_url + path, headers=headers, data=body, allow_redirects=False
        ) as response:
            return response.status, response.headers, await response.read()

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        async with session.request(
            method, base_url + path, headers=headers, data=body, allow_redirects=False
        ) as response:
            return response.status, list(response.headers.items()), await response.read()

    async def stream(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        sent, size = None if body is None else pieces(body), 0
        async with session.request(
            method, base_url + path, headers=headers, data=sent, allow_redirects=False
        ) as response:
            async for piece in response.content.iter_any():
                size += len(piece)
            return response.status, response.headers, size

    return Client({"native": native, "gateway": gateway, "stream": stream}[shape], session.close)
