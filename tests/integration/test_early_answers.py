"""An upstream that answers before it has the upload: the client's bytes are not waited for any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from velithon_proxy import ProxyMiddleware

ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
LENGTH = 1 << 20


@pytest.mark.parametrize("answer", [ANSWER, ANSWER.replace(b"3\r\n\r\nbig", b"70000\r\n\r\n" + b"x" * 70_000)])
async def test_an_early_answer_ends_the_upload(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(65536)
        writer.write(answer)
        await writer.drain()
        await reader.read()
        writer.close()

    asked, given_up = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}
        try:
            await asyncio.Event().wait()  # the client is slow
        finally:
            given_up.set()
        raise AssertionError

    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = ProxyMiddleware(f"http://127.0.0.1:{port}")
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
        "headers": [(b"host", b"h"), (b"content-length", b"%d" % LENGTH)], "client": ("127.0.0.1", 1), "scheme": "http",
        "server": ("127.0.0.1", 80), "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    async with asyncio.timeout(10):
        await gateway(scope, receive, send)
    assert given_up.is_set()
    assert messages[0]["status"] == 413
    assert b"".join(message.get("body", b"") for message in messages[1:]) == answer.partition(b"\r\n\r\n")[2]
    await gateway.aclose()
    server.close()
