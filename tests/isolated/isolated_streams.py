"""Scripts: streams and uploads through a whole process: its memory, its end, its children, its loops and threads."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from event_loops import loop_factory
from isolated_scripts import (
    PATIENCE,
    collected,
    descriptors,
    exit_code,
    in_child,
    nothing_in_flight,
    rss_kb,
    run,
    settled,
    stats,
    wait_until,
)

from velithon_proxy import ForkedProcessError, ProxyClient, _bridge

MEGABYTE = 1 << 20
TOTAL = 200 * MEGABYTE
GROWTH_KB = 8 * 1024
CODE = 3


class Upstream:
    """A server in a thread of its own, with memory of its own kept small: what it sends is one piece again and again.

    ``/down`` streams 200 MB, ``/endless`` an event and nothing more, ``/up`` counts the bytes of a chunked body,
    ``/deaf`` reads the head and no body, ``/small`` is ``small``.
    """

    def __init__(self) -> None:
        self.open = 0
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        assert ready.wait(PATIENCE)

    def client(self, **options: Any) -> ProxyClient:
        return ProxyClient(f"http://127.0.0.1:{self.port}", **options)

    async def _serve(self, ready: threading.Event) -> None:
        # What asyncio finds out about connections that were reset meanwhile is of no interest.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        server = await asyncio.start_server(self._visit, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if await self._answer(head.split(b" ")[1], reader, writer):
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, path: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if path == b"/down":
            piece = bytes(1 << 16)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
            for _ in range(TOTAL // len(piece)):
                writer.write(piece)
                await writer.drain()
        elif path == b"/endless":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
            while await reader.read(1 << 16):
                pass
            return True
        elif path == b"/up":
            size = 0
            while chunk := int(await reader.readuntil(b"\r\n"), 16):
                size += chunk
                left = chunk + 2
                while left:
                    data = await reader.read(min(left, 1 << 16))
                    if not data:
                        return True
                    left -= len(data)
            await reader.readexactly(2)
            body = b"%d" % size
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        elif path == b"/deaf":
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(2)  # one that does not read does not notice the end either
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            while await reader.read(1 << 16):
                pass
            return True
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
        return False


async def _works(one: ProxyClient) -> None:
    async with asyncio.timeout(PATIENCE):
        assert (await one.forward_request("GET", "/small")).body == b"small"


async def _down(one: ProxyClient, total: int = TOTAL, each: Callable[[], object] = lambda: None) -> None:
    size = 0
    async with one.stream_request("GET", "/down") as response:
        async for piece in response.aiter_bytes():
            size += len(piece)
            each()
            if size >= total:
                break
    assert size >= total


async def _pieces(total: int, each: Callable[[], object] = lambda: None) -> AsyncIterator[bytes]:
    piece = bytes(1 << 16)
    for _ in range(total // len(piece)):
        yield piece
        each()


async def _up(one: ProxyClient, total: int = TOTAL, each: Callable[[], object] = lambda: None) -> None:
    response = await one.forward_request("POST", "/up", None, _pieces(total, each))
    assert response.body == b"%d" % total


def memory(loop: str, way: str) -> None:
    """200 MB that pass through are never there as a whole: the memory of the process stays what it was."""
    upstream = Upstream()
    transfer: Callable[..., Awaitable[None]] = {"down": _down, "up": _up}[way]

    async def main() -> None:
        one = upstream.client()
        await transfer(one, 40 * MEGABYTE)
        await settled()
        collected()
        before, highest, count = rss_kb(), 0, 0

        def look() -> None:
            nonlocal highest, count
            count += 1
            if count % 64 == 0:
                highest = max(highest, rss_kb())

        await transfer(one, TOTAL, look)
        assert count >= 256
        assert 0 < highest < before + GROWTH_KB, (before, highest)
        assert rss_kb() < before + GROWTH_KB
        one.close()

    run(main(), loop)


def left_early(loop: str) -> None:
    """300 streams and 300 uploads that are left in the middle: no descriptor, goroutine, node or task stays."""
    upstream = Upstream()

    async def stream(one: ProxyClient, number: int) -> None:
        async with one.stream_request("GET", "/endless") as response:
            if number % 3:
                assert await anext(response.aiter_bytes()) == b"event"

    async def upload(one: ProxyClient, number: int) -> None:
        waiting = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"x" * (1 + number * 100)
            waiting.set()
            await asyncio.sleep(100)

        task = asyncio.ensure_future(one.forward_request("POST", "/up", None, pieces()))
        await waiting.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def round_(one: ProxyClient, count: int) -> None:
        for start in range(0, count, 20):
            await asyncio.gather(*(way(one, start + number) for number in range(20) for way in (stream, upload)))
        await settled(lambda: nothing_in_flight() and upstream.open <= 1, "left by all")

    async def main() -> None:
        one = upstream.client()
        await _works(one)
        await round_(one, 60)
        await _works(one)
        before = {"descriptors": descriptors(), **stats()}
        await round_(one, 300)
        await _works(one)
        assert len(asyncio.all_tasks()) == 1
        for what in ("descriptors", "goroutines"):
            await settled(
                lambda what=what: {"descriptors": descriptors(), **stats()}[what] <= before[what] + 2, f"fewer {what}"
            )
        # As many as there were at once, which varies; one for each of these requests would be 600.
        assert stats()["nodes"] <= before["nodes"] + 200, (before, stats())
        one.close()

    run(main(), loop)


#: Alive until the interpreter takes its modules apart.
KEPT: list[Any] = []


async def _begin(upstream: Upstream) -> None:
    """Streams and uploads in every state, with nobody who would say a last word about them."""
    one = upstream.client()
    await _works(one)
    one.__class__.__del__ = lambda _: None  # the warnings are right, and not what is tested
    KEPT.append(one)
    for count in range(9):
        context = one.stream_request("GET", "/down" if count % 2 else "/endless")
        response = await context.__aenter__()
        response.__class__.__del__ = lambda _: None
        iterator = response.aiter_bytes()
        KEPT.extend((context, response, iterator))
        for _ in range(count % 3):
            if count % 2 or _ == 0:
                assert await anext(iterator)
    for path in ("/up", "/deaf"):
        for _ in range(3):
            waiting = asyncio.Event()

            async def pieces(waiting: asyncio.Event = waiting) -> AsyncIterator[bytes]:
                yield bytes(MEGABYTE)
                waiting.set()
                await asyncio.get_running_loop().create_future()

            coroutine = one.forward_request("POST", path, None, pieces())
            KEPT.extend((coroutine, coroutine.send(None)))
            await waiting.wait()
    for task in asyncio.all_tasks():
        task._log_destroy_pending = False  # asyncio's own remark on tasks that nobody ends
    KEPT.extend(asyncio.all_tasks() - {asyncio.current_task()})


def _leaving() -> None:
    print(f"{time.monotonic():.6f}", flush=True)


def exit_with_open_streams(loop: str) -> None:
    running = loop_factory(loop)()
    KEPT.append(running)
    running.run_until_complete(_begin(Upstream()))
    _leaving()
    sys.exit(CODE)


def exit_with_a_closed_loop(loop: str) -> None:
    running = loop_factory(loop)()
    KEPT.append(running)
    running.run_until_complete(_begin(Upstream()))
    running.close()
    _leaving()
    sys.exit(CODE)


def exit_of_asyncio_run(loop: str) -> None:
    """asyncio.run() cancels the tasks on its way out, and closes the generators."""
    upstream = Upstream()

    async def reading(one: ProxyClient) -> None:
        async with one.stream_request("GET", "/endless") as response:
            await response.read()

    async def main() -> None:
        async with upstream.client() as one:
            tasks = [asyncio.ensure_future(reading(one)) for _ in range(10)]
            tasks += [asyncio.ensure_future(_up(one)) for _ in range(3)]
            await settled(lambda: upstream.open >= 13, "open")
            KEPT.extend(tasks)
        _leaving()
        sys.exit(CODE)

    asyncio.Runner(loop_factory=loop_factory(loop)).run(main())


def fork(loop: str) -> None:
    """A child that was forked with open streams is told so, and its end does not disturb those of its parent."""
    upstream = Upstream()

    async def main() -> None:
        one = upstream.client()
        async with one.stream_request("GET", "/endless") as response, one.stream_request("GET", "/endless") as other:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"event"

            def child() -> None:
                for late, error in (
                    (other.read(), RuntimeError),
                    (one.forward_request("GET", "/small"), ForkedProcessError),
                    (one.forward_request("POST", "/up", None, _pieces(1 << 16)), ForkedProcessError),
                ):
                    try:
                        run(late, loop)
                    except error:
                        continue
                    raise AssertionError("a forked child used the core")
                for open_one in (response, other):
                    with suppress(StopIteration):
                        open_one.aclose().send(None)

            for _ in range(3):
                assert in_child(child) == 0
            pid = os.fork()
            if pid == 0:
                os._exit(4)
            assert exit_code(pid) == 4
            assert not response.is_closed
            assert await anext(other.aiter_bytes()) == b"event"
            await _works(one)
        await settled(lambda: nothing_in_flight() and upstream.open <= 1, "left")
        await _down(one, MEGABYTE)
        one.close()

    run(main(), loop)


def loops(loop: str) -> None:
    """One loop after the other, each with its streams, and some that were closed with open ones."""
    upstream = Upstream()
    one = upstream.client()

    async def whole() -> None:
        await _down(one, 5 * MEGABYTE)
        await _up(one, 5 * MEGABYTE)
        async with one.stream_request("GET", "/endless") as response:
            assert await anext(response.aiter_bytes()) == b"event"

    async def leave() -> list[Any]:
        context = one.stream_request("GET", "/endless")
        response = await context.__aenter__()
        type(response).__del__ = lambda _: None
        return [context, response]

    before = 0
    for turn in range(20):
        run(whole(), loop)
        ending = loop_factory(loop)()
        kept = ending.run_until_complete(leave())
        ending.close()
        if turn % 2:
            kept.clear()
            del ending
            collected()
        run(whole(), loop)
        _bridge.reap()
        wait_until(lambda: not _bridge.reap() and upstream.open <= 4, "left")
        if turn == 9:
            before = descriptors()
    # rloop 0.5 leaves two descriptors for each loop by itself
    assert loop == "rloop" or descriptors() <= before + 6, (before, descriptors())
    one.close()


def threads(loop: str) -> None:
    """Loops in several threads stream through one client."""
    upstream = Upstream()
    one = upstream.client()
    failures: list[BaseException] = []

    async def work() -> None:
        for _ in range(3):
            await asyncio.gather(_down(one, 3 * MEGABYTE), _up(one, 3 * MEGABYTE), _works(one))
            async with one.stream_request("GET", "/endless") as response:
                assert await anext(response.aiter_bytes()) == b"event"

    def body() -> None:
        try:
            run(work(), loop)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=body) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(2 * PATIENCE)
        assert not worker.is_alive()
    assert not failures, failures

    async def end() -> None:
        await _works(one)
        await settled(lambda: nothing_in_flight(), "empty")
        one.close()

    run(end(), loop)
