"""Processes to be killed, requests with ids that are sent at a steady pace, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velithon_proxy import ProxyError, ProxyLoadBalancer

SCRIPT = Path(__file__).with_name("chaos_upstream.py")


class Process:
    """One upstream that can be killed and started again at the same port, with one ledger for all its lives."""

    def __init__(self, folder: Path, name: str) -> None:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger = folder / f"{name}.ledger"
        self.ledger.touch()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, str(SCRIPT), str(self.port), str(self.ledger)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    async def restart(self, number: signal.Signals, pause: float = 0.0) -> None:
        await asyncio.to_thread(self.end, number)
        await asyncio.sleep(pause)
        await asyncio.to_thread(self.start)

    async def does(self, **mode: float) -> None:
        query = "&".join(f"{key}={value}" for key, value in mode.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"PUT /mode?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        writer.close()

    @property
    def lines(self) -> list[str]:
        return self.ledger.read_text().splitlines()


@contextlib.contextmanager
def processes(folder: Path, count: int) -> Iterator[list[Process]]:
    given = [Process(folder, str(i)) for i in range(count)]
    try:
        for process in given:
            process.start()
        yield given
    finally:
        for process in given:
            process.end(signal.SIGKILL)


@dataclass
class Tally:
    """What became of the requests."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By method and outcome: "200", "503", or the name of the error."""
    took: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds, by outcome."""
    sent: int = 0
    wrong: list[str] = field(default_factory=list[str])
    """Answers that were not those of their requests."""
    ends: Counter[int] = field(default_factory=Counter[int])
    """How often each request came to an end, by its number."""
    answered: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds until 200, by the target that has answered."""
    errors: list[tuple[str, str, ProxyError]] = field(default_factory=list[tuple[str, str, ProxyError]])
    """Method, id and error of the requests that were not answered."""
    posted: list[str] = field(default_factory=list[str])
    """Ids of the POST requests that were answered with 200."""

    @property
    def exact(self) -> bool:
        """Every request has ended exactly once, and none with the answer to another one."""
        return self.ends == Counter(range(self.sent)) and self.outcomes.total() == self.sent and not self.wrong

    def share(self, method: str, outcome: str = "200") -> float:
        total = sum(count for (other, _), count in self.outcomes.items() if other == method)
        return self.outcomes[method, outcome] / total if total else 0.0

    def p99(self, outcome: str) -> float:
        times = sorted(self.took.get(outcome, [0.0]))
        return times[int(len(times) * 0.99) - 1 if len(times) > 1 else 0]


async def send(balancer: ProxyLoadBalancer, tally: Tally, number: int, method: str) -> None:
    name = f"id-{number}"
    tally.sent += 1
    began = time.perf_counter()
    try:
        response = await balancer.forward_request(method, f"/?{name}", None, name if method == "POST" else None)
        took = time.perf_counter() - began
        outcome = str(response.status)
        if response.body != name.encode():
            tally.wrong.append(name)
        if response.status == 200:
            tally.answered.setdefault(response.target, []).append(took)
            if method == "POST":
                tally.posted.append(name)
    except ProxyError as error:
        took = time.perf_counter() - began
        outcome = type(error).__name__
        tally.errors.append((method, name, error))
    tally.outcomes[method, outcome] += 1
    tally.ends[number] += 1
    tally.took.setdefault(outcome, []).append(took)


@contextlib.asynccontextmanager
async def paced(rate: int, send: Callable[[int], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Call ``send`` with 0, 1, ... so many times a second until the block ends; then wait for all of them."""
    tasks: set[asyncio.Task[None]] = set()
    running = True

    async def pace() -> None:
        began, number = time.perf_counter(), 0
        while running:
            due = int((time.perf_counter() - began) * rate)
            while number < due:
                task = asyncio.create_task(send(number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            await asyncio.sleep(0.002)

    pacer = asyncio.create_task(pace())
    try:
        yield
    finally:
        running = False
        await pacer
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def load(
    balancer: ProxyLoadBalancer, rate: int, methods: tuple[str, ...] = ("GET", "POST")
) -> AsyncIterator[Tally]:
    """Send so many requests a second, whatever becomes of them, until the block ends."""
    tally = Tally()
    async with paced(rate, lambda number: send(balancer, tally, number, methods[number % len(methods)])):
        yield tally


def recovered(balancer: ProxyLoadBalancer) -> bool:
    """Whether each upstream has served a request again: one that is open but may be tried is usable already."""
    return all(target.usable and target.breaker.state == "closed" for target in balancer.snapshot().targets)


def executed(given: list[Process]) -> Counter[str]:
    """How often each POST request was executed, by its id."""
    lines = (line.split(" ", 1) for process in given for line in process.lines)
    return Counter(name for method, name in lines if method == "POST")


def executed_twice(given: list[Process]) -> list[str]:
    """Ids of POST requests that were executed more than once."""
    return [name for name, count in executed(given).items() if count > 1]


def untrue(given: list[Process], tally: Tally) -> list[str]:
    """Ids of POST requests whose ends do not tell the truth: answered but not executed, or said to be unsent but so."""
    done = executed(given)
    lost = [name for name in tally.posted if not done[name]]
    sent = [name for method, name, error in tally.errors if method == "POST" and not error.request_sent and done[name]]
    return lost + sent
