"""Responses whose body is read as it arrives: framings, the pieces of a body, and the ways of reading it."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from client_upstream import Received, Visit, answer, chunked, client_of, on_loops, replying
from stream_upstream import FRAMINGS, end_of, head_of, piece_of, stepwise

from velithon_proxy import _bridge


async def _sized(response: Any, size: int) -> bytes:
    pieces = [piece async for piece in response.aiter_bytes(size)]
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert all(0 < len(piece) <= size for piece in pieces)
    return b"".join(pieces)


async def _joined(pieces: Any) -> bytes:
    collected = [piece async for piece in pieces]
    assert all(type(piece) is bytes and piece for piece in collected)
    return b"".join(collected)


WAYS: dict[str, Callable[[Any], Awaitable[bytes]]] = {
    "read": lambda response: response.read(),
    "raw": lambda response: _joined(response.aiter_raw()),
    "bytes": lambda response: _joined(response.aiter_bytes()),
    "1 byte": lambda response: _sized(response, 1),
    "1000 bytes": lambda response: _sized(response, 1000),
    "10 MB": lambda response: _sized(response, 10_000_000),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@on_loops("asyncio", "uvloop", "rloop")
async def test_a_body_is_the_same_in_every_framing_and_however_it_is_read(framing: str) -> None:
    bodies = {str(size): bytes(i * 7 % 251 for i in range(size)) for size in (0, 1, 999, 16_384, 70_001)}
    bodies["3000000"] = bodies["70001"] * 50

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            body = bodies[request.target[1:].decode()]
            parts = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
            await visit.send(head_of(framing, len(body)), *(piece_of(framing, part) for part in parts))
            await end_of(framing, visit)
            if framing == "until close":
                return

    async with client_of(script) as (client, upstream):
        for size, body in bodies.items():
            for way, read in WAYS.items():
                if way == "1 byte" and len(body) > 100_000:
                    continue
                async with client.stream_request("GET", f"/{size}") as response:
                    assert response.status == 200
                    assert await read(response) == body, way
                    assert response.is_closed
        if framing != "until close":
            assert upstream.connections == 1  # each body was read to its very end


@pytest.mark.parametrize("read", ["aiter_raw", "aiter_bytes"])
@pytest.mark.parametrize("framing", FRAMINGS)
@on_loops("asyncio", "uvloop", "rloop")
async def test_each_event_is_handed_on_at_once(framing: str, read: str) -> None:
    """The upstream sends an event only after the one before it was seen."""
    events = [b"data: %d\n\n" % number * (1 + number % 3 * 5000) for number in range(12)]
    async with (
        client_of(stepwise(framing, events)) as (client, upstream),
        client.stream_request("GET", "/events") as response,
    ):
        pieces = getattr(response, read)()
        for number, event in enumerate(events):
            upstream.open(str(number))
            seen = b""
            while len(seen) < len(event):
                seen += await anext(pieces)
            assert seen == event
        assert framing == "length" or not response.is_closed
        upstream.open("end")
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        assert response.is_closed


@on_loops("asyncio", "uvloop", "rloop")
async def test_the_head_comes_without_the_body() -> None:
    async with client_of(stepwise("length", [b"late"])) as (client, upstream):
        start = time.monotonic()
        async with client.stream_request("GET", "/", {"a": "b"}, b"sent", {"q": "1"}) as response:
            assert 0 < response.elapsed <= time.monotonic() - start
            assert (response.status, response.target, len(response.attempts)) == (200, upstream.url, 1)
            assert response.headers["content-length"] == "4"
            assert response.headers is response.headers
            assert repr(response) == f"<StreamResponse 200 from {upstream.url} (open)>"
            upstream.open("0")
            upstream.open("end")
            assert await response.read() == b"late"
            assert repr(response) == f"<StreamResponse 200 from {upstream.url} (closed)>"
        request = upstream.requests[0]
        assert (request.line, request.body) == (b"GET /?q=1 HTTP/1.1", b"sent")
        assert request.values("a") == [b"b"]


@on_loops("asyncio", "uvloop", "rloop")
async def test_responses_without_a_body_end_with_their_head() -> None:
    def reply(request: Received) -> bytes:
        return {
            b"/head": b"HTTP/1.1 200 OK\r\n\r\n",
            b"/204": b"HTTP/1.1 204 No Content\r\n\r\n",
            b"/304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
            b"/length": answer(),
            b"/chunked": chunked(),
        }[request.target]

    async with client_of(replying(reply)) as (client, upstream):
        for path in ("/head", "/204", "/304", "/length", "/chunked") * 2:
            for way, read in WAYS.items():
                async with client.stream_request("HEAD" if path == "/head" else "GET", path) as response:
                    assert await read(response) == b"", (path, way)
                    assert response.is_closed
        assert upstream.connections == 1


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_body_that_came_with_its_head_leaves_the_connection_free() -> None:
    async with client_of(replying(answer(b"all of it"))) as (client, upstream):
        await client.forward_request("GET", "/")
        async with client.stream_request("GET", "/") as response:
            async with client.stream_request("GET", "/") as other:
                assert await other.read() == b"all of it"
            assert not response.is_closed
            assert await response.read() == b"all of it"
            assert response.is_closed
        async with client.stream_request("GET", "/"):
            pass  # nobody wants it
        await client.forward_request("GET", "/")
        assert upstream.connections == 1
        assert _bridge.stats()["core_in_flight"] == 0


async def test_content_codings_are_not_undone() -> None:
    packed = gzip.compress(b"text" * 1000)
    reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with client_of(replying(reply + packed)) as (client, _):
        for way in ("read", "raw", "bytes"):
            async with client.stream_request("GET", "/") as response:
                assert response.headers["content-encoding"] == "gzip"
                assert await WAYS[way](response) == packed


@pytest.mark.parametrize("first", WAYS)
async def test_a_body_is_read_once(first: str) -> None:
    for reply in (answer(b"body"), answer(b"body" * 100_000), answer()):
        async with client_of(replying(reply)) as (client, _):
            for second in ("read", "raw", "bytes"):
                async with client.stream_request("GET", "/") as response:
                    await WAYS[first](response)
                    with pytest.raises(RuntimeError, match="read before"):
                        await WAYS[second](response)


async def test_a_body_that_is_being_read_is_not_read_by_another() -> None:
    async with client_of(stepwise("chunked", [b"one", b"two"])) as (client, upstream):
        upstream.open("0")
        async with client.stream_request("GET", "/") as response:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"one"
            for read in (WAYS["read"], WAYS["raw"], WAYS["bytes"]):
                with pytest.raises(RuntimeError, match="read before"):
                    await read(response)
            upstream.open("1")
            assert await anext(pieces) == b"two"  # the first reader goes on


@pytest.mark.parametrize("size", [0, -1, 1.0, "1", True, b"1"])
async def test_a_wrong_chunk_size_is_refused_and_leaves_the_body_alone(size: Any) -> None:
    async with client_of(replying(answer(b"body"))) as (client, _), client.stream_request("GET", "/") as response:
        with pytest.raises(ValueError, match="chunk_size"):
            await anext(response.aiter_bytes(size))
        assert await response.read() == b"body"


@on_loops("asyncio", "uvloop", "rloop")
async def test_pieces_of_a_size_do_not_wait_for_the_end() -> None:
    async with (
        client_of(stepwise("chunked", [b"12345", b"678901", b"234"])) as (client, upstream),
        client.stream_request("GET", "/") as response,
    ):
        pieces = response.aiter_bytes(4)
        upstream.open("0")
        assert await anext(pieces) == b"1234"
        upstream.open("1")
        assert await anext(pieces) == b"5678"
        upstream.open("2")
        assert await anext(pieces) == b"9012"
        upstream.open("end")
        assert [piece async for piece in pieces] == [b"34"]


@on_loops("asyncio", "uvloop", "rloop")
async def test_two_streams_take_turns() -> None:
    events = [b"event %d" % number for number in range(20)]

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.send(head_of("chunked"))
            for number, event in enumerate(events):
                await visit.upstream.gate(f"{request.target.decode()}{number}")
                await visit.send(piece_of("chunked", event + request.target))
            await end_of("chunked", visit)

    async with (
        client_of(script) as (client, upstream),
        client.stream_request("GET", "/a") as a,
        client.stream_request("GET", "/b") as b,
    ):
        of_a, of_b = a.aiter_bytes(), b.aiter_bytes()
        for number, event in enumerate(events):
            for path, pieces in ((b"/a", of_a), (b"/b", of_b)) if number % 2 else ((b"/b", of_b), (b"/a", of_a)):
                upstream.open(f"{path.decode()}{number}")
                assert await anext(pieces) == event + path
        assert [piece async for piece in of_a] == [piece async for piece in of_b] == []


@on_loops("asyncio", "uvloop", "rloop")
async def test_two_hundred_streams_at_once() -> None:
    """All are open before any of them ends, and each gets its own body."""
    count, turns = 200, 5

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.send(head_of("chunked"))
            for turn in range(turns):
                await visit.upstream.gate(str(turn))
                await visit.send(piece_of("chunked", b"%b %d " % (request.target, turn) * 500))
            await end_of("chunked", visit)

    async with client_of(script) as (client, upstream):
        heads = 0

        async def one(number: int) -> bytes:
            nonlocal heads
            async with client.stream_request("GET", f"/{number}") as response:
                heads += 1
                if heads == count:
                    for turn in range(turns):
                        upstream.open(str(turn))
                return b"".join([piece async for piece in response.aiter_bytes()])

        bodies = await asyncio.gather(*(one(number) for number in range(count)))
        for number, body in enumerate(bodies):
            assert body == b"".join(b"/%d %d " % (number, turn) * 500 for turn in range(turns))
        assert upstream.connections == count
        assert _bridge.stats()["core_in_flight"] == 0
