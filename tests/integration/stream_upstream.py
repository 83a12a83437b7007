"""What the tests of streaming share: framings of a response piece by piece, and bodies of requests as they arrive."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from client_upstream import Script, Upstream, Visit, answer

from velithon_proxy import ProxyClient
from velithon_proxy._stream import StreamContext

AT_ONCE = 0.25
"""Seconds, five times what may pass until the upstream sees that it was left."""
MEGABYTE = 1 << 20
FRAMINGS = ("length", "chunked", "until close")


def head_of(framing: str, size: int = 0) -> bytes:
    """The head of a response in that framing; ``size`` of its body is told with a length only."""
    line = {
        "length": b"Content-Length: %d\r\n" % size,
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "until close": b"",
    }[framing]
    return b"HTTP/1.1 200 OK\r\n" + line + b"\r\n"


def piece_of(framing: str, data: bytes) -> bytes:
    """A part of the body in that framing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data


async def end_of(framing: str, visit: Visit) -> None:
    """End the body in that framing."""
    if framing == "chunked":
        await visit.send(b"0\r\n\r\n")
    elif framing == "until close":
        visit.finish()


def stepwise(framing: str, pieces: list[bytes]) -> Script:
    """A script that sends each piece when the test opens the gate with its number, and the end with the gate "end"."""

    async def script(visit: Visit) -> None:
        while await visit.request() is not None:
            await visit.send(head_of(framing, sum(map(len, pieces))))
            for number, data in enumerate(pieces):
                await visit.upstream.gate(str(number))
                await visit.send(piece_of(framing, data))
            await visit.upstream.gate("end")
            await end_of(framing, visit)

    return script


async def begun(visit: Visit) -> None:
    """A script: ``/small`` is answered, of any other body the first piece comes, and then nothing."""
    while (request := await visit.request()) is not None:
        if request.target != b"/small":
            await visit.send(head_of("chunked"), piece_of("chunked", b"first"))
            await visit.left()
            return
        await visit.send(answer(b"small"))


async def flood(visit: Visit) -> None:
    """A script: ``/small`` is answered, any other body never ends. The event "sent" counts its 64 KB pieces."""
    while (request := await visit.request()) is not None:
        if request.target == b"/small":
            await visit.send(answer(b"small"))
            continue
        visit.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        await visit.send(head_of("chunked"))
        try:
            while True:
                await visit.send(piece_of("chunked", bytes(1 << 16)))
                visit.upstream.note("sent", visit.number)
        except OSError:
            visit.upstream.note("left", visit.number)
            return


async def chunks_of(visit: Visit) -> AsyncIterator[bytes]:
    """The chunks of a request body as they arrive. The ledger gets "complete" for the end, "broken" if none comes."""
    try:
        while size := int(await visit.reader.readuntil(b"\r\n"), 16):
            data = await visit.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            yield data[:-2]
        assert await visit.reader.readexactly(2) == b"\r\n"
    except (asyncio.IncompleteReadError, ConnectionError):
        visit.upstream.note("broken", visit.number)
        return
    visit.upstream.note("complete", visit.number)


async def receiving(visit: Visit) -> None:
    """A script that answers each chunked request with its body, once it is complete."""
    while await visit.request(body=False) is not None:
        body = b"".join([chunk async for chunk in chunks_of(visit)])
        await visit.send(answer(body))


async def works(client: ProxyClient) -> None:
    """The client serves another request."""
    assert (await client.forward_request("GET", "/small")).body == b"small"


async def left_at_once(upstream: Upstream, since: float, count: int = 1) -> None:
    """The upstream sees that ``count`` connections were closed, soon after the time ``since``."""
    await upstream.until(lambda: upstream.count("left") == count)
    seconds = time.monotonic() - since
    assert seconds < AT_ONCE, f"{seconds * 1000:.0f} ms"


async def opened(context: StreamContext) -> Any:
    """The response of a stream that the test closes, or drops, by itself."""
    return await context.__aenter__()


async def at_rest(count: Callable[[], int]) -> int:
    """The value of a counter once it has not moved for a while. Too short a while can only make a test too kind."""
    last, since = -1, 0.0
    async with asyncio.timeout(20):
        while True:
            now = time.monotonic()
            if (value := count()) != last:
                last, since = value, now
            elif now - since > 0.3:
                return value
            await asyncio.sleep(0.01)
