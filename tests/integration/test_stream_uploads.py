"""Bodies of requests that come from asynchronous iterables: what is sent, and when."""

from __future__ import annotations

import array
import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import pytest
from client_upstream import Visit, answer, client_of, echo, on_loops, replying
from stream_upstream import MEGABYTE, chunks_of, end_of, head_of, piece_of, receiving, works

from velithon_proxy import InvalidHeaderError, InvalidRequestError, ProxyClient, _bridge


async def generator(*pieces: Any) -> AsyncIterator[Any]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


class Iterator:
    """An asynchronous iterator without ``aclose``, as those of stream readers are."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> Iterator:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None


class Iterable:
    """Makes an iterator each time it is asked."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[Any]:
        return generator(*self._pieces)


def stream_reader(*pieces: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return reader


Send = Callable[..., Any]


async def _forward(client: ProxyClient, *arguments: Any) -> tuple[int, bytes]:
    status, _, body = await client.forward_request("POST", "/", *arguments)
    return status, body


async def _stream(client: ProxyClient, *arguments: Any) -> tuple[int, bytes]:
    async with client.stream_request("POST", "/", *arguments) as response:
        return response.status, await response.read()


both = pytest.mark.parametrize("send", [_forward, _stream])
everywhere = on_loops("asyncio", "uvloop", "rloop")

LINES = (b"one\n", b"two\n", b"three")


@both
@pytest.mark.parametrize("iterable", [generator, Iterator, Iterable, stream_reader])
@everywhere
async def test_any_asynchronous_iterable_is_a_body(iterable: Callable[..., AsyncIterable[Any]], send: Send) -> None:
    async with client_of(receiving) as (client, upstream):
        for _ in range(2):
            assert await send(client, None, iterable(*LINES)) == (200, b"".join(LINES))
        assert upstream.requests[0].values("transfer-encoding") == [b"chunked"]
        assert upstream.requests[0].values("content-length") == []
        assert upstream.connections == 1


@both
@everywhere
async def test_pieces_are_bytes_like_or_text(send: Send) -> None:
    pieces = [
        *(b"bytes", bytearray(b"array"), memoryview(b"a view")[2:], "\xe9 text \u20ac", memoryview(b"abcdef")[::2]),
        *(b"", "", bytearray(), memoryview(b""), array.array("I", [1, 2, 3]), memoryview(array.array("d", [0.5]))),
        *(bytes(MEGABYTE), bytearray(b"x" * 300_000), "y" * 100_000),
    ]
    expected = b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces)
    async with client_of(receiving) as (client, upstream):
        assert await send(client, None, generator(*pieces)) == (200, expected)
        assert upstream.count("complete") == 1


@both
@everywhere
async def test_empty_pieces_do_not_end_the_body(send: Send) -> None:
    async with client_of(receiving) as (client, upstream):
        for pieces in ((), (b"",), (b"", b"a", b"", b"", b"b", b"")):
            assert await send(client, None, generator(*pieces)) == (200, b"".join(pieces))
        assert await send(client, None, generator(*[b""] * 1000, b"end")) == (200, b"end")
        assert upstream.connections == 1


@both
@everywhere
async def test_a_piece_that_changes_after_it_was_given_is_sent_as_it_was(send: Send) -> None:
    async def pieces() -> AsyncIterator[bytearray]:
        buffer = bytearray(70_000)
        for turn in range(20):
            buffer[:] = bytes([turn]) * len(buffer)
            yield buffer

    async with client_of(receiving) as (client, _):
        assert await send(client, None, pieces()) == (200, b"".join(bytes([turn]) * 70_000 for turn in range(20)))


@both
@everywhere
async def test_a_content_length_is_kept(send: Send) -> None:
    async with client_of(replying(echo)) as (client, upstream):
        for headers in ({"Content-Length": "13"}, [(b"content-length", b"13"), ("a", "b")]):
            assert await send(client, headers, generator(*LINES)) == (200, b"".join(LINES))
            request = upstream.requests[-1]
            assert request.values("content-length") == [b"13"]
            assert request.values("transfer-encoding") == []
        assert await send(client, {"content-length": "0"}, generator()) == (200, b"")
        assert await send(client, {"content-length": "0"}, generator(b"", b"")) == (200, b"")
        assert upstream.connections == 1


@both
@pytest.mark.parametrize(
    ("length", "pieces", "said"),
    [
        ("14", LINES, "ended after 13 bytes"),
        ("1", (), "ended after 0 bytes"),
        ("12", LINES, "longer than its Content-Length of 12"),
        ("0", (b"x",), "longer than its Content-Length of 0"),
        ("4", LINES, "longer than its Content-Length of 4"),
    ],
)
@everywhere
async def test_a_length_that_is_not_kept_breaks_the_request_off(
    send: Send, length: str, pieces: tuple[bytes, ...], said: str
) -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request(body=False)) is not None:
            if request.target != b"/small":
                await visit.left()
                return
            await visit.send(answer(b"small"))

    async with client_of(script) as (client, upstream):
        with pytest.raises(InvalidRequestError, match=said):
            await send(client, {"Content-Length": length}, generator(*pieces))
        await upstream.until(lambda: upstream.count("left") == 1)
        assert _bridge.stats()["core_in_flight"] == 0
        await works(client)


@both
async def test_framing_headers_that_cannot_be_are_refused(send: Send) -> None:
    async with client_of(receiving) as (client, upstream):
        for name in ("Transfer-Encoding", "transfer-encoding"):
            for value in ("chunked", "identity"):
                with pytest.raises(InvalidHeaderError, match="Transfer-Encoding is set by the client itself"):
                    await send(client, {name: value}, generator(*LINES))
        for value in ("-1", "+3", "x", "", "1,2", "99999999999999999999", "0x10", " "):
            with pytest.raises(InvalidHeaderError, match=r"(?i)content-length"):
                await send(client, {"content-length": value}, generator(*LINES))
        with pytest.raises(InvalidHeaderError, match=r"(?i)content-length"):
            await send(client, [("content-length", "13"), ("content-length", "14")], generator(*LINES))
        assert not upstream.requests
        assert _bridge.stats()["core_in_flight"] == 0


def _plain() -> Any:
    yield b"x"


OTHERS = {
    "generator": _plain(),
    "list": [b"x"],
    "tuple": (b"x",),
    "iterator": iter([b"x"]),
    "int": 5,
    "dict": {"a": 1},
    "object": object(),
    "function": generator,
}


@both
@pytest.mark.parametrize("kind", OTHERS)
async def test_other_bodies_are_refused(send: Send, kind: str) -> None:
    body = OTHERS[kind]
    async with client_of(receiving) as (client, upstream):
        with pytest.raises(TypeError, match=f"body is of <class '{type(body).__name__}'>; .*allowed"):
            await send(client, None, body)
        assert upstream.connections == 0
        assert _bridge.stats()["core_in_flight"] == 0


@everywhere
async def test_each_piece_is_sent_at_once() -> None:
    """The body goes on only after the upstream has seen what there is of it."""
    count = 12

    async def script(visit: Visit) -> None:
        await visit.request(body=False)
        async for chunk in chunks_of(visit):
            visit.upstream.note(f"seen {chunk.decode()}", visit.number)
        await visit.send(answer(b"thanks"))

    async with client_of(script) as (client, upstream):

        async def pieces() -> AsyncIterator[str]:
            for number in range(count):
                yield f"{number}"
                await upstream.until(lambda number=number: upstream.count(f"seen {number}") == 1)

        assert (await client.forward_request("POST", "/", None, pieces())).body == b"thanks"
        assert upstream.count("complete") == 1


@pytest.mark.parametrize("size", [10, 100_000])
@everywhere
async def test_both_bodies_at_once(size: int) -> None:
    """Each piece comes back before the next one is made."""

    async def script(visit: Visit) -> None:
        while await visit.request(body=False) is not None:
            await visit.send(head_of("chunked"))
            async for chunk in chunks_of(visit):
                await visit.send(piece_of("chunked", chunk))
            await end_of("chunked", visit)

    async with client_of(script) as (client, upstream):
        for _ in range(2):
            returned: asyncio.Queue[bytes] = asyncio.Queue()
            made = 0

            async def pieces(returned: asyncio.Queue[bytes] = returned) -> AsyncIterator[bytes]:
                nonlocal made
                for turn in range(10):
                    sent = bytes([turn]) * size
                    made += 1
                    yield sent
                    seen = b""
                    while len(seen) < size:
                        seen += await returned.get()
                    assert seen == sent

            total = made = 0
            async with client.stream_request("POST", "/", None, pieces()) as response:
                async for piece in response.aiter_bytes():
                    total += len(piece)
                    returned.put_nowait(piece)
                    assert made >= -(-total // size)
                assert response.is_closed
            assert (made, total) == (10, 10 * size)
        assert upstream.connections == 1
        assert upstream.count("complete") == 2


@everywhere
async def test_many_uploads_at_once() -> None:
    async with client_of(receiving) as (client, _):

        async def one(number: int) -> None:
            pieces = [b"%d " % (number * turn) * (turn * 50) for turn in range(20)]
            send = _stream if number % 2 else _forward
            assert await send(client, None, generator(*pieces)) == (200, b"".join(pieces))

        await asyncio.gather(*(one(number) for number in range(100)))
        assert _bridge.stats()["core_in_flight"] == 0


async def test_a_method_says_nothing_about_the_body() -> None:
    async with client_of(receiving) as (client, upstream):
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
            status, _, body = await client.forward_request(method, "/", None, generator(*LINES), {"q": "1"})
            assert (status, body) == (200, b"".join(LINES))
            assert upstream.requests[-1].line == f"{method} /?q=1 HTTP/1.1".encode()
