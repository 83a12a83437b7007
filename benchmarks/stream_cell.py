"""One large body through one client, in a process of its own. Prints one object of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator

from processes import cpu_seconds, max_rss_kb, rss_kb

PIECE = b"y" * (64 << 10)


async def pieces(count: int) -> AsyncIterator[bytes]:
    """The body of an upload."""
    while count > 0:
        yield PIECE[:count]
        count -= len(PIECE)


class Ours:
    async def open(self, base_url: str) -> None:
        from velithon_proxy import ProxyClient

        self.client = ProxyClient(base_url)
        await self.client.forward_request("GET", "/small")

    async def down(self, path: str) -> int:
        got = 0
        async with self.client.stream_request("GET", path) as response:
            async for piece in response.aiter_bytes():
                got += len(piece)
        return got

    async def up(self, count: int) -> bytes:
        async with self.client.stream_request("POST", "/sink", body=pieces(count)) as response:
            return await response.read()

    async def close(self) -> None:
        await self.client.aclose()


class Aiohttp:
    async def open(self, base_url: str) -> None:
        import aiohttp

        self.base_url = base_url
        self.session = aiohttp.ClientSession(auto_decompress=False)
        async with self.session.get(base_url + "/small") as response:
            await response.read()

    async def down(self, path: str) -> int:
        got = 0
        async with self.session.get(self.base_url + path) as response:
            async for piece in response.content.iter_any():
                got += len(piece)
        return got

    async def up(self, count: int) -> bytes:
        async with self.session.post(self.base_url + "/sink", data=pieces(count)) as response:
            return await response.read()

    async def close(self) -> None:
        await self.session.close()


class Pyreqwest:
    async def open(self, base_url: str) -> None:
        from pyreqwest.client import ClientBuilder

        self.base_url = base_url
        self.client = ClientBuilder().build()
        await (await self.client.get(base_url + "/small").build().send()).bytes()

    async def down(self, path: str) -> int:
        got = 0
        async with self.client.get(self.base_url + path).build_streamed() as response:
            while (piece := await response.body_reader.read_chunk()) is not None:
                got += len(piece)
        return got

    async def up(self, count: int) -> bytes:
        request = self.client.post(self.base_url + "/sink").body_stream(pieces(count))
        async with request.build_streamed() as response:
            return bytes(await response.body_reader.bytes())

    async def close(self) -> None:
        await self.client.close()


CLIENTS = {"velithon-proxy": Ours, "aiohttp": Aiohttp, "pyreqwest": Pyreqwest}


async def measure(name: str, direction: str, base_url: str, count: int) -> dict[str, float]:
    """Send or receive `count` bytes; memory is counted from after a first small request."""
    client = CLIENTS[name]()
    await client.open(base_url)
    memory, cpu, started = rss_kb(), cpu_seconds(), time.perf_counter()
    if direction == "down":
        got = await client.down(f"/stream?bytes={count}")
    else:
        got = int(await client.up(count))
    if got != count:
        raise SystemExit(f"{got} bytes arrived, want {count}")
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    peak = max_rss_kb()
    await client.close()
    return {"mb_per_s": count / seconds / 1e6, "cpu_s": cpu, "rss_kb": max(peak - memory, rss_kb() - memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direction", choices=["down", "up"])
    parser.add_argument("--client", required=True, choices=list(CLIENTS))
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--bytes", type=int, required=True)
    args = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            print(json.dumps(runner.run(measure(args.client, args.direction, args.base_url, args.bytes))))
        except ImportError as error:
            print(json.dumps({"missing": f"{error.name} cannot be imported"}))


if __name__ == "__main__":
    main()
