"""Upstreams for the client tests: raw sockets that play a script and note everything that reaches them.

An upstream runs on an event loop and a thread of its own, so that a blocked client cannot block it. Nothing here waits
for time to pass: tests wait for entries of the ledger, scripts wait for gates that a test opens.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
from event_loops import loop_factory

from velithon_proxy import ProxyClient

LIMIT = 30.0
"""Seconds after which a wait has failed."""


def on_loops(*names: str) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Run a coroutine test on each of these event loops."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(event_loop_name: str, **arguments: Any) -> None:
            run_on(event_loop_name, test(**arguments))

        given = inspect.signature(test)
        extra = inspect.Parameter("event_loop_name", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = given.replace(parameters=[*given.parameters.values(), extra])  # type: ignore[attr-defined]
        return pytest.mark.parametrize("event_loop_name", names)(run)

    return decorate


def run_on(name: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a new loop of this kind, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await main

    with asyncio.Runner(loop_factory=loop_factory(name)) as runner:
        runner.run(limited())


@dataclass
class Received:
    """A request as it arrived."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def lines(self) -> list[tuple[bytes, bytes]]:
        """Header lines in order; values without the blank after the colon."""
        pairs = [line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line]
        return [(name, value.removeprefix(b" ")) for name, _, value in pairs]

    def values(self, name: str) -> list[bytes]:
        return [value for given, value in self.lines if given.lower() == name.lower().encode()]


@dataclass
class Visit:
    """One connection, as the script sees it."""

    upstream: Upstream
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self, *, body: bool = True) -> Received | None:
        """Read one request, or None if the client closed the connection; ``body=False`` leaves its body unread."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            received = Received(head, b"", self.number)
            length = int((received.values("content-length") or [b"0"])[0])
            if body:
                received.body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.upstream.note("broken" if getattr(error, "partial", b"") else "left", self.number)
            return None
        self.upstream.requests.append(received)
        self.upstream.note("request", self.number)
        return received

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def finish(self) -> None:
        """Send FIN."""
        self.writer.write_eof()
        self.upstream.note("finished", self.number)

    def reset(self) -> None:
        """Break the connection off with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        # The transport closes its socket in the next turn of the loop.
        asyncio.get_running_loop().call_soon(self.upstream.note, "reset", self.number)

    async def left(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except OSError:
            pass
        self.upstream.note("left", self.number)


Script = Callable[[Visit], Awaitable[None]]


@dataclass
class Upstream:
    """A server at ``url`` that runs ``script`` for each connection.

    ``ledger`` holds (event, connection number) in order; events: accepted, request, finished, reset, left (the client
    closed the connection), broken (in the middle of a request). ``requests`` holds what was received.
    """

    script: Script
    tls: ssl.SSLContext | None = None
    ledger: list[tuple[str, int]] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        self._counts: Counter[str] = Counter()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._visits: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        self._lock = threading.Lock()
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="upstream")
        self._thread.start()
        assert ready.wait(LIMIT)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        if self._faults and error is None:
            raise self._faults[0]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return self.count("accepted")

    def count(self, event: str) -> int:
        return self._counts[event]

    def note(self, event: str, connection: int) -> None:
        with self._lock:
            self.ledger.append((event, connection))
            self._counts[event] += 1
            due = [entry for entry in self._waiting if entry[0]()]
            self._waiting = [entry for entry in self._waiting if entry not in due]
        for _, future in due:
            future.get_loop().call_soon_threadsafe(lambda future=future: future.done() or future.set_result(None))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, on the test's loop, until the ledger makes the condition true."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if condition():
                return
            self._waiting.append((condition, future))
        async with asyncio.timeout(LIMIT):
            await future

    async def gate(self, name: str) -> None:
        """In a script: wait until the test opens the gate."""
        await self._gates.setdefault(name, asyncio.Event()).wait()

    def open(self, name: str) -> None:
        """In a test: let the scripts that wait for the gate go on."""
        self._loop.call_soon_threadsafe(lambda: self._gates.setdefault(name, asyncio.Event()).set())

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._visit, "127.0.0.1", 0, limit=1 << 20, backlog=2048, ssl=self.tls, ssl_handshake_timeout=None
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._ended.wait()
        # A connection that is being accepted when the server closes would lose its transport: let it become a visit.
        while asyncio.all_tasks() - self._visits - {asyncio.current_task()}:  # noqa: ASYNC110 - nothing tells of tasks
            await asyncio.sleep(0)
        server.close()
        while asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._visits:
                task.cancel()
            await asyncio.sleep(0)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._visits.add(task)
        number = self.connections + 1
        self.note("accepted", number)
        try:
            await self.script(Visit(self, number, reader, writer))
        except asyncio.CancelledError:
            writer.transport.abort()  # the test is over, whatever has not been sent yet
        except OSError:
            pass  # the client closed the connection while it was being written to
        except BaseException as error:
            self._faults.append(error)
        finally:
            self._visits.discard(task)
            writer.close()


def answer(body: bytes = b"", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A response with Content-Length; ``lines`` are header lines without their end."""
    head = [b"HTTP/1.1 " + status, *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, lines: tuple[bytes, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    """A response with chunked coding."""
    head = [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def replying(reply: bytes | Callable[[Received], bytes]) -> Script:
    """A script that answers every request of a connection, with the same bytes or as the function says."""

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.send(reply if isinstance(reply, bytes) else reply(request))

    return script


def echo(request: Received) -> bytes:
    """The body of the request, and its target in a header line."""
    return answer(request.body, b"X-Target: " + request.target)


@asynccontextmanager
async def client_of(script: Script, **options: Any) -> AsyncIterator[tuple[ProxyClient, Upstream]]:
    """A client and the upstream it talks to."""
    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url, **options) as client:
            yield client, upstream
