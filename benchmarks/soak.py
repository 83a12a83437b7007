"""Keep a gateway under a mixed load for some minutes, and see that nothing grows.

Requests of seven kinds come at a steady rate: small ones and posted ones that are answered, streams of 1 MB, event
streams that are left, requests that time out, responses that are cut off, and clients that leave before they are
answered. Resident memory, descriptors and goroutines of the server's process are noted once a second, written to
``results/soak.json`` and drawn into ``docs/plots/soak.svg``. Status 1 when anything has grown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import result_files
from programs import BENCHMARKS, Upstream
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

RATE = 300
LOAD = f"{RATE} requests/s of seven kinds"
_MB_PER_MINUTE = 1.0
_KINDS = ("small", "post", "large", "events", "timeout", "short", "leave")
_SHARES = (50, 25, 4, 3, 3, 5, 10)


class _Cell:
    """The server's process; its samples are read by a thread."""

    def __init__(self, upstream: Upstream) -> None:
        command = [sys.executable, str(BENCHMARKS / "soak_cell.py"), "--address", upstream.address]
        self._process = subprocess.Popen(
            [*command, "--raw", upstream.raw_address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start, exit status {self._process.wait()}")
        self.port: int = json.loads(line)["port"]
        self.samples: list[dict[str, float]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.samples.append(json.loads(line))

    def close(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(30)
        return self._process.wait(30)


async def _load(port: int, seconds: float, tell: Callable[[float], None]) -> tuple[Counter[str], Counter[str]]:
    """Send the mixture; what was sent, and what was not answered as it ought to be, by kind."""
    base = f"http://127.0.0.1:{port}"
    sent, wrong = Counter[str](), Counter[str]()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:

        async def answered(method: str, path: str, body: bytes | None, size: int) -> bool:
            async with session.request(method, base + path, data=body, headers={"X-Id": "soak"}) as response:
                content = await response.read()
                return response.status == 200 and len(content) == size

        async def left(path: str, seconds: float) -> bool:
            try:
                async with asyncio.timeout(seconds), session.get(base + path) as response:
                    await response.read()
            except TimeoutError:
                return True
            return False

        async def timed_out() -> bool:
            async with session.get(base + "/bad/hold?id=t") as response:
                return response.status == 504

        async def cut_off() -> bool:
            try:
                async with session.get(base + "/bad/short?id=s") as response:
                    await response.read()
            except aiohttp.ClientPayloadError:
                return True
            return response.status == 502

        kinds: dict[str, Callable[[], Awaitable[bool]]] = {
            "small": lambda: answered("GET", "/good/small", None, 100),
            "post": lambda: answered("POST", "/good/echo", b"y" * 4096, 4096),
            "large": lambda: answered("GET", "/good/1m", None, 1 << 20),
            "events": lambda: left("/bad/events?id=e", 0.5),
            "timeout": timed_out,
            "short": cut_off,
            "leave": lambda: left("/bad/hold?id=l", 0.05),
        }

        async def one(kind: str) -> None:
            try:
                wrong[kind] += not await kinds[kind]()
            except (aiohttp.ClientError, TimeoutError):
                wrong[kind] += 1

        order = [kind for kind, share in zip(_KINDS, _SHARES, strict=True) for _ in range(share)]
        tasks: set[asyncio.Task[None]] = set()
        began, number = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            tell(now)
            while number < now * RATE:
                kind = order[number * 37 % len(order)]  # 37 and 100 have no divisor in common: each comes its share
                task = asyncio.create_task(one(kind))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent[kind] += 1
                number += 1
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)
    return sent, +wrong


def _growth(samples: list[dict[str, float]]) -> dict[str, float]:
    """What grows per minute over the second half, by a line through its samples."""
    half = samples[len(samples) // 2 :]
    minutes = [sample["seconds"] / 60 for sample in half]
    return {
        kind: statistics.linear_regression(minutes, [sample[kind] for sample in half]).slope
        for kind in ("rss_mb", "descriptors", "goroutines")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10); at least 0.5")
    parser.add_argument("--keep", action="store_true", help="write the result file and the plot of the pages")
    args = parser.parse_args()
    if not args.minutes >= 0.5:
        parser.error(f"--minutes: want at least 0.5, got {args.minutes:g}")
    console = Console() if sys.stdout.isatty() else Console(width=160)
    with Upstream() as upstream:
        cell = _Cell(upstream)
        columns = (TextColumn("soak"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("soak", total=args.minutes * 60)
            sent, wrong = asyncio.run(
                _load(cell.port, args.minutes * 60, lambda now: progress.update(bar, completed=now))
            )
        status = cell.close()
    # The first samples are of a server that warms up, the last of one that ends.
    samples = [sample for sample in cell.samples if 5 < sample["seconds"] < args.minutes * 60]
    growth = _growth(samples)
    fine = not wrong and status == 0 and growth["rss_mb"] < _MB_PER_MINUTE
    # Both follow the load up and down; what leaks would grow with each of hundreds of requests a second.
    fine = fine and growth["descriptors"] < RATE / 10 and growth["goroutines"] < RATE / 10
    data: dict[str, Any] = {
        "load": LOAD, "minutes": args.minutes, "sent": sent, "wrong": wrong, "growth_per_minute": growth,
        "samples": samples,
    }  # fmt: skip
    folder = result_files.RESULTS if args.keep else BENCHMARKS / ".build" / "results"
    path = result_files.save(folder, "soak", False, data)
    console.print(f"{sent.total():,} requests in {args.minutes:g} minutes: {dict(sent)}; wrong: {dict(wrong)}")
    console.print("growth per minute over the second half: " + ", ".join(f"{k} {v:+.2f}" for k, v in growth.items()))
    console.print(f"{path}", style="dim")
    if args.keep:
        import render

        render.write(result_files.RESULTS)
    console.print("[green]PASS[/]" if fine else "[red]FAIL[/]: something has grown, or was not answered")
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
