"""Scripts: interpreters that end with requests under way. Each prints the time at which it set out to end."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from typing import Any

from event_loops import loop_factory
from isolated_scripts import client, new_name, run, use_once, wait_seen, works

from velithon_proxy import ProxyClient
from velithon_proxy._pool import Pool

CODE = 3


def _leaving() -> None:
    print(f"{time.monotonic():.6f}", flush=True)


def _paths(name: str) -> list[tuple[str, bytes]]:
    """Requests in every state, small and large, up and down."""
    return [
        (f"/hold?name={name}", b""),
        (f"/head?name={name}", b"b" * 1000),
        (f"/body?size=300&sent=100&name={name}", b""),
        (f"/body?size=1048576&sent=100000&name={name}", b""),  # the core asks the loop for memory
        (f"/bytes?size=1048576&name={name}", b""),  # as well
        (f"/deaf?name={name}", bytes(16 << 20)),  # the core reads this memory
    ]


async def _begin(one: ProxyClient) -> list[Any]:
    await works(one)
    name = new_name()
    paths = [path for path in _paths(name) for _ in range(10)]
    # Without tasks, which would have their own last words.
    coroutines = [one.forward_request("POST", path, body=body) for path, body in paths]
    futures = [coroutine.send(None) for coroutine in coroutines]
    wait_seen(name, len(paths))
    return [coroutines, futures, one]


#: Alive until the interpreter takes its modules apart.
KEPT: list[Any] = []


def _in_flight(loop: str) -> asyncio.AbstractEventLoop:
    one = client()
    running = loop_factory(loop)()
    KEPT.extend((running, one, running.run_until_complete(_begin(one))))
    Pool.__del__ = lambda _: None  # type: ignore[method-assign]  # its ResourceWarning is right, and not what is tested
    return running


def sys_exit(loop: str) -> None:
    _in_flight(loop)
    _leaving()
    sys.exit(CODE)


def sys_exit_with_a_closed_loop(loop: str) -> None:
    _in_flight(loop).close()
    _leaving()
    sys.exit(CODE)


def os_exit(loop: str) -> None:
    _in_flight(loop)
    _leaving()
    os._exit(CODE)


def exit_inside_a_coroutine(loop: str) -> None:
    async def main() -> None:
        one = client()
        KEPT.append(await _begin(one))
        Pool.__del__ = lambda _: None  # type: ignore[method-assign]
        _leaving()
        sys.exit(CODE)

    asyncio.Runner(loop_factory=loop_factory(loop)).run(main())


def exit_of_asyncio_run(loop: str) -> None:
    """asyncio.run() cancels its tasks on the way out."""

    async def main() -> None:
        one = client()
        name = new_name()
        KEPT.extend(
            asyncio.ensure_future(one.forward_request("POST", path, body=body))
            for path, body in _paths(name)
            for _ in range(10)
        )
        await asyncio.sleep(0)
        wait_seen(name, len(KEPT))
        one.close()
        _leaving()
        sys.exit(CODE)

    run(main(), loop)


def raised(loop: str) -> None:
    _in_flight(loop)
    _leaving()
    raise SystemExit(CODE) from ValueError()


def daemon_thread(loop: str) -> None:
    """A thread that nobody waits for has its own loop, and goes on asking while the interpreter ends."""
    busy = threading.Event()

    async def forever(one: ProxyClient) -> None:
        for count in range(1 << 30):
            await one.forward_request("GET", "/small" if count % 10 else "/bytes?size=100000")
            if count == 50:
                busy.set()

    async def main() -> None:
        one = client()
        Pool.__del__ = lambda _: None  # type: ignore[method-assign]
        await asyncio.gather(*(forever(one) for _ in range(8)))

    threading.Thread(target=lambda: run(main(), loop), daemon=True).start()
    assert busy.wait(10)
    _leaving()
    sys.exit(CODE)


def daemon_thread_at_rest(loop: str) -> None:
    """The same with requests that nobody answers."""
    begun = threading.Event()

    async def main() -> None:
        one = client()
        Pool.__del__ = lambda _: None  # type: ignore[method-assign]
        KEPT.append(await _begin(one))
        begun.set()
        await asyncio.get_running_loop().create_future()

    threading.Thread(target=lambda: run(main(), loop), daemon=True).start()
    assert begun.wait(10)
    _leaving()
    sys.exit(CODE)


def exit_in_another_thread(loop: str) -> None:
    """sys.exit() in a thread ends the thread; the process ends with the main thread's code."""

    def work() -> None:
        _in_flight(loop)
        sys.exit(9)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    _leaving()
    sys.exit(CODE)


def requests_at_exit(loop: str) -> None:
    """Functions that were registered before the core was loaded run after it was shut down, and may use it again."""

    def last() -> None:
        run(use_once(), loop)
        _in_flight(loop)
        print("used at exit", flush=True)

    atexit.register(last)
    _in_flight(loop)
    atexit.register(lambda: run(use_once(), loop))
    _leaving()
    sys.exit(CODE)


def without_a_word(loop: str) -> None:
    """The end of the script is the end of the process."""
    _in_flight(loop)
    _leaving()
