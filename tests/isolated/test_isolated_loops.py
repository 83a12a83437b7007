"""Event loops come and go: no reply reaches a loop that has ended, and nothing of it is kept (row F29 of the fault
table)."""

from __future__ import annotations

import pytest
from isolated_runner import LOOPS, Play, needs_proc, on_every_loop


@on_every_loop
@pytest.mark.parametrize(
    "script",
    [
        "closed_in_flight",
        "forgotten_before_the_loop_is_closed",
        "stopped_and_started_again",
        "run_twice",
        "two_threads",
        "closed_from_another_thread",
        "many_at_once",
    ],
)
def test_loop(play: Play, script: str, loop: str) -> None:
    play(f"isolated_loops.{script}", loop).passed()


@pytest.mark.parametrize("loop", LOOPS[:2])
def test_a_loop_that_has_ended_is_not_kept(play: Play, loop: str) -> None:
    play("isolated_loops.collected_with_its_client", loop).passed()


@needs_proc
@pytest.mark.parametrize("loop", LOOPS[:2])
def test_a_loop_for_each_test_of_a_suite(play: Play, loop: str) -> None:
    play("isolated_loops.a_loop_for_each_test", loop).passed()


@needs_proc
def test_a_lost_loop_gives_its_descriptors_back(play: Play) -> None:
    play("isolated_loops.dropped_unclosed", "asyncio").passed()


@needs_proc
def test_a_loop_that_cannot_watch_descriptors_is_refused(play: Play) -> None:
    play("isolated_loops.without_add_reader").passed()
