"""What is in the wheel, and what its two native files need and show."""

from __future__ import annotations

import email
import os
import pwd
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import multidict
import pytest
from building import ROOT, Wheel, run_clean

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")


def output(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def exported_names() -> set[str]:
    """The names that capi/exports.map makes visible."""
    text = (ROOT / "capi" / "exports.map").read_text(encoding="utf-8")
    visible = text.partition("global:")[2].partition("local:")[0]
    return set(re.findall(r"\w+", visible))


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="no stable ABI without the GIL")
def test_one_wheel_serves_every_cpython(wheel: Wheel) -> None:
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    assert wheel.path.name.endswith(f"-cp311-abi3-{platform}.whl")
    assert wheel.bridge.name == "_bridge.abi3.so"


def test_the_package_holds_its_python_files_and_two_native_ones(wheel: Wheel) -> None:
    sources = ROOT / "python"
    patterns = ("*.py", "*.pyi", "py.typed")
    expected = {str(path.relative_to(sources)) for pattern in patterns for path in sources.rglob(pattern)}
    expected |= {f"velithon_proxy/{wheel.bridge.name}", f"velithon_proxy/{wheel.core.name}"}
    package = {name for name in wheel.names if name.startswith("velithon_proxy/")}
    assert {name for name in package if "/_licenses/" not in name} == expected
    assert "velithon_proxy/py.typed" in package


def test_nothing_is_installed_outside_of_the_package(wheel: Wheel) -> None:
    assert {name.partition("/")[0] for name in wheel.names} == {
        "velithon_proxy",
        f"velithon_proxy-{wheel.path.name.split('-')[1]}.dist-info",
    }


def test_multidict_is_the_only_dependency(wheel: Wheel) -> None:
    (metadata_file,) = wheel.folder.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(metadata_file.read_text(encoding="utf-8"))
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [re.split(r"[^\w.-]", line)[0] for line in required] == ["multidict"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert f'__version__ = "{metadata["Version"]}"' in (ROOT / "python/velithon_proxy/_version.py").read_text("utf-8")


def test_every_linked_go_module_brings_its_licence(wheel: Wheel) -> None:
    go = shutil.which("go")
    assert go is not None
    linked = re.findall(r"^\s+dep\s+(\S+)\s+(\S+)", output(go, "version", "-m", wheel.core), re.MULTILINE)
    assert linked, "no module is listed: the check below would hold for an empty list"
    licences = wheel.core.parent / "_licenses"
    for path, version in linked:
        texts = list((licences / f"{path}@{version}").iterdir())
        assert texts, f"{path}@{version} has no licence text"
        assert all(text.stat().st_size > 300 for text in texts)
    assert list(licences.glob("go@*/LICENSE")), "Go's own runtime is linked too"


@linux
def test_the_core_shows_exactly_the_names_of_the_contract(wheel: Wheel) -> None:
    listed = output("nm", "-D", "--defined-only", "--format=posix", wheel.core)
    assert {line.split()[0].partition("@")[0] for line in listed.splitlines()} == exported_names()
    contract = (ROOT / "capi" / "abi.h").read_text(encoding="utf-8")
    assert exported_names() == set(re.findall(r"\b(vp_\w+)_fn\(", contract))


@linux
def test_the_bridge_shows_only_its_init_function(wheel: Wheel) -> None:
    listed = output("nm", "-D", "--defined-only", "--format=posix", wheel.bridge)
    assert {line.split()[0] for line in listed.splitlines()} == {"PyInit__bridge"}


@linux
@pytest.mark.parametrize("name", ["core", "bridge"])
def test_only_the_c_library_is_needed(wheel: Wheel, name: str) -> None:
    dynamic = output("readelf", "--dynamic", "--wide", getattr(wheel, name))
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
    # Before glibc 2.34 the C library had its threads and its loader in files of their own.
    assert "libc.so.6" in needed
    assert needed <= {"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    assert not re.search(r"\((RPATH|RUNPATH)\)", dynamic), "a library folder of the build machine"


@linux
@pytest.mark.parametrize("name", ["core", "bridge"])
def test_no_symbols_and_no_path_of_the_build_machine_remain(wheel: Wheel, name: str) -> None:
    file: Path = getattr(wheel, name)
    assert ".debug_info" not in output("readelf", "--sections", "--wide", file)
    go = shutil.which("go")
    assert go is not None
    paths = [*output(go, "env", "GOROOT", "GOMODCACHE", "GOCACHE").split(), str(wheel.path.parent), str(Path.home())]
    content = file.read_bytes()
    # "/root", the home of a build as root, is also the end of package names such as crypto/x509/root.
    found = [path for path in paths if re.search(rb"(?<![\w/.])" + re.escape(path.encode()) + rb"/", content)]
    assert found == []


def pythons() -> dict[str, str]:
    """Interpreters to install the wheel on: the one of the tests and the newest other one, from PATH and from pyenv."""
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found: dict[tuple[int, ...], str] = {}
    homes = {Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)}  # the first is $HOME, which may be a fresh folder
    candidates = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    candidates += [str(path) for home in homes for path in sorted(home.glob(".pyenv/versions/3.*/bin/python3"))]
    for candidate in filter(None, candidates):
        code = "import sys, ensurepip; print(sys.version_info[:2] if sys.implementation.name == 'cpython' else '')"
        asked = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        version = tuple(map(int, re.findall(r"\d+", asked.stdout)))
        if asked.returncode == 0 and version >= (3, 11) and version != sys.version_info[:2]:
            found.setdefault(version, candidate)
    others = {".".join(map(str, version)): found[version] for version in sorted(found)[-1:]}
    return {this: sys.executable, **(others or {"another": ""})}


PYTHONS = pythons()

FIRST_REQUEST = """
import asyncio, http.server, sys, threading
import velithon_proxy
from velithon_proxy import ProxyClient

assert "site-packages" in velithon_proxy.__file__, velithon_proxy.__file__

class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()

async def main():
    async with ProxyClient(f"http://127.0.0.1:{server.server_port}") as client:
        status, headers, body = await client.forward_request("GET", "/")
    print(sys.version_info[1], status, headers["content-length"], body)

asyncio.run(main())
server.shutdown()
server.server_close()
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_serves_a_first_request_in_an_empty_environment(wheel: Wheel, tmp_path: Path, version: str) -> None:
    if not PYTHONS[version]:
        pytest.skip("no other CPython >= 3.11 with pip on this machine")
    made = run_clean(PYTHONS[version], "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    assert made.returncode == 0, made.stdout
    python = tmp_path / "venv" / "bin" / "python"
    done = run_clean(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel.path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    # The one dependency comes from this environment, so that no network is needed: it runs without its C part too.
    (tmp_path / "dependency").mkdir()
    shutil.copytree(Path(multidict.__file__).parent, tmp_path / "dependency" / "multidict")
    environment = {"PYTHONPATH": str(tmp_path / "dependency"), "MULTIDICT_NO_EXTENSIONS": "1"}
    done = run_clean(python, "-W", "error", "-c", FIRST_REQUEST, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout
    assert done.stdout.split() == [version.split(".")[1], "200", "5", "b'hello'"]
