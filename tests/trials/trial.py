"""What a trial is: a row of faults or load that runs for at most a minute and ends in findings, each with a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SERVERS = {"RSGI": "RSGI, ours", "Granian ASGI": "Granian ASGI, ours", "uvicorn": "uvicorn, ours"}
"""Each server, and its name among the gateways of the benchmarks."""

SECONDS_MOST = 60.0


@dataclass(frozen=True)
class Finding:
    """One figure of a trial: fine from `least` to `most`."""

    what: str
    value: float
    most: float = 0.0
    least: float = float("-inf")

    @property
    def fine(self) -> bool:
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        value = f"{self.value:,.2f}".rstrip("0").rstrip(".")
        if self.fine:
            return f"{self.what} {value}"
        limit = f"at most {self.most:g}" if self.value > self.most else f"at least {self.least:g}"
        return f"{self.what} {value} ({limit})"


@dataclass(frozen=True)
class Trial:
    """One row.

    Attributes:
        name: of the row, ``T1``.
        words: what is done.
        run: given a server of :data:`SERVERS`, or an empty string for a trial of the client by itself.
        on: the servers.
    """

    name: str
    words: str
    run: Callable[[str], list[Finding]]
    on: tuple[str, ...] = tuple(SERVERS)


def exactly(what: str, value: float, wanted: float = 0.0) -> Finding:
    """A finding that must have one value."""
    return Finding(what, value, wanted, wanted)


def percentile(values: list[float], share: float) -> float:
    """0.0 for no values."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0
