"""The border between event loop and core under bursts, edges and panics; clients that nobody closes."""

from __future__ import annotations

import pytest
from isolated_runner import Play, needs_proc, on_every_loop


@on_every_loop
def test_a_panic_in_go_is_the_error_of_one_request(play: Play, loop: str) -> None:
    play("isolated_border.panic", loop).passed()


@on_every_loop
@pytest.mark.parametrize("script", ["burst", "burst_of_replies"])
def test_a_burst_of_completions_does_not_starve_the_loop(play: Play, script: str, loop: str) -> None:
    play(f"isolated_border.{script}", loop).passed()


@needs_proc
def test_one_drain_for_each_edge_loses_nothing(play: Play) -> None:
    play("isolated_border.one_drain_for_each_edge").passed()


def test_a_used_client_that_is_dropped_open_warns_and_no_other_does(play: Play) -> None:
    play("isolated_border.warned_when_dropped_open").passed()
