"""The applications of the gateway tests; Granian imports them in its workers. UPSTREAM is the upstream's URL."""

import json
import logging
import os
from typing import Any

from velithon_proxy import ProxyMiddleware

UPSTREAM = os.environ["UPSTREAM"]
DOWN = os.environ.get("DOWN", "http://127.0.0.1:1")

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")


def gateways() -> list[ProxyMiddleware]:
    """Several gateways beside and inside each other, as a real application has them."""
    return [
        ProxyMiddleware(UPSTREAM, "/api"),
        ProxyMiddleware([UPSTREAM], path_prefix="/strip/me/", strip_prefix=True, strategy="single"),
        ProxyMiddleware(target_urls=UPSTREAM, path_prefix="/host", preserve_host=True),
        ProxyMiddleware(UPSTREAM, "/slow", timeout_ms=300),
        ProxyMiddleware(target_urls=DOWN, path_prefix="/down"),
    ]


async def inner(scope: Any, protocol: Any) -> None:
    """What lies behind the gateways: says that it was asked, by which worker."""
    content = {"app": "inner", "pid": os.getpid(), "path": scope.path, "query": scope.query_string}
    protocol.response_str(200, [("x-app", "inner")], json.dumps(content))


bare: Any = inner
for gateway in reversed(gateways()):
    bare = gateway(bare)

alone = ProxyMiddleware(UPSTREAM, path_prefix="/api")


def make_velithon() -> Any:
    from velithon import Request, Velithon
    from velithon.middleware import Middleware
    from velithon.responses import JSONResponse

    first, *others = gateways()
    application = Velithon(
        middleware=[
            Middleware(ProxyMiddleware, target_urls=UPSTREAM, path_prefix="/one"),
            Middleware(ProxyMiddleware, UPSTREAM, "/two"),
        ]
    )
    application.add_middleware(first)
    for other in others:
        application.add_middleware(other)

    async def answer(request: Request) -> JSONResponse:
        content = {"app": "inner", "pid": os.getpid(), "path": request.scope.path, "query": request.scope.query_string}
        return JSONResponse(content, headers={"x-app": "inner"})

    for path in ("/ready", "/apix", "/api.evil/x", "/"):
        application.add_route(path, answer, methods=["GET"])
    return application


velithon = make_velithon() if os.environ.get("WITH_VELITHON") else None
