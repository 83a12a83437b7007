"""Build the bridge and the fake core for a sanitizer, and run the scenarios, each in an interpreter of its own.

`sanitize.py [--sanitizer asan|tsan] [--cc CC] [--build FOLDER] [NAME...]` runs all scenarios or those named, two at a
time.
The package under test is a copy of python/velithon_proxy with the two native files built here; nothing of the tree is
written to.
"""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TIME_LIMIT = 90.0
"""Seconds for one scenario; each takes a few, only a hang takes that long."""

FLAGS = [
    *("-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fno-omit-frame-pointer", "-fPIC", "-shared"),
    *("-fvisibility=hidden", f"-I{ROOT / 'capi'}", "-pthread"),
]
SANITIZERS = {
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
RUNTIMES = {"asan": ("libasan.so", "libclang_rt.asan.so"), "tsan": ("libtsan.so", "libclang_rt.tsan.so")}


SIGNS = ("ERROR: AddressSanitizer", "runtime error:", "WARNING: ThreadSanitizer", "broken promise")


class UnavailableError(Exception):
    """The sanitizer cannot be used here; the message says why."""


class Outcome(NamedTuple):
    """How one scenario ended."""

    name: str
    ok: bool
    seconds: float
    output: str


def runtime_of(sanitizer: str, cc: list[str]) -> Path:
    """The runtime library of the sanitizer, which must be the first to be loaded into an ordinary Python."""
    for name in RUNTIMES[sanitizer]:
        found = subprocess.run([*cc, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        path = Path(found.stdout.strip())
        if found.returncode == 0 and path.is_absolute() and path.exists():
            return path.resolve()
    raise UnavailableError(
        f"{' '.join(cc)} has no {RUNTIMES[sanitizer][0]}; install the sanitizer runtimes of the compiler"
    )


def build(folder: Path, sanitizer: str, cc: list[str]) -> Path:
    """Lay the package out in `folder` with the bridge and the fake core; returns the sanitizer's runtime."""
    runtime = runtime_of(sanitizer, cc)
    sources = ROOT / "python" / "velithon_proxy"
    package = folder / "velithon_proxy"
    shutil.copytree(
        sources, package, ignore=shutil.ignore_patterns("*.so", "*.dylib", "_licenses", "__pycache__", "*.c")
    )
    flags = [*cc, *FLAGS, *SANITIZERS[sanitizer]]
    include = sysconfig.get_path("include")
    bridge = [str(path) for path in sorted(sources.glob("*.c"))]
    fake = [str(HERE / "fake_core.c"), str(HERE / "fake_script.c")]
    commands = [
        [
            *flags,
            f"-I{include}",
            "-DPy_LIMITED_API=0x030B0000",
            *bridge,
            "-o",
            str(package / "_bridge.abi3.so"),
            "-ldl",
        ],
        [*flags, *fake, "-o", str(package / "libvelithonproxy.so")],
        # What `libraries_that_are_no_core` tries to load.
        [*flags, "-DFAKE_ABI=77", *fake, "-o", str(package / "other_abi.so")],
        [*flags, "-x", "c", "/dev/null", "-o", str(package / "empty.so")],
    ]
    (package / "not_elf.so").write_text("this is text\n")
    for command, process in [(command, subprocess.Popen(command)) for command in commands]:
        if process.wait() != 0:
            raise RuntimeError(f"exit code {process.returncode} of: {shlex.join(command)}")
    probe = subprocess.run(
        [sys.executable, "-c", "pass"],
        env=environment(folder, sanitizer, runtime),
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        # ThreadSanitizer of some compilers does not know the memory layout of some kernels.
        raise UnavailableError(f"Python does not start under {sanitizer}: {probe.stderr.strip()[:200]}")
    return runtime


def environment(folder: Path, sanitizer: str, runtime: Path) -> dict[str, str]:
    """For an interpreter whose every allocation the sanitizer sees."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # A Python that ends leaves memory behind: leaks are found by counting, in the scenario memory_returns.
    shared = "exitcode=66:abort_on_error=0:allocator_may_return_null=1"
    return {
        **kept,
        "LD_PRELOAD": str(runtime),
        "PYTHONPATH": f"{folder}{os.pathsep}{HERE}{os.pathsep}{HERE.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"{shared}:detect_leaks=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": f"{shared}:halt_on_error=1:second_deadlock_stack=1",
    }


def scenarios() -> dict[str, int]:
    """Names of the scenarios, and the exit codes they are meant to end with; read from the sources."""
    found: dict[str, int] = {}
    for path in sorted(HERE.glob("scenarios_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
                found[node.name] = 7 if "exits_with_seven" in decorators else 0
    return found


def run(name: str, code: int, env: dict[str, str]) -> Outcome:
    """Run one scenario."""
    start = time.monotonic()
    command = [sys.executable, str(HERE / "play.py"), name]
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
        verdict = "" if process.returncode == code else f"exit code {process.returncode} instead of {code}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its forked children hold the other end of the pipe as well
        output, _ = process.communicate()
        verdict = f"still running after {TIME_LIMIT:.0f} s"
    reported = any(sign in output for sign in SIGNS)
    seconds = time.monotonic() - start
    return Outcome(name, not verdict and not reported, seconds, f"{output}{verdict}".strip())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanitizer", choices=sorted(SANITIZERS), default="asan")
    parser.add_argument("--cc", default=os.environ.get("CC", "cc"), help="the C compiler")
    parser.add_argument("--build", type=Path, help="an empty folder to build in; it is kept")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.build or Path(temporary)
        try:
            runtime = build(folder, options.sanitizer, shlex.split(options.cc))
        except UnavailableError as error:
            print(f"{options.sanitizer}: {error}", file=sys.stderr)
            return 1
        env = environment(folder, options.sanitizer, runtime)
        known = scenarios()
        chosen = options.names or list(known)
        failed = 0
        with ThreadPoolExecutor(2) as pool:
            for outcome in pool.map(lambda name: run(name, known[name], env), chosen):
                print(f"{outcome.name:40} {'ok' if outcome.ok else 'FAILED'}  {outcome.seconds:5.1f} s", flush=True)
                if not outcome.ok:
                    failed += 1
                    print(outcome.output, flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} scenarios passed under {options.sanitizer}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
