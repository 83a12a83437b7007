"""primp (Rust): no browser is imitated, no cookies are kept. Request headers must be a mapping."""

from __future__ import annotations

import primp

from . import TIMEOUT_SECONDS, Answer, Client, Pairs, Shape, UnsupportedError, refuse_unix


async def connect(base_url: str, shape: Shape, variant: str) -> Client:  # noqa: ARG001 - one configuration only
    refuse_unix(base_url)
    if shape == "stream":
        raise UnsupportedError("takes no request body as a stream")
    client = primp.AsyncClient(
        cookie_store=False, referer=False, follow_redirects=False, timeout=TIMEOUT_SECONDS,
        verify=not base_url.startswith("https:"),
    )  # fmt: skip

    async def native(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        response = await client.request(method, base_url + path, headers=dict(headers), content=body)
        return response.status_code, response.headers, response.content

    async def gateway(method: str, path: str, headers: Pairs, body: bytes | None) -> Answer:
        status, answer_headers, content = await native(method, path, headers, body)
        return status, list(answer_headers.items()), content

    async def close() -> None:
        """It has nothing to close."""

    return Client(native if shape == "native" else gateway, close)
