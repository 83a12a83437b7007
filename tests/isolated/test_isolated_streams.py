"""What streams and uploads leave in a process, however it goes on or ends."""

from __future__ import annotations

import pytest
from isolated_runner import LOOPS, Play, needs_proc, on_every_loop

AT_ONCE = 5.0
"""Seconds, with room for a busy machine. The package itself waits for one at most."""
CODE = 3


@needs_proc
@on_every_loop
@pytest.mark.parametrize("way", ["down", "up"])
def test_two_hundred_megabytes_pass_without_being_held(play: Play, way: str, loop: str) -> None:
    play("isolated_streams.memory", loop, way, limit=60).passed()


@needs_proc
@on_every_loop
def test_streams_that_are_left_early_leave_nothing(play: Play, loop: str) -> None:
    play("isolated_streams.left_early", loop).passed()


@on_every_loop
@pytest.mark.parametrize("script", ["exit_with_open_streams", "exit_with_a_closed_loop"])
def test_exit_with_open_streams(play: Play, script: str, loop: str) -> None:
    _ends(play, script, loop)


@pytest.mark.parametrize("loop", LOOPS[:2])  # rloop 0.5 takes SystemExit for an error like any other, and goes on
def test_exit_inside_a_running_loop(play: Play, loop: str) -> None:
    _ends(play, "exit_of_asyncio_run", loop)


def _ends(play: Play, script: str, loop: str) -> None:
    outcome = play(f"isolated_streams.{script}", loop)
    assert (outcome.code, outcome.stderr) == (CODE, ""), outcome.stderr
    assert outcome.ended - float(outcome.stdout) < AT_ONCE


@on_every_loop
@pytest.mark.parametrize("script", ["fork", "loops", "threads"])
def test_streams_survive(play: Play, script: str, loop: str) -> None:
    play(f"isolated_streams.{script}", loop).passed()
