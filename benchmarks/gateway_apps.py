"""The applications of the gateway comparison; a server imports the one that APP names. UPSTREAM is the upstream.

All forward everything to one upstream (Velithon's own gateway to the same one twice: with one it answers 502; ours
to several where UPSTREAM is a list with commas).
The peers are written as their authors recommend it, without loss where they can: duplicates kept, the body
streamed, fields of the connection left out, nothing decompressed.
"""

from __future__ import annotations

import json
import os
from typing import Any

UPSTREAM = os.environ["UPSTREAM"]
TARGETS = UPSTREAM.split(",")
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host", "content-length"}
)  # fmt: skip


async def rsgi_empty(_: Any, protocol: Any) -> None:
    """Answers by itself: what the server and one call into Python cost."""
    protocol.response_bytes(200, [("content-type", "application/octet-stream")], b"x" * 100)


def rsgi_ours() -> Any:
    """Ours; OPTIONS may hold arguments in JSON, and in ``retry_statuses`` those that are a reason to try again."""
    from velithon_proxy import ProxyMiddleware, Retry

    options = json.loads(os.environ.get("OPTIONS") or "{}")
    statuses = options.pop("retry_statuses", None)
    if statuses:
        options["retry"] = Retry(statuses=statuses)
    return ProxyMiddleware(TARGETS, status_endpoint="/-/status", **options)


def rsgi_pyreqwest() -> Any:
    from pyreqwest.client import ClientBuilder

    client = ClientBuilder().pool_max_idle_per_host(1024).follow_redirects(False).referer(False).no_proxy()
    client = client.gzip(False).brotli(False).deflate(False).zstd(False).build()

    async def app(scope: Any, protocol: Any) -> None:
        url = f"{UPSTREAM}{scope.path}?{scope.query_string}" if scope.query_string else UPSTREAM + scope.path
        lines = [line for line in scope.headers.items() if line[0] not in HOP_BY_HOP]
        request = client.request(scope.method, url).headers(lines)
        if scope.headers.get("content-length") is not None:
            request = request.body_bytes(await protocol())
        response = await request.build().send()
        body = (await response.bytes()).to_bytes()
        kept = [line for line in response.headers.items() if line[0] not in HOP_BY_HOP]
        protocol.response_bytes(response.status, kept, body)

    return app


def _quiet(app: Any) -> Any:
    """At INFO Velithon writes a line for each request, to which both of its rows come."""
    app.log_config.log_level = "WARNING"
    return app


def velithon_ours() -> Any:
    from velithon import Velithon

    from velithon_proxy import ProxyMiddleware

    app = Velithon()
    app.add_middleware(ProxyMiddleware(UPSTREAM))
    return _quiet(app)


def velithon_gateway() -> Any:
    from velithon import Velithon
    from velithon.gateway import GatewayRoute

    same = UPSTREAM.replace("127.0.0.1", "localhost")
    return _quiet(Velithon(routes=[GatewayRoute("/{path:path}", targets=[UPSTREAM, same])]))


asgi_ours = rsgi_ours


def asgi_aiohttp() -> Any:
    import aiohttp

    session: Any = None

    async def pieces(receive: Any) -> Any:
        more = True
        while more:
            message = await receive()
            yield message.get("body", b"")
            more = message.get("more_body", False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal session
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        url = UPSTREAM + scope["raw_path"].decode()
        if scope["query_string"]:
            url += "?" + scope["query_string"].decode()
        lines = [(n.decode(), v.decode("latin-1")) for n, v in scope["headers"] if n.decode() not in HOP_BY_HOP]
        sends = any(n in (b"content-length", b"transfer-encoding") for n, _ in scope["headers"])
        async with session.request(
            scope["method"], url, headers=lines, data=pieces(receive) if sends else None, allow_redirects=False
        ) as response:
            kept = [
                (n.lower(), v)
                for n, v in response.raw_headers
                if n == b"Content-Length" or n.lower().decode() not in HOP_BY_HOP
            ]
            await send({"type": "http.response.start", "status": response.status, "headers": kept})
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    return app


def fastapi_ours() -> Any:
    from fastapi import FastAPI

    from velithon_proxy import ProxyMiddleware

    app = FastAPI()
    app.add_middleware(ProxyMiddleware, target_urls=UPSTREAM)
    return app


def fastapi_proxy_lib() -> Any:
    from fastapi_proxy_lib.fastapi.app import reverse_http_app

    return reverse_http_app(base_url=UPSTREAM + "/")


def fastapi_reverse_proxy() -> Any:
    import contextlib

    from fastapi import FastAPI, Request
    from fastapi_reverse_proxy import Proxy, proxy_pass

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> Any:
        async with Proxy(app):
            yield

    app = FastAPI(lifespan=lifespan)

    async def forward(request: Any) -> Any:
        return await proxy_pass(request, UPSTREAM)

    forward.__annotations__["request"] = Request
    app.add_api_route("/{path:path}", forward, methods=["GET", "POST", "PUT", "DELETE"])
    return app


def asgi_asgiproxy() -> Any:
    from asgiproxy.__main__ import make_app

    return make_app(UPSTREAM)[0]


app: Any = globals()[os.environ["APP"]]
if os.environ["APP"] != "rsgi_empty":
    app = app()
if path := os.environ.get("LOOP_DELAY"):
    import loop_delay

    rsgi = os.environ["SERVER"] == "rsgi"
    app = loop_delay.ProbedRSGI(app, path) if rsgi else loop_delay.probed_asgi(app, path)
