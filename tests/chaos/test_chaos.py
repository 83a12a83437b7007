"""Rows F14 to F19 and F36: upstreams that are processes, and are killed, restarted, slow or lying under load.

Longer runs of the same, with figures: ``make bench ARGS="--suite chaos"``.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chaos_load import executed_twice, load, processes

from velithon_proxy import Breaker, Health, ProxyLoadBalancer, Retry, StateChange

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="was written for Linux")

CLOSED_ON_US = {"UpstreamClosedError", "ConnectError", "NoHealthyTargetError"}


async def test_f14_upstreams_that_are_killed_and_reset_connections(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        await given[1].does(reset=20)
        options: dict[str, Any] = {"max_failures": 3, "recovery_timeout_ms": 300, "max_retries": 3}
        async with ProxyLoadBalancer([process.url for process in given], **options) as balancer:
            async with load(balancer, 400) as tally:
                for _ in range(4):
                    await asyncio.sleep(0.7)
                    await given[0].restart(signal.SIGKILL, 0.3)
            state = balancer.snapshot()
        assert sum(tally.outcomes.values()) == tally.sent > 1000
        assert tally.share("GET") >= 0.9995, tally.outcomes
        assert executed_twice(given) == []
        assert tally.wrong == []
        assert {outcome for method, outcome in tally.outcomes if method == "POST"} <= {"200", *CLOSED_ON_US}
        assert state.in_flight == 0
        assert all(target.in_flight == 0 for target in state.targets)


async def test_f15_a_rolling_restart_is_not_noticed(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        # Long enough to see no upstream for each of its restarts, and not to be without all of them.
        balancer = ProxyLoadBalancer([process.url for process in given], recovery_timeout_ms=200)
        async with balancer, load(balancer, 300) as tally:
            for process in given:
                await asyncio.sleep(0.3)
                await process.restart(signal.SIGTERM)
            await asyncio.sleep(0.3)
        assert tally.share("GET") == 1.0, tally.outcomes
        # A POST that meets the close of its connection on the way must not be sent again.
        assert tally.share("POST") > 0.99, tally.outcomes
        assert executed_twice(given) == []
        assert tally.wrong == []


async def test_f16_all_down_and_back(tmp_path: Path) -> None:
    with processes(tmp_path, 2) as given:
        options: dict[str, Any] = {"max_failures": 2, "recovery_timeout_ms": 500}
        async with ProxyLoadBalancer([process.url for process in given], **options) as balancer:
            async with load(balancer, 300) as tally:
                await asyncio.sleep(0.3)
                for process in given:
                    await asyncio.to_thread(process.end, signal.SIGKILL)
                await asyncio.sleep(1.5)
                for process in given:
                    await asyncio.to_thread(process.start)
                back = time.perf_counter()
                while not all(target.usable for target in balancer.snapshot().targets):
                    assert time.perf_counter() - back < 0.5 + 1
                    await asyncio.sleep(0.01)
                failed = sum(count for (_, outcome), count in tally.outcomes.items() if outcome != "200")
                await asyncio.sleep(0.3)
            assert sum(count for (_, outcome), count in tally.outcomes.items() if outcome != "200") - failed <= 5
        assert tally.outcomes["GET", "NoHealthyTargetError"] > 50
        assert tally.p99("NoHealthyTargetError") < 0.1  # of the wall clock of a busy machine
        assert executed_twice(given) == []


async def test_f17_a_flapping_upstream(tmp_path: Path) -> None:
    told: list[StateChange] = []
    with processes(tmp_path, 3) as given:
        options: dict[str, Any] = {"max_failures": 3, "recovery_timeout_ms": 200}
        urls = [process.url for process in given]
        balancer = ProxyLoadBalancer(urls, on_state_change=told.append, **options)
        async with balancer, load(balancer, 300) as tally:
            for _ in range(4):
                await given[0].does(status=503)
                await asyncio.sleep(0.4)
                await given[0].does(status=200)
                await asyncio.sleep(0.4)
        assert {change.target for change in told} == {given[0].url}
        legal = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
        state = "closed"
        opened: list[float] = []
        for change in told:
            assert change.before == state
            assert change.after in legal[state]
            state = change.after
            if state == "open":
                opened.append(change.at)
        assert len(opened) >= 4
        # No faster than the time that it stays open.
        assert all(after - before >= 0.2 for before, after in itertools.pairwise(opened))
        assert {outcome for _, outcome in tally.outcomes} == {"200", "503"}


async def test_f18_a_slow_upstream_gets_less(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        for process in given:
            await process.does(delay=0.01)
        await given[0].does(delay=0.15)
        balancer = ProxyLoadBalancer([process.url for process in given], "least_request")
        async with balancer, load(balancer, 200) as tally:
            await asyncio.sleep(2)
        counts = [len(process.lines) for process in given]
        assert counts[0] < 0.15 * sum(counts), counts
        assert tally.outcomes.keys() == {("GET", "200"), ("POST", "200")}


@pytest.mark.parametrize("lie", ["healthy", "unhealthy"])
async def test_f19_a_health_endpoint_that_lies(tmp_path: Path, lie: str) -> None:
    told: list[StateChange] = []
    with processes(tmp_path, 2) as given:
        if lie == "healthy":
            await given[0].does(status=503)
        else:
            await given[0].does(health=500)
        async with ProxyLoadBalancer(
            [process.url for process in given],
            health_check_url="/health",
            health=Health(interval=0.5, timeout=0.2, fall=2, rise=1, jitter=0),
            max_failures=3,
            recovery_timeout_ms=60_000,
            on_state_change=told.append,
        ) as balancer:
            async with load(balancer, 200, ("GET",)):
                await asyncio.sleep(2.2)
            state = balancer.snapshot()
        if lie == "healthy":
            # Its breaker ejects it each time; each good probe lets it try again.
            assert {change.what for change in told} == {"breaker"}
            assert 3 <= sum(change.after == "open" for change in told) <= 6
            assert 3 * 3 <= len(given[0].lines) <= 3 * 6
            assert state.targets[0].healthy
        else:
            # The probes have the last word, and it is said once.
            assert [(change.what, change.after) for change in told] == [("health", "unhealthy")]
            assert not state.targets[0].usable
            assert len(given[0].lines) < len(given[1].lines) / 2


async def test_f36_targets_come_and_go_under_load(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        await given[2].does(delay=0.05)
        async with ProxyLoadBalancer([process.url for process in given[:2]], "weighted") as balancer:
            async with load(balancer, 300) as tally:
                for _ in range(3):
                    await balancer.add_target(given[2].url, weight=2)
                    await asyncio.sleep(0.2)
                    await balancer.set_weight(given[0].url, 3)
                    await balancer.remove_target(given[2].url)  # while it works on some requests
                    await asyncio.sleep(0.1)
                    before = len(given[2].lines)
                    await asyncio.sleep(0.2)
                    assert len(given[2].lines) == before
                    await balancer.drain(given[0].url)
                    await asyncio.sleep(0.1)
                    await balancer.resume(given[0].url)
            assert len(given[2].lines) > 30
        assert tally.outcomes.keys() == {("GET", "200"), ("POST", "200")}
        assert executed_twice(given) == []


async def test_total_failure_does_not_multiply_requests(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        for process in given:
            await process.does(status=503, delay=0.01)
        balancer = ProxyLoadBalancer(
            [process.url for process in given],
            max_failures=1_000_000,  # it is the budget that is looked at
            retry=Retry(statuses=[503]),
            breaker=Breaker(statuses=()),
        )
        async with balancer, load(balancer, 500, ("GET",)) as tally:
            await asyncio.sleep(2)
        attempts = Counter(line for process in given for line in process.lines)
        assert tally.outcomes.keys() == {("GET", "503")}
        assert sum(attempts.values()) <= 1.2 * tally.sent + 3 * 20, (sum(attempts.values()), tally.sent)
