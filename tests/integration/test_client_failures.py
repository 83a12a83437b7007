"""Upstreams that fail: the right exception, in time, never a success, and no request delivered twice."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from client_upstream import Script, Upstream, Visit, answer, chunked, client_of, on_loops

from velithon_proxy import (
    ConnectError,
    ConnectTimeout,
    ProxyClient,
    ProxyError,
    ProxyTimeoutError,
    TotalTimeout,
    UpstreamClosedError,
    UpstreamProtocolError,
)

GRACE = 0.25  # seconds that a limit may be exceeded by

HEAD = b"HTTP/1.1 200 OK\r\nA: 1\r\n"
PART = b"x" * 100

#: What is sent before the connection ends, and the phase in which it does.
TRUNCATED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "head"),
    "one byte": (b"H", "head"),
    "version": (b"HTTP/1.1", "head"),
    "status line": (b"HTTP/1.1 200 OK\r\n", "head"),
    "field": (HEAD + b"B: ", "head"),
    "head without its end": (HEAD + b"Content-Length: 0\r\n", "head"),
    "interim only": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "head"),
    "interim and a part": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", "head"),
    "length, no byte": (HEAD + b"Content-Length: 10\r\n\r\n", "body"),
    "length, one short": (HEAD + b"Content-Length: 101\r\n\r\n" + PART, "body"),
    "length, large, no byte": (HEAD + b"Content-Length: 1000000\r\n\r\n", "body"),
    "length, large, one short": (HEAD + b"Content-Length: 70001\r\n\r\n" + b"x" * 70_000, "body"),
    "chunked, nothing": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", "body"),
    "chunked, in a size": (chunked(PART, end=b"1"), "body"),
    "chunked, after a size": (chunked(PART, end=b"10\r\n"), "body"),
    "chunked, in a chunk": (chunked(PART, end=b"10\r\nabc"), "body"),
    "chunked, after data": (chunked(PART, end=b"3\r\nabc"), "body"),
    "chunked, between chunks": (chunked(PART, PART, end=b""), "body"),
    "chunked, large, between chunks": (chunked(b"x" * 70_000, b"y" * 70_000, end=b""), "body"),
    "chunked, after the last size": (chunked(PART, end=b"0\r\n"), "body"),
    "chunked, in the last line": (chunked(PART, end=b"0\r\n\r"), "body"),
    "chunked, in a trailer": (chunked(PART, end=b"0\r\nA: b\r\n"), "body"),
}

#: What cannot be a response. The connection stays open: the verdict must not wait for its end.
UNPARSABLE: dict[str, bytes] = {
    "garbage": b"\x00\x01\x02\x03",
    "html": b"<html>",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "http/2 preface": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "version 2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "version 1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "status 2x0": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "negative status": b"HTTP/1.1 -20 OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare LF in a field": HEAD + b"B: 2\nContent-Length: 0\r\n\r\n",
    "no colon": HEAD + b"nonsense\r\n\r\n",
    "empty name": HEAD + b": x\r\n\r\n",
    "blank in a name": HEAD + b"a b: x\r\n\r\n",
    "blank before a length's colon": HEAD + b"Content-Length : 0\r\n\r\n",
    "folded line": HEAD + b"B: x\r\n y\r\n\r\n",
    "NUL in a value": HEAD + b"B: a\x00b\r\n\r\n",
    "CR in a value": HEAD + b"B: a\rb\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\nab",
    "signed length": HEAD + b"Content-Length: +2\r\n\r\nab",
    "hexadecimal length": HEAD + b"Content-Length: 0x2\r\n\r\nab",
    "empty length": HEAD + b"Content-Length:\r\n\r\n",
    "length beyond 64 bits": HEAD + b"Content-Length: 18446744073709551618\r\n\r\nab",
    "length and coding": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity coding": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size of no digits": chunked(PART, end=b"\r\n"),
    "chunk size with a sign": chunked(PART, end=b"+1\r\na\r\n"),
    "chunk size with 0x": chunked(PART, end=b"0x1\r\na\r\n"),
    "chunk size of 17 digits": chunked(PART, end=b"10000000000000000\r\n"),
    "chunk without its end": chunked(PART, end=b"1\r\nab\r\n"),
    "chunk line ending in LF": chunked(PART, end=b"1\na\r\n"),
    "chunk data ending in LF": chunked(PART, end=b"1\r\na\n0\r\n\r\n"),
}


def sends(reply: bytes, then: Callable[[Visit], Awaitable[None] | None]) -> Script:
    """Answer the first request of a connection with these bytes; afterwards do what is said."""

    async def script(visit: Visit) -> None:
        if await visit.request() is None:
            return
        await visit.send(reply)
        outcome = then(visit)
        if outcome is not None:
            await outcome

    return script


@pytest.mark.parametrize("case", TRUNCATED)
async def test_a_truncated_response_is_never_a_success(case: str) -> None:
    reply, phase = TRUNCATED[case]
    async with client_of(sends(reply, Visit.finish), max_retries=0) as (client, upstream):
        for method, body in (("GET", None), ("POST", b"once")):
            with pytest.raises(UpstreamClosedError) as raised:
                await client.forward_request(method, "/", None, body)
            error = raised.value
            assert (error.phase, error.request_sent, error.target) == (phase, True, upstream.url)
            assert error.status == 502
            assert 0 < error.elapsed < 5
        assert len([request for request in upstream.requests if request.body == b"once"]) == 1


@pytest.mark.parametrize(
    "case", ["nothing", "status line", "length, one short", "length, large, one short", "chunked, in a chunk"]
)
async def test_a_reset_is_never_a_success(case: str) -> None:
    reply, _ = TRUNCATED[case]
    async with client_of(sends(reply, Visit.reset), max_retries=0) as (client, upstream):
        for method, body in (("GET", None), ("POST", b"once")):
            with pytest.raises(UpstreamClosedError) as raised:
                await client.forward_request(method, "/", None, body)
            # What was sent before the reset may be lost with it.
            assert raised.value.phase in ("head", "body")
            assert raised.value.request_sent
        assert len([request for request in upstream.requests if request.body == b"once"]) == 1


async def test_a_body_that_ends_with_a_reset_is_not_complete() -> None:
    reply = HEAD + b"\r\n" + PART

    async def reset_when_told(visit: Visit) -> None:
        await visit.upstream.gate("reset")
        visit.reset()

    async with client_of(sends(reply, reset_when_told), max_retries=0) as (client, upstream):
        task = asyncio.ensure_future(client.forward_request("GET", "/"))
        await upstream.until(lambda: upstream.count("request") == 1)
        upstream.open("reset")
        with pytest.raises(UpstreamClosedError):
            await task


@pytest.mark.parametrize("case", UNPARSABLE)
async def test_what_is_no_response_is_refused_at_once(case: str) -> None:
    def then(visit: Visit) -> Awaitable[None]:
        return visit.left()  # the verdict comes while the upstream keeps the connection open

    async with client_of(sends(UNPARSABLE[case], then), max_retries=0) as (client, upstream):
        for method, body in (("GET", None), ("POST", b"once")):
            with pytest.raises(UpstreamProtocolError) as raised:
                await client.forward_request(method, "/", None, body)
            error = raised.value
            assert error.phase in ("head", "body")
            assert (error.request_sent, error.target, error.status) == (True, upstream.url, 502)
            assert error.elapsed < 1
            assert "\r" not in str(error)
            assert "\n" not in str(error)
        await upstream.until(lambda: upstream.count("left") == 2)  # the connection is not used again
        assert len([request for request in upstream.requests if request.body == b"once"]) == 1


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_failure_does_not_harm_the_requests_after_it() -> None:
    bad = [*UNPARSABLE.values(), *(reply for reply, _ in TRUNCATED.values())]

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target.startswith(b"/bad"):
                await visit.send(bad[int(request.target[4:])])
                visit.finish()
                return
            await visit.send(answer(request.target))

    async with client_of(script, max_retries=0, max_failures=1000) as (client, _):

        async def victim(turn: int) -> None:
            for part in range(3):
                assert (await client.forward_request("GET", f"/{turn}.{part}")).body == b"/%d.%d" % (turn, part)

        async def culprit(turn: int) -> None:
            with pytest.raises((UpstreamProtocolError, UpstreamClosedError)):
                await client.forward_request("GET", f"/bad{turn}")

        await asyncio.gather(*(culprit(turn) for turn in range(len(bad))), *(victim(turn) for turn in range(len(bad))))


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_refused_connection_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with ProxyClient(f"http://127.0.0.1:{port}", max_retries=0) as client:
        for method in ("GET", "POST"):
            with pytest.raises(ConnectError) as raised:
                await client.forward_request(method, "/")
            error = raised.value
            assert type(error) is ConnectError
            assert (error.phase, error.request_sent, error.status) == ("connect", False, 502)
            assert error.target == f"http://127.0.0.1:{port}"
            assert 0 < error.elapsed < 1
            assert "refused" in str(error)
            assert isinstance(error, RuntimeError)


async def test_an_upstream_that_comes_up_later_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with ProxyClient(f"http://127.0.0.1:{port}", max_retries=0, max_failures=1000) as client:
        with pytest.raises(ConnectError):
            await client.forward_request("GET", "/")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(b"up"))
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", port):
            assert (await client.forward_request("GET", "/")).body == b"up"


STALLS: dict[str, tuple[bytes, str]] = {
    "no answer": (b"", "head"),
    "in the head": (HEAD, "head"),
    "after an interim response": (b"HTTP/1.1 103 Early Hints\r\n\r\n", "head"),
    "in a body": (HEAD + b"Content-Length: 101\r\n\r\n" + PART, "body"),
    "in a large body": (HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 70_000, "body"),
    "between chunks": (chunked(PART, end=b""), "body"),
    "before the end of the connection": (HEAD + b"\r\n" + PART, "body"),
}


@pytest.mark.parametrize("case", STALLS)
async def test_timeout_ms_is_the_limit_of_the_whole_call(case: str) -> None:
    reply, phase = STALLS[case]
    async with client_of(sends(reply, Visit.left), timeout_ms=200, max_retries=0) as (client, upstream):
        for turn, (method, body) in enumerate((("GET", None), ("POST", b"once"))):
            start = time.monotonic()
            with pytest.raises(TotalTimeout) as raised:
                await client.forward_request(method, "/", None, body)
            error = raised.value
            assert 0.2 <= time.monotonic() - start < 0.2 + 4 * GRACE  # with this process's own waits for a processor
            assert 0.2 <= error.elapsed < 0.2 + GRACE
            assert (error.phase, error.request_sent, error.status) == (phase, True, 504)
            assert error.target == upstream.url
            assert isinstance(error, TimeoutError)
            await upstream.until(lambda turn=turn: upstream.count("left") == turn + 1)  # the connection is given up
        assert len([request for request in upstream.requests if request.body == b"once"]) == 1


async def test_timeout_ms_holds_while_bytes_trickle_in() -> None:
    async def trickle(visit: Visit) -> None:
        while True:
            await visit.send(b"x")
            await asyncio.sleep(0.005)  # the pace of the trickle

    async with client_of(sends(HEAD + b"Content-Length: 1000000\r\n\r\n", trickle), timeout_ms=300) as (client, _):
        with pytest.raises(TotalTimeout) as raised:
            await client.forward_request("POST", "/")
        assert 0.3 <= raised.value.elapsed < 0.3 + GRACE


async def test_timeout_ms_holds_while_the_upstream_does_not_read() -> None:
    async def script(visit: Visit) -> None:
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await visit.upstream.gate("never")

    async with client_of(script, timeout_ms=300) as (client, _):
        for _ in range(2):
            with pytest.raises(TotalTimeout) as raised:
                await client.forward_request("POST", "/", None, b"x" * 20_000_000)
            assert 0.3 <= raised.value.elapsed < 0.3 + GRACE
            assert (raised.value.phase, raised.value.request_sent) == ("write", True)


@on_loops("asyncio", "uvloop")
async def test_many_calls_run_into_their_limit_in_time() -> None:
    async with client_of(sends(b"", Visit.left), timeout_ms=300, max_retries=0) as (client, upstream):
        outcomes = await asyncio.gather(
            *(client.forward_request("GET", "/") for _ in range(700)), return_exceptions=True
        )
        assert all(type(outcome) is TotalTimeout for outcome in outcomes)
        assert all(outcome.elapsed < 0.3 + 2 * GRACE for outcome in outcomes if isinstance(outcome, ProxyError))
        # Those that waited for a connection were not sent.
        queued = [outcome for outcome in outcomes if isinstance(outcome, ProxyError) and outcome.phase == "queue"]
        assert all(not outcome.request_sent for outcome in queued)
        await upstream.until(lambda: upstream.count("left") == upstream.connections)


@pytest.fixture
def black_hole() -> object:
    """The address of a server that neither takes nor refuses connections: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        queued = []
        while True:
            waiting = socket.socket()
            queued.append(waiting)
            waiting.settimeout(0.3)
            try:
                waiting.connect(server.getsockname())
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for waiting in queued:
            waiting.close()


async def test_connecting_has_a_limit_of_its_own(black_hole: str) -> None:
    async with ProxyClient(black_hole, max_retries=0) as client, ProxyClient(black_hole, timeout_ms=300) as hasty:
        outcomes = await asyncio.gather(
            client.forward_request("POST", "/"), hasty.forward_request("POST", "/"), return_exceptions=True
        )
    slow, fast = outcomes
    assert isinstance(slow, ConnectTimeout)
    assert isinstance(fast, TotalTimeout)
    assert 3 <= slow.elapsed < 3 + 2 * GRACE
    assert 0.3 <= fast.elapsed < 0.3 + GRACE
    for error in (slow, fast):
        assert isinstance(error, ProxyTimeoutError)
        assert (error.phase, error.request_sent, error.status) == ("connect", False, 504)


async def test_a_name_that_does_not_exist_is_a_connect_error() -> None:
    async with ProxyClient("http://no-such-host.invalid", max_retries=0) as client:
        with pytest.raises((ConnectError, ConnectTimeout)) as raised:
            await client.forward_request("GET", "/")
        assert raised.value.phase == "dns"
        assert not raised.value.request_sent


async def test_one_upstream_that_is_down_does_not_hold_up_another() -> None:
    with Upstream(sends(b"", Visit.left)) as silent:
        async with client_of(sends(answer(b"ok"), Visit.left)) as (client, _), ProxyClient(silent.url) as other:
            stuck = [asyncio.ensure_future(other.forward_request("GET", "/")) for _ in range(50)]
            await silent.until(lambda: silent.count("request") == 50)
            assert (await client.forward_request("GET", "/")).body == b"ok"
            for task in stuck:
                task.cancel()
            assert all(
                isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*stuck, return_exceptions=True)
            )
