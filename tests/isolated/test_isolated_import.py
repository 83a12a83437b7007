"""Importing the package does nothing to the process."""

from __future__ import annotations

from isolated_runner import Play, needs_proc


@needs_proc
def test_importing_and_constructing_start_no_thread_and_no_core(play: Play) -> None:
    play("isolated_import.starts_nothing").passed()


def test_a_process_that_imported_the_package_forks_without_a_warning(play: Play) -> None:
    play("isolated_import.fork_without_a_warning").passed()
