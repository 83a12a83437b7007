"""Builds the two native files of the package: the bridge (C, Limited API) and the core (a Go shared library).

Everything declarative is in pyproject.toml. Environment variables read here:

VELITHON_PROXY_GO            the go command; default: `go` on PATH
VELITHON_PROXY_CORE_LIBRARY  a core library built elsewhere; then Go is not needed
CC, CFLAGS, GOFLAGS, CGO_CFLAGS, ARCHFLAGS, GOARCH ...  as their tools define them; this build only adds to them
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import cast

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))  # setuptools' isolated builds do not have the project on the path

import core_library  # noqa: E402  (see the line above)
import licences  # noqa: E402
import toolchain  # noqa: E402

# One binary for every CPython >= 3.11. Free-threaded builds have no stable ABI before 3.15, so they get their own.
LIMITED_API = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
LIMITED_API_VERSION = "0x030B0000"
PACKAGE = Path("python/velithon_proxy")


class CoreLibrary(Extension):
    """The Go core, given to setuptools as an extension so that it is placed, listed and copied like one."""


BRIDGE = Extension(
    "velithon_proxy._bridge",
    sources=sorted(str(path) for path in PACKAGE.glob("*.c")),
    depends=[*map(str, sorted(PACKAGE.glob("*.h"))), *map(str, sorted(Path("capi").glob("*.h")))],
    include_dirs=["capi"],
    define_macros=[("Py_LIMITED_API", LIMITED_API_VERSION)] if LIMITED_API else [],
    py_limited_api=LIMITED_API,
    # No debug information: it would carry the build path and be ten times the size of the code.
    extra_compile_args=["-std=c11", "-Wall", "-Wextra", "-O2", "-g0", "-fvisibility=hidden"],
    # Part of libc itself since glibc 2.34; older ones keep dlopen and threads apart.
    libraries=["dl", "pthread"] if sys.platform == "linux" else [],
)
CORE = CoreLibrary("velithon_proxy.libvelithonproxy", sources=[])


class BuildNative(build_ext):
    """Checks what the build needs, then compiles the bridge and the core."""

    go: toolchain.GoToolchain | None = None
    prebuilt: Path | None = None

    def run(self) -> None:
        toolchain.check_platform()
        toolchain.check_c_compiler()
        if given := os.environ.get("VELITHON_PROXY_CORE_LIBRARY"):
            self.prebuilt = core_library.check_prebuilt(given)
        else:
            self.go = toolchain.find_go()
        # Two builds of one tree share its build folder; the second waits and then finds most of its work done.
        Path(self.build_temp).mkdir(parents=True, exist_ok=True)
        with Path(self.build_temp, ".lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().run()
            if self.inplace:
                self._copy_licences_to_source()

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.rpartition(".")[2] == "libvelithonproxy":
            return str(Path(*fullname.split(".")[:-1], core_library.FILE_NAME))
        return super().get_ext_filename(fullname)

    def build_extensions(self) -> None:
        # A Python built with --enable-shared passes its own library folder on; the bridge does not link libpython.
        linker = cast("list[str]", self.compiler.linker_so)
        self.compiler.linker_so = [part for part in linker if not part.startswith("-Wl,-rpath")]
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        if not isinstance(ext, CoreLibrary):
            super().build_extension(ext)
            return
        target = Path(self.build_lib, self.get_ext_filename(ext.name)).resolve()
        target_licences = target.parent / licences.FOLDER_NAME
        if self.prebuilt is not None:
            core_library.install(self.prebuilt, target)
            licences.accept(self.prebuilt.parent / licences.FOLDER_NAME, target_licences)
        if self.go is not None:
            with core_library.go_environment(self.go) as env:
                core_library.build(self.go, env, target, Path(self.build_temp, "core").resolve())
                licences.collect(self.go, env, target_licences)

    def _copy_licences_to_source(self) -> None:
        built = Path(self.build_lib, "velithon_proxy", licences.FOLDER_NAME)
        if built.is_dir():
            shutil.copytree(built, PACKAGE / licences.FOLDER_NAME, dirs_exist_ok=True)


class SourceDistribution(sdist):
    """Adds the Go modules to the source distribution, so that it builds without a network."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        target = Path(base_dir, "vendor").resolve()
        if (ROOT / "vendor" / "modules.txt").exists():
            # A source distribution made from an unpacked one.
            shutil.copytree(ROOT / "vendor", target, dirs_exist_ok=True)
            return
        go = toolchain.find_go()
        with core_library.go_environment(go) as env:
            # Into the release tree only: a vendor folder in the work tree would change how every go command builds.
            done = subprocess.run([go.path, "mod", "vendor", "-o", str(target)], cwd=ROOT, env=env, check=False)
        if done.returncode != 0:
            toolchain.refuse("`go mod vendor` failed; its output is above.")


setup(
    ext_modules=[BRIDGE, CORE],
    cmdclass={"build_ext": BuildNative, "sdist": SourceDistribution},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
