"""Connections: shared, bounded, used again, and given up when they must be."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from client_upstream import Received, Visit, answer, client_of, echo, on_loops, replying

from velithon_proxy import PoolExhaustedError, ProxyError, UpstreamClosedError

MAX_CONNECTIONS = 512
MAX_WAITING = 1024


def id_of(request: Received) -> bytes:
    """Answer with the id the request carries in its target, a header line and its body."""
    (given,) = request.values("x-id")
    assert request.target == b"/" + given
    assert request.body in (b"", given)
    return answer(given, b"X-Id: " + given)


async def ask(client: Any, number: int, method: str = "GET") -> None:
    """Send a request that carries a number, and see that the response is its own."""
    body = None if method == "GET" else str(number)
    status, headers, received = await client.forward_request(method, f"/{number}", {"X-Id": str(number)}, body)
    assert (status, headers["x-id"], received) == (200, str(number), b"%d" % number)


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_thousand_requests_at_once_get_their_own_answers() -> None:
    async with client_of(replying(id_of)) as (client, upstream):
        for turn in range(2):
            numbers = range(turn * 1000, turn * 1000 + 1000)
            await asyncio.gather(*(ask(client, number, "POST" if number % 3 else "GET") for number in numbers))
        assert len(upstream.requests) == 2000
        assert upstream.connections <= 2 * MAX_CONNECTIONS


@on_loops("asyncio", "uvloop")
async def test_answers_in_any_order_reach_their_callers() -> None:
    dice = random.Random(1)
    waiting: list[tuple[Visit, Received]] = []

    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            waiting.append((visit, request))
            if len(waiting) == 100:
                dice.shuffle(waiting)
                for other, held in waiting:
                    await other.send(id_of(held))
                waiting.clear()

    async with client_of(script) as (client, upstream):
        for turn in range(5):
            await asyncio.gather(*(ask(client, turn * 100 + number) for number in range(100)))
        assert upstream.connections >= 100


@on_loops("asyncio", "uvloop", "rloop")
async def test_more_requests_than_connections_wait_for_one() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.upstream.gate("answer")
            await visit.send(id_of(request))

    async with client_of(script) as (client, upstream):
        tasks = [asyncio.ensure_future(ask(client, number)) for number in range(MAX_CONNECTIONS + 200)]
        await upstream.until(lambda: upstream.count("request") == MAX_CONNECTIONS)
        state = client._snapshot()
        assert (state["connections"], state["in_flight"]) == (MAX_CONNECTIONS, MAX_CONNECTIONS + 200)
        # A request that waits can be cancelled; it is never sent.
        tasks[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks.pop()
        upstream.open("answer")
        await asyncio.gather(*tasks)
        assert upstream.connections == MAX_CONNECTIONS
        assert len(upstream.requests) == MAX_CONNECTIONS + 199


async def test_a_full_queue_refuses_at_once() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            await visit.upstream.gate("answer")
            await visit.send(id_of(request))

    async with client_of(script, max_failures=10_000) as (client, upstream):
        fitting = MAX_CONNECTIONS + MAX_WAITING
        tasks = [asyncio.ensure_future(ask(client, number)) for number in range(fitting)]
        await upstream.until(lambda: upstream.count("request") == MAX_CONNECTIONS)
        for number in range(5):
            with pytest.raises(PoolExhaustedError) as raised:
                await client.forward_request("POST", f"/{number}")
            assert (raised.value.phase, raised.value.request_sent, raised.value.status) == ("queue", False, 503)
        upstream.open("answer")
        await asyncio.gather(*tasks)
        assert len(upstream.requests) == fitting


@on_loops("asyncio", "uvloop", "rloop")
async def test_one_request_at_a_time_uses_one_connection() -> None:
    async with client_of(replying(id_of)) as (client, upstream):
        for number in range(200):
            await ask(client, number, "POST" if number % 2 else "GET")
        assert upstream.connections == 1
        assert client._snapshot()["idle"] == 1


async def test_ten_callers_use_no_more_than_ten_connections() -> None:
    async with client_of(replying(id_of)) as (client, upstream):

        async def caller(first: int) -> None:
            for number in range(first, first + 50):
                await ask(client, number)

        await asyncio.gather(*(caller(1000 * turn) for turn in range(10)))
        assert upstream.connections <= 10


@pytest.mark.parametrize(("what", "end"), [("finished", Visit.finish), ("reset", Visit.reset)])
@on_loops("asyncio", "uvloop")
async def test_a_connection_that_ended_while_idle_is_replaced_unnoticed(what: str, end: Any) -> None:
    async def script(visit: Visit) -> None:
        request = await visit.request()
        assert request is not None
        await visit.send(id_of(request))
        await visit.upstream.gate(f"end {visit.number}")
        end(visit)

    async with client_of(script, max_retries=0) as (client, upstream):
        for number in range(40):
            await ask(client, number, "POST" if number % 2 else "GET")
            upstream.open(f"end {number + 1}")
            await upstream.until(
                lambda number=number: upstream.ledger[-1][1] == number + 1 and len(upstream.ledger) % 3 == 0
            )
        assert upstream.connections == 40
        assert len(upstream.requests) == 40


async def test_connections_that_end_with_their_response_are_not_used_again() -> None:
    ends = {
        b"/close": b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx",
        b"/list": b"HTTP/1.1 200 OK\r\nConnection: a, close , b\r\nContent-Length: 1\r\n\r\nx",
        b"/old": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"/more": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxSURPLUS",
        b"/twice": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" + answer(b"not asked for"),
    }
    stays = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"
    async with client_of(replying(lambda request: ends.get(request.target, stays))) as (client, upstream):
        for turn, path in enumerate(ends):
            assert (await client.forward_request("GET", path.decode())).body == b"x"
            await upstream.until(lambda turn=turn: upstream.count("left") == turn + 1)
        for _ in range(3):
            assert (await client.forward_request("GET", "/stays")).body == b"x"
        assert upstream.connections == len(ends) + 1


@on_loops("asyncio", "uvloop")
async def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    async def script(visit: Visit) -> None:
        request = await visit.request()
        assert request is not None
        await visit.send(id_of(request))
        await visit.upstream.gate(f"surplus {visit.number}")
        await visit.send(answer(b"somebody else's", b"X-Id: 0"))
        await visit.left()

    async with client_of(script, max_retries=0) as (client, upstream):
        for number in range(1, 30):
            await ask(client, number, "POST" if number % 2 else "GET")
            upstream.open(f"surplus {number}")
            await upstream.until(lambda number=number: upstream.count("left") == number)


async def test_a_kept_connection_that_ends_inside_an_answer_is_an_error_and_not_resent() -> None:
    async def script(visit: Visit) -> None:
        first = await visit.request()
        assert first is not None
        await visit.send(id_of(first))
        if await visit.request() is not None:
            visit.finish()

    async with client_of(script, max_retries=0) as (client, upstream):
        await ask(client, 1)
        with pytest.raises(UpstreamClosedError) as raised:
            await client.forward_request("POST", "/2", {"X-Id": "2"}, "2")
        assert raised.value.request_sent
        assert [request.target for request in upstream.requests].count(b"/2") == 1


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_cancelled_request_gives_its_connection_up() -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target == b"/held":
                await visit.left()
                return
            await visit.send(id_of(request))

    async with client_of(script) as (client, upstream):
        await ask(client, 0)
        for turn in range(20):
            task = asyncio.ensure_future(client.forward_request("POST", "/held", None, b"x" * 100_000))
            await upstream.until(lambda turn=turn: [r.target for r in upstream.requests].count(b"/held") == turn + 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.until(lambda turn=turn: upstream.count("left") == turn + 1)
            await ask(client, turn + 1)


@on_loops("asyncio", "uvloop", "rloop")
async def test_cancelling_at_any_moment_harms_nobody_else() -> None:
    dice = random.Random(2)

    async with client_of(replying(echo)) as (client, _):

        async def cancelled() -> None:
            body = bytes(dice.choice((0, 10, 70_000, 500_000)))
            task = asyncio.ensure_future(client.forward_request("POST", "/", None, body))
            for _ in range(dice.randrange(12)):
                await asyncio.sleep(0)
            if dice.random() < 0.5:
                await asyncio.sleep(dice.random() / 500)  # anywhere between the submission and the answer
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task).body == body

        async def undisturbed(number: int) -> None:
            for part in range(5):
                body = f"{number} {part}".encode() * dice.choice((1, 20_000))
                response = await client.forward_request("POST", f"/{number}/{part}", None, body)
                assert (response.headers["x-target"], response.body) == (f"/{number}/{part}", body)

        for turn in range(3):
            await asyncio.gather(*(cancelled() for _ in range(100)), *(undisturbed(turn * 20 + n) for n in range(20)))


async def test_a_limit_around_the_call_cancels_it() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.left()

    async with client_of(script) as (client, upstream):
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.05):
                await client.forward_request("GET", "/")
        assert not isinstance(raised.value, ProxyError)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.forward_request("GET", "/"), 0.05)
        await upstream.until(lambda: upstream.count("left") == upstream.connections)
