"""A stand-in for an ASGI server: what it hands to an application with a request, and what it is given in return."""

from __future__ import annotations

import asyncio
from typing import Any

HOST = (b"host", b"h")


class Sent:
    """What an ASGI application has sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


async def serve(
    app: Any, *pieces: bytes, leaves: asyncio.Event | None = None, unfinished: bool = False, **scope: Any
) -> Sent:
    """Serve one request. Its client sends these pieces, announces more if unfinished, and waits until it leaves."""
    sent, rest = Sent(), list(pieces or (b"",))

    async def receive() -> dict[str, Any]:
        if rest:
            return {"type": "http.request", "body": rest.pop(0), "more_body": bool(rest) or unfinished}
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.messages.append(message)

    path = scope.setdefault("path", "/")
    scope.setdefault("raw_path", path.encode())
    await app(
        {
            "type": "http", "method": "GET", "query_string": b"", "scheme": "http", "headers": [HOST],
            "http_version": "1.1", "client": ("192.0.2.1", 1234), **scope,
        },
        receive, send,
    )  # fmt: skip
    return sent
