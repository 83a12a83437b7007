"""The life of a client: unused, open, closed; in several loops and threads; dropped."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
from client_upstream import LIMIT, Upstream, Visit, answer, client_of, echo, on_loops, replying, run_on
from event_loops import loop_factory

from velithon_proxy import ClientClosedError, ProxyClient, _bridge, _runtime


class FailingFuture(asyncio.Future[Any]):
    """A future that takes no result, and an exception only if it may."""

    may_fail = True

    def set_result(self, result: object) -> None:
        raise LookupError("no result is taken")

    def set_exception(self, exception: Any) -> None:
        if not self.may_fail:
            raise LookupError("no exception either")
        super().set_exception(exception)


@pytest.mark.parametrize("may_fail", [True, False])
def test_a_reply_that_cannot_be_delivered_ends_its_caller(monkeypatch: pytest.MonkeyPatch, may_fail: bool) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    monkeypatch.setattr(FailingFuture, "may_fail", may_fail)

    async def request() -> None:
        async with client_of(replying(echo)) as (client, _):
            loop = asyncio.get_running_loop()
            with monkeypatch.context() as patch:
                patch.setattr(loop, "create_future", lambda: FailingFuture(loop=loop))
                with pytest.raises(LookupError if may_fail else asyncio.CancelledError):
                    await client.forward_request("GET", "/")

    asyncio.run(asyncio.wait_for(request(), LIMIT))
    assert [(told.exc_type, told.exc_traceback is not None) for told in reported] == [(LookupError, True)]


async def held(visit: Visit) -> None:
    """A script that takes a request and never answers."""
    while await visit.request() is not None:
        pass


@on_loops("asyncio", "uvloop")
async def test_a_closed_client_refuses() -> None:
    with Upstream(replying(echo)) as upstream:
        for used in (False, True):
            for close in ("close", "aclose", "async with"):
                client = ProxyClient(upstream.url)
                if used:
                    await client.forward_request("GET", "/")
                if close == "close":
                    client.close()
                elif close == "aclose":
                    await client.aclose()
                else:
                    async with client as entered:
                        assert entered is client
                seen = len(upstream.requests)
                for _ in range(2):
                    with pytest.raises(ClientClosedError) as raised:
                        await client.forward_request("GET", "/")
                    assert raised.value.target == upstream.url
                    assert isinstance(raised.value, RuntimeError)
                with pytest.raises(ClientClosedError):
                    client._snapshot()
                client.close()
                await client.aclose()
                assert len(upstream.requests) == seen


@on_loops("asyncio", "uvloop", "rloop")
async def test_closing_ends_what_is_under_way_and_the_connections() -> None:
    with Upstream(held) as upstream:
        client = ProxyClient(upstream.url)
        tasks = [asyncio.ensure_future(client.forward_request("POST", "/", None, b"x")) for _ in range(700)]
        await upstream.until(lambda: upstream.count("request") == 512)  # the others wait for a connection
        client.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
        assert all(outcome.elapsed < 5 for outcome in outcomes if isinstance(outcome, ClientClosedError))
        sent = [outcome.request_sent for outcome in outcomes if isinstance(outcome, ClientClosedError)]
        assert sent.count(True) == 512
        await upstream.until(lambda: upstream.count("left") == 512)


@on_loops("asyncio", "uvloop")
async def test_closing_while_requests_start_ends_each_of_them() -> None:
    with Upstream(held) as upstream:
        for count in (1, 2, 5, 20, 100, 300) * 5:
            client = ProxyClient(upstream.url, timeout_ms=20_000)
            warm = asyncio.ensure_future(client.forward_request("GET", "/"))
            await asyncio.sleep(0)
            tasks = [asyncio.ensure_future(client.forward_request("GET", "/")) for _ in range(count)]
            await asyncio.sleep(0)  # handed over; the core is about to start them
            client.close()
            async with asyncio.timeout(5):
                outcomes = await asyncio.gather(warm, *tasks, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
        await upstream.until(lambda: upstream.count("left") + upstream.count("broken") == upstream.connections)


async def test_closing_lets_idle_connections_go() -> None:
    with Upstream(replying(echo)) as upstream:
        async with ProxyClient(upstream.url) as client:
            await asyncio.gather(*(client.forward_request("GET", "/") for _ in range(20)))
        await upstream.until(lambda: upstream.count("left") == upstream.connections)


async def test_one_client_closed_leaves_another_to_the_same_upstream_alone() -> None:
    with Upstream(replying(echo)) as upstream:
        first, second = ProxyClient(upstream.url), ProxyClient(upstream.url)
        await asyncio.gather(first.forward_request("GET", "/"), second.forward_request("GET", "/"))
        first.close()
        assert (await second.forward_request("GET", "/still")).headers["x-target"] == "/still"
        second.close()


async def test_repr_says_the_state() -> None:
    with Upstream(replying(answer())) as upstream:
        client = ProxyClient(upstream.url)
        assert repr(client) == f"<ProxyClient '{upstream.url}' (unused)>"
        await client.forward_request("GET", "/")
        assert repr(client) == f"<ProxyClient '{upstream.url}' (open)>"
        client.close()
        assert repr(client) == f"<ProxyClient '{upstream.url}' (closed)>"
        never = ProxyClient(upstream.url)
        never.close()
        assert "closed" in repr(never)


async def test_a_client_that_is_dropped_open_warns_and_closes_its_connections() -> None:
    with Upstream(replying(answer())) as upstream:
        client = ProxyClient(upstream.url)
        await client.forward_request("GET", "/")
        clients = [client]
        del client
        with pytest.warns(ResourceWarning, match=f"unclosed <ProxyClient '{upstream.url}'"):
            clients.clear()
        await upstream.until(lambda: upstream.count("left") == 1)
        unused = ProxyClient(upstream.url)
        del unused  # holds nothing: no warning, which would be an error here
        gc.collect()


@pytest.mark.filterwarnings("error", "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
async def test_a_client_that_is_dropped_closes_its_connections_also_where_warnings_are_errors() -> None:
    with Upstream(replying(answer())) as upstream:
        clients = [ProxyClient(upstream.url)]
        await clients[0].forward_request("GET", "/")
        clients.clear()
        await upstream.until(lambda: upstream.count("left") == 1)


async def test_a_client_is_not_copied() -> None:
    async with client_of(replying(answer())) as (client, _):
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                attempt(client)
        assert (await client.forward_request("GET", "/")).status == 200


async def test_counts_are_told() -> None:
    async with client_of(replying(answer())) as (client, upstream):
        zeros = {"connections": 0, "idle": 0, "in_flight": 0, "calls": 0, "failures": 0}
        unused = client._snapshot()
        assert unused.items() >= zeros.items()
        assert [target["target"] for target in unused["targets"]] == [upstream.url]
        for _ in range(3):
            await client.forward_request("GET", "/")
        with pytest.raises(ValueError, match="path"):
            await client.forward_request("GET", "bad")
        state = client._snapshot()
        assert (state["calls"], state["failures"], state["connections"], state["in_flight"]) == (4, 1, 1, 0)


def test_one_client_serves_one_loop_after_another() -> None:
    with Upstream(replying(echo)) as upstream:
        client = ProxyClient(upstream.url)

        async def main() -> None:
            for _ in range(3):
                await client.forward_request("GET", "/")

        for name in ("asyncio", "uvloop", "asyncio", "asyncio", "uvloop"):
            run_on(name, main())
        assert upstream.connections == 1  # connections belong to the client, not to a loop
        client.close()


def test_one_client_serves_loops_in_several_threads() -> None:
    with Upstream(replying(echo)) as upstream:
        client = ProxyClient(upstream.url)
        failures: list[BaseException] = []

        def run(name: str, number: int) -> None:
            async def caller(part: int) -> None:
                for turn in range(20):
                    path = f"/{number}/{part}/{turn}"
                    response = await client.forward_request("POST", path, None, path * (1 + turn * 300))
                    assert (response.headers["x-target"], response.body) == (path, (path * (1 + turn * 300)).encode())

            async def main() -> None:
                await asyncio.gather(*(caller(part) for part in range(10)))

            try:
                run_on(name, main())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(name, n)) for n, name in enumerate(["asyncio", "uvloop"] * 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert not failures
        client.close()


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_a_loop_closed_with_requests_under_way_leaves_the_client_usable(name: str) -> None:
    async def script(visit: Visit) -> None:
        while (request := await visit.request()) is not None:
            if request.target == b"/held":
                await visit.left()
                return
            await visit.send(answer(b"x" * 100_000))

    with Upstream(script) as upstream:
        client = ProxyClient(upstream.url)
        for turn in range(5):
            loop = loop_factory(name)()
            loop.set_exception_handler(lambda *_: None)  # tasks are destroyed while they are pending: that is meant

            async def leave(turn: int = turn) -> list[Any]:
                tasks = [asyncio.ensure_future(client.forward_request("GET", path)) for path in ("/held", "/") * 5]
                await upstream.until(lambda: [r.target for r in upstream.requests].count(b"/held") == 5 * (turn + 1))
                return tasks

            tasks = loop.run_until_complete(leave())
            loop.close()
            del tasks, loop
            gc.collect()

            async def again(turn: int = turn) -> None:
                assert (await client.forward_request("GET", "/")).body == b"x" * 100_000
                # What the loop had left behind is cancelled as soon as another loop is there.
                await upstream.until(lambda: upstream.count("left") >= 5 * (turn + 1))

            run_on(name, again())
        client.close()


def test_without_a_running_loop_a_call_says_so() -> None:
    client = ProxyClient("http://127.0.0.1:1")
    coroutine = client.forward_request("GET", "/")
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)
    client.close()


@on_loops("asyncio", "uvloop")
async def test_a_panic_in_the_core_is_an_answer_like_any_other() -> None:
    async with client_of(replying(echo)) as (client, _):
        await client.forward_request("GET", "/")
        before = _bridge.stats()["panics"]
        loop = asyncio.get_running_loop()
        for turn in range(3):
            future = loop.create_future()
            _runtime.channel_of(loop).measure(future, 5, 0, 0)
            code, _, _, message, *_ = await future
            assert code == 16
            assert "provoked by the caller" in message
            assert _bridge.stats()["panics"] == before + turn + 1
            await client.forward_request("GET", "/")


async def test_requests_that_are_over_leave_nothing_in_the_core() -> None:
    async with client_of(replying(echo)) as (client, _):
        await client.forward_request("GET", "/")
        before = _bridge.stats()
        for _ in range(5):
            await asyncio.gather(*(client.forward_request("POST", "/", None, b"x" * 200_000) for _ in range(20)))
        after = _bridge.stats()
        assert (after["in_flight"], after["core_in_flight"]) == (before["in_flight"], before["core_in_flight"])
        assert after["nodes"] <= before["nodes"] + 20


def _python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NOT_LOADED = """
import os, threading
def check():
    assert "libvelithonproxy" not in open("/proc/self/maps").read()
    assert len(os.listdir("/proc/self/task")) == 1
check()
import velithon_proxy
check()
"""


def test_configuration_errors_come_before_the_core_is_loaded() -> None:
    code = f"""{NOT_LOADED}
from velithon_proxy import ConfigurationError, InvalidTargetError, ProxyClient
for target in ("", "x", "ftp://x", "http://", "http://a b", "http://u:p@h", "http://h/p", "http://h?q", 3):
    try:
        ProxyClient(target)
        raise SystemExit(f"{{target!r}} was taken")
    except InvalidTargetError as error:
        assert isinstance(error, ValueError) and "target_url" in str(error), error
    check()
for name, values in dict(timeout_ms=(0, -1, 1.5, "5", True, 86_400_001), max_retries=(-1, 11, "3", False),
                         max_failures=(0, -1, 2**31, "1"), recovery_timeout_ms=(0, -5, 86_400_001, 1.0)).items():
    for value in values:
        try:
            ProxyClient("http://h", **{{name: value}})
            raise SystemExit(f"{{name}}={{value!r}} was taken")
        except ConfigurationError as error:
            assert name in str(error), error
            assert error.field == name
        check()
try:
    ProxyClient("http://h", unknown=1)
    raise SystemExit("taken")
except TypeError:
    pass
client = ProxyClient("http://127.0.0.1:1", 5000, 1, 2, 3)
repr(client)
client.close()
check()
print("ok")
"""
    assert _python(code) == "ok"


def test_the_first_request_loads_the_core() -> None:
    code = f"""{NOT_LOADED}
import asyncio
from velithon_proxy import ConnectError, ProxyClient
client = ProxyClient("http://127.0.0.1:1")
async def main():
    check()
    try:
        await client.forward_request("GET", "/")
    except ConnectError:
        pass
    assert "libvelithonproxy" in open("/proc/self/maps").read()
    client.close()
asyncio.run(main())
print("ok")
"""
    assert _python(code) == "ok"
