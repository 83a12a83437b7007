"""Rows F14 to F19 and F36: upstreams that are processes, and are killed, restarted, slow or lying under load.

Longer runs of the same, with figures: ``make bench ARGS="--only chaos"``.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos_load import Process, Tally, executed_twice, load, processes, recovered, untrue

from velithon_proxy import Breaker, Health, NoHealthyTargetError, ProxyLoadBalancer, ProxyResponse, Retry, StateChange

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="was written for Linux")

LEGAL = {"closed": {"open"}, "open": {"half_open", "closed"}, "half_open": {"open", "closed"}}
"""Of a breaker; from open to closed only a good probe leads."""

TRUE_OF_NOTHING_SENT = {"ConnectError", "NoHealthyTargetError"}


def urls(given: list[Process]) -> list[str]:
    return [process.url for process in given]


async def until(holds: Callable[[], bool], limit: float) -> None:
    end = time.perf_counter() + limit
    while not holds():
        assert time.perf_counter() < end
        await asyncio.sleep(0.01)


def unsent_or_closed(tally: Tally) -> None:
    """A POST that failed says whether it may have been executed: only a connection that broke off leaves that open."""
    for method, name, error in tally.errors:
        if method == "POST":
            kind = type(error).__name__
            assert kind in TRUE_OF_NOTHING_SENT or (kind == "UpstreamClosedError" and error.request_sent), (name, error)


async def test_f14_upstreams_that_are_killed_and_reset_connections(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        await given[1].does(reset=20)
        options: dict[str, Any] = {"max_failures": 3, "recovery_timeout_ms": 300, "max_retries": 3}
        async with ProxyLoadBalancer(urls(given), **options) as balancer:
            async with load(balancer, 500) as tally:
                end = time.perf_counter() + 6
                while time.perf_counter() < end:
                    await asyncio.sleep(0.6)
                    await given[0].restart(signal.SIGKILL, 0.3)
            state = balancer.snapshot()
        assert tally.sent > 1500
        assert tally.exact
        assert tally.share("GET") >= 0.9995, tally.outcomes
        assert executed_twice(given) == []
        assert untrue(given, tally) == []
        unsent_or_closed(tally)
        assert len(tally.errors) > 10  # of POST: something was broken
        assert state.in_flight == 0
        assert all(target.in_flight == 0 for target in state.targets)


async def test_f15_a_rolling_restart_is_not_noticed(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        # Long enough to see no upstream for each of its restarts, and not to be without all of them.
        balancer = ProxyLoadBalancer(urls(given), recovery_timeout_ms=200)
        async with balancer, load(balancer, 300) as tally:
            for process in given * 2:
                await asyncio.sleep(0.3)
                await process.restart(signal.SIGTERM)
            await asyncio.sleep(0.3)
        assert tally.exact
        assert tally.share("GET") == 1.0, tally.outcomes
        # A POST that meets the close of its connection on the way must not be sent again.
        assert tally.share("POST") > 0.99, tally.outcomes
        assert {(type(error).__name__, error.request_sent) for _, _, error in tally.errors} <= {
            ("UpstreamClosedError", True)
        }
        assert executed_twice(given) == []
        assert untrue(given, tally) == []


async def test_f16_all_down_and_back(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        options: dict[str, Any] = {"max_failures": 2, "recovery_timeout_ms": 500}
        async with ProxyLoadBalancer(urls(given), **options) as balancer:
            async with load(balancer, 300) as tally:
                await asyncio.sleep(0.3)
                for process in given:
                    await asyncio.to_thread(process.end, signal.SIGKILL)
                await asyncio.sleep(2)
                await asyncio.gather(*(asyncio.to_thread(process.start) for process in given))
                await until(lambda: recovered(balancer), 0.5 + 1)
                failed, before = len(tally.errors), [len(process.lines) for process in given]
                await asyncio.sleep(0.5)
            assert len(tally.errors) - failed <= 5
            # All of the traffic, and to all of them.
            gained = [len(process.lines) - count for process, count in zip(given, before, strict=True)]
            assert min(gained) > 0.2 * sum(gained) > 10, gained
        assert tally.exact
        refusals = [error for _, _, error in tally.errors if isinstance(error, NoHealthyTargetError)]
        assert len(refusals) > 200
        assert not any(error.request_sent or error.attempts for error in refusals)
        assert all(error.retry_after is not None and error.retry_after > 0 for error in refusals)  # how long: below
        assert tally.p99("NoHealthyTargetError") < 0.05
        assert executed_twice(given) == []
        assert untrue(given, tally) == []


async def test_f16_retry_after_while_upstreams_are_tried(tmp_path: Path) -> None:
    """docs/circuit-breaking.md: the others are treated as if it were open, and that is for recovery_timeout_ms."""
    with processes(tmp_path, 2) as given:
        for process in given:
            await process.does(status=503)
        async with ProxyLoadBalancer(urls(given), max_failures=1, recovery_timeout_ms=300) as balancer:
            for _ in given:
                assert (await balancer.forward_request("GET", "/?opens")).status == 503
            for process in given:
                await process.does(status=200, delay=0.5)
            await asyncio.sleep(0.4)
            trying = [asyncio.create_task(balancer.forward_request("GET", "/?tries")) for _ in given]
            await asyncio.sleep(0.1)
            (end,) = await wave(balancer, 0, 1)
            assert [response.status for response in await asyncio.gather(*trying)] == [200, 200]
            assert isinstance(end, NoHealthyTargetError)
            assert end.retry_after is None or end.retry_after <= 0.3, end.retry_after


async def test_f17_a_flapping_upstream(tmp_path: Path) -> None:
    told: list[StateChange] = []
    with processes(tmp_path, 3) as given:
        options: dict[str, Any] = {"max_failures": 3, "recovery_timeout_ms": 200}
        balancer = ProxyLoadBalancer(urls(given), on_state_change=told.append, **options)
        async with balancer, load(balancer, 300) as tally:
            for _ in range(4):
                await given[0].does(status=503)
                await asyncio.sleep(0.5)
                await given[0].does(status=200)
                await asyncio.sleep(0.5)
        assert tally.exact
        assert {change.target for change in told} == {given[0].url}
        state = "closed"
        opened: list[float] = []
        for change in told:
            assert change.before == state
            assert change.after in LEGAL[state] - ({"closed"} if state == "open" else set())  # nothing is probed
            state = change.after
            if state == "open":
                opened.append(change.at)
        assert len(opened) >= 4
        # No faster than the time that it stays open.
        assert all(after - before >= 0.2 for before, after in itertools.pairwise(opened))
        assert {outcome for _, outcome in tally.outcomes} == {"200", "503"}
        # What was not its turn went elsewhere: 1.3 s of 503 for a third of 300 a second, were it not for the breaker.
        assert sum(count for (_, outcome), count in tally.outcomes.items() if outcome == "503") < 100


async def test_f18_a_slow_upstream_gets_less(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        for process in given:
            await process.does(delay=0.02)
        await given[0].does(delay=0.2)
        balancer = ProxyLoadBalancer(urls(given), "least_request")
        async with balancer, load(balancer, 200) as tally:
            await asyncio.sleep(2)
        assert tally.exact
        counts = [len(process.lines) for process in given]
        assert counts[0] < 0.2 * sum(counts), counts
        assert tally.outcomes.keys() == {("GET", "200"), ("POST", "200")}
        others = tally.answered[given[1].url] + tally.answered[given[2].url]
        # Nobody waits at another one for the slow one; of the rest the machine may be the reason.
        assert sum(took < 0.1 for took in others) >= 0.97 * len(others)


LIES: dict[str, dict[str, float]] = {
    "healthy": {"status": 503},
    "unhealthy": {"health": 500},
    "neither": {"status": 503, "health": 500},
}


@pytest.mark.parametrize("lie", LIES)
async def test_f19_a_health_endpoint_that_lies(tmp_path: Path, lie: str) -> None:
    told: list[StateChange] = []
    with processes(tmp_path, 2) as given:
        bad, good = given
        await bad.does(**LIES[lie])
        balancer = ProxyLoadBalancer(
            urls(given),
            health_check_url="/health",
            health=Health(interval=0.2, timeout=0.1, jitter=0),
            max_failures=3,
            recovery_timeout_ms=60_000,
            on_state_change=told.append,
        )
        async with balancer, load(balancer, 200, ("GET",)) as tally:
            if lie != "healthy":
                await until(lambda: any(change.after == "unhealthy" for change in told), 3)
                await asyncio.sleep(0.1)
            before, fine = len(bad.lines), len(good.lines)
            await asyncio.sleep(1.5)
            gained, others = len(bad.lines) - before, len(good.lines) - fine
            seen, state = list(told), balancer.snapshot().targets[0]
            await bad.does(status=200, health=200)
            await until(lambda: balancer.snapshot().targets[0].usable, 3)
            before = len(bad.lines)
            await asyncio.sleep(0.3)
            assert len(bad.lines) - before > 10  # it has its share again
        assert tally.exact
        assert {change.target for change in told} == {bad.url}
        breaker = [change for change in seen if change.what == "breaker"]
        for change in breaker:
            assert change.after in LEGAL[change.before]
        if lie == "healthy":
            # Its breaker ejects it each time; each good probe lets it try again, and the time to be open never ends.
            assert len(breaker) == len(seen)
            opened = sum(change.after == "open" for change in breaker)
            assert 4 <= opened <= 9
            assert 3 * (opened - 1) <= gained <= 5 * (opened + 1)  # some are on the way when it opens
            assert state.healthy
        else:
            # The probes have the last word, and it is said once.
            assert [change.after for change in seen if change.what == "health"] == ["unhealthy"]
            assert gained == 0
            assert others > 200
            assert not state.usable
            assert not state.healthy
            assert [change.after for change in breaker][-1:] == ([] if lie == "unhealthy" else ["open"])


async def test_f36_targets_come_and_go_under_load(tmp_path: Path) -> None:
    async def nothing_new(process: Process) -> None:
        await asyncio.sleep(0.1)
        before = len(process.lines)
        await asyncio.sleep(0.2)
        assert len(process.lines) == before

    with processes(tmp_path, 3) as given:
        first, second, third = given
        await third.does(delay=0.05)
        async with ProxyLoadBalancer(urls(given[:2]), "weighted") as balancer:
            async with load(balancer, 300) as tally:
                for _ in range(3):
                    await balancer.add_target(third.url, weight=2)
                    await asyncio.sleep(0.2)
                    await balancer.set_weight(first.url, 3)
                    assert balancer.snapshot().targets[2].in_flight > 0
                    await balancer.remove_target(third.url)  # while it works on some requests
                    await nothing_new(third)
                    await balancer.drain(first.url)
                    await nothing_new(first)
                    await balancer.resume(first.url)
                    await balancer.set_weight(second.url, 0)
                    await nothing_new(second)
                    await balancer.set_weight(second.url, 1)
            assert len(third.lines) > 30
        assert tally.exact
        assert tally.outcomes.keys() == {("GET", "200"), ("POST", "200")}
        # Nobody was asked twice: what was under way at the removed one has finished there.
        assert sum(len(process.lines) for process in given) == tally.sent
        assert len(tally.answered[third.url]) == len(third.lines)


async def test_total_failure_does_not_multiply_requests(tmp_path: Path) -> None:
    with processes(tmp_path, 3) as given:
        for process in given:
            await process.does(status=503, delay=0.01)
        balancer = ProxyLoadBalancer(
            urls(given),
            max_failures=1_000_000,  # it is the budget that is looked at
            retry=Retry(statuses=[503]),
            breaker=Breaker(statuses=()),
        )
        async with balancer, load(balancer, 500, ("GET",)) as tally:
            await asyncio.sleep(2)
        assert tally.exact
        attempts = sum(len(process.lines) for process in given)
        assert tally.outcomes.keys() == {("GET", "503")}
        assert attempts <= 1.2 * tally.sent + 3 * 20, (attempts, tally.sent)


WAVE = 1000


async def wave(balancer: ProxyLoadBalancer, number: int, size: int = WAVE) -> list[ProxyResponse | BaseException]:
    """Send requests at the same time and say what became of each."""
    requests = (balancer.forward_request("GET", f"/?id-{number}-{i}") for i in range(size))
    return await asyncio.gather(*requests, return_exceptions=True)


def refused(end: ProxyResponse | BaseException) -> bool:
    return isinstance(end, NoHealthyTargetError)


def answered_503(end: ProxyResponse | BaseException) -> bool:
    return isinstance(end, ProxyResponse) and end.status == 503


async def test_total_failure_of_waves_of_requests(tmp_path: Path) -> None:
    """All attempts of a wave end at nearly the same time, when as many requests as can be are under way."""
    with processes(tmp_path, 3) as given:
        for process in given:
            await process.does(status=503, delay=0.4)
        options: dict[str, Any] = {"max_failures": 1_000_000, "retry": Retry(statuses=[503])}
        async with ProxyLoadBalancer(urls(given), **options) as balancer:
            for number in (1, 2):
                assert all(map(answered_503, await wave(balancer, number)))
                attempts = sum(len(process.lines) for process in given)
                # A fifth of the wave, then a fifth of that fifth, and again.
                assert attempts <= number * (WAVE * (1 + 0.2 + 0.04 + 0.008) + 3), attempts
            assert balancer.snapshot().retries == attempts - 2 * WAVE > 0


async def test_total_failure_opens_the_breakers(tmp_path: Path) -> None:
    told: list[StateChange] = []
    with processes(tmp_path, 3) as given:
        for process in given:
            await process.does(status=503, delay=0.1)
        balancer = ProxyLoadBalancer(urls(given), retry=Retry(statuses=[503]), on_state_change=told.append)
        async with balancer:
            # That the last response is always handed on is looked at below.
            assert all(refused(end) or answered_503(end) for end in await wave(balancer, 0))
            attempts = sum(len(process.lines) for process in given)
            assert attempts <= 1.2 * WAVE + 3
            for number in (1, 2):
                for end in await wave(balancer, number):
                    assert isinstance(end, NoHealthyTargetError)
                    assert (end.request_sent, end.attempts) == (False, ())
                    assert end.retry_after is not None
                    assert 0 < end.retry_after <= 60
            assert sum(len(process.lines) for process in given) == attempts
        assert sorted((change.target, change.after) for change in told) == sorted((url, "open") for url in urls(given))


async def test_total_failure_hands_the_last_response_on(tmp_path: Path) -> None:
    """docs/retries.md: the last response always is handed on. Four requests, two for each upstream, two open it."""
    with processes(tmp_path, 2) as given:
        for process in given:
            await process.does(status=503, after=1)
        async with ProxyLoadBalancer(urls(given), max_failures=2, retry=Retry(statuses=[503])) as balancer:
            ends = await wave(balancer, 0, 4)
            assert [answered_503(end) for end in ends] == [True] * 4, ends
            assert balancer.snapshot().refused == 0
