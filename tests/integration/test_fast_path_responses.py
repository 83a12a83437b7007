"""Responses and failures on the fast path of RSGI: each reaches its own server once, whole or streamed."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest
from fast_path_gateway import connected, fast, take
from rsgi_server import Protocol, Scope
from scripted_upstream import Exchange, ScriptedUpstream, reply

from velithon_proxy import ProxyMiddleware


async def test_header_values_beyond_ascii_are_passed_on(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream, via=None) as gateway:
        upstream.answers(b"HTTP/1.1 200 OK\r\nX-A: \xc3\xa9\r\nX-B: \xe9\r\nContent-Length: 1\r\n\r\nx")
        with caplog.at_level(logging.WARNING):
            protocol = await fast(gateway, Scope())
        assert protocol.answers == [(200, [("X-A", "é"), ("Content-Length", "1")], b"x")]
        assert "left out the field 'X-B'" in caplog.text


async def test_a_response_that_comes_in_pieces_is_streamed(upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n1\n")
        exchange.upstream.ledger.wait_for("more")
        exchange.send(b"2\n")
        exchange.close()

    async with connected(upstream) as gateway:
        upstream.does(script)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.stream.begun.wait()
        assert not flight.done()
        upstream.ledger.add("more")
        assert await flight == 200
        assert b"".join(protocol.stream.pieces) == b"1\n2\n"


async def test_a_large_body_is_whole(upstream: ScriptedUpstream) -> None:
    body = bytes(range(256)) * 800  # 200 KB: too large to come whole, too small for a pipe
    async with connected(upstream) as gateway:
        upstream.answers(reply(body=body))
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        assert await flight == 200
        assert (b"".join(protocol.stream.pieces) or protocol.answers[0][2]) == body


async def test_many_at_once_get_their_own_answers(upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(reply(body=exchange.request.target.encode()))

    async with connected(upstream) as gateway:
        upstream.does(script)
        scopes = [Scope(path=f"/api/{n}") for n in range(300)]
        protocols = [Protocol() for _ in scopes]
        flights = [take(gateway, scope, protocol) for scope, protocol in zip(scopes, protocols, strict=True)]
        assert await asyncio.gather(*(flight for flight in flights if flight is not None)) == [200] * 300
        assert [protocol.answers[0][2] for protocol in protocols] == [scope.path.encode() for scope in scopes]


async def test_a_call_can_become_a_task(upstream: ScriptedUpstream) -> None:
    async with connected(upstream) as gateway:
        for _ in range(3):
            assert await asyncio.create_task(gateway(Scope(), Protocol())) == 200  # type: ignore[arg-type]


async def test_a_failure_is_answered_and_logged_once(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream) as gateway:
        upstream.answers(b"garbage\r\n\r\n")
        protocol = await fast(gateway, Scope())
        assert protocol.answers == [
            (502, [("content-type", "application/json")], b'{"error": "Bad Gateway", "status": 502}')
        ]
        assert [record.message.split(":")[0] for record in caplog.records] == [
            "GET /api/x -> 502 UpstreamProtocolError"
        ]
        assert upstream.only_request().target == "/api/x"


async def test_what_is_logged_later_is_logged_in_the_context_of_the_request(upstream: ScriptedUpstream) -> None:
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(request_id.get())

    def note(error: Exception, response: object) -> None:
        seen.append(request_id.get())

    async def served(gateway: ProxyMiddleware, name: str, protocol: Protocol) -> None:
        request_id.set(name)
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await flight

    logger, handler = logging.getLogger("velithon_proxy"), Handler()
    logger.addHandler(handler)
    try:
        async with connected(upstream, on_error=note) as gateway:
            upstream.answers(b"garbage\r\n\r\n")
            await asyncio.create_task(served(gateway, "one", Protocol()))
            assert seen == ["one", "one"]
            upstream.answers(reply())
            await asyncio.create_task(served(gateway, "two", Protocol(refuses=RuntimeError("closed"))))
            assert seen[2:] == ["two"]
    finally:
        logger.removeHandler(handler)


async def test_a_server_that_does_not_take_a_response_is_not_asked_twice(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream) as gateway:
        protocol = Protocol(refuses=RuntimeError("closed"))
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        assert await flight == 499
        assert len(protocol.answers) == 1
        assert "the server did not take a response" in caplog.text


async def test_a_server_that_panics_is_not_asked_twice(upstream: ScriptedUpstream) -> None:
    class Panic(BaseException):
        pass

    async with connected(upstream) as gateway:
        protocol = Protocol(refuses=Panic("the server's own"))
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        with pytest.raises(Panic):
            await flight
        assert len(protocol.answers) == 1
