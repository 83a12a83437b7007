"""What a build from source needs, checked before anything is compiled.

`setup.py` asks here first, so that a missing Go, an unsupported C library or a missing compiler is one message
within a second and not a compiler's error after minutes. The Go version floor is the `go` line of `go.mod`, the
only place that states it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent

PYTHON_FLOOR = (3, 11)
SUPPORTED = "Supported are glibc Linux (x86_64, aarch64) and macOS 12 or newer"
_ASK_SECONDS = 30  # for one question to the go command; an answer takes milliseconds
_TOOLCHAIN_SECONDS = 300  # the go command may download the toolchain that go.mod names


def refuse(message: str) -> NoReturn:
    """End the build with one message and no traceback.

    SystemExit and not an exception class of its own: setuptools prints a traceback for every `Exception` that
    leaves an editable build.
    """
    raise SystemExit(f"\nvelithon-proxy cannot be built here: {message}\n")


@dataclass(frozen=True, slots=True)
class GoToolchain:
    """The go command of this build: its path and the version it will compile with, such as (1, 26, 8)."""

    path: str
    version: tuple[int, ...]


def go_floor() -> tuple[int, ...]:
    """The lowest Go version that compiles this project, from the `go` line of go.mod."""
    text = (ROOT / "go.mod").read_text(encoding="utf-8")
    line = re.search(r"^go\s+(\d+(?:\.\d+)*)", text, re.MULTILINE)
    if line is None:
        refuse("go.mod has no `go` line")
    return tuple(int(part) for part in line[1].split("."))


def parse_go_version(text: str) -> tuple[int, ...] | None:
    """`go1.26.8`, `go1.27rc1` or `devel go1.28-3f8a2c` as a tuple of numbers; None when text is none of these."""
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups(default="0")) if found else None


def dotted(version: tuple[int, ...]) -> str:
    """(1, 26, 0) as `1.26`: a last zero says nothing to a reader."""
    trimmed = version[:-1] if len(version) == 3 and version[2] == 0 else version
    return ".".join(str(part) for part in trimmed)


def check_platform() -> None:
    """Refuse systems on which the Go core cannot be loaded into CPython, whatever is installed on them."""
    tag = sysconfig.get_platform()
    if sys.platform == "win32":
        refuse(
            f"Windows is not supported (platform {tag}): the border between Python and Go needs eventfd or pipes in "
            f"the event loop. {SUPPORTED}; WSL 2 runs the Linux wheel."
        )
    if sys.platform not in ("linux", "darwin"):
        refuse(f"platform {tag} is not supported. {SUPPORTED}.")
    if sys.platform == "linux" and not _is_glibc():
        refuse(
            f"this Python runs on musl or another C library than glibc (platform {tag}), and a Go shared library "
            "cannot be loaded there (golang/go#54805). Use a glibc image, for example Debian, Ubuntu, Fedora or "
            f"python:3.13-slim instead of Alpine. {SUPPORTED}."
        )
    if sys.implementation.name != "cpython" or sys.version_info < PYTHON_FLOOR:
        refuse(
            f"it needs CPython >= {dotted(PYTHON_FLOOR)}; this is {sys.implementation.name} "
            f"{sys.version_info.major}.{sys.version_info.minor} at {sys.executable}."
        )


def _is_glibc() -> bool:
    # glibc alone knows this name; musl raises ValueError or answers with nothing.
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False


def check_c_compiler() -> None:
    """Refuse when there is no C compiler, or Python's own headers are not installed."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    program = shlex.split(command)[0]
    if shutil.which(program) is None:
        named_by = "CC" if os.environ.get("CC") else "the compiler of this Python"
        refuse(
            f"it needs a C compiler, and {program!r} ({named_by}) is not on PATH. Install one (Debian and Ubuntu: gcc "
            "libc6-dev; Fedora: gcc; macOS: xcode-select --install), or name one in CC."
        )
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.exists():
        refuse(
            f"it needs the C headers of Python, and {headers} does not exist. Install them (Debian and Ubuntu: "
            "python3-dev; Fedora: python3-devel)."
        )


def find_go() -> GoToolchain:
    """The go command of VELITHON_PROXY_GO or PATH, refused when it is missing or older than go.mod asks for."""
    named = os.environ.get("VELITHON_PROXY_GO")
    path = shutil.which(named or "go")
    if path is None:
        where = f"VELITHON_PROXY_GO={named} is not an executable file" if named else "there is no `go` on PATH"
        _refuse_go(where)
    local = parse_go_version(_ask(path, "env", "GOVERSION", cwd=tempfile.gettempdir(), GOTOOLCHAIN="local"))
    if local is None:
        _refuse_go(f"{path} does not answer `go env GOVERSION` with a version")
    if local >= go_floor():
        return GoToolchain(path, local)
    return GoToolchain(path, _switched_version(path, local))


def _switched_version(path: str, local: tuple[int, ...]) -> tuple[int, ...]:
    """The version after the go command has fetched the toolchain that go.mod names, as Go 1.21 and newer can."""
    switches = local >= (1, 21)
    # GOWORK=off: a go.work above this tree must not decide which toolchain it gets.
    answer = _ask(path, "env", "GOVERSION", cwd=str(ROOT), GOWORK="off", seconds=_TOOLCHAIN_SECONDS) if switches else ""
    switched = parse_go_version(answer)
    if switched is None or switched < go_floor():
        kept = switches and _ask(path, "env", "GOTOOLCHAIN", cwd=tempfile.gettempdir()).startswith("local")
        hint = "; GOTOOLCHAIN=local keeps it from fetching a newer one" if kept else ""
        _refuse_go(f"go{dotted(local)} at {path}{hint}")
    return switched


def _ask(path: str, *arguments: str, cwd: str, seconds: int = _ASK_SECONDS, **extra: str) -> str:
    """What the go command prints for one question; an empty string when it fails or cannot run."""
    try:
        done = subprocess.run(
            [path, *arguments],
            cwd=cwd,
            env={**os.environ, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _refuse_go(found: str) -> NoReturn:
    refuse(
        f"it needs Go >= {dotted(go_floor())} and a C compiler; found: {found}.\n"
        f"{SUPPORTED} (this platform: {sysconfig.get_platform()}).\n"
        "Install Go from your system or go.dev, or name the go command in VELITHON_PROXY_GO; or give a core library "
        "built elsewhere in VELITHON_PROXY_CORE_LIBRARY. Behind a firewall: the source distribution carries all Go "
        "modules, nothing is downloaded."
    )
