"""ProxyLoadBalancer while it runs: probes, changes of its targets, what it tells of its state."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from typing import Any

import pytest
from client_upstream import on_loops
from test_balancer_requests import balanced, names, sites

from velithon_proxy import (
    ConfigurationError,
    Health,
    NoHealthyTargetError,
    PoolStatus,
    ProxyClient,
    ProxyLoadBalancer,
    StateChange,
    TargetStatus,
)

SOON = Health(interval=0.05, timeout=0.04, fall=2, rise=1, jitter=0)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


@on_loops("asyncio", "uvloop", "rloop")
async def test_a_health_check_is_a_verdict() -> None:
    async with balanced(3, health_check_url="/health") as (balancer, given):
        await balancer.health_check()
        assert await balancer.get_health_status() == [(site.url, True) for site in given]
        given[1].mode = 500
        await balancer.health_check()
        assert await balancer.get_health_status() == [(site.url, site is not given[1]) for site in given]
        assert "b" not in await names(balancer, 6)
        given[1].mode = 200
        await balancer.health_check()
        assert Counter(await names(balancer, 6)) == {"a": 2, "b": 2, "c": 2}
        assert {request.target for request in given[0].requests} == {b"/health", b"/"}


async def test_probes_run_by_themselves() -> None:
    async with balanced(2, health_check_url="/health", health=SOON) as (balancer, given):
        assert all(usable for _, usable in await balancer.get_health_status())
        given[0].mode = 503
        await eventually(lambda: not balancer.snapshot().targets[0].healthy)
        assert set(await names(balancer, 4)) == {"b"}
        assert balancer.snapshot().targets[0].probe == "a probe was answered with status 503"
        given[0].mode = 200
        await eventually(lambda: balancer.snapshot().targets[0].healthy)
        assert set(await names(balancer, 4)) == {"a", "b"}
    probes = len(given[0].requests)
    await asyncio.sleep(0.2)
    assert len(given[0].requests) == probes  # they end with the balancer


async def test_a_health_check_needs_to_know_what_to_ask_for() -> None:
    async with balanced(1) as (balancer, _):
        with pytest.raises(ConfigurationError, match="health_check_url"):
            await balancer.health_check()


async def test_a_health_check_that_nobody_waits_for() -> None:
    async with balanced(1, health_check_url="/health") as (balancer, given):
        given[0].mode = "hold"
        checking = asyncio.ensure_future(balancer.health_check())
        await given[0].until(lambda: given[0].count("request") > 0)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking
        given[0].open("go")
        assert balancer.snapshot().targets[0].healthy


@on_loops("asyncio", "uvloop", "rloop")
async def test_targets_change_under_load() -> None:
    with sites(3) as given:
        async with ProxyLoadBalancer([given[0].url]) as balancer:
            running = True

            async def load() -> int:
                count = 0
                while running:
                    await names(balancer, 1)
                    count += 1
                return count

            load_tasks = [asyncio.ensure_future(load()) for _ in range(8)]
            for _ in range(10):
                for site in given[1:]:
                    await balancer.add_target(site.url)
                await asyncio.sleep(0.01)
                for site in given[1:]:
                    await balancer.remove_target(site.url)
            await asyncio.sleep(0.05)
            before = [len(site.requests) for site in given]
            await asyncio.sleep(0.05)
            after = [len(site.requests) for site in given]
            running = False
            counts = await asyncio.gather(*load_tasks)
            assert before[1:] == after[1:]  # nothing new
            assert min(before[1:]) > 0
            assert sum(counts) == sum(len(site.requests) for site in given)


async def test_weights_and_draining() -> None:
    async with balanced(2, strategy="weighted", weights=[3, 1]) as (balancer, given):
        assert Counter(await names(balancer, 40)) == {"a": 30, "b": 10}
        await balancer.set_weight(given[0].url, 1)
        assert Counter(await names(balancer, 40)) == {"a": 20, "b": 20}
        await balancer.drain(given[0].url)
        assert set(await names(balancer, 4)) == {"b"}
        assert balancer.snapshot().targets[0].draining
        await balancer.resume(given[0].url)
        assert set(await names(balancer, 4)) == {"a", "b"}
        for wrong in (
            balancer.set_weight(given[0].url, -1),
            balancer.set_weight("http://nobody", 1),
            balancer.add_target(given[0].url),
            balancer.add_target("not a url"),
            balancer.remove_target("http://nobody"),
            balancer.drain("http://nobody"),
            balancer.reset_circuit_breaker("http://nobody"),
        ):
            with pytest.raises(ConfigurationError):
                await wrong
        with sites(1) as (late,):
            await balancer.add_target(late.url, weight=2)
            replies = [await balancer.forward_request("GET", "/") for _ in range(8)]
            assert Counter(reply.target for reply in replies)[late.url] == 4


async def test_backups() -> None:
    with sites(2) as (first, second):
        options: dict[str, Any] = {"max_failures": 1, "max_retries": 0}
        async with ProxyLoadBalancer([first.url], backups=[second.url], **options) as balancer:
            assert await names(balancer, 4) == "aaaa"
            first.mode = 503
            assert await names(balancer, 3) == "abb"
            assert [target.backup for target in balancer.snapshot().targets] == [False, True]


def test_the_state_of_a_balancer_that_was_not_used() -> None:
    balancer = ProxyLoadBalancer(["http://a", "b:81"], "weighted", [2, 3], backups=["http://c"])
    status = balancer.snapshot()
    assert isinstance(status, PoolStatus)
    assert status.strategy == "weighted"
    assert [(t.target, t.weight, t.backup, t.usable) for t in status.targets] == [
        ("http://a", 2, False, True), ("b:81", 3, False, True), ("http://c", 1, True, True),
    ]  # fmt: skip
    assert (status.requests, status.connections) == (0, 0)
    assert repr(balancer) == "<ProxyLoadBalancer '3 targets' (unused)>"


async def test_the_state_of_a_balancer() -> None:
    async with balanced(2, max_failures=1, max_retries=0) as (balancer, given):
        given[0].mode = 503
        await names(balancer, 5)
        status = balancer.snapshot()
        assert all(isinstance(target, TargetStatus) for target in status.targets)
        assert (status.requests, status.failures, status.in_flight, status.waiting) == (5, 0, 0, 0)
        bad, good = status.targets
        assert (bad.usable, bad.breaker.state, bad.breaker.failures) == (False, "open", 1)
        assert bad.retry_after is not None
        assert 59 < bad.retry_after <= 60
        assert (good.usable, good.retry_after, good.connections, good.idle) == (True, None, 1, 1)
        assert status.connections == bad.connections + good.connections


@on_loops("asyncio", "uvloop", "rloop")
async def test_changes_are_told_in_order() -> None:
    told: list[StateChange] = []
    with sites(1) as (site,):
        options: dict[str, Any] = {"max_failures": 1, "recovery_timeout_ms": 50, "max_retries": 0}
        async with ProxyClient(site.url, on_state_change=told.append, **options) as client:
            site.mode = 503
            await client.forward_request("GET", "/")
            await eventually(lambda: len(told) == 1)
            await asyncio.sleep(0.06)
            site.mode = 200
            await client.forward_request("GET", "/")
            await eventually(lambda: len(told) == 3)
    assert [(change.before, change.after) for change in told] == [
        ("closed", "open"), ("open", "half_open"), ("half_open", "closed"),
    ]  # fmt: skip
    assert {(change.target, change.what) for change in told} == {(site.url, "breaker")}
    assert [change.reason for change in told] == ["status 503", "the time to be open is over", "a probe succeeded"]
    assert told[0].at <= told[1].at <= told[2].at


async def test_a_coroutine_is_told_of_one_change_after_the_other() -> None:
    told: list[str] = []
    at_once = 0

    async def tell(change: StateChange) -> None:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        await asyncio.sleep(0.01)
        told.append(change.after)
        at_once -= 1
        if change.after == "half_open":
            raise RuntimeError("must not end the telling")

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with sites(1) as (site,):
        options: dict[str, Any] = {"max_failures": 1, "recovery_timeout_ms": 20, "max_retries": 0}
        async with ProxyClient(site.url, on_state_change=tell, **options) as client:
            site.mode = 503
            await client.forward_request("GET", "/")
            await asyncio.sleep(0.03)
            site.mode = 200
            await client.forward_request("GET", "/")
            await eventually(lambda: len(told) == 3)
    assert told == ["open", "half_open", "closed"]
    assert [context["message"] for context in reported] == ["on_state_change raised"]


def test_a_loop_that_is_told_of_changes_ends_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is pending when the loop ends: asyncio would cancel a task, and complain of what it left behind."""
    with sites(1) as (site,):

        async def main() -> None:
            client = ProxyClient(site.url, on_state_change=lambda change: None)
            await client.forward_request("GET", "/")
            clients.append(client)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        clients: list[ProxyClient] = []
        asyncio.run(main(), debug=True)
        clients[0].close()
        gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_changes_are_told_on_the_next_loop_once_the_first_has_ended() -> None:
    told: list[str] = []
    with sites(1) as (site,):
        options: dict[str, Any] = {"max_failures": 1, "recovery_timeout_ms": 1, "max_retries": 0}
        client = ProxyClient(site.url, on_state_change=lambda change: told.append(change.after), **options)

        async def use(status: int, count: int) -> None:
            site.mode = status
            await client.forward_request("GET", "/")
            await eventually(lambda: len(told) == count)
            await asyncio.sleep(0.01)

        asyncio.run(use(503, 1))
        asyncio.run(use(200, 3))
        client.close()
    assert told == ["open", "half_open", "closed"]


@pytest.mark.parametrize(
    ("options", "field", "because"),
    [
        ({"strategy": "best"}, "strategy", '"least_request"'),
        ({"strategy": None}, "strategy", "not None"),
        ({"weights": [1]}, "weights", "1 of them for 2 targets"),
        ({"strategy": "weighted", "weights": [1, True]}, "weights", "the bool True"),
        ({"strategy": "weighted", "weights": [0, 0]}, "weights", "sum 0"),
        ({"weights": [1, 1]}, "weights", "the strategy is round_robin"),
        ({"health": Health()}, "health", "health_check_url"),
        ({"health_check_url": ""}, "health_check_url", "empty"),
        ({"health_check_url": "health"}, "health_check_url", "starts with /"),
        ({"health_check_url": "/a\r\nb"}, "health_check_url", "starts with /"),
        ({"backups": ["http://a"]}, "backups", "same upstream"),
        ({"backups": "http://c"}, "backups", "list of URLs"),
        ({"hash_on": "header:X"}, "hash_on", "consistent_hash"),
        ({"slow_start": -1}, "slow_start", "from 0 on"),
        ({"slow_start": 5, "strategy": "first"}, "slow_start", "share requests out"),
        ({"panic_threshold": 1.5}, "panic_threshold", "from 0 to 1"),
        ({"wait_for_healthy": "5"}, "wait_for_healthy", "number of seconds"),
        ({"timeout_ms": 0}, "timeout_ms", "from 1"),
        ({"max_failures": None}, "max_failures", "not None"),
        ({"retry": 3}, "retry", "Retry"),
        ({"breaker": {}}, "breaker", "Breaker"),
        ({"on_state_change": 5}, "on_state_change", "function"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], field: str, because: str) -> None:
    with pytest.raises(ConfigurationError, match=because) as raised:
        ProxyLoadBalancer(["http://a", "http://b"], **options)
    assert raised.value.field == field
    assert str(raised.value).startswith(field)


@pytest.mark.parametrize("value", [None, True, 1.5, "3", -1, 1_000_001])
async def test_a_weight_that_is_none_changes_nothing(value: Any) -> None:
    async with balanced(2, strategy="weighted") as (balancer, given):
        for call in (balancer.set_weight(given[0].url, value), balancer.add_target("http://127.0.0.1:1", value)):
            with pytest.raises(ConfigurationError, match="weight must be a whole number from 0 to 1000000, not "):
                await call
        await balancer.get_health_status()
        assert [(target.target, target.weight) for target in balancer.snapshot().targets] == [
            (site.url, 1) for site in given
        ]


async def test_a_weight_goes_with_some_strategies_only() -> None:
    async with balanced(2) as (balancer, given):
        for call in (balancer.set_weight(given[0].url, 2), balancer.add_target("http://127.0.0.1:1", 2)):
            with pytest.raises(ConfigurationError, match="weight is for the strategies weighted"):
                await call
        await balancer.add_target("http://127.0.0.1:1")


@pytest.mark.parametrize("value", [None, 3, b"http://a", ["http://a"]])
async def test_a_target_that_is_no_text_is_named(value: Any) -> None:
    async with balanced(2, strategy="weighted") as (balancer, _):
        calls = [
            balancer.add_target(value), balancer.remove_target(value), balancer.set_weight(value, 1),
            balancer.drain(value), balancer.resume(value),
        ]  # fmt: skip
        if value is not None:
            calls.append(balancer.reset_circuit_breaker(value))
        for call in calls:
            with pytest.raises(ConfigurationError, match=r"target must be the URL of a target \(str\), not "):
                await call


async def test_an_error_says_why_no_target_can_be_used() -> None:
    async with balanced(2, health_check_url="/health") as (balancer, given):
        given[0].mode = 404
        await balancer.health_check()
        await balancer.drain(given[1].url)
        with pytest.raises(NoHealthyTargetError, match=r"of 2: 1 unhealthy \(.*status 404\), 1 draining"):
            await balancer.forward_request("GET", "/")
