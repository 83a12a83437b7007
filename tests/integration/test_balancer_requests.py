"""ProxyLoadBalancer before real sockets: who gets a request, who gets it next, and what the caller is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from client_upstream import Received, Upstream, Visit, answer, on_loops, run_on

from velithon_proxy import (
    Attempt,
    Breaker,
    CircuitOpenError,
    ClientClosedError,
    ConnectError,
    Limits,
    NoHealthyTargetError,
    PoolExhaustedError,
    ProxyClient,
    ProxyLoadBalancer,
    Retry,
    Timeouts,
    UpstreamClosedError,
)


class Site(Upstream):
    """An upstream that answers with its name, or as its mode says."""

    def __init__(self, name: str) -> None:
        super().__init__(self.play)
        self.name = name.encode()
        self.mode: str | int = 200

    async def play(self, visit: Visit) -> None:
        while (request := await visit.request(body=True)) is not None:
            if self.mode == "hang up":
                return
            if self.mode == "hold":
                await self.gate("go")
            status = self.mode if isinstance(self.mode, int) else 200
            await visit.send(self.reply(request, status))

    def reply(self, request: Received, status: int) -> bytes:
        return answer(self.name + b" " + request.body, status=b"%d X" % status)


@contextlib.contextmanager
def sites(count: int) -> Iterator[list[Site]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Site("abcdefghij"[i])) for i in range(count)]


@contextlib.asynccontextmanager
async def balanced(count: int, **options: Any) -> AsyncIterator[tuple[ProxyLoadBalancer, list[Site]]]:
    with sites(count) as given:
        async with ProxyLoadBalancer([site.url for site in given], **options) as balancer:
            yield balancer, given


async def names(balancer: ProxyLoadBalancer, count: int, **request: Any) -> str:
    """Which sites have answered so many requests."""
    replies = [await balancer.forward_request("GET", "/", **request) for _ in range(count)]
    return "".join(reply.body.decode().split()[0] for reply in replies)


@on_loops("asyncio", "uvloop", "rloop")
async def test_requests_go_round() -> None:
    async with balanced(3) as (balancer, given):
        assert Counter(await names(balancer, 30)) == {"a": 10, "b": 10, "c": 10}
        response = await balancer.forward_request("POST", "/", {"x": "y"}, b"body", {"q": 1})
        assert response.target in [site.url for site in given]
        assert response.body.endswith(b" body")
        assert [(a.target, a.outcome, a.retried) for a in response.attempts] == [(response.target, "response", False)]


async def test_targets_stay_as_they_were_given() -> None:
    with sites(2) as given:
        texts = [f"127.0.0.1:{given[0].port}", f"HTTP://127.0.0.1:{given[1].port}/"]
        async with ProxyLoadBalancer(texts) as balancer:
            assert {(await balancer.forward_request("GET", "/")).target for _ in range(4)} == set(texts)
            assert {await balancer.get_next_target() for _ in range(4)} == set(texts)
            assert [target for target, _ in await balancer.get_health_status()] == texts


async def test_next_target_and_requests_take_turns_together() -> None:
    async with balanced(2) as (balancer, given):
        for _ in range(3):
            taken = await balancer.get_next_target()
            assert (await balancer.forward_request("GET", "/")).target != taken
        assert sum(len(site.requests) for site in given) == 3


@on_loops("asyncio", "uvloop", "rloop")
async def test_an_upstream_that_is_down_is_passed_over_and_explained() -> None:
    with sites(2) as given:
        down = "http://127.0.0.1:1"
        urls = [down, given[0].url, given[1].url]
        async with ProxyLoadBalancer(urls, "first", max_failures=2) as balancer:
            for method in ("GET", "POST"):
                response = await balancer.forward_request(method, "/", None, b"once")
                first, last = response.attempts
                assert (first.target, first.outcome, first.status, first.phase) == (
                    down,
                    "ConnectError",
                    None,
                    "connect",
                )
                assert (first.request_sent, first.retried, first.reason) == (False, True, "nothing was sent")
                assert (last.target, last.outcome, last.status, last.retried) == (
                    response.target,
                    "response",
                    200,
                    False,
                )
                assert 0 <= first.elapsed < 5
            response = await balancer.forward_request("GET", "/")
            assert len(response.attempts) == 1  # its breaker is open
            breakers = await balancer.get_circuit_breaker_status()
            assert [status.state for status in breakers.values()] == ["open", "closed", "closed"]
            state, failures, last_failure_ms = breakers[down]
            assert (state, failures) == ("open", 2)
            assert last_failure_ms is not None
            assert 0 <= last_failure_ms < 30_000
            assert await balancer.get_health_status() == [(down, False), (given[0].url, True), (given[1].url, True)]


async def test_an_error_lists_all_attempts() -> None:
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    async with ProxyLoadBalancer(urls) as balancer:
        with pytest.raises(ConnectError, match=r"2 attempts\)$") as raised:
            await balancer.forward_request("GET", "/")
        error = raised.value
        assert sorted(attempt.target for attempt in error.attempts) == urls
        assert error.target == error.attempts[-1].target
        assert all(isinstance(attempt, Attempt) for attempt in error.attempts)
        assert [attempt.retried for attempt in error.attempts] == [True, False]


@on_loops("asyncio", "uvloop", "rloop")
async def test_what_may_have_arrived_is_not_sent_again() -> None:
    async with balanced(2, strategy="first") as (balancer, given):
        given[0].mode = "hang up"
        assert (await balancer.forward_request("GET", "/")).body == b"b "
        with pytest.raises(UpstreamClosedError) as raised:
            await balancer.forward_request("POST", "/", None, b"once")
        assert raised.value.request_sent
        assert raised.value.attempts[0].reason == "the request may have reached the upstream"
        assert [request.body for site in given for request in site.requests].count(b"once") == 1


async def test_statuses_and_methods_are_retried_by_option() -> None:
    retry = Retry(statuses=[503], methods=["PUT"], base_delay=0, max_delay=0)
    async with balanced(2, strategy="first", retry=retry, max_failures=1000) as (balancer, given):
        given[0].mode = 503
        for method, status in (("GET", 200), ("PUT", 200), ("DELETE", 503), ("POST", 503)):
            assert (await balancer.forward_request(method, "/")).status == status
    retry = Retry(statuses=[503], idempotency_key=True, base_delay=0, max_delay=0)
    async with balanced(2, strategy="first", retry=retry, max_failures=1000) as (balancer, given):
        given[0].mode = 503
        assert (await balancer.forward_request("POST", "/", {"Idempotency-Key": "1"})).status == 200
        assert (await balancer.forward_request("POST", "/")).status == 503


async def test_per_try_timeout() -> None:
    async with balanced(2, strategy="first", retry=Retry(per_try_timeout=0.1)) as (balancer, given):
        given[0].mode = "hold"
        response = await balancer.forward_request("GET", "/")
        assert response.body == b"b "
        assert [attempt.outcome for attempt in response.attempts] == ["ReadTimeout", "response"]
        given[0].open("go")


@on_loops("asyncio", "uvloop", "rloop")
async def test_streams_move_on_as_well() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    with sites(1) as given:
        async with ProxyLoadBalancer(["http://127.0.0.1:1", given[0].url], "first", max_failures=1000) as balancer:
            async with balancer.stream_request("GET", "/") as response:
                assert response.target == given[0].url
                assert [attempt.outcome for attempt in response.attempts] == ["ConnectError", "response"]
                assert await response.read() == b"a "
            # Nothing was taken from the iterable at the upstream that could not be reached.
            response = await balancer.forward_request("POST", "/", {"Content-Length": "7"}, pieces())
            assert response.body == b"a one two"


async def test_nothing_can_be_used() -> None:
    options: dict[str, Any] = {"max_failures": 1, "max_retries": 0, "recovery_timeout_ms": 60_000}
    async with balanced(2, **options) as (balancer, given):
        given[0].mode = given[1].mode = 503
        await names(balancer, 2)
        with pytest.raises(NoHealthyTargetError, match=r"^No healthy targets available") as raised:
            await balancer.forward_request("GET", "/")
        error = raised.value
        assert (error.target, error.status, error.attempts, error.request_sent) == (None, 503, (), False)
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 60
        with pytest.raises(NoHealthyTargetError):
            await balancer.get_next_target()
        await balancer.reset_circuit_breaker(given[0].url)
        given[0].mode = 200
        assert await names(balancer, 3) == "aaa"
        await balancer.reset_circuit_breaker()
        given[1].mode = 200
        assert Counter(await names(balancer, 4)) == {"a": 2, "b": 2}


async def test_the_breaker_of_a_client() -> None:
    with sites(1) as (site,):
        site.mode = 503
        async with ProxyClient(site.url, max_failures=2, recovery_timeout_ms=200, max_retries=0) as client:
            assert await client.get_circuit_breaker_status() == ("closed", 0, None)
            for _ in range(2):
                assert (await client.forward_request("GET", "/")).status == 503
            with pytest.raises(CircuitOpenError, match="Circuit breaker is open") as raised:
                await client.forward_request("GET", "/")
            assert raised.value.target == site.url
            assert raised.value.retry_after is not None
            assert 0 < raised.value.retry_after <= 0.2
            state, failures, _ = await client.get_circuit_breaker_status()
            assert (state, failures) == ("open", 2)
            await client.reset_circuit_breaker()
            assert await client.get_circuit_breaker_status() == ("closed", 0, None)
            site.mode = 200
            assert (await client.forward_request("GET", "/")).status == 200


async def test_a_ratio_opens_a_breaker() -> None:
    breaker = Breaker(ratio=0.5, min_samples=4, window=30)
    with sites(1) as (site,):
        async with ProxyClient(site.url, breaker=breaker, max_retries=0) as client:
            for status in (200, 503, 200):
                site.mode = status
                await client.forward_request("GET", "/")
            assert (await client.get_circuit_breaker_status()).state == "closed"
            site.mode = 503
            await client.forward_request("GET", "/")
            assert (await client.get_circuit_breaker_status()).state == "open"


async def test_equal_keys_go_to_the_same_upstream() -> None:
    async with balanced(4, strategy="consistent_hash") as (balancer, _):
        for key in ("user-1", b"user-1", "\xfcser"):
            assert len(set(await names(balancer, 5, hash_key=key))) == 1
        assert await names(balancer, 1, hash_key="user-1") == await names(balancer, 1, hash_key=b"user-1")
        assert len({await names(balancer, 1, hash_key=f"user-{i}") for i in range(40)}) == 4
        assert len(set(await names(balancer, 40))) == 4  # without a key: any
        assert (
            await balancer.get_next_target("user-1")
            == (await balancer.forward_request("GET", "/", hash_key="user-1")).target
        )
        async with balancer.stream_request("GET", "/", hash_key="user-1") as response:
            assert response.target == await balancer.get_next_target(b"user-1")
        wrong: Any = 5
        with pytest.raises(TypeError, match="hash_key is 5; str, bytes or None is allowed"):
            await balancer.forward_request("GET", "/", hash_key=wrong)
        for key in ("user-1", "\xfcser", "\u4f60\u597d", b"\xff\x00", ""):
            for i in range(8):  # any bytes: what is asked for is what a request does
                ours = key + f"{i}" if isinstance(key, str) else key + bytes([i])
                answer = await balancer.forward_request("GET", "/", hash_key=ours)
                assert await balancer.get_next_target(ours) == answer.target
    async with balanced(4, strategy="consistent_hash", hash_on="header:X-User") as (balancer, _):
        assert len(set(await names(balancer, 5, headers={"x-user": "1"}))) == 1
        for user in ("a", "b", "c", "d", "\xfc"):
            answer = await balancer.forward_request("GET", "/", {"x-user": user})
            assert answer.target == await balancer.get_next_target(user.encode("latin-1"))
            given = await balancer.forward_request("GET", "/", {"x-user": "elsewhere"}, hash_key=user.encode("latin-1"))
            assert given.target == answer.target


async def test_the_whole_pool_is_limited() -> None:
    limits = Limits(max_in_flight=2, max_waiting=1)
    async with balanced(2, limits=limits, timeouts=Timeouts(pool=0.1)) as (balancer, given):
        given[0].mode = given[1].mode = "hold"
        held = [asyncio.ensure_future(balancer.forward_request("GET", "/")) for _ in range(2)]
        waiting = asyncio.ensure_future(balancer.forward_request("GET", "/"))
        await asyncio.sleep(0)
        with pytest.raises(PoolExhaustedError) as raised:
            await balancer.forward_request("GET", "/")
        assert raised.value.retry_after == 1
        assert balancer.snapshot().waiting == 1
        with pytest.raises(Exception, match="under way for too long"):
            await waiting
        for site in given:
            site.open("go")
        assert [(await reply).status for reply in held] == [200, 200]


async def test_requests_wait_for_an_upstream_to_come_back() -> None:
    options: dict[str, Any] = {"max_failures": 1, "recovery_timeout_ms": 300, "max_retries": 0}
    async with balanced(2, wait_for_healthy=10.0, **options) as (balancer, given):
        given[0].mode = given[1].mode = 503
        await names(balancer, 2)
        given[0].mode = given[1].mode = 200
        replies = await asyncio.gather(*(balancer.forward_request("GET", "/") for _ in range(20)))
        assert {reply.status for reply in replies} == {200}


def test_one_balancer_serves_one_loop_after_another() -> None:
    with sites(2) as given:
        balancer = ProxyLoadBalancer([site.url for site in given])

        async def main() -> None:
            assert len(await names(balancer, 4)) == 4
            assert len(await balancer.get_health_status()) == 2

        for name in ("asyncio", "uvloop", "asyncio"):
            run_on(name, main())
        balancer.close()
        assert sum(site.connections for site in given) <= 2


async def test_a_balancer_that_is_closed() -> None:
    async with balanced(1) as (balancer, _):
        await names(balancer, 1)
        await balancer.aclose()
        await balancer.aclose()
        for use in (balancer.forward_request("GET", "/"), balancer.get_next_target(), balancer.health_check()):
            with pytest.raises(ClientClosedError):
                await use
        with pytest.raises(ClientClosedError):
            balancer.snapshot()
        assert repr(balancer).endswith("(closed)>")
