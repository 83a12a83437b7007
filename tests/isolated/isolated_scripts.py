"""What the scripts share: event loops, the upstream and its ledger, and what a process holds.

Only for the interpreters that isolated_main.py runs in. Importing it does not import velithon_proxy.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from event_loops import loop_factory

if TYPE_CHECKING:
    from velithon_proxy import ProxyClient

T = TypeVar("T")
PATIENCE = 10.0
"""Seconds for something that happens at once; only a hang takes that long."""

PORT = int(os.environ["UPSTREAM_PORT"])
URL = f"http://127.0.0.1:{PORT}"


def run(main: Coroutine[Any, Any, T], loop: str = "asyncio") -> T:
    """Run a coroutine on a new loop of that kind, and see that nothing came to the loop's exception handler."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.get_loop().set_exception_handler(
            lambda *given: complaints.append(given[-1])
        )  # rloop gives the context alone
        result = runner.run(main)
    assert not complaints, complaints
    return result


def client(**options: Any) -> ProxyClient:
    from velithon_proxy import ProxyClient

    return ProxyClient(URL, **options)


async def works(client: ProxyClient) -> None:
    """One request that must succeed."""
    async with asyncio.timeout(PATIENCE):
        response = await client.forward_request("GET", "/small")
    assert (response.status, response.body) == (200, b"x" * 100)


async def use_once(loop: str = "asyncio") -> None:
    async with client() as one:
        await works(one)


# The ledger. These calls block: the upstream and the core go on meanwhile, the event loop does not.


def _control(what: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
    try:
        connection.request("GET", f"/control/{what}")
        return connection.getresponse().read()
    finally:
        connection.close()


def wait_seen(name: str, count: int = 1) -> None:
    """Wait until the upstream has the heads of that many requests of the name."""
    _control(f"wait?kind=seen&name={name}&count={count}")


def wait_left(name: str, count: int = 1) -> None:
    """Wait until that many requests of the name were cut off."""
    _control(f"wait?kind=left&name={name}&count={count}")


def count_seen(name: str) -> int:
    return int(_control(f"count?kind=seen&name={name}"))


def open_gate(name: str) -> None:
    _control(f"open?name={name}")


_names = 0


def new_name() -> str:
    """A name for the ledger that no other process uses."""
    global _names
    _names += 1
    return f"{os.getpid()}-{_names}"


# What a process holds.


def stats() -> dict[str, int]:
    from velithon_proxy import _bridge

    return _bridge.stats()


def nothing_in_flight() -> bool:
    counters = stats()
    return counters["in_flight"] == 0 and counters["core_in_flight"] == 0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that happens without the event loop."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not {what} after {PATIENCE:.0f} s: {stats()}"
        time.sleep(0.001)


async def settled(condition: Callable[[], bool] = nothing_in_flight, what: str = "empty") -> None:
    """Let the event loop turn until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not {what} after {PATIENCE:.0f} s: {stats()}"
        await asyncio.sleep(0.001)


async def turns(count: int) -> None:
    """Let the event loop turn that often."""
    for _ in range(count):
        await asyncio.sleep(0)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def rss_kb() -> int:
    """Resident memory; the exact count, which /proc/self/statm is not."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise AssertionError("no Rss in smaps_rollup")


def core_loaded() -> bool:
    return "libvelithonproxy" in Path("/proc/self/maps").read_text()


def collected() -> None:
    """Collect garbage until there is none."""
    while gc.collect():
        pass


def in_child(body: Callable[[], None]) -> int:
    """Fork, run the body in the child, and return the child's exit code; 77 if the body failed."""
    pid = os.fork()
    if pid == 0:
        run_child(body)
    return exit_code(pid)


def run_child(body: Callable[[], None]) -> NoReturn:
    """The child's side of a fork: it never returns to what its parent was doing."""
    code = 77
    try:
        body()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait for a child, with a limit."""
    end = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise AssertionError(f"the child did not end within {PATIENCE:.0f} s")
        time.sleep(0.002)
