"""Building the project in a copy of its tree, in an environment of the test's own making."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = (".git", ".venv*", ".tools", "build", "dist", "vendor", "_licenses", "__pycache__", ".*_cache", "*.egg-info")
_NOT_SOURCES = shutil.ignore_patterns(*_FOLDERS, "*.so", "*.dylib")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A built wheel and the folder it was unpacked into, as an installation would."""

    path: Path
    folder: Path

    @property
    def names(self) -> set[str]:
        """The paths of all files in the wheel."""
        with zipfile.ZipFile(self.path) as archive:
            return set(archive.namelist())

    @property
    def core(self) -> Path:
        """The Go core."""
        return next((self.folder / "velithon_proxy").glob("libvelithonproxy.*"))

    @property
    def bridge(self) -> Path:
        """The C extension."""
        return next((self.folder / "velithon_proxy").glob("_bridge.*.so"))


def run_clean(*command: str | Path, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command with standard error joined to standard output; the build variables of this shell do not leak in."""
    dropped = ("VELITHON_PROXY_GO", "VELITHON_PROXY_CORE_LIBRARY", "PYTHONPATH", "CFLAGS")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**env, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **extra},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def build_wheel(tree: Path, target: Path, *options: str, **extra: str) -> Wheel:
    """Build the wheel of a tree with pip and unpack it below target."""
    done = run_clean(
        sys.executable, "-m", "pip", "wheel", "--no-deps", *options, "--wheel-dir", target, tree, cwd=target, **extra
    )
    assert done.returncode == 0, done.stdout
    (path,) = target.glob("velithon_proxy-*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target / "unpacked")
    return Wheel(path, target / "unpacked")


def copy_tree(target: Path) -> Path:
    """Copy the sources, without anything that was built from them."""
    shutil.copytree(ROOT, target, ignore=_NOT_SOURCES)
    return target
