"""Building the Go core as a C shared library, or accepting one that was built elsewhere."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from toolchain import ROOT, GoToolchain, refuse

FILE_NAME = "libvelithonproxy.dylib" if sys.platform == "darwin" else "libvelithonproxy.so"
EXPORTS = ROOT / "capi" / "exports.map"

# machine of Python's platform tag -> GOARCH, and GOARCH -> e_machine of an ELF file (elf.h)
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_ELF_MACHINES = {"amd64": 62, "arm64": 183}
_ELF_SHARED_OBJECT = 3
_MACH_O_MAGIC = (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # one 64-bit architecture; several in one file

# Pure-Go name resolution on Linux. The resolver of the C library cannot be interrupted: each look-up in flight would
# hold an OS thread past the deadline and past a cancellation. It would also add libresolv to the libraries needed.
# The price: of nsswitch.conf only `files` and `dns` count, so names known to LDAP or mDNS alone do not resolve.
# On macOS the tag would bypass the system's resolver, which Go calls there without cgo, and break VPN name servers.
_BUILD_TAGS = [] if sys.platform == "darwin" else ["-tags=netgo,osusergo"]


def architectures() -> list[str]:
    """GOARCH of every architecture that the wheel's platform tag promises; two for a universal2 Python on macOS."""
    asked = shlex.split(os.environ.get("ARCHFLAGS", "") if sys.platform == "darwin" else "")
    names = [name for flag, name in itertools.pairwise(asked) if flag == "-arch"]
    if not names:
        machine = sysconfig.get_platform().rsplit("-", 1)[-1]
        names = ["x86_64", "arm64"] if machine == "universal2" else [machine]
    for name in names:
        if name not in _GO_ARCHITECTURES:
            refuse(f"machine {name!r} is not supported; allowed: {', '.join(_GO_ARCHITECTURES)}")
    return [_GO_ARCHITECTURES[name] for name in names]


@contextmanager
def go_environment(go: GoToolchain) -> Generator[dict[str, str]]:
    """The environment for go commands: the user's own, plus caches in a temporary folder where those cannot be written.

    GOFLAGS, CGO_CFLAGS and CC stay as they are; what this build adds goes on the command line.
    """
    env = {**os.environ, "CGO_ENABLED": "1", "GOWORK": "off"}
    with tempfile.TemporaryDirectory(prefix="velithon-proxy-go-") as scratch:
        # Build sandboxes come with a home that is missing or read-only; Go then has no place for its caches.
        for name, folder in _cache_folders(go, env).items():
            # A read-only module cache that exists may well hold every module that is needed.
            if not _writable(folder) and not (name == "GOMODCACHE" and folder and Path(folder).is_dir()):
                env[name] = str(Path(scratch, name.lower()))
        try:
            yield env
        finally:
            if env.get("GOMODCACHE", "").startswith(scratch):
                # Go makes its modules read-only, so the folder could not be removed otherwise.
                subprocess.run([go.path, "clean", "-modcache"], env=env, check=False, capture_output=True)


def _cache_folders(go: GoToolchain, env: dict[str, str]) -> dict[str, str]:
    names = ["GOCACHE", "GOMODCACHE"]
    asked = subprocess.run(
        [go.path, "env", "-json", *names], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return json.loads(asked.stdout) if asked.returncode == 0 else dict.fromkeys(names, "")


def _writable(folder: str) -> bool:
    if not folder:
        return False
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def module_flags() -> list[str]:
    """Where the modules come from: the `vendor` folder of a source distribution, the module cache otherwise."""
    return ["-mod=vendor"] if (ROOT / "vendor" / "modules.txt").exists() else ["-mod=readonly"]


def build(go: GoToolchain, env: dict[str, str], target: Path, scratch: Path) -> None:
    """Compile ./capi into the shared library `target`, which appears in one step; `scratch` is kept between builds.

    env is that of `go_environment`. The link is skipped when nothing has changed since the last build into the same
    scratch folder.
    """
    built: list[Path] = []
    for architecture in architectures():
        output = scratch / architecture / FILE_NAME
        _run([go.path, *_build_arguments(output)], {**env, "GOARCH": architecture})
        output.with_suffix(".h").unlink(missing_ok=True)  # cgo's header; abi.h is the contract
        built.append(output)
    if len(built) > 1:
        joined = scratch / FILE_NAME
        _run(["lipo", "-create", "-output", str(joined), *map(str, built)], env)
        built = [joined]
    install(built[0], target)


def _build_arguments(output: Path) -> list[str]:
    if sys.platform == "darwin":
        linker = "-Wl,-install_name,@rpath/" + FILE_NAME  # the default is the build path
    else:
        # Given here and not in CGO_LDFLAGS, which the linker would see twice and then refuse.
        linker = f"-Wl,--version-script={EXPORTS}"
    return [
        "build",
        "-buildmode=c-shared",
        "-trimpath",
        "-buildvcs=false",  # a tree owned by another user would fail the build; the version is in the wheel
        *module_flags(),
        *_BUILD_TAGS,
        f'-ldflags=-s -w "-extldflags={shlex.quote(linker)}"',
        "-o",
        str(output),
        "./capi",
    ]


def _run(command: list[str], env: dict[str, str]) -> None:
    print(shlex.join(command), flush=True)
    done = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        refuse(f"`{Path(command[0]).name} {command[1]}` failed with exit code {done.returncode}; its output is above.")


def install(source: Path, target: Path) -> None:
    """Copy `source` to `target` by renaming: a process that has the old file mapped must not see it change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    try:
        shutil.copyfile(source, temporary)
        Path(temporary).chmod(0o755)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB")


def check_prebuilt(prebuilt: str) -> Path:
    """The path of the core library named by VELITHON_PROXY_CORE_LIBRARY, refused when it cannot be loaded here."""
    path = Path(prebuilt)
    if not path.is_file():
        refuse(f"VELITHON_PROXY_CORE_LIBRARY={prebuilt} is not a file")
    with path.open("rb") as file:
        head = file.read(20)
    if sys.platform == "darwin":
        fits = head[:4] in _MACH_O_MAGIC
        wanted = "a Mach-O dynamic library"
    else:
        machine = _ELF_MACHINES[architectures()[0]]
        kind_and_machine = (int.from_bytes(head[16:18], "little"), int.from_bytes(head[18:20], "little"))
        fits = head[:6] == b"\x7fELF\x02\x01" and kind_and_machine == (_ELF_SHARED_OBJECT, machine)
        wanted = f"a 64-bit ELF shared library for {architectures()[0]}"
    if not fits:
        refuse(f"VELITHON_PROXY_CORE_LIBRARY={prebuilt} is not {wanted}")
    return path.resolve()
