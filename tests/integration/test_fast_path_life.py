"""Requests on the fast path of RSGI while they wait: callers and clients that leave, closed gateways, several loops."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from fast_path_gateway import connected, fast, ordinary, quiet, take
from rsgi_server import PLAIN, Protocol, Scope
from scripted_upstream import Exchange, ScriptedUpstream, reply

from velithon_proxy import ProxyMiddleware


async def test_a_caller_that_is_cancelled_closes_the_upstreams_connection(upstream: ScriptedUpstream) -> None:
    async with connected(upstream) as gateway:
        upstream.does(Exchange.wait_until_left)
        for moment in ("at once", "when it is watched"):
            protocol = Protocol()
            flight = take(gateway, Scope(path=f"/api/{moment[:2]}"), protocol)
            assert flight is not None
            if moment != "at once":
                await protocol.watched.wait()
            flight.cancel()
            await asyncio.to_thread(upstream.ledger.wait_for, "left", 1 if moment == "at once" else 2)
            assert protocol.answers == []
            assert protocol.waiting == 0
        await quiet(gateway)


async def test_a_caller_that_is_cancelled_during_a_stream_closes_the_upstreams_connection(
    upstream: ScriptedUpstream,
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        exchange.wait_until_left()

    async with connected(upstream) as gateway:
        upstream.does(script)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.stream.begun.wait()
        flight.cancel()
        await asyncio.to_thread(upstream.ledger.wait_for, "left")
        await quiet(gateway)


async def test_a_client_that_leaves_closes_the_upstreams_connection(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(upstream) as gateway:
        upstream.does(Exchange.wait_until_left)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.watched.wait()
        protocol.leaves.set()
        with caplog.at_level(logging.INFO):
            assert await flight == 499
        assert protocol.answers == []
        assert "-> 499 ClientGoneError" in caplog.text
        await asyncio.to_thread(upstream.ledger.wait_for, "left")
        await quiet(gateway)


async def test_a_slow_answer_ends_the_watch(upstream: ScriptedUpstream) -> None:
    def script(exchange: Exchange) -> None:
        exchange.upstream.ledger.wait_for("go")
        exchange.send(reply(body=b"late"))

    async with connected(upstream) as gateway:
        upstream.does(script)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await protocol.watched.wait()
        upstream.ledger.add("go")
        assert await flight == 200
        await asyncio.sleep(0)
        assert protocol.waiting == 0
        assert protocol.answers[0][2] == b"late"


async def test_a_wrapper_that_cannot_watch_its_client_is_served(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrapper:
        def __init__(self, inner: Protocol) -> None:
            self.response_bytes = inner.response_bytes

    def script(exchange: Exchange) -> None:
        exchange.upstream.ledger.wait_for("go")
        exchange.send(reply(body=b"late"))

    async with connected(upstream) as gateway:
        upstream.does(script)
        other, protocol = Protocol(), Protocol()
        with caplog.at_level(logging.DEBUG):
            flight, watched = take(gateway, Scope(), Wrapper(protocol)), take(gateway, Scope(), other)
            assert flight is not None
            assert watched is not None
            await other.watched.wait()  # by the same turn of the clock, and later
            upstream.ledger.add("go")
            assert await asyncio.gather(flight, watched) == [200, 200]
        assert "cannot watch the client's connection" in caplog.text
        assert protocol.answers[0][2] == b"late"


async def test_a_closed_gateway_connects_anew_and_fails_what_was_under_way(upstream: ScriptedUpstream) -> None:
    async with connected(upstream) as gateway:
        upstream.does(Exchange.wait_until_left)
        protocol = Protocol()
        flight = take(gateway, Scope(), protocol)
        assert flight is not None
        await asyncio.to_thread(upstream.ledger.wait_for, "request")
        gateway.close()
        assert gateway._rsgi._fast.take(Scope(), Protocol()) is None
        assert await flight == 503
        upstream.answers(reply(body=b"again"))
        protocol = Protocol()
        assert await gateway(Scope(), protocol) == 200  # type: ignore[arg-type]
        assert protocol.answers[0][2] == b"again"
        await fast(gateway, Scope())


def test_each_event_loop_has_its_own(upstream: ScriptedUpstream) -> None:
    """Another loop of the same thread, a loop of another thread at the same time, and none at all."""
    gateway = ProxyMiddleware(upstream.url, path_prefix="/api")
    upstream.answers(reply(body=b"x"))

    async def twice() -> Any:
        await ordinary(gateway, Scope())
        await fast(gateway, Scope())
        return gateway._rsgi._fast.take

    old = asyncio.run(twice())
    assert old(Scope(), Protocol()) is None, "its loop does not run any more"

    async def beside() -> None:
        await ordinary(gateway, Scope())
        await fast(gateway, Scope())
        took: list[object] = []
        here = gateway._rsgi._fast.take
        thread = threading.Thread(target=lambda: took.append(here(Scope(), Protocol())))
        thread.start()
        thread.join()
        assert took == [None], "this thread is not the loop's"
        assert old(Scope(), Protocol()) is None

    asyncio.run(beside())
    gateway.close()


def test_two_loops_at_the_same_time_keep_their_answers(upstream: ScriptedUpstream) -> None:
    """Each binds the gateway to itself again and again, also while the other one waits for a body."""
    gateway = ProxyMiddleware(upstream.url, path_prefix="/api", max_retries=0)
    upstream.does(lambda exchange: exchange.send(reply(body=exchange.request.target.encode())))
    together = threading.Barrier(2)

    async def some(name: str) -> None:
        together.wait()
        with_body = [*PLAIN, ("content-length", "1")]
        for n in range(150):
            protocols = {f"/api/{name}/{n}/{m}": Protocol() for m in range(4)}
            served = []
            for path, protocol in protocols.items():
                lines = with_body if path.endswith("0") else PLAIN
                protocol.body = b"x" if path.endswith("0") else b""
                served.append(gateway(Scope(path=path, lines=lines), protocol))  # type: ignore[arg-type]
            assert await asyncio.gather(*served) == [200] * 4
            assert [protocol.answers[0][2] for protocol in protocols.values()] == [path.encode() for path in protocols]

    errors: list[BaseException] = []

    def run(name: str) -> None:
        try:
            asyncio.run(some(name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.close()
    assert errors == []
