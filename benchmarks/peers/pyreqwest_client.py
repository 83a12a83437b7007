"""pyreqwest (Rust reqwest). Its body is a buffer on Rust memory, its headers a map that decodes on access."""

from __future__ import annotations

import datetime

from pyreqwest.client import ClientBuilder

from . import POOL_SIZE, TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, pieces, refuse_unix


async def connect(base_url: str, shape: Shape, variant: str) -> Client:
    refuse_unix(base_url)
    builder = ClientBuilder()
    if base_url.startswith("https:"):
        builder = builder.danger_accept_invalid_certs(True)
    client = (
        builder.runtime_multithreaded(variant == "multi-threaded")
        .pool_max_idle_per_host(POOL_SIZE)
        .pool_idle_timeout(datetime.timedelta(minutes=5))
        .timeout(datetime.timedelta(seconds=TIMEOUT_SECONDS))
        .follow_redirects(False)
        .referer(False)
        .no_proxy()
        .gzip(False)
        .brotli(False)
        .deflate(False)
        .zstd(False)
        .build()
    )

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        builder = client.request(method, base_url + path).headers(headers)
        if body is not None:
            builder = builder.body_bytes(body)
        response = await builder.build().send()
        return response.status, response.headers, await response.bytes()

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        status, answer_headers, view = await native(method, path, headers, body)
        return status, list(answer_headers.items()), view.to_bytes()

    async def stream(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        builder, size = client.request(method, base_url + path).headers(headers), 0
        if body is not None:
            builder = builder.body_stream(pieces(body))
        async with builder.build_streamed() as response:
            while (piece := await response.body_reader.read_chunk()) is not None:
                size += len(piece)
            return response.status, response.headers, size

    return Client({"native": native, "gateway": gateway, "stream": stream}[shape], client.close)
