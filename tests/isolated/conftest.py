"""The upstream that all scripts of this folder use, and the fixture that runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from isolated_runner import HERE, Play


@pytest.fixture(scope="session")
def play() -> Iterator[Play]:
    """Runs a script in a fresh interpreter: ``play("module.function", ...)``."""
    upstream = subprocess.Popen(
        [sys.executable, str(HERE / "isolated_upstream.py")], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert upstream.stdout is not None
        yield Play(int(upstream.stdout.readline()))
        assert upstream.poll() is None, "the upstream ended by itself"
    finally:
        upstream.kill()
        upstream.communicate()
