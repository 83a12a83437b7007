"""A core library that cannot be used, and interpreters that cannot use it, end in an ImportError that says why."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from isolated_runner import HERE, PACKAGE, Play

from velithon_proxy import _bridge, _runtime

CORE = Path(_runtime._LIBRARY).name


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be imported from its parent folder."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "velithon_proxy", ignore=shutil.ignore_patterns("*.c", "*.h")))


def _fails(play: Play, package: Path, *expected: str) -> None:
    play("isolated_import.load_fails", *expected, path=package.parent).passed()


def test_missing_library(play: Play, package: Path) -> None:
    (package / CORE).unlink()
    _fails(play, package, str(package / CORE), "missing", "not built completely")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not a library\n" * 1000], ids=["empty", "short", "text"])
def test_corrupt_library(play: Play, package: Path, content: bytes) -> None:
    (package / CORE).write_bytes(content)
    _fails(play, package, "the core of velithon_proxy cannot be loaded", str(package / CORE))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_library_that_was_not_copied_completely(play: Play, package: Path, part: float) -> None:
    # The dynamic linker maps such a file, and the process dies of SIGBUS when it touches the missing part.
    whole = (package / CORE).read_bytes()
    (package / CORE).write_bytes(whole[: int(len(whole) * part)])
    _fails(play, package, "the core of velithon_proxy cannot be loaded", str(package / CORE))


def test_unreadable_library(play: Play, package: Path) -> None:
    (package / CORE).unlink()
    (package / CORE).mkdir()
    _fails(play, package, "the core of velithon_proxy cannot be loaded", str(package / CORE))


def test_library_of_something_else(play: Play, package: Path) -> None:
    shutil.copy(_bridge.__file__, package / CORE)
    _fails(play, package, str(package / CORE), "has no vp_abi_version", "not the core of this version")


def _compile(source: str, target: Path) -> None:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip("no C compiler")
    subprocess.run(
        [*compiler, "-x", "c", "-shared", "-fPIC", "-o", str(target), "-"], input=source, text=True, check=True
    )


_FUNCTIONS = ("vp_start", "vp_pool_new", "vp_pool_close", "vp_pool_snapshot", "vp_stats")


def test_library_of_another_version(play: Play, package: Path) -> None:
    (package / CORE).unlink()
    functions = "".join(f"int {name}(void) {{ __builtin_trap(); }}\n" for name in _FUNCTIONS)
    _compile(f"unsigned vp_abi_version(void) {{ return 77; }}\n{functions}", package / CORE)
    _fails(play, package, str(package / CORE), "ABI 77", f"ABI {_bridge.ABI_VERSION}", "reinstall velithon-proxy")


@pytest.mark.parametrize("missing", _FUNCTIONS)
def test_library_without_a_function(play: Play, package: Path, missing: str) -> None:
    (package / CORE).unlink()
    functions = "".join(f"int {name}(void) {{ __builtin_trap(); }}\n" for name in _FUNCTIONS if name != missing)
    _compile(f"unsigned vp_abi_version(void) {{ return {_bridge.ABI_VERSION}; }}\n{functions}", package / CORE)
    _fails(play, package, str(package / CORE), f"has no {missing}", "not the core of this version")


def _pythons() -> list[str]:
    """This Python and every newer one that can be had: subinterpreters differ between all of them."""
    found = [sys.executable]
    for minor in (11, 12, 13, 14):
        path = shutil.which(f"python3.{minor}")
        if minor != sys.version_info.minor and path is not None:
            works = subprocess.run([path, "-c", ""], capture_output=True, check=False)
            if works.returncode == 0:
                found.append(path)
    return found


@pytest.mark.parametrize("python", _pythons(), ids=lambda path: Path(path).name)
def test_a_subinterpreter_is_refused(python: str) -> None:
    done = subprocess.run(
        [python, str(HERE / "isolated_main.py"), "isolated_import.refused_in_a_subinterpreter", _bridge.__file__],
        env={"UPSTREAM_PORT": "0", "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    refused, main, end = done.stdout.splitlines()
    assert "main interpreter only" in refused or "does not support loading in subinterpreters" in refused
    assert (main, end) == ("main: imported", "done")
    assert (done.returncode, done.stderr) == (0, "")
