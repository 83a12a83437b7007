"""Scripts: event loops that end, are replaced, are many, or are lost while requests are under way."""

from __future__ import annotations

import asyncio
import gc
import select
import threading
import time
import weakref
from typing import Any

from event_loops import loop_factory
from isolated_scripts import (
    PATIENCE,
    client,
    collected,
    descriptors,
    new_name,
    nothing_in_flight,
    open_gate,
    run,
    settled,
    stats,
    use_once,
    wait_left,
    wait_seen,
    wait_until,
    works,
)
from isolated_upstream import pattern

from velithon_proxy import ProxyClient, _bridge, _runtime


class Pending:
    """Requests in every state, on a loop that will not see their ends."""

    def __init__(self, one: ProxyClient, loop: asyncio.AbstractEventLoop) -> None:
        self.name = new_name()
        paths = (
            f"/hold?name={self.name}",
            f"/body?size=500&sent=100&name={self.name}",
            f"/body?size=1048576&sent=100000&name={self.name}",  # the core asks the loop for memory
            f"/bytes?size=1048576&name={self.name}",  # as well
            f"/bytes?size=100&name={self.name}",  # has its reply
        )
        bodies = [b"", bytes(100_000)]
        self.count = len(paths) * len(bodies)
        self.left = 2 * len(bodies)  # those that the upstream would notice the end of, without the large ones
        self.large_left = len(bodies)
        self.coroutines = [one.forward_request("POST", path, body=body) for path in paths for body in bodies]
        self.futures: list[asyncio.Future[Any]] = []
        loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        # Without tasks: asyncio would remark on each of them that it was pending.
        self.futures = [coroutine.send(None) for coroutine in self.coroutines]
        wait_seen(self.name, self.count)
        channel = _runtime.channel_of(asyncio.get_running_loop())
        assert select.select([channel.fileno()], [], [], PATIENCE)[0]

    def forget(self) -> None:
        for coroutine in self.coroutines:
            coroutine.close()
        self.coroutines.clear()
        self.futures.clear()


def closed_in_flight(loop: str) -> None:
    """A loop that is closed over its requests; the same client on the next loop works, and they are all given up."""
    one = client()
    for round_ in range(4):
        first = loop_factory(loop)()
        pending = Pending(one, first)
        first.close()
        before = [future.done() for future in pending.futures]
        assert not all(before)
        run(_use_until_empty(one), loop)
        wait_left(pending.name, pending.left + pending.large_left)
        assert [future.done() for future in pending.futures] == before
        if round_ % 2:
            pending.forget()
        assert nothing_in_flight()
    one.close()


async def _use_until_empty(one: ProxyClient) -> None:
    """Requests of another loop; while they run, what an ended loop has left behind is taken back."""
    end = time.monotonic() + PATIENCE / 2
    while not nothing_in_flight():
        await works(one)
        assert time.monotonic() < end, f"requests of a closed loop are still held: {stats()}"
    await works(one)


def forgotten_before_the_loop_is_closed(loop: str) -> None:
    """Requests that are cancelled, and whose loop then ends before it sees them come back, as asyncio.run() does it."""
    one = client()
    for _ in range(4):
        first = loop_factory(loop)()
        pending = Pending(one, first)
        pending.forget()
        wait_left(pending.name, pending.left)
        first.close()
        run(_use_until_empty(one), loop)
        wait_left(pending.name, pending.left + pending.large_left)
    one.close()


def stopped_and_started_again(loop: str) -> None:
    """A loop that rests with requests in flight finds their replies when it runs again."""
    one = client()
    first = loop_factory(loop)()
    name = new_name()
    sizes = [10, 70_000, 1_000_000]
    coroutines = [one.forward_request("GET", f"/gate?size={size}&name={name}") for size in sizes]

    async def begin() -> list[asyncio.Future[Any]]:
        return [coroutine.send(None) for coroutine in coroutines]

    async def end() -> list[int]:
        return [len(reply[3]) for reply in await asyncio.gather(*futures)]

    futures = first.run_until_complete(begin())
    wait_seen(name, len(sizes))
    open_gate(name)
    run(works(one), loop)  # meanwhile the client works elsewhere
    assert first.run_until_complete(asyncio.wait_for(end(), PATIENCE)) == sizes
    for coroutine in coroutines:
        coroutine.close()
    first.close()
    one.close()


def run_twice(loop: str) -> None:
    """asyncio.run() again and again, with one client, with one for each, and with requests that were left alone."""
    one = client()
    for _ in range(3):
        run(works(one), loop)
        run(use_once(), loop)

    async def leave(name: str) -> None:
        for size in (5, 100_000):
            background.append(asyncio.ensure_future(one.forward_request("GET", f"/gate?size={size}&name={name}")))
        await works(one)
        wait_seen(name, 2)

    for _ in range(3):
        background: list[asyncio.Task[Any]] = []
        name = new_name()
        run(leave(name), loop)
        assert all(task.cancelled() for task in background)
        run(works(one), loop)
        wait_left(name, 2)
    run(_use_until_empty(one), loop)
    one.close()


def two_threads(loop: str) -> None:
    """Two loops in two threads, and one client for both: each gets the replies of its own requests."""
    one = client()
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    async def work(thread: int, worker: int) -> None:
        for count in range(60):
            size = 100_000 if count % 20 == 0 else 40
            body = f"{thread} {worker} {count} ".encode().ljust(size)
            response = await one.forward_request("POST", "/echo", body=body)
            assert response.body == body

    async def work_all(thread: int) -> None:
        await asyncio.gather(*(work(thread, worker) for worker in range(16)))
        await works(one)

    def main(thread: int) -> None:
        barrier.wait(PATIENCE)
        try:
            for _ in range(2):
                run(asyncio.wait_for(work_all(thread), 3 * PATIENCE), loop)
        except BaseException as error:
            failures.append(error)
            raise

    both = [threading.Thread(target=main, args=(index,)) for index in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not failures
    run(_use_until_empty(one), loop)
    one.close()


def closed_from_another_thread(loop: str) -> None:
    """Closing a client ends its requests on other threads' loops."""
    from velithon_proxy import ClientClosedError

    one = client()
    name = new_name()
    outcome: list[list[Any]] = []

    async def hold() -> None:
        paths = (f"/hold?name={name}", f"/body?size=1048576&sent=9&name={name}")
        outcome.append(
            await asyncio.gather(*(one.forward_request("GET", path) for path in paths), return_exceptions=True)
        )

    thread = threading.Thread(target=lambda: run(hold(), loop))
    thread.start()
    wait_seen(name, 2)
    one.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [type(error) for error in outcome[0]] == [ClientClosedError] * 2


def collected_with_its_client(loop: str) -> None:
    """Nothing keeps a loop that has ended: neither the package nor, once it is used elsewhere, the client. (rloop 0.5
    never lets go of a loop.)"""
    kept = client()
    gone: list[weakref.ref[Any]] = []
    run(use_once(), loop)
    collected()
    for _ in range(3):
        one = loop_factory(loop)()
        one.run_until_complete(works(kept))
        one.close()
        gone.append(weakref.ref(one))
        del one
    run(works(kept), loop)
    collected()
    assert [ref() for ref in gone] == [None] * 3
    kept.close()


def dropped_unclosed(loop: str) -> None:
    """A loop that is neither closed nor used any more goes, with its descriptors, once its client is gone. (uvloop does
    not let go of a loop that was not closed.)"""
    import warnings

    warnings.filterwarnings("ignore", "unclosed event loop", ResourceWarning)
    run(use_once(), loop)

    def use_and_drop() -> weakref.ref[Any]:
        one, unclosed = client(), loop_factory(loop)()
        unclosed.run_until_complete(works(one))
        one.close()
        return weakref.ref(unclosed)

    use_and_drop()
    collected()
    before = descriptors()
    gone = [use_and_drop() for _ in range(5)]
    collected()
    assert [ref() for ref in gone] == [None] * 5
    _bridge.reap()
    wait_until(lambda: descriptors() <= before, f"back to {before} descriptors")


def a_loop_for_each_test(loop: str) -> None:
    """As a test suite does it, with a client that is left open by each: descriptors and nodes stay bounded."""
    import warnings

    warnings.filterwarnings("ignore", "unclosed <ProxyClient", ResourceWarning)

    def once() -> None:
        one = client()
        first = loop_factory(loop)()
        pending = Pending(one, first)
        pending.forget()
        first.close()

    for _ in range(3):
        once()
    gc.collect()
    run(_use_until_empty(client()), loop)
    gc.collect()
    before, nodes = descriptors(), stats()["nodes"]
    for _ in range(20):
        once()
    gc.collect()
    run(_use_until_empty(client()), loop)
    gc.collect()
    wait_until(lambda: descriptors() <= before + 4, f"back to {before} descriptors")
    assert stats()["nodes"] <= 2 * nodes


def without_add_reader() -> None:
    """A loop that cannot watch descriptors is refused with its own error, and nothing stays behind."""

    class Proactor(asyncio.SelectorEventLoop):
        def add_reader(self, *_: Any) -> Any:
            raise NotImplementedError

    run(use_once())
    before = descriptors()
    for _ in range(20):
        one = client()
        loop = Proactor()
        loop._add_reader = lambda *_: None  # what asyncio itself uses is not what is tested
        try:
            loop.run_until_complete(one.forward_request("GET", "/small"))
        except NotImplementedError:
            pass
        else:
            raise AssertionError("a request without a reader")
        loop.close()
    collected()
    run(use_once())
    # The runtime itself opens a few when it likes; a leak would be one for each of the loops.
    wait_until(lambda: descriptors() <= before + 4, f"back to {before} descriptors")


def many_at_once(loop: str) -> None:
    """20 loops, one after the other in one thread and all alive: each has its own wake-up."""
    one = client()
    loops = [loop_factory(loop)() for _ in range(20)]
    for _ in range(2):
        for each in loops:
            each.run_until_complete(works(one))
    for each in loops:
        each.close()
    run(_large(one), loop)
    one.close()


async def _large(one: ProxyClient) -> None:
    response = await one.forward_request("GET", "/bytes?size=1000000")
    assert response.body == pattern(1_000_000)
    await settled()
