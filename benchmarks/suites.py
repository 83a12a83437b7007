"""What every suite of the benchmarks has in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Step = Callable[[str], None]


class SuiteSkippedError(Exception):
    """A suite cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Request:
    """What the command line asked for.

    Attributes:
        quick: a run of a few minutes, for a first look.
        scenarios, clients: names to measure; empty for the suite's own choice.
        generations, rounds, window: override the suite's plan; None for its own choice.
        step: called with a few words before each step, for the progress line.
    """

    quick: bool = False
    scenarios: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    generations: int | None = None
    rounds: int | None = None
    window: float | None = None
    step: Step = print


@contextlib.contextmanager
def progress_line(console: Console, suite: str) -> Iterator[Step]:
    """A live line with the suite, what it is doing, and the time it has taken."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(suite, total=None)
        yield lambda words: progress.update(task, description=f"{suite}: {words}")
