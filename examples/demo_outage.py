"""The second part of the demo: upstreams fail and come back while requests go on, on one connection to one worker."""

import contextlib
import http.client
import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from demo_cases import HOST, REQUEST_LIMIT, Reply, ask
from rich import box
from rich.table import Table

RECOVERY_TIMEOUT_MS = 1000
_PATIENCE = 15.0  # seconds


class Upstream(Protocol):
    """What is needed of a server of the demo."""

    def stop(self) -> None: ...
    def start(self) -> None: ...


class Outage:
    """Makes upstreams fail, asks the gateway meanwhile, and keeps a line about each step."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=REQUEST_LIMIT)
        self._began = time.monotonic()
        self.good = True
        self.table = Table(box=box.SIMPLE_HEAD)
        for column in ("after", "what happens", "answers", "circuit breakers", ""):
            self.table.add_column(column, justify="right" if column == "after" else "left", overflow="fold")

    def run(self, payments: Upstream, orders: Upstream) -> bool:
        """Stop one of two upstreams, then the only one of another service, and start them again."""
        with contextlib.closing(self._connection):
            self._step("both upstreams of payments serve", "payments", 10, {200}, {"closed"})
            payments.stop()
            self._step("one of them is stopped: the other one gets its requests", "payments", 20, {200}, None)
            orders.stop()
            self._step("the only upstream of orders is stopped", "orders", 6, {502, 503}, {"open"})
            self._step("its circuit breaker is open: nothing is tried", "orders", 5, {503}, {"open"})
            payments.start()
            orders.start()
            self._step("both are started again, and tried after a second", "orders", 1, {200}, {"closed"}, wait=True)
            self._step("so is the one of payments", "payments", 2, {200}, {"closed"}, wait=True)
            self._step("orders serves as before", "orders", 10, {200}, {"closed"})
        return self.good

    def _step(
        self, title: str, service: str, count: int, answers: set[int], states: set[str] | None, wait: bool = False
    ) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            replies = [self._get(f"/api/{service}/echo") for _ in range(count)]
            found = Counter(reply.status for reply in replies)
            breakers = self._breakers(service)
            problems = list(_problems(found, answers, breakers, states, replies))
            if not problems or not wait or time.monotonic() > end:
                break
            time.sleep(0.1)
        self.good &= not problems
        shown = ", ".join(f"{number} x {status}" for status, number in sorted(found.items()))
        mark = "[green]✓[/]" if not problems else "[red]✗ " + "; ".join(problems) + "[/]"
        self.table.add_row(f"{time.monotonic() - self._began:.1f} s", title, shown, ", ".join(breakers), mark)

    def _breakers(self, service: str) -> list[str]:
        return self._get("/metrics").json()["circuit_breaker_status"][service]

    def _get(self, path: str) -> Reply:
        return ask(self._connection, "GET", path)


def _problems(
    found: Counter[int], answers: set[int], breakers: list[str], states: set[str] | None, replies: list[Reply]
) -> Iterator[str]:
    if set(found) != answers:
        yield f"not {', '.join(map(str, sorted(answers)))}"
    if states is not None and set(breakers) != states:
        yield f"not {', '.join(states)}"
    if any(reply.status == 503 and reply.headers["retry-after"] is None for reply in replies):
        yield "a 503 without Retry-After"
