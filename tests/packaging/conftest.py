"""One wheel for all tests here: it is built once, from a copy of the tree, so that tests never touch the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from building import Wheel, build_wheel, copy_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources for one test, in a path with a space."""
    return copy_tree(tmp_path / "the sources")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(copy_tree(folder / "the sources"), folder, "--no-build-isolation")
