"""The limits of time, connections and sizes that a client is given, and unix sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest
from client_upstream import LIMIT, Received, Upstream, Visit, answer, chunked, client_of, echo, on_loops, replying

from velithon_proxy import (
    BodyTooLargeError,
    Limits,
    PoolExhaustedError,
    PoolTimeout,
    ProxyClient,
    ReadTimeout,
    Timeouts,
    TotalTimeout,
    UpstreamProtocolError,
)

SHORT = 0.15
LATE = 5 * SHORT


async def silent(visit: Visit) -> None:
    while await visit.request() is not None:
        pass


async def stalling(visit: Visit) -> None:
    """Begin a body and stop in the middle."""
    while await visit.request() is not None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")


@on_loops("asyncio", "uvloop")
async def test_the_first_byte_has_a_limit() -> None:
    with Upstream(silent) as upstream:
        async with ProxyClient(upstream.url, timeouts=Timeouts(first_byte=SHORT)) as client:
            with pytest.raises(ReadTimeout) as raised:
                await client.forward_request("GET", "/")
            assert (raised.value.phase, raised.value.status, raised.value.request_sent) == ("head", 504, True)
            assert SHORT <= raised.value.elapsed < LATE


@on_loops("asyncio", "uvloop")
async def test_a_body_that_stalls_has_a_limit() -> None:
    with Upstream(stalling) as upstream:
        async with ProxyClient(upstream.url, timeouts=Timeouts(idle=SHORT)) as client:
            with pytest.raises(ReadTimeout) as raised:
                await client.forward_request("GET", "/")
            assert raised.value.phase == "body"
            assert SHORT <= raised.value.elapsed < LATE
            async with client.stream_request("GET", "/") as response:
                pieces = response.aiter_bytes()
                assert await anext(pieces) == b"hello"
                with pytest.raises(ReadTimeout):
                    await anext(pieces)


async def test_a_total_limit_replaces_that_of_the_call_and_ends_streams() -> None:
    with Upstream(stalling) as upstream:
        async with ProxyClient(upstream.url, 60_000, timeouts=Timeouts(total=SHORT)) as client:
            with pytest.raises(TotalTimeout):
                await client.forward_request("GET", "/")
            async with client.stream_request("GET", "/") as response:
                with pytest.raises(TotalTimeout):
                    await response.read()


async def test_waiting_for_a_connection_has_a_limit_and_the_queue_a_size() -> None:
    limits = Limits(max_connections=1, max_waiting=1)
    with Upstream(silent) as upstream:
        async with ProxyClient(upstream.url, timeouts=Timeouts(pool=SHORT), limits=limits) as client:
            first = asyncio.ensure_future(client.forward_request("GET", "/first"))
            await upstream.until(lambda: upstream.count("request") == 1)
            second = asyncio.ensure_future(client.forward_request("GET", "/second"))
            await asyncio.sleep(0)
            with pytest.raises(PoolExhaustedError):
                await client.forward_request("GET", "/third")
            with pytest.raises(PoolTimeout) as raised:
                await second
            assert (raised.value.phase, raised.value.status, raised.value.request_sent) == ("queue", 503, False)
            first.cancel()
            assert upstream.count("request") == 1


@pytest.mark.parametrize("method", ["length", "chunked", "close"])
async def test_a_response_body_has_a_limit(method: str) -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            body = b"x" * int(request.target[1:])
            if method == "length":
                await visit.send(answer(body))
            elif method == "chunked":
                await visit.send(chunked(body[: len(body) // 2], body[len(body) // 2 :]))
            else:
                await visit.send(b"HTTP/1.1 200 OK\r\n\r\n", body)
                visit.finish()
                return

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url, max_response_body=1000) as client:
            assert len((await client.forward_request("GET", "/1000")).body) == 1000
            with pytest.raises(BodyTooLargeError) as raised:
                await client.forward_request("GET", "/1002")
            assert raised.value.status == 502
            assert len((await client.forward_request("GET", "/998")).body) == 998


async def test_a_request_body_has_a_limit() -> None:
    async def pieces(size: int, count: int) -> object:
        for _ in range(count):
            yield b"x" * size

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target == b"/broken-off":
                await visit.left()  # answers nothing: an early response would be delivered
                return
            await visit.send(echo(request))

    async with client_of(script, max_request_body=1000) as (client, upstream):
        assert len((await client.forward_request("POST", "/", None, b"x" * 1000)).body) == 1000
        with pytest.raises(BodyTooLargeError) as raised:
            await client.forward_request("POST", "/refused", None, b"x" * 1001)
        assert (raised.value.status, raised.value.request_sent) == (413, False)
        with pytest.raises(BodyTooLargeError):
            await client.forward_request("POST", "/refused", {"content-length": "1001"}, pieces(1001, 1))
        with pytest.raises(BodyTooLargeError) as raised:
            await client.forward_request("POST", "/broken-off", None, pieces(400, 3))
        assert raised.value.status == 413
        assert b"/refused" not in [request.target for request in upstream.requests]


async def test_a_response_head_has_limits() -> None:
    def reply(request: Received) -> bytes:
        lines, size = map(int, request.target[1:].split(b"-"))
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%bX: %b\r\n\r\n" % (b"A: b\r\n" * (lines - 2), b"x" * size)

    limits = Limits(max_response_head=2048, max_response_fields=10)
    async with client_of(replying(reply), limits=limits) as (client, _):
        assert len((await client.forward_request("GET", "/10-1000")).headers.raw) == 10
        for target in ("/11-1", "/5-2100"):
            with pytest.raises(UpstreamProtocolError):
                await client.forward_request("GET", target)


@on_loops("asyncio", "uvloop", "rloop")
async def test_an_upstream_may_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while head := connection.recv(65536):
                connection.sendall(answer(head))

    thread = threading.Thread(target=serve)
    thread.start()
    async with ProxyClient(f"unix:{path}") as client:
        response = await client.forward_request("GET", "/a?b")
        assert response.body == b"GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert response.target == f"unix:{path}"
        named = await client.forward_request("GET", "/", {"Host": "app.example"})
        assert named.body == b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n"
    thread.join(LIMIT)
    listener.close()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with client_of(replying(answer(b"direct"))) as (client, _):
        assert (await client.forward_request("GET", "/")).body == b"direct"
