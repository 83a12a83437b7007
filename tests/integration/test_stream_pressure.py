"""Neither side is asked for more than the other one takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from client_upstream import Visit, answer, client_of, on_loops
from stream_upstream import MEGABYTE, at_rest, chunks_of, flood, works

from velithon_proxy._stream import _LARGEST
from velithon_proxy._upload import _WINDOW

PIECE = 1 << 16
KERNEL = 12 * MEGABYTE
"""Bytes, several times what the kernel was seen to hold for a connection on loopback. A body that somebody collects is
larger than all of these bounds."""


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_reader_that_stops_stops_the_upstream() -> None:
    async with client_of(flood) as (client, upstream):
        async with client.stream_request("GET", "/") as response:
            pieces = response.aiter_raw()
            read = 0
            for until in (1, 20 * MEGABYTE):  # with small pieces, and with the largest
                while read < until:
                    read += len(await anext(pieces))
                sent = PIECE * await at_rest(lambda: upstream.count("sent"))
                # The piece that the reader holds is counted; one more is on its way, and the upstream's own buffers.
                ahead = sent - read
                assert ahead <= _LARGEST + KERNEL, ahead
                await works(client)  # others are not held up
                assert PIECE * upstream.count("sent") <= sent + PIECE
            size = len(await anext(pieces))
            assert size <= _LARGEST
        await upstream.until(lambda: upstream.count("left") == 1)


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_response_that_nobody_reads_stops_the_upstream() -> None:
    async with client_of(flood) as (client, upstream):
        async with client.stream_request("GET", "/"):
            sent = PIECE * await at_rest(lambda: upstream.count("sent"))
            assert sent <= KERNEL // 4  # its buffers have not grown
        await upstream.until(lambda: upstream.count("left") == 1)


@on_loops("asyncio", "uvloop", "rloop")
async def test_an_upstream_that_stops_stops_the_body() -> None:
    """What the body has made and the upstream not taken is bounded; all of it arrives in the end."""
    total = 600

    async def script(visit: Visit) -> None:
        await visit.request(body=False)
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await visit.upstream.gate("read")
        visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
        size = 0
        async for chunk in chunks_of(visit):
            size += len(chunk)
        await visit.send(answer(b"%d" % size))

    async with client_of(script) as (client, upstream):
        made = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal made
            for number in range(total):
                made += 1
                yield bytes([number % 256]) * PIECE

        task = asyncio.ensure_future(client.forward_request("POST", "/", None, pieces()))
        await upstream.until(lambda: upstream.count("request") == 1)
        stopped = PIECE * await at_rest(lambda: made)
        assert stopped <= _WINDOW + KERNEL, stopped
        assert made < total
        upstream.open("read")
        assert (await task).body == b"%d" % (total * PIECE)
        assert made == total


@on_loops("asyncio", "uvloop")
async def test_small_pieces_are_counted_not_only_weighed() -> None:
    """While none of its pieces is taken, a body is asked for a bounded number of them, however small they are."""
    async with client_of(_silent) as (client, upstream):
        made = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal made
            yield bytes(40 * MEGABYTE)  # more than any socket takes
            while True:
                made += 1
                yield b"x"

        task = asyncio.ensure_future(client.forward_request("POST", "/", None, pieces()))
        await upstream.until(lambda: upstream.count("request") == 1)
        assert await at_rest(lambda: made) <= 64
        task.cancel()
        await asyncio.wait([task])
        upstream.open("read")
        await upstream.until(lambda: upstream.count("left") == 1)


async def _silent(visit: Visit) -> None:
    await visit.request(body=False)
    visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await visit.upstream.gate("read")
    visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await visit.left()
