"""The applications of the gateway tests; Granian imports them in its workers. UPSTREAM is the upstream's URL."""

import asyncio
import json
import logging
import os
import sys
from typing import Any

from velithon_proxy import ProxyMiddleware

UPSTREAM = os.environ["UPSTREAM"]
DOWN = os.environ.get("DOWN", "http://127.0.0.1:1")

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")


# One process serves a whole module of tests, many of which break the upstream on purpose.
PATIENT: Any = {"max_failures": 1_000_000, "max_retries": 0}

everything = ProxyMiddleware(UPSTREAM, **PATIENT)
alone = ProxyMiddleware(UPSTREAM, path_prefix="/api", **PATIENT)

ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((UPSTREAM, "/api"), PATIENT),
    (([UPSTREAM],), {"path_prefix": "/strip/me/", "strip_prefix": True, "strategy": "single", **PATIENT}),
    ((), {"target_urls": UPSTREAM, "path_prefix": "/host", "preserve_host": True, **PATIENT}),
    ((UPSTREAM, "/slow"), {"timeout_ms": 300, **PATIENT}),
    ((), {"target_urls": DOWN, "path_prefix": "/down", **PATIENT}),
]
gateways = [ProxyMiddleware(*arguments, **options) for arguments, options in ARGUMENTS]


def seen(scope: Any) -> dict[str, object]:
    """What the application says of a request, and of the worker that it runs in."""
    tasks = len(asyncio.all_tasks())
    return {"pid": os.getpid(), "tasks": tasks, "path": scope.path, "query": scope.query_string}


async def say_what_is_open() -> None:
    """Print, when everything else has ended, how many gateways still have connections."""
    still_open = sum(gateway._gateway._client._pool != 0 for gateway in gateways)
    sys.stdout.write(f"gateways still open: {still_open}\n")  # in one piece: other workers write as well


class Inner:
    """What lies behind the gateways: says that it was asked, and by which worker."""

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        protocol.response_str(200, [("x-app", "inner")], json.dumps(seen(scope)))

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        print("the application starts")

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(say_what_is_open())


bare: Any = Inner()
for gateway in reversed(gateways):
    bare = gateway(bare)


def make_velithon() -> Any:
    from velithon import Request, Velithon
    from velithon.middleware import Middleware
    from velithon.responses import JSONResponse

    first, *others = gateways
    application = Velithon(
        middleware=[
            Middleware(ProxyMiddleware, target_urls=UPSTREAM, path_prefix="/one", **PATIENT),
            Middleware(ProxyMiddleware, UPSTREAM, "/two", **PATIENT),
        ]
    )
    application.add_middleware(first)
    for other in others:
        application.add_middleware(other)

    application.on_shutdown(priority=100)(say_what_is_open)

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(seen(request.scope), headers={"x-app": "inner"})

    for path in ("/ready", "/apix", "/api.evil/x", "/"):
        application.add_route(path, answer, methods=["GET"])
    return application


async def inner_asgi(scope: Any, receive: Any, send: Any) -> None:
    """What lies behind the gateways on ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = json.dumps({"pid": os.getpid(), "tasks": len(asyncio.all_tasks()), "path": scope["path"],
                       "query": scope["query_string"].decode()}).encode()  # fmt: skip
    headers = [(b"x-app", b"inner"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


asgi: Any = inner_asgi
for gateway in reversed(gateways):
    asgi = gateway(asgi)


wrapped = asgi


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    async def watching(message: Any) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            await say_what_is_open()
        await send(message)

    await wrapped(scope, receive, watching)


direct = ProxyMiddleware(UPSTREAM, "/api", app=inner_asgi, **PATIENT)


def make_starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    application = Starlette(routes=[Mount("/", inner_asgi)])
    for arguments, options in reversed(ARGUMENTS):
        application.add_middleware(ProxyMiddleware, *arguments, **options)
    return application


def make_fastapi() -> Any:
    from fastapi import FastAPI

    application = FastAPI()
    for arguments, options in reversed(ARGUMENTS):
        application.add_middleware(ProxyMiddleware, *arguments, **options)
    application.mount("/", inner_asgi)
    return application


fastapi = make_fastapi() if os.environ.get("FRAMEWORK") == "fastapi" else None
starlette = make_starlette() if os.environ.get("FRAMEWORK") == "starlette" else None


def make_routes() -> Any:
    from velithon import Velithon

    from velithon_proxy.gateway import Gateway, GatewayRoute, forward_to

    gateway = Gateway()
    gateway.add_route("/strip/{path:path}", UPSTREAM, strip_path=True, **PATIENT)
    gateway.add_route("/rewrite/{id:int}/{path:path}", [UPSTREAM], path_rewrite="/v1/{path}/of/{id}", **PATIENT)
    gateway.add_route("/t/{tenant}/{rest:path}", UPSTREAM, path_rewrite="/v2/{tenant}/items/{rest}", **PATIENT)
    gateway.add_route("/whole/{path:path}", UPSTREAM, headers_to_add={"X-Added": "1"}, headers_to_remove=["x-gone"],
                      **PATIENT)  # fmt: skip

    @gateway.forward_to(UPSTREAM, methods=["get"], **PATIENT)
    def only() -> None:
        raise AssertionError("it is never called")

    application = Velithon(routes=[*gateway.get_routes(), GatewayRoute("/down", DOWN, **PATIENT)])
    endpoint = forward_to("/endpoint", UPSTREAM, strip_path=True, **PATIENT)
    application.add_route("/endpoint/{path:path}", endpoint, methods=["GET", "POST"], include_in_schema=False)
    return application


routes = make_routes() if os.environ.get("FRAMEWORK") == "routes" else None
velithon = make_velithon() if os.environ.get("FRAMEWORK") == "velithon" else None
