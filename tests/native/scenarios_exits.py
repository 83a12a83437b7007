"""Forks, signals, and the end of the process while requests are under way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from typing import Any

from fake_border import (
    CORE,
    PATIENCE,
    Border,
    ProxyClient,
    _bridge,
    exits_with_seven,
    raises,
    reply_body,
    run,
    settle,
)

from velithon_proxy import ForkedProcessError


def _exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked_child() -> None:
    """A child of a process that has used the core is told so at each call; the parent goes on."""

    async def main() -> None:
        border = Border()
        client = ProxyClient("http://fake")
        held, tokens = zip(*(border.submit("/?hold=1") for _ in range(5)), strict=True)
        await client.forward_request("GET", "/")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _in_child(border, tokens[0])
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert _exit_code(child) == 0
        assert (await border.request("/?direct=70000&after=100"))[3] == reply_body(70_000)
        assert (await client.forward_request("GET", "/?body=4")).body == reply_body(4)
        client.close()
        assert not any(future.done() for future in held)
        border.close()

    def _in_child(border: Border, token: int) -> None:
        error = ForkedProcessError
        future = border.loop.create_future()
        raises(error, border.channel.submit, future, border.pool, "GET", "/", None, None, 0, 0)
        raises(error, border.channel.measure, future, 4, 0, 0)
        raises(error, border.channel.drain)
        border.channel.cancel(token)  # silent: an error would hide why the caller cancels
        raises(error, _bridge.Channel)
        raises(error, _bridge.pool_new, b"{}")
        raises(error, _bridge.pool_snapshot, 1)
        raises(error, _bridge.stats)
        raises(error, _bridge.load, str(CORE), 0, 0, 0)
        _bridge.pool_close(border.pool)
        _bridge.reap()
        border.channel.close()
        _bridge.reap()
        grandchild = os.fork()
        if grandchild == 0:
            raises(error, _bridge.Channel)
            os._exit(0)
        assert _exit_code(grandchild) == 0

    run(main())
    settle()


def forked_child_that_ends_itself() -> None:
    """A forked child may end the ordinary way, with everything that is run at exit."""

    async def main() -> None:
        client = ProxyClient("http://fake")
        await client.forward_request("GET", "/")
        child = os.fork()
        if child == 0:
            sys.exit(4)
        assert _exit_code(child) == 4
        await client.forward_request("GET", "/?after=100")
        client.close()

    run(main())


async def _pending() -> list[asyncio.Task[Any]]:
    client = ProxyClient("http://fake")
    paths = (
        "/?hold=1",
        "/?hold=1&deaf=1&body=70000",
        "/?after=3000",
        "/?direct=80000",
        "/?direct=80000&after=2000",
        "/?batch=1000000",
    )
    tasks = [
        asyncio.ensure_future(client.forward_request("POST", path, {"a": "b"}, os.urandom(3000)))
        for path in paths
        for _ in range(50)
    ]
    await asyncio.sleep(0.001)
    return tasks


@exits_with_seven
def exit_with_pending() -> None:
    """The process ends with its own exit code while requests are under way."""

    async def main() -> None:
        await _pending()
        sys.exit(7)

    asyncio.run(main())


@exits_with_seven
def exit_at_once_with_pending() -> None:
    """The same without anything that is run at exit."""

    async def main() -> None:
        await _pending()
        os._exit(7)

    asyncio.run(main())


@exits_with_seven
def exit_without_closing_the_loop() -> None:
    """The loop and its requests are still there when the interpreter is taken down."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    sys.modules[__name__].kept = (loop, loop.run_until_complete(_pending()))  # type: ignore[attr-defined]
    sys.exit(7)


@exits_with_seven
def exit_with_a_loop_in_a_daemon_thread() -> None:
    """A daemon thread still runs requests when the interpreter ends."""
    started = threading.Event()

    async def main() -> None:
        client = ProxyClient("http://fake")
        while True:
            await asyncio.gather(*(client.forward_request("GET", f"/?after={i}&body=1000") for i in range(30)))
            started.set()

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    assert started.wait(PATIENCE)
    sys.exit(7)


@exits_with_seven
def signals_reach_python() -> None:
    """Signals reach Python's threads only: a handler runs, and requests go on."""

    async def main() -> None:
        loop, client = asyncio.get_running_loop(), ProxyClient("http://fake")
        told = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        waiting = asyncio.ensure_future(client.forward_request("GET", "/?after=20000&body=2"))
        await client.forward_request("GET", "/")
        os.kill(os.getpid(), signal.SIGTERM)
        await told.wait()
        assert (await waiting).body == reply_body(2)
        client.close()
        sys.exit(7)

    asyncio.run(main())
