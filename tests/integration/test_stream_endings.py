"""Streams that end before their body does: left, cancelled, broken off, out of time, dropped."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
from client_upstream import Upstream, Visit, answer, client_of, on_loops, run_on
from event_loops import loop_factory
from stream_upstream import (
    FRAMINGS,
    begun,
    end_of,
    flood,
    head_of,
    left_at_once,
    opened,
    piece_of,
    stepwise,
    works,
)

from velithon_proxy import (
    ClientClosedError,
    ProxyClient,
    ProxyError,
    TotalTimeout,
    UpstreamClosedError,
    UpstreamProtocolError,
    _bridge,
)

SCRIPTS = {"silent": begun, "flooding": flood}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("seen", [0, 1, 3])
@on_loops("asyncio", "uvloop", "rloop")
async def test_leaving_the_block_early_closes_the_connection(script: str, seen: int) -> None:
    if script == "silent" and seen == 3:
        seen = 1
    async with client_of(SCRIPTS[script]) as (client, upstream):
        async with client.stream_request("GET", "/") as response:
            pieces = response.aiter_raw()
            for _ in range(seen):
                assert await anext(pieces)
            start = time.monotonic()
        await left_at_once(upstream, start)
        assert response.is_closed
        await works(client)
        assert upstream.connections == 2
        assert _bridge.stats()["core_in_flight"] == 0


@pytest.mark.parametrize("script", SCRIPTS)
@on_loops("asyncio", "uvloop", "rloop")
async def test_break_and_errors_in_the_middle_close_the_connection(script: str) -> None:
    async with client_of(SCRIPTS[script]) as (client, upstream):
        for count, way in enumerate(("break", "raise", "break sized", "raise sized", "aclose"), 1):
            start, raised = 0.0, False
            try:
                async with client.stream_request("GET", "/") as response:
                    async for piece in response.aiter_bytes(4 if "sized" in way else None):
                        assert piece
                        start = time.monotonic()
                        if way.startswith("raise"):
                            raise KeyError("mine")
                        break
                    if way == "aclose":
                        await response.aclose()
                        await left_at_once(upstream, start, count)
                        await response.aclose()
            except KeyError:
                raised = True
            assert raised == way.startswith("raise")
            await left_at_once(upstream, start, count)
            assert response.is_closed
        await works(client)
        assert upstream.connections == 6


@on_loops("asyncio", "uvloop", "rloop")
async def test_what_was_given_up_is_not_taken_for_the_end() -> None:
    """A body that was closed in the middle never looks complete, to whoever still reads it."""
    async with client_of(begun) as (client, upstream):
        for sized in (None, 2):
            async with client.stream_request("GET", "/") as response:
                pieces = response.aiter_bytes(sized)
                assert await anext(pieces)
            with pytest.raises(ProxyError, match="closed"):
                async for _ in pieces:
                    pass
        for path in ("/", "/small"):
            async with client.stream_request("GET", path) as response:
                pass
            assert response.is_closed
            with pytest.raises(ProxyError, match="closed"):
                await response.read()
        await upstream.until(lambda: upstream.count("left") == 3)


@on_loops("asyncio", "uvloop", "rloop")
async def test_closed_by_another_task_in_the_middle_of_a_read() -> None:
    async with client_of(begun) as (client, upstream), client.stream_request("GET", "/") as response:
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"first"
        reader = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        start = time.monotonic()
        await response.aclose()
        with pytest.raises(ProxyError, match="closed"):
            await reader
        await left_at_once(upstream, start)


async def _entering(client: ProxyClient, reached: asyncio.Event) -> None:
    reached.set()
    async with client.stream_request("GET", "/held"):
        raise AssertionError("there was no head")


async def _in_the_block(client: ProxyClient, reached: asyncio.Event) -> None:
    async with client.stream_request("GET", "/"):
        reached.set()
        await asyncio.sleep(100)


async def _first_piece_taken(client: ProxyClient, reached: asyncio.Event) -> None:
    async with client.stream_request("GET", "/") as response:
        async for _ in response.aiter_bytes():
            reached.set()
            await asyncio.sleep(100)


async def _waiting_for_a_piece(client: ProxyClient, reached: asyncio.Event) -> None:
    async with client.stream_request("GET", "/") as response:
        pieces = response.aiter_raw()
        await anext(pieces)
        reached.set()
        await anext(pieces)
        raise AssertionError("there was no second piece")


async def _waiting_for_size(client: ProxyClient, reached: asyncio.Event) -> None:
    async with client.stream_request("GET", "/") as response:
        pieces = response.aiter_bytes(5)
        await anext(pieces)
        reached.set()
        await anext(pieces)
        raise AssertionError("there was no second piece")


async def _reading_all(client: ProxyClient, reached: asyncio.Event) -> None:
    async with client.stream_request("GET", "/") as response:
        reached.set()
        await response.read()


POINTS = [_entering, _in_the_block, _first_piece_taken, _waiting_for_a_piece, _waiting_for_size, _reading_all]


@pytest.mark.parametrize("point", POINTS)
@on_loops("asyncio", "uvloop", "rloop")
async def test_cancelled(point: Callable[..., Any]) -> None:
    async def script(visit: Visit) -> None:
        if point is _entering and upstream.connections == 1:
            await visit.request()
            await visit.left()
        else:
            await begun(visit)

    async with client_of(script) as (client, upstream):
        reached = asyncio.Event()
        task = asyncio.ensure_future(point(client, reached))
        await reached.wait()
        await upstream.until(lambda: upstream.count("request") == 1)
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left_at_once(upstream, start)
        await works(client)
        assert upstream.connections == 2
        assert _bridge.stats()["core_in_flight"] == 0


@pytest.mark.parametrize("size", [5, 300_000])
@on_loops("asyncio", "uvloop", "rloop")
async def test_cancelled_after_any_number_of_turns(size: int) -> None:
    """Wherever a cancellation meets the answers of the core, nothing is left and the next stream is whole."""

    async def script(visit: Visit) -> None:
        while await visit.request() is not None:
            await visit.send(head_of("chunked"))
            for _ in range(3):
                await visit.send(piece_of("chunked", b"x" * size))
            await end_of("chunked", visit)

    async def whole(client: ProxyClient) -> bytes:
        async with client.stream_request("GET", "/") as response:
            return b"".join([piece async for piece in response.aiter_bytes()])

    async with client_of(script) as (client, _):
        cancelled = 0
        for turns in range(120):
            task = asyncio.ensure_future(whole(client))
            for _ in range(turns % 40):
                await asyncio.sleep(0)
            if turns >= 40:
                await asyncio.sleep(turns / 100_000)  # to meet what comes from the core
            task.cancel()
            try:
                assert await task == b"x" * 3 * size
            except asyncio.CancelledError:
                cancelled += 1
        assert cancelled >= 20
        assert await whole(client) == b"x" * 3 * size
        while _bridge.stats()["core_in_flight"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@on_loops("asyncio", "uvloop", "rloop")
async def test_a_body_that_breaks_off_is_told_after_all_that_had_arrived(framing: str, how: str) -> None:
    arrived = b"0123456789" * 3001

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target == b"/small":
                await visit.send(answer(b"small"))
                continue
            await visit.send(head_of(framing, len(arrived) + 1), piece_of(framing, arrived))
            if how == "reset":
                await visit.upstream.gate(request.target.decode())  # a reset may overtake what was sent before it
            visit.finish() if how == "finish" else visit.reset()
            return

    async def read(response: Any, way: str, seen: bytearray, upstream: Upstream) -> None:
        if way == "read":
            upstream.open("/read")
            await response.read()
        size = 777 if way == "sized" else None
        async for piece in response.aiter_raw() if way == "raw" else response.aiter_bytes(size):
            seen += piece
            if len(seen) > len(arrived) - 777:
                upstream.open(f"/{way}")

    async with client_of(script) as (client, upstream):
        for way in ("raw", "bytes", "sized", "read"):
            async with client.stream_request("GET", f"/{way}") as response:
                seen = bytearray()
                with pytest.raises(UpstreamClosedError) as raised:
                    await read(response, way, seen, upstream)
                assert seen == (b"" if way == "read" else arrived)
                assert (raised.value.phase, raised.value.target) == ("body", upstream.url)
                assert response.is_closed
                with pytest.raises(RuntimeError, match="read before"):
                    await response.read()
        await works(client)


@on_loops("asyncio", "uvloop")
async def test_a_malformed_chunk_is_told_after_the_chunks_before_it() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(head_of("chunked"), piece_of("chunked", b"good"))
        await visit.upstream.gate("bad")
        await visit.send(b"zz\r\n")
        await visit.left()

    async with client_of(script) as (client, upstream):
        async with client.stream_request("GET", "/") as response:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"good"
            upstream.open("bad")
            with pytest.raises(UpstreamProtocolError, match="chunk size") as raised:
                await anext(pieces)
            assert raised.value.phase == "body"
        await upstream.until(lambda: upstream.count("left") == 1)


@on_loops("asyncio", "uvloop", "rloop")
async def test_the_time_limit_ends_with_the_head() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target == b"/held":
                await visit.left()
                return
            await visit.send(head_of("chunked"))
            await visit.upstream.gate("body")
            await visit.send(piece_of("chunked", b"late"))
            await visit.upstream.gate("end")
            await end_of("chunked", visit)

    async with client_of(script, timeout_ms=300) as (client, upstream):
        with pytest.raises(TotalTimeout) as raised:
            async with client.stream_request("GET", "/held"):
                raise AssertionError("there was no head")
        assert raised.value.phase == "head"
        assert 0.3 <= raised.value.elapsed < 1.5
        await upstream.until(lambda: upstream.count("left") == 1)
        async with client.stream_request("GET", "/") as response:
            pieces = response.aiter_bytes()
            await asyncio.sleep(0.6)
            upstream.open("body")
            assert await anext(pieces) == b"late"
            await asyncio.sleep(0.6)
            upstream.open("end")
            assert [piece async for piece in pieces] == []


async def _dropped(kept: list[Any], upstream: Upstream) -> None:
    kept.clear()
    # The loop closes the generator, which holds the response.
    await upstream.until(lambda: upstream.count("left") == 2)


def _collected(kept: list[Any]) -> None:
    kept.clear()
    gc.collect()


async def test_a_stream_that_is_dropped_open_warns_and_closes_its_connection() -> None:
    async with client_of(begun) as (client, upstream):
        kept = [await opened(client.stream_request("GET", "/"))]
        with pytest.warns(ResourceWarning, match=f"unclosed <StreamResponse 200 from {upstream.url}"):
            kept.clear()
        await upstream.until(lambda: upstream.count("left") == 1)
        response = await opened(client.stream_request("GET", "/"))
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"first"
        kept = [response, pieces]
        del response, pieces
        with pytest.warns(ResourceWarning, match="unclosed"):
            await _dropped(kept, upstream)
        response = await opened(client.stream_request("GET", "/small"))
        del response  # its body came with the head: there is nothing to close, and a warning would be an error here
        gc.collect()
        await works(client)


@on_loops("asyncio", "uvloop", "rloop")
async def test_closing_the_client_ends_its_streams() -> None:
    with Upstream(begun) as upstream:
        client = ProxyClient(upstream.url)
        async with (
            client.stream_request("GET", "/") as untouched,
            client.stream_request("GET", "/") as at_rest,
            client.stream_request("GET", "/") as waiting,
        ):
            pieces, others = at_rest.aiter_bytes(), waiting.aiter_bytes()
            assert await anext(pieces) == b"first"
            assert await anext(others) == b"first"
            reader = asyncio.ensure_future(anext(others))
            await asyncio.sleep(0)
            start = time.monotonic()
            client.close()
            await left_at_once(upstream, start, 3)
            for reading in (reader, anext(pieces), untouched.read()):
                with pytest.raises(ClientClosedError) as raised:
                    await reading
                assert raised.value.target == upstream.url
        with pytest.raises(ClientClosedError):
            async with client.stream_request("GET", "/"):
                pass


@pytest.mark.parametrize("name", ["asyncio", "uvloop", "rloop"])
def test_a_response_belongs_to_its_loop(name: str) -> None:
    with Upstream(begun) as upstream:
        client = ProxyClient(upstream.url)
        kept: list[Any] = []

        async def first() -> None:
            kept.append(await opened(client.stream_request("GET", "/")))

        async def second() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                await kept[0].read()
            await works(client)
            await kept[0].aclose()
            await upstream.until(lambda: upstream.count("left") == 1)
            client.close()

        loop = loop_factory(name)()
        loop.run_until_complete(first())
        run_on(name, second())
        loop.close()
        assert kept[0].is_closed


@pytest.mark.parametrize("name", ["asyncio", "uvloop", "rloop"])
@pytest.mark.parametrize("collected", [True, False])
def test_a_loop_closed_with_open_streams_leaves_the_client_usable(name: str, collected: bool) -> None:
    with Upstream(begun) as upstream:
        client = ProxyClient(upstream.url)
        kept: list[Any] = []

        async def leave() -> None:
            for taken in range(3):
                response = await opened(client.stream_request("GET", "/"))
                kept.append(response)
                if taken:
                    kept.append(response.aiter_raw())
                    assert await anext(kept[-1]) == b"first"
                if taken == 2:
                    kept.append(anext(kept[-1]))
                    kept[-1].send(None)

        loop = loop_factory(name)()
        loop.run_until_complete(leave())
        loop.close()
        if collected:
            with pytest.warns(ResourceWarning, match="unclosed <StreamResponse"):
                _collected(kept)

        async def again() -> None:
            await works(client)
            await upstream.until(lambda: upstream.count("left") == 3)
            client.close()

        run_on(name, again())
        if not collected:
            with pytest.warns(ResourceWarning, match="unclosed <StreamResponse"):
                _collected(kept)


@pytest.mark.parametrize("framing", FRAMINGS)
@on_loops("asyncio", "uvloop")
async def test_leaving_after_the_last_piece_and_before_the_end(framing: str) -> None:
    """All bytes were seen; whether the connection can be used again depends on the framing alone."""
    async with client_of(stepwise(framing, [b"all"])) as (client, upstream):
        upstream.open("0")
        async with client.stream_request("GET", "/") as response:
            assert await anext(response.aiter_bytes()) == b"all"
        upstream.open("end")
        async with client.stream_request("GET", "/") as response:
            assert await response.read() == b"all"
        assert upstream.connections == (1 if framing == "length" else 2)
