"""Scripts: requests whose callers go away, at every point of their life."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from isolated_scripts import (
    PATIENCE,
    client,
    descriptors,
    new_name,
    nothing_in_flight,
    run,
    settled,
    stats,
    turns,
    wait_left,
    wait_seen,
    works,
)
from isolated_upstream import pattern

from velithon_proxy import ProxyClient, ProxyResponse

AT_ONCE = 0.5
"""Seconds within which a cancelled request has ended. It is a matter of microseconds; the machine may be busy."""


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a task that is under way, and see that it ends at once and as cancelled."""
    start = time.monotonic()
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()
    assert time.monotonic() - start < AT_ONCE


async def _bystander(one: ProxyClient, going: list[bool]) -> int:
    """Requests that nobody cancels: a cancel that hits another one would end them."""
    count = 0
    while going:
        name = str(random.random()).encode()
        response = await one.forward_request("POST", "/echo", body=name)
        assert response.body == name
        count += 1
    return count


_Request = Callable[[ProxyClient], Awaitable[ProxyResponse]]
SWEPT: dict[str, tuple[_Request, bytes]] = {
    "small": (lambda one: one.forward_request("GET", "/small"), b"x" * 100),
    "reply-1mb": (lambda one: one.forward_request("GET", "/bytes?size=1048576"), pattern(1 << 20)),
    "body-1mb": (lambda one: one.forward_request("POST", "/echo", body=pattern(1 << 20)), pattern(1 << 20)),
}
ENDED_IN_A_ROW = 5


def sweep(what: str, loop: str) -> None:
    """Cancel after k turns of the event loop, for k from 0 to where the request is over before."""
    request, body = SWEPT[what]

    async def once(one: ProxyClient, count: int) -> bool:
        task = asyncio.ensure_future(request(one))
        await turns(count)
        if task.done():
            assert (await task).body == body
            return True
        await _cancelled(task)
        return False

    async def sweep_on(one: ProxyClient) -> int:
        going = [True]
        others = [asyncio.ensure_future(_bystander(one, going)) for _ in range(4)]
        ended, count, cancelled = 0, 0, 0
        while ended < ENDED_IN_A_ROW:
            over = await once(one, count)
            cancelled += not over
            ended = ended + 1 if over else 0
            # Every turn at first, then wider steps: a request of 1 MB takes thousands of turns.
            count += max(1, count // 20)
        going.clear()
        assert sum(await asyncio.gather(*others)) > 0
        await settled()
        return cancelled

    async def main() -> None:
        # Over connections that are there, and with a new one to be made each time.
        one = client()
        cancelled = await sweep_on(one)
        while cancelled <= 20:  # on a busy machine a request may be over within a few turns
            cancelled += await sweep_on(one)
        await works(one)
        one.close()
        for count in [*range(20), *range(20, 200, 12)]:
            one = client()
            await once(one, count)
            one.close()
        await settled()

    run(main(), loop)


PHASES: dict[str, tuple[str, str, bytes]] = {
    "hold": ("GET", "/hold?", b""),
    "head": ("GET", "/head?", b""),
    "body": ("GET", "/body?size=1000&sent=10&", b""),
    "large-body": ("GET", "/body?size=1048576&sent=300000&", b""),
    "large-body-begun": ("GET", "/body?size=1048576&sent=0&", b""),
    "upload": ("POST", "/deaf?", bytes(32 << 20)),
}


def phases(what: str, loop: str) -> None:
    """Cancel while the upstream has the request: it sees the connection end, and the next request works."""
    method, path, body = PHASES[what]

    async def main() -> None:
        one = client()
        await works(one)
        for count in (0, 1, 2, 5, 20, 100):
            name = new_name()
            task = asyncio.ensure_future(one.forward_request(method, f"{path}name={name}", body=body))
            await turns(2)
            wait_seen(name)
            await turns(count)
            await _cancelled(task)
            if what.startswith("large"):
                await settled()  # the core may be waiting for memory, which the event loop gives it
            wait_left(name)
            await settled()
            await works(one)
        assert one._snapshot()["connections"] == 1
        one.close()

    run(main(), loop)


def dial(loop: str) -> None:
    """Cancel while the connection is being made, to an address that never answers."""

    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            full = [socket.socket() for _ in range(3)]  # more than the backlog takes: the next SYN is dropped
            for filler in full:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            one = ProxyClient("http://{}:{}".format(*listener.getsockname()))
            for count in (0, 1, 2, 5, 20, 100, 2000):
                tasks = [asyncio.ensure_future(one.forward_request("GET", "/")) for _ in range(3)]
                await turns(count)
                for task in tasks:
                    assert not task.done()
                    await _cancelled(task)
                await settled()
            assert one._snapshot()["connections"] == 0
            one.close()
            for filler in full:
                filler.close()

    run(main(), loop)


def waiting_for_a_connection(loop: str) -> None:
    """Cancel requests that wait until another one gives up its connection."""

    async def main() -> None:
        one, name = client(), new_name()
        await works(one)
        held = [asyncio.ensure_future(one.forward_request("GET", f"/hold?name={name}")) for _ in range(512)]
        await turns(2)
        wait_seen(name, 512)
        for count in (0, 1, 2, 50):
            waiting = [asyncio.ensure_future(one.forward_request("GET", f"/hold?name={name}")) for _ in range(100)]
            await turns(count)
            random.shuffle(waiting)
            for task in waiting:
                await _cancelled(task)
        last = asyncio.ensure_future(one.forward_request("GET", "/small"))
        await turns(20)
        assert not last.done()
        await _cancelled(held.pop())
        assert (await asyncio.wait_for(last, PATIENCE)).status == 200
        for task in held:
            task.cancel()
        await asyncio.wait(held)
        wait_left(name, 512)
        await settled()
        one.close()

    run(main(), loop)


def coroutine_closed(loop: str) -> None:
    """A coroutine that is thrown away in the middle cancels its request as well."""

    async def main() -> None:
        one, name = client(), new_name()
        coroutine = one.forward_request("GET", f"/hold?name={name}")
        coroutine.send(None)
        wait_seen(name)
        coroutine.close()
        wait_left(name)
        await settled()
        coroutine = one.forward_request("GET", f"/hold?name={name}")
        coroutine.send(None)
        wait_seen(name, 2)
        del coroutine
        wait_left(name, 2)
        await settled()
        one.close()

    run(main(), loop)


def timed_out(loop: str) -> None:
    """asyncio's own time limits cancel, too."""

    async def main() -> None:
        one, name = client(), new_name()
        for index in range(1, 6):
            try:
                async with asyncio.timeout(0.02):
                    await one.forward_request("GET", f"/hold?name={name}")
            except TimeoutError:
                wait_left(name, index)
            else:
                raise AssertionError("no timeout")
            await works(one)
        await settled()
        one.close()

    run(main(), loop)


def resolved_and_cancelled_in_one_turn(loop: str) -> None:
    """A request that is cancelled after its reply has come, and before its caller runs again: the late cancel goes
    nowhere, also when another request has taken the place of the finished one."""

    async def main() -> None:
        one = client()
        running = asyncio.get_running_loop()
        for _ in range(200):
            coroutine = one.forward_request("GET", "/small")
            future = coroutine.send(None)
            resolved = running.create_future()
            future.add_done_callback(lambda _, resolved=resolved: resolved.set_result(None))
            await resolved
            others = [asyncio.ensure_future(one.forward_request("GET", "/small")) for _ in range(3)]
            await turns(1)
            try:
                coroutine.throw(asyncio.CancelledError())
            except asyncio.CancelledError:
                pass
            else:
                raise AssertionError("the cancellation was lost")
            for task in others:
                assert (await asyncio.wait_for(task, PATIENCE)).status == 200
        await settled()
        one.close()

    run(main(), loop)


def ten_thousand(loop: str) -> None:
    """10,000 requests, cancelled in any order and state, leave nothing."""

    async def main() -> None:
        one = client()
        await works(one)
        before: dict[str, int] = {}
        for round_ in range(10):
            name = new_name()
            paths = (f"/hold?name={name}", "/small", f"/body?size=100000&sent=70000&name={name}", "/bytes?size=70000")
            tasks = [asyncio.ensure_future(one.forward_request("GET", paths[i % 4])) for i in range(1000)]
            await turns(random.choice([1, 2, 3, 10, 50]))
            random.shuffle(tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() or task.result().status == 200 for task in tasks)
            assert sum(task.cancelled() for task in tasks) >= 500
            await settled()
            await settled(lambda: one._snapshot()["connections"] == one._snapshot()["idle"], "without connections")
            if round_ == 4:
                before = stats()
        assert stats()["nodes"] == before["nodes"] <= 2100, stats()
        await works(one)
        one.close()
        await settled(lambda: nothing_in_flight() and stats()["goroutines"] < 20, "few goroutines")
        await settled(lambda: descriptors() < 40, "few descriptors")

    run(main(), loop)
