"""aiohttp: no connection limit, no decompression, no cookies, no header lines of its own."""

from __future__ import annotations

import aiohttp

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=300, ssl=not base_url.startswith("https:")),
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

    return Client(native if shape == "native" else gateway, session.close)
