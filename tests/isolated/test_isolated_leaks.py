"""Nothing grows with the number of clients, loops or requests, and nothing that was lent is kept."""

from __future__ import annotations

import pytest
from isolated_runner import LOOPS, Play, needs_proc, on_every_loop

pytestmark = needs_proc


@on_every_loop
def test_two_hundred_clients_leave_nothing(play: Play, loop: str) -> None:
    play("isolated_leaks.cycles", loop).passed()


@pytest.mark.parametrize("loop", LOOPS[:2])  # rloop 0.5 leaves two descriptors for each loop by itself
def test_a_hundred_loops_leave_nothing(play: Play, loop: str) -> None:
    play("isolated_leaks.loop_cycles", loop).passed()


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS[1:2])
def test_memory_does_not_grow_with_requests(play: Play, loop: str) -> None:
    play("isolated_leaks.requests", loop, limit=90).passed()


@on_every_loop
def test_references_to_what_a_request_is_given_are_let_go(play: Play, loop: str) -> None:
    play("isolated_leaks.references", loop).passed()


@pytest.mark.parametrize("loop", LOOPS[:2])
def test_large_bodies_are_freed(play: Play, loop: str) -> None:
    play("isolated_leaks.large_bodies", loop).passed()
