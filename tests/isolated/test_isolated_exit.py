"""A process ends at once and with its own exit code, whatever is in flight (row F30 of the fault table)."""

from __future__ import annotations

import pytest
from isolated_runner import LOOPS, Play, on_every_loop

AT_ONCE = 5.0
"""Seconds, with room for a busy machine. The package itself waits for one at most; a request in flight, for 30."""

CODE = 3


def _ends(play: Play, script: str, loop: str, *said: str) -> None:
    outcome = play(f"isolated_exit.{script}", loop)
    assert (outcome.code, outcome.stderr) == (CODE, ""), outcome.stderr
    leaving, *rest = outcome.stdout.split()
    assert outcome.ended - float(leaving) < AT_ONCE
    assert rest == list(said)


@on_every_loop
@pytest.mark.parametrize(
    "script",
    [
        "sys_exit",
        "sys_exit_with_a_closed_loop",
        "os_exit",
        "raised",
        "daemon_thread",
        "daemon_thread_at_rest",
        "exit_in_another_thread",
    ],
)
def test_exit_with_requests_in_flight(play: Play, script: str, loop: str) -> None:
    _ends(play, script, loop)


@pytest.mark.parametrize("loop", LOOPS[:2])  # rloop 0.5 takes SystemExit for an error like any other, and goes on
@pytest.mark.parametrize("script", ["exit_inside_a_coroutine", "exit_of_asyncio_run"])
def test_exit_inside_a_running_loop(play: Play, script: str, loop: str) -> None:
    _ends(play, script, loop)


@on_every_loop
def test_exit_functions_may_still_make_requests(play: Play, loop: str) -> None:
    _ends(play, "requests_at_exit", loop, "used", "at", "exit")


@on_every_loop
def test_the_end_of_a_script_with_requests_in_flight(play: Play, loop: str) -> None:
    outcome = play("isolated_exit.without_a_word", loop)
    assert (outcome.code, outcome.stderr) == (0, ""), outcome.stderr
    leaving, done = outcome.stdout.split()
    assert done == "done"
    assert outcome.ended - float(leaving) < AT_ONCE
