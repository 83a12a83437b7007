"""The Rust client inside Velithon 0.6.10, which velithon-proxy takes the place of.

It takes and gives a dict of headers, so that repeated lines are lost, and answers in the order status, body, headers.
"""

from __future__ import annotations

from typing import Any

from velithon._velithon import ProxyClient

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, UnsupportedError, refuse_unix


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    refuse_unix(base_url)
    if shape == "stream":
        raise UnsupportedError("has no streams")
    if base_url.startswith("https:"):
        raise UnsupportedError("cannot be told to trust a certificate")
    client: Any = ProxyClient(base_url, TIMEOUT_SECONDS * 1000)  # its stub has the order of the answer wrong

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        status, answer_body, answer_headers = await client.forward_request(method, path, dict(headers), body)
        return status, answer_headers, answer_body

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        status, answer_body, answer_headers = await client.forward_request(method, path, dict(headers), body)
        return status, list(answer_headers.items()), answer_body

    async def close() -> None:
        """It has nothing to close."""

    return Client(native if shape == "native" else gateway, close)
