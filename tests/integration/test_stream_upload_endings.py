"""Uploads that do not run to their end: iterables that fail, answers that come early, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from client_upstream import Upstream, Visit, answer, client_of, on_loops
from stream_upstream import chunks_of, head_of, left_at_once, opened, piece_of, works

from velithon_proxy import ClientClosedError, ProxyClient, TotalTimeout, UpstreamClosedError, _bridge

Send = Callable[..., Any]


async def _forward(client: ProxyClient, body: Any) -> tuple[int, bytes]:
    status, _, received = await client.forward_request("POST", "/", None, body)
    return status, received


async def _stream(client: ProxyClient, body: Any) -> tuple[int, bytes]:
    async with client.stream_request("POST", "/", None, body) as response:
        return response.status, await response.read()


both = pytest.mark.parametrize("send", [_forward, _stream])
everywhere = on_loops("asyncio", "uvloop", "rloop")


class Body:
    """A body that notes how it ended: ``closed`` once its generator's ``finally`` block is through."""

    def __init__(self, *pieces: Any, then: BaseException | None = None, wait: bool = False) -> None:
        self.pieces, self.then, self.wait = pieces, then, wait
        self.made = 0
        self.waiting = asyncio.Event()
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._generate()

    async def _generate(self) -> AsyncIterator[Any]:
        try:
            for piece in self.pieces:
                self.made += 1
                yield piece
            if self.then is not None:
                raise self.then
            if self.wait:
                self.waiting.set()
                await asyncio.sleep(100)
        finally:
            try:
                await asyncio.sleep(0)  # the end of a body may take its time
            finally:
                self.closed = True


async def reading(visit: Visit) -> None:
    """A script: ``/small`` is answered, of any other request all chunks are read, and there is no answer."""
    while (request := await visit.request(body=False)) is not None:
        if request.target == b"/small":
            await visit.send(answer(b"small"))
            continue
        async for chunk in chunks_of(visit):
            visit.upstream.note(f"chunk {chunk[:10]!r}", visit.number)
        return


class Mine(BaseException):
    """An error that no ``except Exception`` sees."""


ERRORS = [KeyError("mine"), asyncio.CancelledError("mine"), TimeoutError("mine"), StopIteration("mine"), Mine("mine")]


@both
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("pieces", [(), (b"a",), (b"a", b"b" * 100_000)], ids=len)
@everywhere
async def test_an_error_of_the_iterable_comes_out(send: Send, error: BaseException, pieces: tuple[bytes, ...]) -> None:
    """The upstream never takes what it has for the whole body."""
    expected = RuntimeError if isinstance(error, StopIteration) else type(error)  # PEP 479
    async with client_of(reading) as (client, upstream):
        await works(client)
        body = Body(*pieces, then=error)
        start = time.monotonic()
        with pytest.raises(expected) as raised:
            await send(client, body)
        assert time.monotonic() - start < 5
        assert raised.value is error or raised.value.__cause__ is error
        assert body.closed
        await upstream.until(lambda: upstream.count("broken") + upstream.count("left") == upstream.connections)
        assert upstream.count("complete") == 0
        assert _bridge.stats()["core_in_flight"] == 0
        await works(client)


@both
@pytest.mark.parametrize("wrong", [5, None, 1.5, object(), [b"x"], {"a": 1}], ids=repr)
@everywhere
async def test_a_piece_of_another_type_breaks_the_request_off(send: Send, wrong: Any) -> None:
    async with client_of(reading) as (client, upstream):
        for pieces in ((wrong,), (b"good", wrong, b"never"), (b"good" * 50_000, b"", wrong)):
            body = Body(*pieces)
            with pytest.raises(
                TypeError, match=f"piece of the body is of <class '{type(wrong).__name__}'>; bytes-like or str"
            ):
                await send(client, body)
            assert body.closed
            assert body.made == pieces.index(wrong) + 1
        await upstream.until(lambda: upstream.count("broken") + upstream.count("left") == upstream.connections)
        assert upstream.count("complete") == 0
        await works(client)


class NoIterator:
    def __aiter__(self) -> int:
        return 5


class FailingIterable:
    def __aiter__(self) -> NoReturn:
        raise TypeError("no iterator today")


class FailingIterator:
    def __aiter__(self) -> FailingIterator:
        return self

    def __anext__(self) -> NoReturn:
        raise TypeError("no piece today")


@both
@pytest.mark.parametrize(
    ("body", "said"),
    [(NoIterator(), "int"), (FailingIterable(), "no iterator today"), (FailingIterator(), "no piece today")],
)
@everywhere
async def test_an_iterable_that_is_none_is_told_and_leaves_nothing(send: Send, body: Any, said: str) -> None:
    async with client_of(reading) as (client, upstream):
        with pytest.raises(TypeError, match=said):
            await send(client, body)
        await works(client)
        await upstream.until(lambda: upstream.count("broken") + upstream.count("left") >= upstream.connections - 1)
        assert _bridge.stats()["core_in_flight"] == 0


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine")], ids=lambda e: type(e).__name__)
@everywhere
async def test_an_error_of_the_iterable_comes_out_of_reading_the_response(error: BaseException) -> None:
    async def script(visit: Visit) -> None:
        await visit.request(body=False)
        await visit.send(head_of("chunked"), piece_of("chunked", b"begun"))
        async for _ in chunks_of(visit):
            pass

    async with client_of(script) as (client, upstream):
        proceed = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await proceed.wait()
            raise error

        async with client.stream_request("POST", "/", None, pieces()) as response:
            received = response.aiter_bytes()
            assert await anext(received) == b"begun"
            proceed.set()
            with pytest.raises(type(error)) as raised:
                await anext(received)
            assert raised.value is error
        await upstream.until(lambda: upstream.count("broken") == 1)


@pytest.mark.parametrize("taken", [False, True])
@everywhere
async def test_an_error_of_the_iterable_between_two_reads_is_not_lost(taken: bool) -> None:
    """No read is under way: the head, or a piece that nobody has asked for yet, is all there is."""

    async def script(visit: Visit) -> None:
        await visit.request(body=False)
        await visit.send(head_of("chunked"))
        for number in range(2 if taken else 0):
            await visit.upstream.gate(str(number))
            await visit.send(piece_of("chunked", b"%d" % number))
        async for _ in chunks_of(visit):
            pass

    async def nothing_under_way() -> None:
        while _bridge.stats()["in_flight"]:  # noqa: ASYNC110 - within the time limit of the test
            await asyncio.sleep(0)

    async with client_of(script) as (client, upstream):
        proceed, ended = asyncio.Event(), asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            try:
                await proceed.wait()
                raise KeyError("mine")
                yield b""
            finally:
                ended.set()

        async with client.stream_request("POST", "/", None, pieces()) as response:
            received = response.aiter_bytes()
            if taken:
                upstream.open("0")
                assert await anext(received) == b"0"
                upstream.open("1")
            await nothing_under_way()
            proceed.set()
            await ended.wait()
            await asyncio.sleep(0)
            if taken:
                assert await anext(received) == b"1"
            with pytest.raises(KeyError, match="mine"):
                await anext(received)
            assert response.is_closed
        await upstream.until(lambda: upstream.count("broken") + upstream.count("left") == 1)


def early(*, close: bool, read: bool) -> Callable[[Visit], Any]:
    """A script that answers with 413 when it has seen the head of a request."""

    async def script(visit: Visit) -> None:
        while (request := await visit.request(body=False)) is not None:
            if request.target == b"/small":
                await visit.send(answer(b"small"))
                continue
            if not read:
                visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await visit.upstream.gate("answer")
            lines = [b"Connection: close"] if close else []
            await visit.send(answer(b"too much", *lines, status=b"413 Content Too Large"))
            visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await visit.left()
            return

    return script


@both
@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("state", ["waiting", "stuck"])
@everywhere
async def test_an_answer_that_comes_early_ends_the_upload(send: Send, close: bool, state: str) -> None:
    """The iterable waits for its own next piece, or for an upstream that takes no more of it."""
    waiting = state == "waiting"
    async with client_of(early(close=close, read=waiting)) as (client, upstream):
        body = Body(b"x" * 1000, wait=True) if waiting else Body(*[b"x" * 100_000] * 500)
        task = asyncio.ensure_future(send(client, body))
        await upstream.until(lambda: upstream.count("request") == 1)
        if waiting:
            await body.waiting.wait()
        upstream.open("answer")
        status, received = await task
        assert (status, received) == (413, b"too much")
        assert body.closed
        assert body.made < 500
        await upstream.until(lambda: upstream.count("left") == 1)
        await works(client)
        assert upstream.connections == 2
        assert _bridge.stats()["core_in_flight"] == 0


@both
@everywhere
async def test_an_error_at_the_close_of_an_answered_upload_does_not_hide_the_answer(send: Send) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.sleep(100)
        finally:
            raise KeyError("in the end")

    async with client_of(early(close=True, read=True)) as (client, upstream):
        upstream.open("answer")
        with suppress(KeyError):
            assert await send(client, pieces()) == (413, b"too much")
        await upstream.until(lambda: upstream.count("left") == 1)
        await works(client)


@both
@pytest.mark.parametrize("at", ["first piece", "waiting", "stuck"])
@everywhere
async def test_cancelling_closes_the_iterable(send: Send, at: str) -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request(body=False)) is not None:
            if request.target == b"/small":
                await visit.send(answer(b"small"))
                continue
            if at == "stuck":
                visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await visit.upstream.gate("read")
                visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await visit.left()
            return

    async with client_of(script) as (client, upstream):
        body = {
            "first piece": lambda: Body(wait=True),
            "waiting": lambda: Body(b"x", wait=True),
            "stuck": lambda: Body(*[b"x" * 100_000] * 500),
        }[at]()
        task = asyncio.ensure_future(send(client, body))
        await upstream.until(lambda: upstream.count("request") == 1)
        if at == "stuck":
            last = -1
            while last != body.made:
                last = body.made
                await asyncio.sleep(0.05)
        else:
            await body.waiting.wait()
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert body.closed
        upstream.open("read")
        await left_at_once(upstream, start)
        await works(client)
        assert _bridge.stats()["core_in_flight"] == 0


@both
@everywhere
async def test_cancelled_after_any_number_of_turns(send: Send) -> None:
    async def script(visit: Visit) -> None:
        while await visit.request(body=False) is not None:
            async for chunk in chunks_of(visit):
                assert chunk
            await visit.send(answer(b"whole"))

    async with client_of(script) as (client, upstream):
        cancelled = whole = 0
        for turns in range(120):
            body = Body(b"a", b"b" * 10_000, "c")
            task = asyncio.ensure_future(send(client, body))
            for _ in range(turns % 40):
                await asyncio.sleep(0)
            if turns >= 40:
                await asyncio.sleep(turns / 100_000)  # to meet what comes from the core
            task.cancel()
            try:
                assert await task == (200, b"whole")
                whole += 1
            except asyncio.CancelledError:
                cancelled += 1
            assert body.closed or body.made == 0
        assert cancelled >= 20
        assert await send(client, Body(b"a")) == (200, b"whole")
        assert upstream.count("complete") > whole
        while _bridge.stats()["core_in_flight"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


@both
@everywhere
async def test_a_coroutine_that_is_closed_ends_its_upload(send: Send) -> None:
    """Closing must not wait, so the iterable is closed a little later."""
    async with client_of(reading) as (client, upstream):
        for count, pieces in enumerate(((), (b"x",)), 1):
            body = Body(*pieces, wait=True)
            coroutine = send(client, body)
            coroutine.send(None)
            await body.waiting.wait()
            await upstream.until(lambda count=count: upstream.count("request") == count)
            coroutine.close()
            while not body.closed:  # noqa: ASYNC110 - within the time limit of the test
                await asyncio.sleep(0)
        await upstream.until(lambda: upstream.count("broken") + upstream.count("left") == 2)
        assert upstream.count("complete") == 0


@everywhere
async def test_leaving_the_block_ends_the_upload() -> None:
    async def script(visit: Visit) -> None:
        await visit.request(body=False)
        with contextlib.suppress(ConnectionError):  # the client may be gone by then
            await visit.send(head_of("chunked"), piece_of("chunked", b"begun"))
        async for _ in chunks_of(visit):
            pass

    async with client_of(script) as (client, upstream):
        for count, seen in enumerate((False, True), 1):
            body = Body(b"x", wait=True)
            async with client.stream_request("POST", "/", None, body) as response:
                if seen:
                    assert await anext(response.aiter_bytes()) == b"begun"
                await body.waiting.wait()
            assert body.closed
            await upstream.until(lambda count=count: upstream.count("broken") == count)

        async def block(body: Body) -> None:
            async with client.stream_request("POST", "/", None, body) as response:
                await response.read()

        body = Body(b"x", wait=True)
        coroutine = block(body)
        coroutine.send(None)
        await body.waiting.wait()
        await upstream.until(lambda: upstream.count("request") == 3)
        coroutine.close()
        while not body.closed:  # noqa: ASYNC110 - within the time limit of the test
            await asyncio.sleep(0)
        await upstream.until(lambda: upstream.count("broken") == 3)


async def test_a_stream_that_is_dropped_ends_its_upload() -> None:
    async def script(visit: Visit) -> None:
        await visit.request(body=False)
        await visit.send(head_of("chunked"))
        async for _ in chunks_of(visit):
            pass

    async with client_of(script) as (client, upstream):
        body = Body(b"x", wait=True)
        kept = [await opened(client.stream_request("POST", "/", None, body))]
        await body.waiting.wait()
        with pytest.warns(ResourceWarning, match="unclosed <StreamResponse"):
            kept.clear()
        gc.collect()
        while not body.closed:  # noqa: ASYNC110 - within the time limit of the test
            await asyncio.sleep(0)
        await upstream.until(lambda: upstream.count("broken") == 1)


@both
@everywhere
async def test_closing_the_client_ends_its_uploads(send: Send) -> None:
    with Upstream(reading) as upstream:
        client = ProxyClient(upstream.url)
        bodies = [Body(b"x", wait=True) for _ in range(5)]
        tasks = [asyncio.ensure_future(send(client, body)) for body in bodies]
        for body in bodies:
            await body.waiting.wait()
        await upstream.until(lambda: upstream.count("chunk b'x'") == 5)
        client.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
        assert all(body.closed for body in bodies)
        await upstream.until(lambda: upstream.count("broken") == 5)
        late = Body(b"x", wait=True)
        with pytest.raises(ClientClosedError):
            await send(client, late)
        assert late.made == 0


@both
@everywhere
async def test_the_time_limit_holds_for_uploads(send: Send) -> None:
    async with client_of(reading, timeout_ms=300) as (client, upstream):
        body = Body(b"x", wait=True)
        with pytest.raises(TotalTimeout):
            await send(client, body)
        assert body.closed
        await upstream.until(lambda: upstream.count("broken") == 1)
        await works(client)


@both
@pytest.mark.parametrize("how", ["finish", "reset"])
@everywhere
async def test_an_upstream_that_goes_ends_the_upload(send: Send, how: str) -> None:
    async def script(visit: Visit) -> None:
        request = await visit.request(body=False)
        assert request is not None
        if request.target == b"/small":
            await visit.send(answer(b"small"))
            return
        async for _ in chunks_of(visit):
            break
        visit.finish() if how == "finish" else visit.reset()

    async with client_of(script) as (client, _):
        body = Body(b"x" * 1000, wait=True)
        with pytest.raises(UpstreamClosedError):
            await send(client, body)
        assert body.closed
        await works(client)
