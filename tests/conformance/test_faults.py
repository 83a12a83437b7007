"""Faults of upstreams, networks and callers, each under its id: the right error, nothing sent twice, nobody harmed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import time

import pytest
from client_upstream import Upstream, Visit, answer, client_of, echo, on_loops, replying

from velithon_proxy import (
    ConnectError,
    ConnectTimeout,
    Limits,
    PoolExhaustedError,
    ProxyClient,
    ProxyError,
    ReadTimeout,
    Timeouts,
    TotalTimeout,
    UpstreamClosedError,
    _bridge,
)

AT_ONCE = 0.25
"""Seconds for what takes milliseconds; the machine may be busy."""


async def works(client: ProxyClient, count: int = 3) -> None:
    """The next requests get their own answers."""
    for turn in range(count):
        assert (await client.forward_request("POST", f"/works/{turn}", None, b"%d" % turn)).body == b"%d" % turn


async def serve_or(visit: Visit, fault: str) -> bool:
    """Answer requests until one asks for the fault; whether one did."""
    while (request := await visit.request()) is not None:
        if request.target.decode() == fault:
            return True
        await visit.send(echo(request))
    return False


@on_loops("asyncio", "uvloop")
async def test_f1_a_closed_port_is_refused_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with ProxyClient(f"http://127.0.0.1:{closed.getsockname()[1]}", max_retries=0) as client:
            began = time.monotonic()
            with pytest.raises(ConnectError) as raised:
                await client.forward_request("GET", "/")
            assert time.monotonic() - began < AT_ONCE
            assert (raised.value.phase, raised.value.request_sent, raised.value.status) == ("connect", False, 502)


async def test_f2_a_port_that_swallows_connections_has_a_limit() -> None:
    """A listener whose queue is full drops what comes, as a black hole does."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with ProxyClient(f"http://127.0.0.1:{port}", timeouts=Timeouts(connect=0.2)) as client:
                with pytest.raises(ConnectTimeout) as raised:
                    await client.forward_request("GET", "/")
                assert (raised.value.phase, raised.value.request_sent, raised.value.status) == ("connect", False, 504)
                assert 0.2 <= raised.value.elapsed < 1.0
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_f3_an_upstream_that_never_answers(method: str) -> None:
    async def script(visit: Visit) -> None:
        if await serve_or(visit, "/silent"):
            await visit.left()

    async with client_of(script) as (client, upstream):
        quick = ProxyClient(upstream.url, 150)
        async with quick:
            with pytest.raises(TotalTimeout) as raised:
                await quick.forward_request(method, "/silent", None, b"x")
            assert (raised.value.phase, raised.value.request_sent, raised.value.status) == ("head", True, 504)
        await works(client)
        assert [request.target for request in upstream.requests].count(b"/silent") == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("reused", [False, True])
async def test_f4_a_reset_before_the_head(method: str, reused: bool) -> None:
    async def script(visit: Visit) -> None:
        if await serve_or(visit, "/reset"):
            visit.reset()

    async with client_of(script, max_retries=0) as (client, upstream):
        if reused:
            await works(client, 1)
        with pytest.raises(UpstreamClosedError) as raised:
            await client.forward_request(method, "/reset", None, b"x")
        assert (raised.value.phase, raised.value.request_sent, raised.value.status) == ("head", True, 502)
        await works(client)
        assert [request.target for request in upstream.requests].count(b"/reset") == 1


async def test_f4_f9_a_get_that_meets_a_reset_on_a_used_connection_goes_out_again_and_a_post_does_not() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if visit.number == 1 and request.target == b"/met":
                visit.reset()
                return
            await visit.send(echo(request))

    for method, attempts in (("GET", 2), ("POST", 1)):
        async with client_of(script) as (client, upstream):
            await works(client, 1)
            if attempts == 2:
                assert (await client.forward_request(method, "/met")).status == 200
            else:
                with pytest.raises(UpstreamClosedError):
                    await client.forward_request(method, "/met", None, b"x")
            assert [request.target for request in upstream.requests].count(b"/met") == attempts
            await works(client)


@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
async def test_f5_the_end_in_the_middle_of_a_body(ending: str, framing: bytes) -> None:
    async def script(visit: Visit) -> None:
        if await serve_or(visit, "/cut"):
            piece = b"x" * 5000 if b"Length" in framing else b"1388\r\n" + b"x" * 5000 + b"\r\n"
            await visit.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + piece)
            if ending == "fin":
                visit.finish()
                await visit.left()
            else:
                visit.reset()

    async with client_of(script) as (client, upstream):
        with pytest.raises(UpstreamClosedError):
            await client.forward_request("GET", "/cut")
        await works(client)
        assert [request.target for request in upstream.requests].count(b"/cut") == 1


async def test_f6_a_head_that_trickles_ends_with_the_limit() -> None:
    async def script(visit: Visit) -> None:
        if await serve_or(visit, "/slow"):
            try:
                for byte in answer(b"never") * 100:
                    await visit.send(bytes([byte]))
                    await asyncio.sleep(0.02)
            except ConnectionError:
                pass

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url, 300) as client:
            with pytest.raises(TotalTimeout) as raised:
                await client.forward_request("GET", "/slow")
            assert raised.value.phase == "head"
            assert 0.3 <= raised.value.elapsed < 0.55
            await works(client)


async def test_f7_a_body_that_trickles_goes_on_and_one_that_stalls_does_not() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
            for _ in range(20 if request.target == b"/trickle" else 10):
                await visit.send(b"x")
                await asyncio.sleep(0.05)

    with Upstream(script) as upstream:
        # The trickle takes a second in all, five times the limit between two bytes.
        async with ProxyClient(upstream.url, timeouts=Timeouts(idle=0.3)) as client:
            async with client.stream_request("GET", "/trickle") as response:
                assert await response.read() == b"x" * 20
            with pytest.raises(ReadTimeout) as raised:
                await client.forward_request("GET", "/stall")
            assert raised.value.phase == "body"


async def test_f8_an_upstream_that_closes_its_half_behind_the_response() -> None:
    async def script(visit: Visit) -> None:
        if (request := await visit.request()) is not None:
            await visit.send(echo(request))
            visit.finish()
            await visit.left()

    async with client_of(script) as (client, upstream):
        for _ in range(5):
            await works(client, 1)
            await asyncio.sleep(0.05)  # a POST that meets the close on its way fails, as it has to
        assert upstream.connections == 5


@pytest.mark.parametrize("status", [401, 413])
async def test_f10_an_early_answer_to_a_large_upload_is_delivered(status: int) -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request(body=False)) is not None:
            if request.target != b"/early":
                await visit.reader.readexactly(int(request.values("content-length")[0]))
                await visit.send(answer(request.target[-1:]))
                continue
            await visit.send(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
            visit.reset()
            return

    async with client_of(script) as (client, _):
        for _ in range(5):
            try:
                response = await client.forward_request("POST", "/early", None, bytes(8 << 20))
            except UpstreamClosedError as error:
                # The reset may destroy the answer before anybody can read it; it is never taken for another one.
                assert error.phase in ("write", "head")  # noqa: PT017
            else:
                assert (response.status, response.body) == (status, b"no")
            await works(client, 2)


@pytest.mark.parametrize("size", [1, 1000, 200_000])
async def test_f20_bytes_are_the_same_however_they_are_sliced(size: int) -> None:
    data = os.urandom(size)

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            response = answer(data)
            step = 1 if size < 5000 else 777
            for at in range(0, len(response), step):
                visit.writer.write(response[at : at + step])
                await asyncio.sleep(0)
            assert hashlib.sha256(request.body).digest() == hashlib.sha256(data).digest()

    async with client_of(script) as (client, _):
        for _ in range(2):
            body = (await client.forward_request("POST", "/", None, data)).body
            assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()


@on_loops("asyncio", "uvloop")
async def test_f21_a_caller_that_leaves_is_noticed_at_every_stage() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request(body=False)) is not None:
            stage = request.target.decode()
            if stage.startswith("/works"):
                await visit.send(answer(await visit.reader.readexactly(int(request.values("content-length")[0]))))
                continue
            if stage == "/head":
                await visit.send(b"HTTP/1.1 200 OK\r\nContent-Le")
            elif stage == "/body":
                await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
            upstream.note(stage, visit.number)
            await visit.left()
            return

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url) as client:
            for number, stage in enumerate(("/wait", "/head", "/body", "/upload"), 1):
                body = bytes(32 << 20) if stage == "/upload" else b""
                task = asyncio.ensure_future(client.forward_request("POST", stage, None, body))
                await upstream.until(lambda stage=stage: upstream.count(stage) == 1)
                task.cancel()
                began = time.monotonic()
                await upstream.until(lambda number=number: upstream.count("left") == number)
                assert time.monotonic() - began < 1.0
                assert (await asyncio.wait([task]))[0] == {task}
                assert task.cancelled()
                await works(client)


FEW_DESCRIPTORS = """
import asyncio, os, resource, sys
from velithon_proxy import Limits, PoolExhaustedError, ProxyClient, ProxyError, _bridge

async def main(url):
    async with ProxyClient(url, 5000, max_retries=0, limits=Limits(max_connections=400)) as client:
        await client.forward_request("GET", "/")
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, used + 40))
        slow = [client.forward_request("GET", "/slow") for _ in range(200)]
        results = await asyncio.gather(*slow, return_exceptions=True)
        failed = [result for result in results if isinstance(result, ProxyError)]
        assert all(isinstance(result, ProxyError) or result.status == 200 for result in results), results
        assert 0 < len(failed) < 200, len(failed)
        assert {(error.phase, error.request_sent) for error in failed} == {("connect", False)}, failed[0]
        assert {type(error) for error in failed} == {PoolExhaustedError}
        assert "too many open files" in str(failed[0])
        for _ in range(20):  # it recovers at once
            assert (await client.forward_request("GET", "/")).status == 200
    await asyncio.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) <= used + 2
    assert _bridge.stats()["core_in_flight"] == 0

asyncio.run(main(sys.argv[1]))
print("ok")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_f24_a_process_without_descriptors_says_so_and_recovers() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target == b"/slow":
                await asyncio.sleep(0.3)  # so that all of them want a connection at once
            await visit.send(answer(b"ok"))

    with Upstream(script) as upstream:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", FEW_DESCRIPTORS, upstream.url],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


async def test_f25_a_full_queue_and_a_waiter_that_leaves() -> None:
    async def script(visit: Visit) -> None:
        if await serve_or(visit, "/hold"):
            await upstream.gate("go")
            await visit.send(answer(b"held"))
            await serve_or(visit, "")

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url, limits=Limits(max_connections=1, max_waiting=2)) as client:
            holder = asyncio.ensure_future(client.forward_request("GET", "/hold"))
            await upstream.until(lambda: upstream.count("request") == 1)
            leaver = asyncio.ensure_future(client.forward_request("POST", "/leaver", None, b"x"))
            waiter = asyncio.ensure_future(client.forward_request("POST", "/waiter", None, b"waited"))
            await asyncio.sleep(0)
            with pytest.raises(PoolExhaustedError) as raised:
                await client.forward_request("GET", "/too-many")
            assert (raised.value.phase, raised.value.status, raised.value.request_sent) == ("queue", 503, False)
            leaver.cancel()
            await asyncio.wait([leaver])
            upstream.open("go")
            assert (await holder).body == b"held"
            assert (await waiter).body == b"waited"
            assert b"/leaver" not in [request.target for request in upstream.requests]
            await works(client)
            assert upstream.connections == 1


async def test_a_thousand_requests_to_a_black_hole_all_end_in_time() -> None:
    """F23, smaller than in the benchmark of 10,000."""

    async def script(visit: Visit) -> None:
        await visit.left()

    with Upstream(script) as upstream:
        async with ProxyClient(upstream.url, 1000, limits=Limits(max_connections=300)) as client:
            began = time.monotonic()
            results = await asyncio.gather(
                *(client.forward_request("GET", "/") for _ in range(1000)), return_exceptions=True
            )
            assert {type(result) for result in results} == {TotalTimeout}
            assert time.monotonic() - began < 2.5
        assert _bridge.stats()["core_in_flight"] == 0


async def test_errors_say_which_upstream_and_how_long() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()

    async with client_of(script, max_retries=0) as (client, upstream):
        with pytest.raises(ProxyError) as raised:
            await client.forward_request("GET", "/")
        assert raised.value.target == upstream.url
        assert 0 < raised.value.elapsed < AT_ONCE
        assert upstream.url in str(raised.value)
    with Upstream(replying(echo)) as other:
        async with ProxyClient(other.url) as client:
            await works(client)
