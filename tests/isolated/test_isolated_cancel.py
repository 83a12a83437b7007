"""A cancelled request ends at once for its caller and for the upstream, wherever it is (row F28 of the fault table)."""

from __future__ import annotations

import pytest
from isolated_runner import Play, needs_proc, on_every_loop


@on_every_loop
@pytest.mark.parametrize("what", ["small", "reply-1mb", "body-1mb"])
def test_cancelled_after_any_number_of_turns(play: Play, what: str, loop: str) -> None:
    play("isolated_cancel.sweep", what, loop).passed()


@on_every_loop
@pytest.mark.parametrize("what", ["hold", "head", "body", "large-body", "large-body-begun", "upload"])
def test_cancelled_while_the_upstream_is_at_it(play: Play, what: str, loop: str) -> None:
    play("isolated_cancel.phases", what, loop).passed()


@on_every_loop
def test_cancelled_while_connecting(play: Play, loop: str) -> None:
    play("isolated_cancel.dial", loop).passed()


@on_every_loop
def test_cancelled_while_waiting_for_a_connection(play: Play, loop: str) -> None:
    play("isolated_cancel.waiting_for_a_connection", loop).passed()


@on_every_loop
def test_a_coroutine_that_is_closed_cancels_its_request(play: Play, loop: str) -> None:
    play("isolated_cancel.coroutine_closed", loop).passed()


def test_a_time_limit_of_asyncio_cancels_the_request(play: Play) -> None:
    play("isolated_cancel.timed_out", "asyncio").passed()


@on_every_loop
def test_a_cancel_that_comes_after_the_reply_hits_no_other_request(play: Play, loop: str) -> None:
    play("isolated_cancel.resolved_and_cancelled_in_one_turn", loop).passed()


@needs_proc
@on_every_loop
def test_ten_thousand_cancelled_requests_leave_nothing(play: Play, loop: str) -> None:
    play("isolated_cancel.ten_thousand", loop).passed()
