"""A server with our gateway in this very process, which tells of itself once a second. Prints lines of JSON.

The first line has the port; each further one is a sample: seconds, resident memory in MB, descriptors, goroutines of
the core, and requests in flight. The end of standard input ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import time

import uvicorn
from core_hooks import CoreHooks
from processes import descriptor_count, rss_kb

from velithon_proxy import ProxyMiddleware


def _application(address: str, raw: str) -> ProxyMiddleware:
    """``/good`` goes to the server that answers, ``/bad`` to the one that does not."""
    bad = ProxyMiddleware(
        f"http://{raw}", path_prefix="/bad", strip_prefix=True, timeout_ms=1000, max_retries=0, max_failures=1_000_000
    )
    return ProxyMiddleware(f"http://{address}", path_prefix="/good", strip_prefix=True, app=bad)


async def _tell(server: uvicorn.Server, port: int) -> None:
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    print(json.dumps({"port": port}), flush=True)
    loop, began = asyncio.get_running_loop(), time.monotonic()
    over = loop.run_in_executor(None, sys.stdin.read)
    hooks = CoreHooks()
    while not over.done():
        sample = {
            "seconds": round(time.monotonic() - began, 1),
            "rss_mb": rss_kb() / 1024,
            "descriptors": descriptor_count(),
            "goroutines": hooks.goroutines(),
        }
        print(json.dumps(sample), flush=True)
        await asyncio.wait([over], timeout=1)
    server.should_exit = True


async def _serve(address: str, raw: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        config = uvicorn.Config(
            _application(address, raw), loop="none", log_level="warning", access_log=False, lifespan="on",
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        server = uvicorn.Server(config)
        telling = asyncio.create_task(_tell(server, listener.getsockname()[1]))
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve(sockets=[listener])
        await telling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--raw", required=True)
    args = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(args.address, args.raw))


if __name__ == "__main__":
    main()
