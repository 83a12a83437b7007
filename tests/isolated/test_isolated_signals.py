"""Signals go to Python, and end no request and no process (row F32 of the fault table)."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import time

import pytest
from isolated_runner import LOOPS, Play, needs_proc, on_every_loop

needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")

AT_ONCE = 1.0
"""Seconds from a signal to its Python handler."""


def _sent(play: Play, number: signal.Signals, script: str, *arguments: str) -> None:
    """Send a signal to a script that is ready for it; it prints when it arrived."""
    sent = 0.0

    def send(process: subprocess.Popen[str]) -> None:
        nonlocal sent
        sent = time.monotonic()
        process.send_signal(number)

    outcome = play(f"isolated_signals.{script}", *arguments, during=send)
    assert (outcome.code, outcome.stderr) == (0, ""), outcome.stderr
    arrived, done = outcome.stdout.split()
    assert done == "done"
    assert float(arrived) - sent < AT_ONCE


@pytest.mark.parametrize("loop", LOOPS[:2])
def test_keyboard_interrupt_under_load(play: Play, loop: str) -> None:
    _sent(play, signal.SIGINT, "keyboard_interrupt", loop)


def test_keyboard_interrupt_while_go_is_busy(play: Play) -> None:
    _sent(play, signal.SIGINT, "keyboard_interrupt_without_a_loop")


@on_every_loop
def test_signal_handlers_of_the_loop(play: Play, loop: str) -> None:
    _sent(play, signal.SIGTERM, "sigterm", loop)


@needs_proc
def test_threads_of_go_take_no_signal_that_python_waits_for(play: Play) -> None:
    play("isolated_signals.masks").passed()


def test_handlers_survive_the_loading_of_the_core(play: Play) -> None:
    play("isolated_signals.restored_after_loading").passed()


@needs_proc
@on_every_loop
def test_handlers_without_a_stack_of_their_own_get_one(play: Play, loop: str) -> None:
    play("isolated_signals.handlers_off_the_stack", loop).passed()


@needs_proc
@needs_uvloop
def test_the_handler_of_uvloop_gets_a_stack_of_its_own(play: Play) -> None:
    play("isolated_signals.uvloop_installs_its_handler_off_the_stack").passed()


@pytest.mark.parametrize("loop", LOOPS[:2])
def test_a_storm_of_subprocesses(play: Play, loop: str) -> None:
    play("isolated_signals.subprocess_storm", loop).passed()


@pytest.mark.parametrize("loop", LOOPS[:2])
def test_a_profiler(play: Play, loop: str) -> None:
    play("isolated_signals.profiler", loop).passed()


@on_every_loop
def test_a_storm_of_signals(play: Play, loop: str) -> None:
    play("isolated_signals.storm", loop).passed()


@pytest.mark.parametrize("disposition", ["python", "default-before", "default-after"])
def test_upstreams_that_reset_their_connections_raise_no_sigpipe(play: Play, disposition: str) -> None:
    play("isolated_signals.broken_pipes", disposition).passed()


def test_faulthandler_enabled_before_the_core_still_works(play: Play) -> None:
    outcome = play("isolated_signals.faulthandler_first")
    assert (outcome.code, outcome.stdout) == (-signal.SIGSEGV, "used\n"), outcome.stderr
    assert outcome.stderr.startswith("Fatal Python error: Segmentation fault\n")
    assert "in faulthandler_first" in outcome.stderr
    assert "goroutine" not in outcome.stderr
