"""Forks: a child of a process that has not used the core works; one of a process that has is told so, at once, and its
parent does not notice (rows F26 and F27 of the fault table)."""

from __future__ import annotations

import pytest
from isolated_runner import LOOPS, Play, needs_proc, on_every_loop


@needs_proc
@on_every_loop
def test_children_work_that_were_forked_before_the_first_request(play: Play, loop: str) -> None:
    play("isolated_fork.before_use", loop).passed()


@on_every_loop
def test_a_child_forked_after_the_first_request_is_told_at_once_and_the_parent_goes_on(play: Play, loop: str) -> None:
    play("isolated_fork.after_use", loop).passed()


@on_every_loop
def test_requests_in_flight_at_a_fork_end_well_in_the_parent(play: Play, loop: str) -> None:
    play("isolated_fork.in_flight", loop).passed()


@on_every_loop
def test_a_forked_child_does_not_take_the_wake_ups_of_its_parent(play: Play, loop: str) -> None:
    play("isolated_fork.drain_in_child", loop).passed()


def test_a_child_forked_with_requests_in_flight_ends_quietly_with_its_own_code(play: Play) -> None:
    play("isolated_fork.child_that_ends_itself", "asyncio").passed()


def test_cancelling_in_a_forked_child_is_not_hidden_by_another_error(play: Play) -> None:
    play("isolated_fork.child_that_cancels", "asyncio").passed()


@needs_proc
def test_a_fork_while_another_thread_loads_the_core_leaves_a_child_that_does_not_hang(play: Play) -> None:
    play("isolated_fork.while_another_thread_loads").passed()


@pytest.mark.parametrize("used", ["unused", "used"])
def test_a_fork_while_another_thread_holds_a_lock_leaves_a_child_that_does_not_hang(play: Play, used: str) -> None:
    play("isolated_fork.while_another_thread_binds", used).passed()


@on_every_loop
def test_starting_programs_does_not_count_as_a_fork(play: Play, loop: str) -> None:
    play("isolated_fork.other_programs", loop).passed()


@pytest.mark.parametrize("used", ["unused", "used"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("loop", LOOPS[:2])
def test_multiprocessing(play: Play, method: str, used: str, loop: str) -> None:
    play("isolated_fork.workers", method, used, loop).passed()
